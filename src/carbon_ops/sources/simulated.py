"""Simulated counters: a power profile behind the register of real hardware.

The counter has the unit, the 32-bit wrap and the 1 ms update of a RAPL register. Power is
scripted, or follows the load of this host's CPUs. Every record made from it says
``simulated``; its joules are worth nothing outside tests and demonstrations.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from carbon_ops.counters.accumulator import UPDATE_NS
from carbon_ops.counters.wrap import REGISTER_TICKS, Unit
from carbon_ops.counters.zones import RawZone, tree
from carbon_ops.errors import InvalidInputError
from carbon_ops.model import SourceName, Zone
from carbon_ops.sources.host import HostClock

_PACKAGE = Unit(
    1_000_000, 1 << 14, REGISTER_TICKS
)  # 61.035 µJ, client and server parts
_DRAM = Unit(15_300, 1_000, REGISTER_TICKS)  # 15.3 µJ, server memory
# The register starts this far below its top, so that every run meets a wrap early.
_BELOW_TOP_UJ = 60_000_000


class Load(NamedTuple):
    """Power that follows the host: ``idle_w`` plus ``per_cpu_w`` for each busy CPU."""

    idle_w: float
    per_cpu_w: float


class Script(NamedTuple):
    """Power that repeats: steps of (seconds, watts), from the opening on."""

    steps: tuple[tuple[float, float], ...]


Power = Load | Script

# A small server's shape, chosen, not measured.
DEFAULT_PROFILE: dict[str, Power] = {
    "package-0": Load(20.0, 12.0),
    "package-0/dram": Load(3.0, 1.0),
}


def energy_uj(power: Power, elapsed_ns: int, busy_ns: int) -> int:
    """Return the true energy [µJ] since the opening.

    Args:
        power: The profile.
        elapsed_ns: Time since the opening [ns].
        busy_ns: CPU time the host was busy since the opening [ns]; for a :class:`Load`.

    >>> energy_uj(Script(((1.0, 10.0), (1.0, 30.0))), 3_500_000_000, 0)
    65000000
    """
    if isinstance(power, Load):
        # W x ns = nJ; thousandths of a watt keep it an integer sum.
        idle, per_cpu = round(power.idle_w * 1000), round(power.per_cpu_w * 1000)
        return (idle * elapsed_ns + per_cpu * busy_ns) // 1_000_000
    steps = [(round(s * 1e9), round(w * 1000)) for s, w in power.steps]
    cycles, rest = divmod(elapsed_ns, sum(ns for ns, _ in steps))
    total = cycles * sum(ns * mw for ns, mw in steps)
    for ns, mw in steps:
        part = min(rest, ns)
        total += part * mw
        rest -= part
    return total // 1_000_000


class SimulatedSource:
    """Counters of zones named like ``package-0`` and ``package-0/dram``.

    Args:
        profile: Power by zone name; :data:`DEFAULT_PROFILE` if none is given.
        clock: CLOCK_MONOTONIC [ns], or a test's own.
        busy: Busy CPU time of the host [ns]; ``/proc/stat`` if none is given.
        start_ticks: First value of every register; just below the top if none is given.
        units: Of single zones; 61.035 µJ, or 15.3 µJ for memory, if none is given.

    Raises:
        InvalidInputError: a power or a duration is not a number above (or at) 0.
    """

    name: SourceName = "simulated"
    filtered: bool | None = False

    def __init__(
        self,
        profile: Mapping[str, Power] | None = None,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
        busy: Callable[[], int] | None = None,
        start_ticks: int | None = None,
        units: Mapping[str, Unit] | None = None,
    ) -> None:
        chosen = dict(DEFAULT_PROFILE if profile is None else profile)
        for key, power in chosen.items():
            _check(key, power)
        raws = _raws(list(chosen), units or {})
        self.zones: tuple[Zone, ...] = tree(raws)
        self._powers = tuple(chosen.values())
        self._units = [raw.unit for raw in raws]
        self._clock = clock
        self._host: HostClock | None = None
        if busy is None and any(isinstance(power, Load) for power in self._powers):
            self._host = HostClock()
            busy = self._host.busy_ns
        self._busy = busy or (lambda: 0)
        self.t0_ns, self._busy0_ns = clock(), self._busy()
        self._start = [
            (
                REGISTER_TICKS - _BELOW_TOP_UJ * unit.denominator // unit.numerator
                if start_ticks is None
                else start_ticks
            )
            for unit in self._units
        ]

    def truth_uj(self) -> tuple[int, ...]:
        """Return the true energy of every zone since the opening [µJ], as of now."""
        elapsed, busy = self._clock() - self.t0_ns, self._busy() - self._busy0_ns
        return tuple([energy_uj(power, elapsed, busy) for power in self._powers])

    def read(self) -> tuple[int | None, ...]:
        """Return the registers as of their last update [ticks]."""
        elapsed = self._clock() - self.t0_ns
        elapsed -= elapsed % UPDATE_NS
        busy = self._busy() - self._busy0_ns
        return tuple(
            [
                (start + energy_uj(power, elapsed, busy) * unit[1] // unit[0])
                % REGISTER_TICKS
                for power, unit, start in zip(
                    self._powers, self._units, self._start, strict=True
                )
            ]
        )

    def changed(self) -> bool:
        return False

    def close(self) -> None:
        if self._host is not None:
            self._host.close()


def _raws(keys: Sequence[str], units: Mapping[str, Unit]) -> list[RawZone]:
    return [
        RawZone(
            control="simulated",
            id=key,
            parent=key.rsplit("/", 1)[0] if "/" in key else None,
            name=key.rsplit("/", 1)[-1],
            unit=units.get(key, _DRAM if key.endswith("/dram") else _PACKAGE),
            max_power_w=0.0,
        )
        for key in keys
    ]


def _check(key: str, power: Power) -> None:
    numbers = (
        list(power)
        if isinstance(power, Load)
        else [number for step in power.steps for number in step]
    )
    whole = isinstance(power, Load) or sum(seconds for seconds, _ in power.steps) > 0
    if not whole or not all(0 <= number < 1e6 for number in numbers):
        raise InvalidInputError(
            f"zone {key}: power and seconds are numbers from 0, and a script lasts "
            f"longer than 0 s; got {numbers}"
        )
