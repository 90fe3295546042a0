"""Ctrl-C, imports and forks that fall into the middle of measuring."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from carbon_ops import EnergyLogger
from carbon_ops.meter.local import LocalCounters
from carbon_ops.sources.simulated import SimulatedSource

NOWHERE = "/nonexistent/carbon-ops.sock"


class Interrupted(LocalCounters):
    """Real counters, of which one reading is interrupted by the user of the program."""

    def __init__(self) -> None:
        super().__init__(SimulatedSource())
        self.interrupt = False

    def mark(self):  # type: ignore[no-untyped-def]
        if self.interrupt:
            self.interrupt = False
            raise KeyboardInterrupt
        return super().mark()


def test_a_span_interrupted_while_it_begins_leaves_nobody_inside_it() -> None:
    counters = Interrupted()
    logger = EnergyLogger(source=counters)
    counters.interrupt = True
    with pytest.raises(KeyboardInterrupt):
        logger.span("interrupted").begin()

    with logger.span("around") as around, logger.span("inside") as inside:
        pass

    assert around.parent_id is None
    assert inside.parent_id == around.span_id
    assert around.metric is not None
    # Nor has the lost span an account: what cannot be told apart is not shared with it.
    assert "cpu_time_divided" not in around.metric["energy"]["quality"]["flags"]


def test_a_span_interrupted_while_its_work_is_waited_for_ends_all_the_same() -> None:
    logger = EnergyLogger(socket=NOWHERE, model="off")
    calls: list[str] = []

    def wait() -> None:
        calls.append("wait")
        if len(calls) == 2:
            raise KeyboardInterrupt

    span = logger.span("training", sync=wait)
    with pytest.raises(KeyboardInterrupt), span:
        pass
    with logger.span("after") as after:
        pass

    assert after.parent_id is None
    assert span.metric is not None
    assert span.metric["status"] == "error"
    assert "sync_failed" in span.metric["energy"]["quality"]["flags"]


IMPORTING = """
import sys
from carbon_ops import EnergyLogger

logger = EnergyLogger(socket="/nowhere", model="off")
loaded = []

class Measuring:  # as another thread may do meanwhile
    def find_spec(self, name, path=None, target=None):
        if name.startswith("asyncio."):
            with logger.span(name):
                loaded.append(name)

sys.meta_path.insert(0, Measuring())
import asyncio
assert len(loaded) == len(logger.metrics) > 0
"""

FORKING = """
import os, threading
from carbon_ops import EnergyLogger

logger = EnergyLogger(socket="/nowhere", model="off")
stop = False

def others():
    while not stop:
        with logger.span("other"):
            pass

@logger.track
def forks():
    for _ in range(200):
        pid = os.fork()
        if pid == 0:
            import faulthandler
            faulthandler.dump_traceback_later(20, exit=True)
        yield pid  # the end of a step, in the child as well

threads = [threading.Thread(target=others) for _ in range(2)]
for thread in threads:
    thread.start()
failed = 0
for pid in forks():
    if pid == 0:
        with logger.span("own"):
            pass
        os._exit(0)
    failed = os.waitpid(pid, 0)[1]
    if failed:
        break
stop = True
for thread in threads:
    thread.join()
assert failed == 0
"""


@pytest.mark.parametrize("program", [IMPORTING, FORKING], ids=["import", "fork"])
def test_spans_go_on_beside_an(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env={**os.environ},
    )
    assert done.returncode == 0, done.stderr
