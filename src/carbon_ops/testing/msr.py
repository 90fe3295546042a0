"""MSR devices, CPU topology and cpuinfo of a machine that is not there.

Awkward parts kept: a register is 8 bytes at an offset equal to its number, up to 3 GiB
into a sparse file; every CPU of a package shows the same counter; bits above 31 may
hold anything; the topology lists each CPU. Two things differ. A register that was never set
reads 0 here, where hardware answers EIO. And neighbours share bytes of the file: set
AMD's unit (0xC0010299) before its package (0xC001029B); the core's (0xC001029A) then
reads as a mixture of both.
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Sequence


class FakeMsr:
    """Files below ``base``; hand the four paths to ``open_source``.

    Args:
        base: An existing directory.
        packages: Package id of each CPU, by CPU number.
        vendor: As in cpuinfo, e.g. ``GenuineIntel`` or ``AuthenticAMD``.
        family: CPU family.
        model: CPU model.
        dies: Die id of each CPU; all 0 if not given.
    """

    def __init__(
        self,
        base: str,
        packages: Sequence[int],
        *,
        vendor: str = "GenuineIntel",
        family: int = 6,
        model: int = 0x55,
        dies: Sequence[int] | None = None,
    ) -> None:
        self.dev_root = os.path.join(base, "cpu")
        self.sys_cpu_root = os.path.join(base, "system-cpu")
        self.cpuinfo = os.path.join(base, "cpuinfo")
        self._packages = tuple(packages)
        blocks = []
        for cpu, package in enumerate(packages):
            os.makedirs(os.path.join(self.dev_root, str(cpu)))
            with open(self.device(cpu), "wb"):
                self.place(cpu, package, dies[cpu] if dies else 0)
            blocks.append(
                f"processor\t: {cpu}\nvendor_id\t: {vendor}\n"
                f"cpu family\t: {family}\nmodel\t\t: {model}\n"
                f"model name\t: Fake\nphysical id\t: {package}\n\n"
            )
        with open(self.cpuinfo, "w", encoding="ascii") as out:
            out.write("".join(blocks))

    def device(self, cpu: int) -> str:
        """Return the path of one CPU's device."""
        return os.path.join(self.dev_root, str(cpu), "msr")

    def place(self, cpu: int, package: int, die: int = 0) -> None:
        """Say in the topology where a CPU sits."""
        where = os.path.join(self.sys_cpu_root, f"cpu{cpu}", "topology")
        os.makedirs(where, exist_ok=True)
        for name, value in (("physical_package_id", package), ("die_id", die)):
            with open(os.path.join(where, name), "w", encoding="ascii") as out:
                out.write(f"{value}\n")

    def offline(self, cpu: int) -> None:
        """Take a CPU's topology away, as when it goes offline; its device fails."""
        shutil.rmtree(os.path.join(self.sys_cpu_root, f"cpu{cpu}"))
        os.truncate(self.device(cpu), 0)

    def set(self, package: int, register: int, value: int) -> None:
        """Set a register on every CPU of a package."""
        for cpu in self._cpus(package):
            self.set_cpu(cpu, register, value)

    def _cpus(self, package: int) -> list[int]:
        return [cpu for cpu, its in enumerate(self._packages) if its == package]

    def set_cpu(self, cpu: int, register: int, value: int) -> None:
        """Set a register on one CPU."""
        with open(self.device(cpu), "r+b") as out:
            out.seek(register)
            out.write(struct.pack("<Q", value))

    def cut(self, package: int, size: int = 0) -> None:
        """Let reads from ``size`` on fail on every CPU of a package."""
        for cpu in self._cpus(package):
            os.truncate(self.device(cpu), size)
