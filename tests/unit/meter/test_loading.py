"""A fork beside a thread that loads one of our modules: the child can load it, too."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, os, sys, threading
from importlib.abc import MetaPathFinder
from carbon_ops import EnergyLogger
from carbon_ops.sources import gpu_present

name, action = sys.argv[1:]
loads, forks = threading.Event(), threading.Event()

class Slow(MetaPathFinder):
    def find_spec(self, fullname, path, target=None):
        if fullname == name and not loads.is_set():
            loads.set()
            forks.wait(20)

exec(action, globals())  # loads everything else: only this one is left to load
module = sys.modules.pop(name)
delattr(sys.modules[module.__package__], name.rpartition(".")[2])
sys.meta_path.insert(0, Slow())
# Called before those that were registered earlier, so the load goes on from here.
os.register_at_fork(before=forks.set)
thread = threading.Thread(target=exec, args=(action, globals()))
thread.start()
assert loads.wait(20)
pid = os.fork()
if pid == 0:
    import faulthandler
    faulthandler.dump_traceback_later(20, exit=True)  # one that waits for ever
    exec(action, globals())
    os._exit(0)
thread.join()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
LOGGER = "EnergyLogger(socket='/nowhere', {})"
TRACKED = """
@logger.track
async def work():
    pass
asyncio.run(work())
"""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # 3.12: forks with threads
@pytest.mark.parametrize(
    ("name", "action"),
    [
        ("carbon_ops.governor.client", "EnergyLogger(socket='/').log_metrics('x')"),
        ("carbon_ops.sources.modelled", LOGGER.format("") + ".log_metrics('x')"),
        ("carbon_ops.sources.cgroup", LOGGER.format("scope='cgroup:/'")),
        ("carbon_ops.meter.writer", LOGGER.format("region='DE'")),
        (
            "carbon_ops.meter.gpu",
            "gpu_present.anything = lambda: True\n" + LOGGER.format(""),
        ),
        (
            "carbon_ops.sources.gpu_amdsmi",
            "gpu_present.cards = lambda root=None: ['card0']\n"
            + LOGGER.format("")
            + ".log_metrics('x')",
        ),
        ("carbon_ops.meter.track", LOGGER.format("") + ".track(print)"),
        ("carbon_ops.meter.coroutines", f"logger = {LOGGER.format('')}{TRACKED}"),
    ],
)
def test_no_fork_falls_into_a_load(name: str, action: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, name, action],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )

    assert done.returncode == 0, done.stderr
