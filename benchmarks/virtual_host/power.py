"""What the virtual registers hold: true energy, ticks, wraps. Arithmetic only.

A register counts ticks in 32 bits and moves about once a millisecond; ``energy_uj`` is
the register times the kernel's integer unit, rounded down, and ``max_energy_range_uj``
is the same of its highest value, as in the kernel's intel_rapl driver
(``drivers/powercap/intel_rapl_common.c``, ``rapl_unit_xlate``).
"""

from __future__ import annotations

from typing import Any, NamedTuple

REGISTER_TICKS = 2**32
UPDATE_NS = 1_000_000


class Power(NamedTuple):
    """Watts that follow a script, or the CPU time of the whole machine.

    Attributes:
        script: (seconds, watts) pairs, repeated for ever.
        per_cpu_w: Watts for each CPU that is busy [W].
    """

    script: tuple[tuple[float, float], ...] = ()
    per_cpu_w: float = 0.0

    def joules(self, elapsed_s: float, busy_s: float) -> float:
        """Return the energy since the start [J]."""
        energy = self.per_cpu_w * busy_s
        if not self.script:
            return energy
        period = sum(seconds for seconds, _ in self.script)
        rounds, rest = divmod(elapsed_s, period)
        energy += rounds * sum(seconds * watts for seconds, watts in self.script)
        for seconds, watts in self.script:
            energy += min(seconds, rest) * watts
            rest -= min(seconds, rest)
        return energy


class Zone(NamedTuple):
    """One counter.

    Attributes:
        ident: Kernel id, ``intel-rapl:0:1`` is a part of ``intel-rapl:0``.
        name: Kernel name, e.g. ``package-0``.
        power: What it draws.
        unit_nj: The kernel's integer unit [nJ per tick].
        wraps_after_j: Energy from the start until the register wraps [J]; None: the
            register starts in the middle of its range.
        counted: Whether it belongs to the host's total: packages and their memory do;
            core is inside its package, psys holds the packages, mmio repeats one.
    """

    ident: str
    name: str
    power: Power
    unit_nj: int = 61_035
    wraps_after_j: float | None = None
    counted: bool = False

    @property
    def range_uj(self) -> int:
        return (REGISTER_TICKS - 1) * self.unit_nj // 1000

    def first_ticks(self) -> int:
        """Return the register at the start."""
        if self.wraps_after_j is None:
            # No two alike: equal counters would look like mirrors of each other.
            return REGISTER_TICKS // 2 + sum(self.ident.encode()) * 1_000_003
        return REGISTER_TICKS - int(self.wraps_after_j * 1e9 / self.unit_nj)

    def energy_uj(self, joules: float) -> int:
        """Return what the kernel shows when ``joules`` were used since the start."""
        ticks = self.first_ticks() + int(joules * 1e9 / self.unit_nj)
        return ticks % REGISTER_TICKS * self.unit_nj // 1000

    def wraps(self, joules: float) -> int:
        """Return how often the register wrapped since the start."""
        ticks = self.first_ticks() + int(joules * 1e9 / self.unit_nj)
        return ticks // REGISTER_TICKS


def zone_from(described: dict[str, Any]) -> Zone:
    """Return the zone that :meth:`Zone._asdict` described, after its way through JSON."""
    script, per_cpu_w = described["power"]
    power = Power(tuple((s, w) for s, w in script), per_cpu_w)
    return Zone(**{**described, "power": power})


def total_j(zones: tuple[Zone, ...], elapsed_s: float, busy_s: float) -> float:
    """Return the host's true energy since the start [J]: each joule once."""
    return sum(z.power.joules(elapsed_s, busy_s) for z in zones if z.counted)
