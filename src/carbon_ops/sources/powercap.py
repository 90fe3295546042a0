"""RAPL counters through the kernel's powercap tree.

``/sys/class/powercap`` holds symlinks, so directories are followed by name, each real
directory once. Descriptors are opened once and read with ``pread``: a thirteenth of the
cost of opening the file each time, and rights may be dropped after the opening.

Source
    Linux ``Documentation/ABI/testing/sysfs-class-powercap``. ``energy_uj`` is 0400 since
    5.10 (CVE-2020-8694); a failed register read is EINVAL, a removed zone ENODEV.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from itertools import combinations

from carbon_ops.counters.wrap import ENDLESS, Unit, ticks_of, unit_of_range
from carbon_ops.counters.zones import RawZone, mirrored, ordered, suspects, tree
from carbon_ops.errors import SourceUnavailableError
from carbon_ops.model import SourceName, Zone

DEFAULT_ROOT = "/sys/class/powercap"
_SKIP = frozenset({"subsystem", "device", "power", "parent"})
_DEPTH = 4  # root, control type, package, part
_ENERGY_BYTES = 32  # 2**64 has 20 digits
# Looks at counters that may be one and the same; 7 steps of 12 ms at opening, on the
# few machines that have several dies per package.
_LOOKS = 8
_LOOK_S = 0.012
_TRIES = 5


class PowercapSource:
    """All RAPL domains below one powercap root, ``core`` and ``psys`` included.

    Args:
        root: A powercap class directory, or any directory laid out like one.
        filtered: See :attr:`carbon_ops.sources.base.Source.filtered`.
        keep: Keep the descriptors. ``False`` in a program that is not ours, which may
            close them and get their numbers for its own files.
        sleep: Waits between looks [s].

    Raises:
        SourceUnavailableError: no counter that counts, or none that may be read.
    """

    name: SourceName = "rapl_sysfs"

    def __init__(
        self,
        root: str = DEFAULT_ROOT,
        *,
        filtered: bool | None = None,
        keep: bool = True,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._root = root
        self.filtered = filtered
        self._failed = False
        self._listed = _entries(root)
        found = _discover(root)
        raws = ordered([raw for raw, _ in found.values()])
        zones = tree(raws)
        self._units = [raw.unit for raw in raws]
        self._paths = [
            os.path.join(found[f"{raw.control}/{raw.id}"][1], "energy_uj")
            for raw in raws
        ]
        self._fds: list[int] = []
        denied: OSError | None = None
        try:
            for zone, path in zip(zones, self._paths, strict=True):
                try:
                    self._fds.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
                except OSError as exc:
                    self._fds.append(-1)
                    denied = exc if zone.counted and denied is None else denied
            self._require_counted(zones, denied)
            # Whether a whole number ends in a newline here; then one without is torn.
            ends = [self._text(fd)[-1:] == b"\n" for fd in self._fds]
            tops = [
                u.numerator * (u.wrap_ticks - 1) // u.denominator for u in self._units
            ]
            reads: list[Callable[[], bytes]] = [
                (
                    partial(os.pread, fd, _ENERGY_BYTES, 0)
                    if keep
                    else partial(_read_once, path)
                )
                for fd, path in zip(self._fds, self._paths, strict=True)
            ]
            if not keep:
                self.close()
            self._files = list(zip(reads, ends, tops, self._units, strict=True))
            twins = self._twins(raws, sleep)
        except BaseException:
            self.close()
            raise
        self.zones: tuple[Zone, ...] = tree(raws, twins) if twins else zones

    def _require_counted(self, zones: tuple[Zone, ...], denied: OSError | None) -> None:
        counted = [
            fd for fd, zone in zip(self._fds, zones, strict=True) if zone.counted
        ]
        if not counted:
            raise SourceUnavailableError(
                f"no RAPL package counter under {self._root}",
                hint="Virtual machines and containers often have none; on bare metal "
                "load the module (modprobe intel_rapl_msr) or look at "
                "`carbon-ops doctor`.",
            )
        if denied is not None and max(counted) < 0:
            raise SourceUnavailableError(
                f"cannot read {denied.filename}: {denied.strerror}",
                hint="Since Linux 5.10 energy counters are readable by root only. "
                "Start the governor (sudo systemctl start carbon-governor) and join "
                "the carbon-users group.",
            ) from denied

    @staticmethod
    def _text(fd: int) -> bytes:
        try:
            return os.pread(fd, _ENERGY_BYTES, 0)
        except OSError:
            return b"\n"

    def read(self) -> tuple[int | None, ...]:
        """Return the ticks of every zone; ``None`` where a read failed or was torn."""
        return tuple(map(self._ticks, self._files))

    def _ticks(self, file: tuple[Callable[[], bytes], bool, int, Unit]) -> int | None:
        read, end, top_uj, unit = file
        try:
            text = read()
        except OSError:
            text = b""
        digits = text.strip()
        if digits.isdigit() and (text[-1:] == b"\n" or not end):
            energy_uj = int(digits)
            if energy_uj <= top_uj:  # else no value this counter can show
                return ticks_of(energy_uj, unit)
        self._failed = True
        return None

    def _twins(
        self,
        raws: list[RawZone],
        sleep: Callable[[float], None],
    ) -> set[str]:
        """Return the ids of zones that repeat the counter of an earlier one."""
        index_of = {raw.id: i for i, raw in enumerate(raws)}
        pairs = [
            (index_of[one], index_of[other])
            for group in suspects(raws)
            for one, other in combinations(group, 2)
        ]
        looks: list[list[tuple[int, int]]] = [[] for _ in pairs]
        for look in range(_LOOKS if pairs else 0):
            if look:
                sleep(_LOOK_S)
            for seen, (one, other) in zip(looks, pairs, strict=True):
                both = self._at_rest(one, other)
                if both is not None:
                    seen.append(both)
        twins: set[str] = set()
        for seen, (one, other) in zip(looks, pairs, strict=True):
            firsts, seconds = [a for a, _ in seen], [b for _, b in seen]
            if mirrored(firsts, seconds, self._units[one].wrap_ticks):
                twins.add(raws[other].id)
        return twins

    def _at_rest(self, one: int, other: int) -> tuple[int, int] | None:
        """Return two readings between which no update fell, None if that fails."""
        order = [self._files[index] for index in (one, other, one)]
        for _ in range(_TRIES):
            before, b, after = map(self._ticks, order)
            if before is not None and b is not None and before == after:
                return before, b
        return None

    def changed(self) -> bool:
        """Return whether zones vanished, appeared or were made anew since opening."""
        if _entries(self._root) != self._listed:
            return True
        if not self._failed:
            return False
        self._failed = False
        return any(map(_replaced, self._fds, self._paths))

    def close(self) -> None:
        for fd in self._fds:
            if fd >= 0:
                os.close(fd)
        self._fds = [-1] * len(self._fds)


def _read_once(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, _ENERGY_BYTES)
    finally:
        os.close(fd)


def _replaced(fd: int, path: str) -> bool:
    """Return whether ``path`` is another file than the open one: hot-plugged."""
    try:
        now, kept = os.stat(path), os.fstat(fd)
    except OSError:  # gone, or never opened
        return False
    return (now.st_dev, now.st_ino) != (kept.st_dev, kept.st_ino)


def _entries(root: str) -> frozenset[str]:
    """Return the names in ``root``; a class directory lists every zone."""
    try:
        return frozenset(os.listdir(root))
    except OSError:
        return frozenset()


def _discover(root: str) -> dict[str, tuple[RawZone, str]]:
    """Return domain and directory by control type and id."""
    found: dict[str, tuple[RawZone, str]] = {}
    seen: set[str] = set()

    def walk(path: str, depth: int) -> None:
        real = os.path.realpath(path)
        if real in seen or depth > _DEPTH:
            return
        seen.add(real)
        try:
            entries = os.listdir(real)
        except OSError:
            return
        if "energy_uj" in entries and "name" in entries:
            raw = _describe(real, entries)
            if raw is not None:
                found[f"{raw.control}/{raw.id}"] = (raw, real)
        for entry in entries:
            below = os.path.join(real, entry)
            if entry not in _SKIP and os.path.isdir(below):
                walk(below, depth + 1)

    walk(root, 0)
    return found


def _describe(path: str, entries: list[str]) -> RawZone | None:
    ident = os.path.basename(path)
    name = _line(os.path.join(path, "name"))
    if not name:
        return None
    limits = [
        _number(os.path.join(path, entry))
        for entry in entries
        if entry.startswith("constraint_") and entry.endswith("_max_power_uw")
    ]
    return RawZone(
        control=ident.split(":", 1)[0],
        id=ident,
        parent=ident.rsplit(":", 1)[0] if ident.count(":") > 1 else None,
        name=name,
        unit=_unit(path),
        max_power_w=max(limits, default=0) / 1e6,
    )


def _unit(path: str) -> Unit:
    top = _number(os.path.join(path, "max_energy_range_uj"))
    return unit_of_range(top) if top else ENDLESS


def _line(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(256).strip()
    except OSError:
        return ""


def _number(path: str) -> int:
    text = _line(path)
    return int(text) if text.isascii() and text.isdigit() else 0
