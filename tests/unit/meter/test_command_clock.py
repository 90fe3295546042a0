"""A command is known by its processes after they have ended, as a GPU's driver has it."""

from __future__ import annotations

import pytest

from carbon_ops.meter import launch, memory
from carbon_ops.meter.launch import CommandClock, Ended


class Tree:
    """Process numbers that come and go."""

    name = "tree"
    leader = 0

    def __init__(self) -> None:
        self.living: list[int] = []

    def pids(self) -> list[int]:
        return self.living

    def read(self) -> int:
        return 0


def test_processes_that_ended_are_still_those_of_the_command() -> None:
    tree = Tree()
    clock = CommandClock(tree)
    clock.saw(2_000_000_001)  # the command itself, however short it lives
    tree.living = [2_000_000_001, 2_000_000_002]
    clock.sample()
    tree.living = [2_000_000_003]
    assert clock.pids() == [2_000_000_001, 2_000_000_002, 2_000_000_003]


def test_memory_is_a_mean_over_time_however_samples_are_spaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tree = Tree()
    tree.living = [2_000_000_001, 2_000_000_002]
    clock = CommandClock(tree)
    assert clock.memory() == {
        "rss_bytes": None, "peak_rss_bytes": None, "host_percent": None
    }  # fmt: skip
    for at_s, rss in ((0, 50), (1, 50), (4, 200)):
        now, seen = at_s * 10**9, memory.Status(rss, 300)
        monkeypatch.setattr(launch, "monotonic_ns", lambda now=now: now)
        monkeypatch.setattr(memory, "status", lambda pid, seen=seen: seen)
        clock.sample()
    found = clock.memory()
    assert found["rss_bytes"] == (2 * 50 * 1 + 2 * 200 * 3) // 4
    assert found["peak_rss_bytes"] == 2 * 200
    clock.ended(Ended(0, None, False, 0, None))
    assert clock.flags == {"peak_rss_sampled"}
    clock.ended(Ended(0, None, False, 0, 5_000))
    assert clock.memory()["peak_rss_bytes"] == 5_000


def test_a_command_that_was_never_seen_has_no_memory_and_says_so() -> None:
    clock = CommandClock(Tree())
    clock.sample()
    clock.ended(Ended(0, None, False, 0, None))
    assert clock.flags == {"peak_rss_unknown"}
    assert clock.memory()["peak_rss_bytes"] is None
