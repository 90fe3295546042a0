"""One look at every counter, as close to one instant as the scheduler lets it be."""

from __future__ import annotations

from time import CLOCK_BOOTTIME, clock_gettime_ns, monotonic_ns, time_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from carbon_ops.sources.base import Source

    # How long the reads took, CLOCK_MONOTONIC and CLOCK_BOOTTIME before the first, what
    # they gave [ticks], the host's busy CPU time, and the time of day; all in ns.
    Reading = tuple[int, int, int, tuple[int | None, ...], int, int]

# A read that took longer was paused by the scheduler, or by a CPU slow to wake: when it
# happened is uncertain by that much, so it is made again, up to this many times in all.
_SLOW_NS = 3_000_000
_TRIES = 3


def read_all(source: Source, busy_ns: Callable[[], int]) -> Reading:
    """Return the quickest of a few looks; as a rule the first, which is quick enough.

    Args:
        source: The counters.
        busy_ns: Reads the host's busy CPU time since boot [ns].
    """
    found = _read(source, busy_ns)
    for _ in range(_TRIES - 1):
        if found[0] < _SLOW_NS:
            break
        found = min(found, _read(source, busy_ns))
    return found


def _read(source: Source, busy_ns: Callable[[], int]) -> Reading:
    start = monotonic_ns()
    boottime = clock_gettime_ns(CLOCK_BOOTTIME)  # at once: their gap is suspend
    ticks = source.read()
    return monotonic_ns() - start, start, boottime, ticks, busy_ns(), time_ns()
