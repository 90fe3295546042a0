"""Totals per operation, in constant memory. No I/O, no clock."""

from __future__ import annotations

from collections import deque
from math import sqrt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carbon_ops.estimate.record import CarbonRecord
    from carbon_ops.meter.metric import Built

KEPT = 1_024  # durations kept per operation for the percentiles
NAMES = 1_000  # operations told apart; later ones are counted as OTHERS
OTHERS = "(others)"


def percentile(ordered: list[float], q: float) -> float:
    """Return the ``q`` quantile (0..1) of ascending values, linearly interpolated.

    >>> percentile([1.0, 2.0, 3.0], 0.5)
    2.0
    """
    at = q * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])


class _Line:
    __slots__ = (
        "calls", "common", "errors", "grams", "grams_known",
        "joules", "joules_known", "last", "seconds", "squares",
    )  # fmt: skip

    def __init__(self) -> None:
        self.calls = self.errors = self.joules_known = self.grams_known = 0
        self.seconds = self.joules = self.grams = self.common = self.squares = 0.0
        self.last: deque[float] = deque(maxlen=KEPT)


class Summary:
    """Running totals of every operation."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}

    def add(self, built: Built, record: CarbonRecord | None) -> None:
        """Count one metric, and its estimate if there is one."""
        measured = built.metric
        name = measured["operation"]
        if name not in self._lines and len(self._lines) >= NAMES:
            name = OTHERS
        line = self._lines.setdefault(name, _Line())
        line.calls += 1
        line.errors += measured["status"] == "error"
        line.seconds += measured["duration_s"]
        line.last.append(measured["duration_s"])
        joules = measured["energy"]["energy_j_total"]
        if joules is not None:
            line.joules += joules
            line.joules_known += 1
            line.common += built.common_j
            line.squares += built.single_j**2
        if record is not None and record.carbon_gco2e is not None:
            line.grams += record.carbon_gco2e
            line.grams_known += 1

    def report(self) -> dict[str, dict[str, float | int | None]]:
        """Return the totals by operation; see :meth:`EnergyLogger.summary`.

        The uncertainty of the sum adds errors common to all calls linearly and those of
        single calls in squares (JCGM 100:2008, 5.2.2): many short spans together say
        much more than one of them.
        """
        result: dict[str, dict[str, float | int | None]] = {}
        for name, line in self._lines.items():
            ordered = sorted(line.last)
            known = line.joules_known > 0
            result[name] = {
                "calls": line.calls,
                "errors": line.errors,
                "seconds": line.seconds,
                "joules": line.joules if known else None,
                "joules_u": sqrt(line.common**2 + line.squares) if known else None,
                "joules_known": line.joules_known,
                "grams": line.grams if line.grams_known else None,
                "grams_known": line.grams_known,
                "p50_s": percentile(ordered, 0.5),
                "p95_s": percentile(ordered, 0.95),
            }
        return result
