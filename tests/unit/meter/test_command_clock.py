"""A command is known by its processes after they have ended, as a GPU's driver has it."""

from __future__ import annotations

from carbon_ops.meter.launch import CommandClock


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
