"""Windows of clients over a real governor whose counter's true energy is known."""

from __future__ import annotations

import _socket
import random
import threading
import time
from bisect import bisect_left, bisect_right
from pathlib import Path

import pytest

from carbon_ops.governor import links
from carbon_ops.governor.client import GovernorClient
from carbon_ops.model import Window
from carbon_ops.testing.governor import GovernorProcess
from carbon_ops.testing.powercap import FakePowercap, server

PACKAGE = "intel-rapl:0"
UNIT_NJ = 61_035
STEP = 1_000  # ticks: 61 mJ
SAMPLES = 25


class Register(threading.Thread):
    """Adds energy in small steps, now faster and now slower; knows when it did."""

    def __init__(self, tree: FakePowercap) -> None:
        super().__init__()
        self.tree = tree
        self.over = threading.Event()
        self.begun: list[int] = []  # of each step, CLOCK_MONOTONIC [ns]
        self.done: list[int] = []

    def run(self) -> None:
        for pause in iter(lambda: random.Random(len(self.done)).choice((1, 2, 9)), 0):
            if self.over.wait(pause / 1_000):
                return
            self.begun.append(time.monotonic_ns())
            self.tree.advance(PACKAGE, STEP)
            self.done.append(time.monotonic_ns())

    def between_uj(self, t0_ns: int, t1_ns: int) -> tuple[int, int]:
        """Return the least and the most that the register rose from t0 to t1 [µJ]."""
        least = bisect_right(self.done, t1_ns) - bisect_left(self.begun, t0_ns)
        most = bisect_right(self.begun, t1_ns) - bisect_left(self.done, t0_ns)
        return max(0, least) * STEP * UNIT_NJ // 1_000, most * STEP * UNIT_NJ // 1_000


def by_socket(path: str) -> GovernorClient:
    """A client as on a kernel that cannot seal memory."""
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    connection.settimeout(20)
    connection.connect(path)
    client = GovernorClient(path)
    client._link = links.SocketLink(connection, 0)
    return client


def package(window: Window) -> tuple[int, int, int]:
    (found,) = [e for e in window.zones if e.zone.key == "intel-rapl/package-0"]
    return found.point_uj, found.low_uj, found.high_uj


def test_both_links_tell_windows_that_hold_the_truth_and_add_up(
    tmp_path: Path,
) -> None:
    tree = server(str(tmp_path), sockets=1)
    tree.advance(PACKAGE, -30 * STEP)  # the wrap comes amid the windows
    register = Register(tree)
    with GovernorProcess(f"--powercap-root={tree.root}") as governor:
        ring = governor.wait_ready()
        asked = by_socket(governor.path)
        first = ring.mark()
        register.start()
        try:
            ends = []
            for wanted in (SAMPLES, SAMPLES + 10):  # the last ones may still change
                deadline = time.monotonic() + 60
                while ring.latest().sequence < first.sequence + wanted:
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
                ends.append(ring.latest().monotonic_ns)
            end = ends[0]
            choose = random.Random(4)
            wraps = 0
            for _ in range(40):
                t0, t1, t2 = sorted(
                    choose.randint(first.monotonic_ns, end) for _ in range(3)
                )
                whole, left, right = (
                    ring.window(first, *ends) for ends in ((t0, t2), (t0, t1), (t1, t2))
                )
                assert asked.window(first, t0, t2) == whole  # failed reads and all
                point, low, high = package(whole)
                least, most = register.between_uj(t0, t2)
                assert low <= most + 61
                assert high >= least - 61
                assert 0 <= low <= point <= high
                assert package(left)[0] + package(right)[0] == pytest.approx(
                    point, abs=1
                )
                assert left.wraps + right.wraps == whole.wraps
                wraps += whole.wraps
            assert wraps > 0
        finally:
            register.over.set()
            register.join()


def test_a_long_series_arrives_whole() -> None:
    with GovernorProcess("--rapl-mode=simulated", "--poll-interval=0.02") as governor:
        ring = governor.wait_ready()
        asked = by_socket(governor.path)
        first = ring.mark()
        deadline = time.monotonic() + 60
        while ring.latest().sequence < first.sequence + 220:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        numbers = [sample.sequence for sample in asked.since(first)]
    assert numbers[:220] == list(range(first.sequence, first.sequence + 220))
