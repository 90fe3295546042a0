"""Counters that this process may read itself: as root, or where somebody mounted them.

Read at the ends of spans only, so there is nothing to interpolate, and nobody to notice
a counter that turns over twice in between: a step longer than one turn at the zone's
power bound is a gap, whose energy is an interval and not a number.
"""

from __future__ import annotations

import os
from _thread import RLock
from collections import deque

from carbon_ops.counters import timeline
from carbon_ops.counters.accumulator import Bank
from carbon_ops.errors import CarbonOpsError, GovernorUnavailableError
from carbon_ops.model import Origin, Sample
from carbon_ops.sources.host import boot_id, host_busy_ns
from carbon_ops.sources.powercap import PowercapSource
from carbon_ops.sources.reading import read_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carbon_ops.model import Window
    from carbon_ops.sources.base import Source

_KEPT = 600  # readings: as many as a governor's


class LocalCounters:
    """A :class:`carbon_ops.model.EnergySource` over counters opened by this process."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._bank = Bank(source.zones)
        self._origin = Origin(os.urandom(16).hex(), boot_id(), os.getuid(), source.name)
        self._sequence = 0
        self._samples: deque[Sample] = deque(maxlen=_KEPT)
        self._started()

    def _started(self) -> None:
        self._pid = os.getpid()
        self._lock = RLock()  # a thread that is no more may have held another one

    @property
    def origin(self) -> Origin:
        return self._origin

    def mark(self) -> Sample:
        """Read the counters now."""
        if self._pid != os.getpid():
            self._started()
        with self._lock:
            read_ns, start, boottime, ticks, _, wall = read_all(self._source, int)
            busy_ns = host_busy_ns()
            if busy_ns is None:
                raise GovernorUnavailableError("stale", "cannot read /proc/stat")
            self._sequence += 1
            totals = self._bank.step(ticks, start, boottime, read_ns)
            sample = Sample(
                *(self._sequence, start, read_ns, boottime, wall, busy_ns, 0, 0),
                totals,
            )
            self._samples.append(sample)
        return sample

    def window(
        self, mark: Sample, t0_ns: int, t1_ns: int, *, settle: bool = False
    ) -> Window:
        """Return the energy from ``mark`` to the first reading after ``t1_ns``.

        That is the mark of what follows, if one was taken, so that adjoining windows
        share no energy; else the counters are read now. Nothing needs to settle.
        """
        del t0_ns, settle
        now = None
        for sample in reversed(tuple(self._samples)):
            if sample.monotonic_ns < t1_ns:
                break
            now = sample
        now = now or self.mark()
        zones = self._source.zones
        return timeline.window(
            timeline.edge((mark, now), zones, mark.monotonic_ns),
            timeline.edge((mark, now), zones, now.monotonic_ns),
            zones,
        )

    def close(self) -> None:
        self._source.close()


def open_local(root: str) -> LocalCounters | None:
    """Return the host's counters if this process may read them, else None."""
    try:
        return LocalCounters(PowercapSource(root, keep=False))
    except (CarbonOpsError, OSError):
        # there are none, or they are root's: `carbon-ops doctor` says which
        return None
