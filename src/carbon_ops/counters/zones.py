"""Which RAPL domains there are, and which of them make up the host.

Host total = packages + their DRAM. ``core`` and ``uncore`` are parts of a package,
``psys`` contains the packages, and ``intel-rapl-mmio`` shows the same silicon as
``intel-rapl`` a second time: shown, never added.

Pure: :mod:`carbon_ops.sources` reads the names, this module says what they mean.

Sources
    Linux ``Documentation/power/powercap/powercap.rst`` (control types, zone names) and
    ``drivers/powercap/intel_rapl_common.c``: ``package-%d``, ``package-%d-die-%d``,
    ``psys`` and ``psys-%d`` at the top level, sub-zones below their package.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from carbon_ops.counters.wrap import Unit
from carbon_ops.model import Zone, ZoneKind

# No package on the market passes 500 W by specification; twice that is no honest step.
DEFAULT_BOUND_W = 1_000.0
# A constraint above this is a placeholder ("unlimited"), not a power.
_ABSURD_W = 100_000.0

CONTROL = "intel-rapl"  # AMD's counters appear under this name too

_PARTS: dict[str, ZoneKind] = {"core": "core", "uncore": "uncore", "dram": "dram"}


class RawZone(NamedTuple):
    """One domain as its source names it."""

    control: str  # control type, e.g. "intel-rapl", or "msr"
    id: str  # unique in the control type, e.g. "intel-rapl:0:1"
    parent: str | None  # the id of the domain it is a part of
    name: str
    unit: Unit
    max_power_w: float  # its largest constraint [W]; 0: none known


class Name(NamedTuple):
    """What a zone's name says."""

    kind: ZoneKind
    package: int | None
    die: int | None


def parse_name(name: str) -> Name:
    """Return what a kernel zone name means; numbers are integers of any length.

    >>> parse_name("package-10-die-1")
    Name(kind='package', package=10, die=1)
    >>> parse_name("psys-1").kind, parse_name("gpu").kind
    ('psys', 'other')
    """
    if name in _PARTS:
        return Name(_PARTS[name], None, None)
    words = name.split("-")
    if words[0] == "psys" and (len(words) == 1 or words[1].isdecimal()):
        return Name("psys", None, None)
    if words[0] == "package" and len(words) > 1 and words[1].isdecimal():
        if len(words) == 2:
            return Name("package", int(words[1]), None)
        if len(words) == 4 and words[2] == "die" and words[3].isdecimal():
            return Name("package", int(words[1]), int(words[3]))
    return Name("other", None, None)


def bound_of(max_power_w: float) -> float:
    """Return the power [W] no honest step exceeds: twice the largest constraint, but
    at least :data:`DEFAULT_BOUND_W`.

    >>> bound_of(165.0), bound_of(900.0)
    (1000.0, 1800.0)
    """
    if not 0 < max_power_w <= _ABSURD_W:
        return DEFAULT_BOUND_W
    return max(DEFAULT_BOUND_W, 2 * max_power_w)


def ordered(raws: Sequence[RawZone]) -> list[RawZone]:
    """Return the domains in the order of their numbers, so that 10 follows 9."""

    def rank(raw: RawZone) -> tuple[str, list[tuple[int, str]]]:
        return raw.control, [
            (int(part), "") if part.isdecimal() else (-1, part)
            for part in raw.id.split(":")
        ]

    return sorted(raws, key=rank)


def tree(raws: Sequence[RawZone], twins: Collection[str] = ()) -> tuple[Zone, ...]:
    """Return the zones of ``raws``, in the same order.

    Args:
        raws: Domains, see :func:`ordered`.
        twins: Ids of domains that repeat a counter shown under another id.
    """
    by_id = {raw.id: raw for raw in raws}
    packages_w = sum(
        bound_of(raw.max_power_w)
        for raw in raws
        if raw.control != f"{CONTROL}-mmio" and parse_name(raw.name).kind == "package"
    )
    zones: list[Zone] = []
    keys: set[str] = set()
    for raw in raws:
        name = parse_name(raw.name)
        names, package, twin = [raw.name], name.package, raw.id in twins
        above = by_id.get(raw.parent) if raw.parent else None
        while above is not None:
            names.insert(0, above.name)
            if package is None:
                package = parse_name(above.name).package
            twin = twin or above.id in twins
            above = by_id.get(above.parent) if above.parent else None
        key = "/".join([raw.control, *names])
        if key in keys:  # two domains of one name: the id tells them apart
            key = f"{key}@{raw.id}"
        keys.add(key)
        counted, why = _verdict(raw, name.kind, package, twin)
        bound_w = bound_of(raw.max_power_w)
        if name.kind == "psys":
            bound_w = max(bound_w, packages_w)
        zones.append(
            Zone(
                key=key,
                name=raw.name,
                kind=name.kind,
                package=package,
                counted=counted,
                why=why,
                unit=(raw.unit.numerator, raw.unit.denominator),
                wrap_ticks=raw.unit.wrap_ticks,
                bound_w=bound_w,
            )
        )
    return tuple(zones)


def _verdict(
    raw: RawZone, kind: ZoneKind, package: int | None, twin: bool
) -> tuple[bool, str]:
    if raw.control.endswith("-mmio"):
        return False, "repeats a package through another interface"
    if twin:
        return False, "moves together with another zone: the same counter twice"
    if kind == "package":
        return True, "a processor package"
    if kind == "dram":
        if package is None:
            return False, "memory of no known package"
        return True, "the memory of a package, not in the package's counter"
    if kind in {"core", "uncore"}:
        return False, "a part of its package"
    if kind == "psys":
        return False, "the whole platform: contains the packages"
    return False, "not a domain this program knows"


def suspects(raws: Sequence[RawZone]) -> list[list[str]]:
    """Return the groups of ids that may show one counter several times.

    Dies of one package may each have a counter (Intel) or share one (AMD, whose
    register has the scope of the package while some kernels list it once per die). Only
    deltas over time decide: see :func:`mirrored`. Packages of different numbers are
    never suspect: sockets may start alike and work alike.
    """
    groups: dict[int | None, list[str]] = {}
    for raw in raws:
        name = parse_name(raw.name)
        if name.kind == "package" and not raw.control.endswith("-mmio"):
            groups.setdefault(name.package, []).append(raw.id)
    return [group for group in groups.values() if len(group) > 1]


MIN_STEPS = 6  # steps that must have been seen before anything is called a twin
MIN_TICKS = 64  # and each must have moved by this, so that equality is no accident


def mirrored(a: Sequence[int], b: Sequence[int], wrap_ticks: int) -> bool | None:
    """Return whether two counters, read side by side over time, are one.

    Compares steps, never values: counters of two sockets may start close together. If
    no update fell between two reads, a mirrored pair shows the *same* step to the tick;
    independent counters differ by the noise of power.

    Args:
        a: Readings of one counter [ticks], oldest first.
        b: Readings of the other [ticks], each made while ``a`` stood still.
        wrap_ticks: Modulus of both.

    Returns:
        ``None`` when they moved too little to tell.
    """
    steps = [
        ((a[i + 1] - a[i]) % wrap_ticks, (b[i + 1] - b[i]) % wrap_ticks)
        for i in range(min(len(a), len(b)) - 1)
    ]
    moved = [(x, y) for x, y in steps if max(x, y) >= MIN_TICKS]
    if len(moved) < MIN_STEPS:
        return None
    equal = sum(x == y for x, y in moved)
    return 4 * equal >= 3 * len(moved)
