"""Which registers a CPU model has, and what one tick of each is worth. Pure.

Sources
    Intel SDM vol. 3B "RAPL Interfaces" and vol. 4 (register numbers, energy status unit
    in bits 12:8 of MSR_RAPL_POWER_UNIT, MSR_MISC_PACKAGE_CTLS).
    Linux ``drivers/powercap/intel_rapl_common.c``: ``rapl_ids`` (which models have
    the fixed DRAM unit, the 1 J platform unit and the Atom unit) and
    ``rapl_check_unit_atom``; ``intel_rapl_msr.c`` for AMD's registers.
    AMD PPR for family 17h, MSRC001_0299 to 029B.
"""

from __future__ import annotations

from typing import NamedTuple

from carbon_ops.counters.wrap import REGISTER_TICKS, Unit
from carbon_ops.errors import SourceUnavailableError

INTEL_UNIT = 0x606
AMD_UNIT = 0xC0010299
# Bit 0 set: energy readings carry noise against power side channels (CVE-2020-8694).
ENERGY_FILTER = 0xBC

# 15.3 µJ whatever the unit register says: Haswell, Broadwell, Skylake (Cascade and
# Cooper Lake too) and Ice Lake servers (X and D), Knights Landing and Mill.
_FIXED_DRAM = frozenset({0x3F, 0x4F, 0x55, 0x6A, 0x6C, 0x57, 0x85})
# The platform register counts joules, and holds a time stamp above bit 31: Sapphire
# and Emerald Rapids.
_JOULE_PLATFORM = frozenset({0x8F, 0xCF})
# 2**n µJ instead of 2**-n J: Silvermont (three kinds) and Airmont.
_ATOM = frozenset({0x37, 0x4A, 0x5A, 0x4C})


class Cpu(NamedTuple):
    """What ``/proc/cpuinfo`` says of the first CPU, and the package of each."""

    vendor: str
    family: int
    model: int
    packages: dict[int, int]  # package id by CPU number, where it is said


class Register(NamedTuple):
    """One energy status register of a package."""

    name: str  # the name powercap gives to this domain
    address: int
    unit: Unit


def parse_cpuinfo(text: str) -> Cpu:
    """Return the CPU of ``/proc/cpuinfo``.

    Raises:
        SourceUnavailableError: it names no vendor, family or model (not an x86).
    """
    first: dict[str, str] = {}
    packages: dict[int, int] = {}
    cpu = -1
    for line in text.splitlines():
        key, _, value = (part.strip() for part in line.partition(":"))
        first.setdefault(key, value)
        if key == "processor" and value.isdecimal():
            cpu = int(value)
        elif key == "physical id" and value.isdecimal() and cpu >= 0:
            packages[cpu] = int(value)
    try:
        family, model = int(first["cpu family"]), int(first["model"])
        return Cpu(first["vendor_id"], family, model, packages)
    except (KeyError, ValueError) as exc:
        raise SourceUnavailableError(
            "cpuinfo names no x86 vendor, family and model",
            hint="MSR mode needs an x86 CPU; use --rapl-mode=sysfs.",
        ) from exc


def is_amd(cpu: Cpu) -> bool:
    """Return whether AMD's registers apply (Hygon builds on them)."""
    return cpu.vendor in {"AuthenticAMD", "HygonGenuine"}


def unit_register(cpu: Cpu) -> int:
    """Return the address of the unit register.

    Raises:
        SourceUnavailableError: no registers are known for this vendor or family.
    """
    if is_amd(cpu) and cpu.family >= 0x17:
        return AMD_UNIT
    if cpu.vendor == "GenuineIntel" and cpu.family >= 6:
        return INTEL_UNIT
    raise SourceUnavailableError(
        f"no energy registers are known for {cpu.vendor} family {cpu.family}",
        hint="Use --rapl-mode=sysfs, which relies on the kernel's own list.",
    )


def registers(cpu: Cpu, unit_value: int) -> tuple[Register, ...]:
    """Return the energy registers that this model may have, package first.

    A register in the list may still be missing: reading it then fails.

    Args:
        cpu: Vendor and model.
        unit_value: Value of :func:`unit_register`.

    >>> skylake = Cpu("GenuineIntel", 6, 0x55, {})
    >>> [(r.name, hex(r.address)) for r in registers(skylake, 0xA0E03)][:2]
    [('package', '0x611'), ('dram', '0x619')]
    """
    esu = unit_value >> 8 & 0x1F
    unit = Unit(1_000_000, 1 << esu, REGISTER_TICKS)
    if is_amd(cpu):
        return (
            Register("package", 0xC001029B, unit),
            Register("core", 0xC001029A, unit),  # of the CPU it is read on, one core
        )
    if cpu.family == 6 and cpu.model in _ATOM:
        unit = Unit(1 << esu, 1, REGISTER_TICKS)
    dram = platform = unit
    if cpu.family == 6 and cpu.model in _FIXED_DRAM:
        dram = Unit(15_300, 1_000, REGISTER_TICKS)
    if cpu.family == 6 and cpu.model in _JOULE_PLATFORM:
        platform = Unit(1_000_000, 1, REGISTER_TICKS)
    return (
        Register("package", 0x611, unit),
        Register("dram", 0x619, dram),
        Register("core", 0x639, unit),
        Register("uncore", 0x641, unit),
        Register("psys", 0x64D, platform),
    )
