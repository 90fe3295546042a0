"""Read every zone at fixed deadlines and keep the last minute.

Deadlines are absolute: a late sample does not push the next one back, so the mean rate
is the nominal one however busy the machine is. What could not be taken is counted.
"""

from __future__ import annotations

import os
from time import monotonic_ns, time_ns

from carbon_ops.counters.accumulator import Bank
from carbon_ops.governor.ring import RingWriter
from carbon_ops.model import Layout, Sample
from carbon_ops.sources.host import HostClock, boot_id
from carbon_ops.sources.reading import read_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carbon_ops.sources.base import Source

INTERVAL_NS = 100_000_000  # 10 Hz


class Schedule:
    """Deadlines at a fixed distance from the first one. Pure: the caller has the clock."""

    __slots__ = ("due_ns", "interval_ns", "late", "missed")

    def __init__(self, start_ns: int, interval_ns: int) -> None:
        self.due_ns = start_ns
        self.interval_ns = interval_ns
        self.late = 0  # samples later than half an interval
        self.missed = 0  # deadlines at which no sample was taken

    def taken(self, now_ns: int) -> None:
        """Note a sample at ``now_ns`` and move to the first deadline after it.

        >>> schedule = Schedule(0, 100)
        >>> schedule.taken(260)
        >>> schedule.due_ns, schedule.late, schedule.missed
        (300, 1, 2)
        """
        behind = now_ns - self.due_ns
        if behind < 0:  # asked for ahead of time; the deadline stands
            return
        skipped = behind // self.interval_ns
        self.missed += skipped
        if behind % self.interval_ns * 2 > self.interval_ns:
            self.late += 1
        self.due_ns += (skipped + 1) * self.interval_ns


class Sampler:
    """A source, its accumulators and the samples taken so far."""

    def __init__(self, source: Source, interval_ns: int = INTERVAL_NS) -> None:
        self.source = source
        self.layout = Layout(
            instance_id=os.urandom(16).hex(),
            boot_id=boot_id(),
            source=source.name,
            interval_ns=interval_ns,
            zones=source.zones,
            filtered=source.filtered,
            started_wall_ns=time_ns(),
        )
        self.samples = RingWriter(self.layout)  # the last 600, oldest first
        self.schedule = Schedule(monotonic_ns(), interval_ns)
        self._bank = Bank(source.zones)
        self._host = HostClock()
        self._sequence = 0

    def take(self) -> Sample:
        """Read all zones now, keep the sample and return it."""
        read_ns, start, boottime, ticks, busy, wall = read_all(
            self.source, self._host.busy_ns
        )
        self.schedule.taken(start)
        self._sequence += 1
        sample = Sample(
            self._sequence,
            start,
            read_ns,
            boottime,
            wall,
            busy,
            self.schedule.late,
            self.schedule.missed,
            self._bank.step(ticks, start, boottime, read_ns),
        )
        self.samples.write(sample)
        return sample

    def close(self) -> None:
        """Tell readers that it is over and let go of the descriptors."""
        self.samples.close()
        self._host.close()
        self.source.close()
