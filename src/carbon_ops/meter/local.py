"""Counters that this process may read itself: as root, or where somebody mounted them.

Read at the ends of spans only, so there is nothing to interpolate, and nobody to notice
a counter that turns over twice in between: a step longer than one turn at the zone's
power bound is a gap, whose energy is an interval and not a number.
"""

from __future__ import annotations

import os
from _thread import RLock

from carbon_ops.errors import CarbonOpsError, GovernorUnavailableError
from carbon_ops.model import Origin, Sample

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carbon_ops.governor.sampler import Sampler
    from carbon_ops.model import Window

POWERCAP = "/sys/class/powercap"


class LocalCounters:
    """A :class:`carbon_ops.model.EnergySource` over counters opened by this process."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self._lock = RLock()
        layout = sampler.layout
        self._origin = Origin(
            layout.instance_id, layout.boot_id, os.getuid(), layout.source
        )

    @property
    def origin(self) -> Origin:
        return self._origin

    def mark(self) -> Sample:
        """Read the counters now."""
        try:
            with self._lock:
                return self._sampler.take()
        except OSError as error:
            raise GovernorUnavailableError(
                "stale", f"the counters cannot be read any more: {error.strerror}"
            ) from error

    def window(
        self, mark: Sample, t0_ns: int, t1_ns: int, *, settle: bool = False
    ) -> Window:
        """Return the energy from ``mark`` to the first reading after ``t1_ns``.

        That is the mark of what follows, if one was taken, so that adjoining windows
        share no energy; else the counters are read now. Nothing needs to settle.
        """
        del t0_ns, settle
        from carbon_ops.counters import timeline

        now = None
        with self._lock:
            for sample in reversed(self._sampler.samples):
                if sample.monotonic_ns < t1_ns:
                    break
                now = sample
        now = now or self.mark()
        zones = self._sampler.layout.zones
        return timeline.window(
            timeline.edge((mark, now), zones, mark.monotonic_ns),
            timeline.edge((mark, now), zones, now.monotonic_ns),
            zones,
        )

    def close(self) -> None:
        self._sampler.close()


def open_local(root: str = POWERCAP) -> LocalCounters | None:
    """Return the host's counters if this process may read them, else None."""
    if not os.path.isdir(root):
        return None
    from carbon_ops.governor.sampler import Sampler
    from carbon_ops.sources.open import open_source

    try:
        source = open_source("sysfs", powercap_root=root)
    except (CarbonOpsError, OSError):
        return (
            None  # there are none, or they are root's: `carbon-ops doctor` says which
        )
    try:
        return LocalCounters(Sampler(source))
    except OSError:
        source.close()
        return None
