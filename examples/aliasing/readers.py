"""What slower readers make of a counter, and what each is expected to get wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from carbon_ops.counters.wrap import Unit

SCRAPE_S = 15.0
MASK_J = (1 << 32) / 1e6  # microjoules cut to 32 bits start again here: 4,294.97 J

Looks = Sequence[int]
# What each reader makes of a counter that went from a to b [µJ].
STEPS: dict[str, Callable[[int, int, int], int]] = {
    "wrap-aware": lambda a, b, turn: (b - a) % turn,
    "reset": lambda a, b, _: b - a if b >= a else b,
    "dropped": lambda a, b, _: max(b - a, 0),
    "masked": lambda a, b, _: (b - a) % (1 << 32),
}
FAULTY = ("reset", "dropped", "masked")


def believed(reader: str, looks: Looks, turn: int) -> float:
    """Return the energy [J] that a reader makes of its looks at a counter [µJ]."""
    return sum(STEPS[reader](a, b, turn) for a, b in pairwise(looks)) / 1e6


def decreases(looks: Looks) -> int:
    return sum(b < a for a, b in pairwise(looks))


def turn_uj(unit: Unit) -> int:
    return unit.wrap_ticks * unit.numerator // unit.denominator


def masked_error(step_j: float, turn_j: float, wrap: bool) -> float:
    """Return what masking adds to one step [J]: the true step, less its remainder."""
    return (step_j - (turn_j if wrap else 0.0)) % MASK_J - step_j


class Pair(NamedTuple):
    observed: float
    predicted: float

    def __format__(self, form: str) -> str:
        return f"{self.observed:{form}} / {self.predicted:{form}}"


class Picture(NamedTuple):
    """What happened to one counter."""

    curve: list[tuple[float, int]]  # 10 Hz: seconds, counter [µJ]
    turn: int
    title: str

    def looks(self) -> list[tuple[float, int]]:
        """Return the looks of a 15 s scraper whose first falls half an interval in."""
        looks, due = [], SCRAPE_S / 2
        for at, raw in self.curve:
            if at >= due:
                looks.append((at, raw))
                due += SCRAPE_S
        return looks
