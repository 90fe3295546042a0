"""A scope that is another process: its joules, its end, and its number given away."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from carbon_ops import EnergyLogger
from carbon_ops.errors import InvalidInputError
from carbon_ops.meter.process_tree import process_ns
from carbon_ops.model import Metric

NOWHERE = "/nonexistent/carbon-ops.sock"
LAST_PID = Path("/proc/sys/kernel/ns_last_pid")
WORKER = """
import sys, time
for line in sys.stdin:
    end = time.process_time() + float(line)
    while time.process_time() < end: pass
    print(time.process_time(), flush=True)
"""


class Worker:
    """A process that uses as much CPU time as it is told."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-c", WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self.process.pid
        self.work(0.0)

    def work(self, seconds: float) -> None:
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{seconds}\n")
        stdin.flush()
        assert stdout.readline()

    def end(self) -> None:
        self.process.communicate()


@contextmanager
def workers(count: int) -> Iterator[list[Worker]]:
    """Start ``count`` of them; end them."""
    found = [Worker() for _ in range(count)]
    try:
        yield found
    finally:
        for one in found:
            if one.process.returncode is None:
                one.end()


@pytest.fixture(name="logger")
def _logger() -> Iterator[EnergyLogger]:
    with EnergyLogger(socket=NOWHERE, cpu_watts=(10.0, 110.0)) as logger:
        yield logger


def flags(metric: Metric) -> list[str]:
    return metric["energy"]["quality"]["flags"]


def test_a_process_has_its_own_joules_and_not_its_neighbours(
    logger: EnergyLogger,
) -> None:
    with workers(2) as (task, neighbour):
        before = process_ns(task.pid)
        with logger.span("job", scope=task.pid) as span:
            task.work(0.2)
            neighbour.work(0.4)
            sum(range(1_000_000))
        used = process_ns(task.pid) - before
        metric = span.metric
    assert metric is not None
    assert 0.2 <= metric["cpu"]["process_s"] <= used / 1e9
    energy = metric["energy"]
    host, ratio = energy["host"]["total_j"], energy["allocation_ratio"]
    assert host is not None
    assert ratio is not None
    assert ratio < 0.6
    assert energy["energy_j_total"] == pytest.approx(host * ratio, rel=1e-4)
    assert "process_ended" not in flags(metric)
    assert metric["memory"]["rss_bytes"]


def test_a_process_that_ends_in_mid_span_is_flagged_and_keeps_what_was_seen(
    logger: EnergyLogger,
) -> None:
    with (
        workers(1) as (task,),
        EnergyLogger(socket=NOWHERE, scope=task.pid, cpu_watts=(10.0, 110.0)) as its,
    ):
        its.log_metrics("before")
        task.work(0.1)
        seen = its.log_metrics("seen")
        task.work(0.1)
        task.end()
        unseen = its.log_metrics("ended")
        after = its.log_metrics("after")
        with pytest.raises(InvalidInputError, match="no process"):
            logger.span("none", scope=task.pid)
    assert seen["cpu"]["process_s"] >= 0.1
    assert "process_ended" not in flags(seen)
    for metric in (unseen, after):
        assert metric["cpu"]["process_s"] == 0
        assert "process_ended" in flags(metric)
        assert metric["memory"]["rss_bytes"] is None


def test_the_next_process_with_the_same_number_is_not_billed(
    logger: EnergyLogger,
) -> None:
    if not os.access(LAST_PID, os.W_OK):
        pytest.skip("this user may not choose the number of a process")
    with workers(1) as (task,):
        span = logger.span("job", scope=task.pid)
        span.begin()
        task.work(0.05)  # ticks that tell its start from the next one's
        task.end()
        for _ in range(50):  # somebody else may be faster
            try:
                LAST_PID.write_text(str(task.pid - 1))
            except OSError:
                pytest.skip("this user may not choose the number of a process")
            with workers(1) as (stranger,):
                if stranger.pid == task.pid:
                    stranger.work(0.2)
                    span.end()
                    break
        else:
            pytest.skip("the number was never free")
    metric = span.metric
    assert metric is not None
    assert metric["cpu"]["process_s"] == 0
    assert "process_ended" in flags(metric)
    assert metric["memory"]["rss_bytes"] is None
