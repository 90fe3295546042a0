"""Running totals from counters that wrap, reset, stand still and fail.

One accumulator of integer ticks serves every source. Each reading is one step:

``first``     nothing to compare with yet
``advanced``  the counter went on by a plausible amount
``wrapped``   it passed its top once, by a plausible amount
``gap``       too long since the last good reading, or the machine slept: the energy is
              an interval, its lower end goes to ``total_uj``, the rest to ``slack_uj``
``reset``     no power below the bound explains the step: nothing is counted, all that
              the bound allows goes to ``slack_uj``
``failed``    no reading; the next good one spans the longer time

Nothing here reads a clock or a file, and a failed read never counts as 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from carbon_ops.model import Zone, ZoneTotals

# The registers are updated about once a millisecond (Intel SDM vol. 3B, "Package RAPL
# Domain"), so a reading may be this old.
UPDATE_NS = 1_000_000
# CLOCK_BOOTTIME outgrowing CLOCK_MONOTONIC by more than this is a suspend; less is a
# scheduler that paused between the two clock reads.
SUSPEND_NS = 50_000_000

StepKind = Literal["first", "advanced", "wrapped", "gap", "reset", "failed"]


class Step(NamedTuple):
    """What one reading adds."""

    kind: StepKind
    ticks: int  # certainly counted
    slack_uj: int  # possible on top of that [µJ]


def bound_uj(bound_w: float, elapsed_ns: int) -> int:
    """Return the most energy [µJ] that ``bound_w`` [W] allows in a time, rounded up.

    >>> bound_uj(1000.0, 1_000_000)
    1000000
    """
    return -int(-bound_w * elapsed_ns // 1_000)


def judge(
    zone: Zone, before: int, now: int, elapsed_ns: int, *, suspended: bool = False
) -> Step:
    """Judge the step between two good readings of one counter.

    Args:
        zone: Unit, modulus and power bound.
        before: Earlier reading [ticks], ``0 <= before < zone.wrap_ticks``.
        now: Later reading [ticks], in the same range.
        elapsed_ns: Longest time that may lie between the readings [ns].
        suspended: The machine slept in between; nobody promises that counters go on.
    """
    num, den = zone.unit
    limit_uj = bound_uj(zone.bound_w, elapsed_ns + UPDATE_NS)
    if suspended:
        return Step("gap", 0, limit_uj)
    ticks = (now - before) % zone.wrap_ticks
    limit = limit_uj * den // num + 1  # one more: a tick may just have filled up
    if limit >= zone.wrap_ticks:
        turns = (limit - ticks) // zone.wrap_ticks
        return Step("gap", ticks, -(-turns * zone.wrap_ticks * num // den))
    if ticks > limit:
        return Step("reset", 0, limit_uj)
    return Step("wrapped" if now < before else "advanced", ticks, 0)


class _Counter:
    """The state of one zone."""

    __slots__ = (
        "boot_ns",
        "failures",
        "gaps",
        "mono_ns",
        "per_ns",
        "resets",
        "safe_ns",
        "shown",
        "slack_uj",
        "ticks",
        "wraps",
        "zone",
    )

    def __init__(self, zone: Zone) -> None:
        self.zone = zone
        self.shown: int | None = None  # last good reading [ticks]
        self.mono_ns = self.boot_ns = 0  # when that was
        self.ticks = self.slack_uj = 0
        self.wraps = self.gaps = self.resets = self.failures = 0
        # The bound in ticks per ns, and half the time in which it fills the counter.
        self.per_ns = zone.bound_w * zone.unit[1] / zone.unit[0] / 1_000
        self.safe_ns = zone.wrap_ticks / self.per_ns / 2 - SUSPEND_NS

    def step(
        self, reading: int | None, mono_ns: int, boot_ns: int, read_ns: int
    ) -> ZoneTotals:
        fresh = reading is not None and reading >= 0
        if reading is None or reading < 0:
            self.failures += 1
        else:
            now = reading % self.zone.wrap_ticks  # bits above the register: no energy
            if self.shown is not None:
                mono, boot = mono_ns - self.mono_ns, boot_ns - self.boot_ns
                ticks, asleep = now - self.shown, boot - mono > SUSPEND_NS
                # Nearly every step, at a third of the cost: plainly advanced.
                if (
                    0 <= ticks <= self.per_ns * mono
                    and mono + read_ns < self.safe_ns
                    and not asleep
                ):
                    self.ticks += ticks
                else:
                    self._judged(now, max(mono, boot, 0) + read_ns, asleep)
            self.shown, self.mono_ns, self.boot_ns = now, mono_ns, boot_ns
        num, den = self.zone.unit
        return ZoneTotals(
            self.ticks * num // den,
            self.slack_uj,
            self.wraps,
            self.gaps,
            self.resets,
            self.failures,
            fresh,
        )

    def _judged(self, now: int, elapsed_ns: int, asleep: bool) -> None:
        kind, ticks, slack = judge(
            self.zone, self.shown or 0, now, elapsed_ns, suspended=asleep
        )
        self.ticks += ticks
        self.slack_uj += slack
        self.wraps += kind == "wrapped"
        self.gaps += kind == "gap"
        self.resets += kind == "reset"


class Bank:
    """The running totals of all zones of one source, from the first step on."""

    def __init__(self, zones: tuple[Zone, ...]) -> None:
        self.zones = zones
        self._counters = tuple(_Counter(zone) for zone in zones)

    def step(
        self,
        ticks: Sequence[int | None],
        monotonic_ns: int,
        boottime_ns: int,
        read_ns: int = 0,
    ) -> tuple[ZoneTotals, ...]:
        """Add one reading of every zone and return the totals.

        Args:
            ticks: Readings in the order of ``zones`` [ticks]; bits above the register
                are ignored; ``None`` is a read that failed.
            monotonic_ns: CLOCK_MONOTONIC before the first read [ns].
            boottime_ns: CLOCK_BOOTTIME at the same moment [ns].
            read_ns: How long the reads took [ns]. A reader that was paused in the
                middle then is not taken for a counter that jumped.

        Raises:
            ValueError: the number of readings is not the number of zones.
        """
        if len(ticks) != len(self._counters):
            raise ValueError(f"{len(ticks)} readings for {len(self._counters)} zones")
        return tuple(
            [
                counter.step(reading, monotonic_ns, boottime_ns, read_ns)
                for counter, reading in zip(self._counters, ticks, strict=True)
            ]
        )
