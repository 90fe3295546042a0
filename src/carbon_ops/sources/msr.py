"""RAPL counters straight from the model-specific registers, ``/dev/cpu/N/msr``.

One CPU per package is read: every CPU of a package shows the same register, and adding
them up would multiply the energy by their number. A register that a CPU lacks or denies
is left out; the others go on.

Source
    Linux ``Documentation`` of msr(4): an 8-byte ``pread`` at the register's number;
    EIO when the CPU does not have the register, EPERM without CAP_SYS_RAWIO.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Sequence
from typing import NamedTuple

from carbon_ops.counters.wrap import REGISTER_TICKS
from carbon_ops.counters.zones import RawZone, tree
from carbon_ops.errors import SourceUnavailableError
from carbon_ops.model import SourceName, Zone
from carbon_ops.sources.msr_units import (
    ENERGY_FILTER,
    Register,
    is_amd,
    parse_cpuinfo,
    registers,
    unit_register,
)
from carbon_ops.sources.topology import Place, online, places

_MASK = REGISTER_TICKS - 1
_HINT = (
    "Load the module (sudo modprobe msr) and run as root, or with CAP_SYS_RAWIO and "
    "CAP_DAC_READ_SEARCH; or use --rapl-mode=sysfs."
)


class _Counter(NamedTuple):
    fd: int
    address: int


class MsrSource:
    """The energy registers of every package.

    Args:
        dev_root: Where ``N/msr`` are.
        sys_cpu_root: Where the topology is.
        cpuinfo: Vendor, family, model; package ids if the topology has none.
        cpus: CPUs to use instead of the lowest of each package; of two CPUs of one
            package the first is used.

    Raises:
        SourceUnavailableError: no package register can be read.
    """

    name: SourceName = "rapl_msr"

    def __init__(
        self,
        *,
        dev_root: str = "/dev/cpu",
        sys_cpu_root: str = "/sys/devices/system/cpu",
        cpuinfo: str = "/proc/cpuinfo",
        cpus: Sequence[int] | None = None,
    ) -> None:
        self._dev_root = dev_root
        self._sys_cpu_root = sys_cpu_root
        try:
            with open(cpuinfo, encoding="utf-8", errors="replace") as file:
                cpu = parse_cpuinfo(file.read())
        except OSError as exc:
            raise SourceUnavailableError(
                f"cannot read {cpuinfo}: {exc.strerror}", hint=_HINT
            ) from exc
        amd = is_amd(cpu)
        self._fallback = cpu.packages
        self._online = online(sys_cpu_root)
        self._places = places(sys_cpu_root, cpu.packages)
        self._fds: list[int] = []
        self._counters: list[_Counter] = []
        raws: list[RawZone] = []
        try:
            chosen = self._chosen(cpus, amd=amd)
            self._read_cpus = set(chosen.values())
            for place, number in sorted(chosen.items()):
                fd, unit_value = self._open(number, unit_register(cpu))
                for register in registers(cpu, unit_value):
                    if _exists(fd, register):
                        raws.append(_raw(register, place, raws))
                        self._counters.append(_Counter(fd, register.address))
        except BaseException:
            self.close()
            raise
        self.zones: tuple[Zone, ...] = tree(raws)
        self.filtered = None if amd else _filtering(self._fds)
        if not any(zone.counted for zone in self.zones):
            self.close()
            raise SourceUnavailableError(
                f"no package energy register under {dev_root}", hint=_HINT
            )

    def _chosen(self, cpus: Sequence[int] | None, *, amd: bool) -> dict[Place, int]:
        """Return the CPU to read for each place that has its own counter."""
        if cpus is None:
            order = sorted(self._places)
        else:
            unknown = [cpu for cpu in cpus if cpu not in self._places]
            if unknown:
                raise SourceUnavailableError(
                    f"CPU {unknown[0]} is not online here",
                    hint="Name online CPUs, one for each package, with --msr-cpus.",
                )
            order = list(cpus)
        if not order:
            raise SourceUnavailableError(
                f"no CPU topology under {self._sys_cpu_root}", hint=_HINT
            )
        chosen: dict[Place, int] = {}
        for cpu in order:
            place = self._places[cpu]
            # AMD's counter has the scope of the package, whatever dies are listed.
            chosen.setdefault(Place(place.package, 0) if amd else place, cpu)
        return chosen

    def _open(self, cpu: int, unit_address: int) -> tuple[int, int]:
        """Return descriptor and value of the unit register of one CPU."""
        path = os.path.join(self._dev_root, str(cpu), "msr")
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as exc:
            raise _unreadable(path, exc) from exc
        self._fds.append(fd)
        value = _read(fd, unit_address)
        if isinstance(value, OSError):
            raise _unreadable(path, value)
        return fd, value

    def read(self) -> tuple[int | None, ...]:
        """Return bits 31:0 of every register; ``None`` where the read failed."""
        ticks: list[int | None] = []
        for fd, address in self._counters:
            value = _read(fd, address)
            ticks.append(None if isinstance(value, OSError) else value & _MASK)
        return tuple(ticks)

    def changed(self) -> bool:
        """Return whether packages came or went, or a CPU that is read went offline."""
        now = online(self._sys_cpu_root)
        if now == self._online:
            return False
        self._online = now  # CPUs came or went; packages, perhaps
        found = places(self._sys_cpu_root, self._fallback)
        packages, before = (
            {place.package for place in where.values()}
            for where in (found, self._places)
        )
        return packages != before or not self._read_cpus <= set(found)

    def close(self) -> None:
        for fd in self._fds:
            os.close(fd)
        self._fds, self._counters = [], []


def _read(fd: int, address: int) -> int | OSError:
    """Return the 64 bits of a register, or why there are none."""
    try:
        data = os.pread(fd, 8, address)
    except OSError as exc:
        return exc
    if len(data) != 8:
        return OSError(errno.EIO, "short read of a register")
    value: int = struct.unpack("<Q", data)[0]
    return value


def _exists(fd: int, register: Register) -> bool:
    """Return whether the CPU has this register.

    One that stands at 0 is taken for missing, as the kernel takes it
    (``rapl_check_domain``); a package that does is kept, so that the next read decides.
    """
    value = _read(fd, register.address)
    if isinstance(value, OSError):
        return False
    return register.name == "package" or value & _MASK != 0


def _filtering(fds: Sequence[int]) -> bool | None:
    """Return whether any of these CPUs filters its energy; None: none of them says."""
    values = [_read(fd, ENERGY_FILTER) for fd in fds]
    known = [bool(value & 1) for value in values if not isinstance(value, OSError)]
    return any(known) if known else None


def energy_filtering(dev_root: str = "/dev/cpu") -> bool | None:
    """Return whether RAPL energy filtering is on, for readers of powercap.

    ``None`` where no CPU can be asked: no msr module, no right, no such register.
    """
    fds: list[int] = []
    try:
        for cpu in os.listdir(dev_root):
            fds.append(os.open(f"{dev_root}/{cpu}/msr", os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        pass  # what could be opened can still be asked
    try:
        return _filtering(fds)
    finally:
        for fd in fds:
            os.close(fd)


def _raw(register: Register, place: Place, known: Sequence[RawZone]) -> RawZone:
    """Return the domain of a register, named as powercap names it."""
    package = f"msr:{place.package}" + (f":{place.die}" if place.die else "")
    if register.name == "package":
        name, ident, parent = f"package-{place.package}", package, None
        if place.die:
            name += f"-die-{place.die}"
    elif register.name == "psys":
        repeats = any(raw.name.startswith("psys") for raw in known)
        name = f"psys-{place.package}" if repeats else "psys"
        ident, parent = f"{package}:psys", None
    else:
        name, ident, parent = register.name, f"{package}:{register.name}", package
    return RawZone("msr", ident, parent, name, register.unit, 0.0)


def _unreadable(path: str, cause: OSError) -> SourceUnavailableError:
    return SourceUnavailableError(f"cannot read {path}: {cause.strerror}", hint=_HINT)
