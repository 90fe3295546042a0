"""A powercap tree that is laid out, wraps and fails like the kernel's.

Awkward parts kept: ``class/powercap`` holds symlinks only; sub-zones are directories
inside their package *and* links beside it; ``subsystem`` links lead back to the class
directory, a loop for a careless walk; ``energy_uj`` is the register times an integer
unit, rounded down; the register wraps at 32 bits; a text can be torn.
"""

from __future__ import annotations

import os
import shutil

from carbon_ops.counters.wrap import REGISTER_TICKS

CLASS = "class/powercap"
DEVICES = "devices/virtual/powercap"


class FakePowercap:
    """Real directories and files below ``base``; :attr:`root` is the class directory."""

    def __init__(self, base: str) -> None:
        self._base = base
        self.root = os.path.join(base, CLASS)
        os.makedirs(self.root)
        self._dirs: dict[str, str] = {}
        self._unit_nj: dict[str, int] = {}
        self.ticks: dict[str, int] = {}  # the registers

    def add(
        self,
        ident: str,
        name: str,
        *,
        unit_nj: int = 61_035,
        ticks: int = 0,
        range_uj: int | None = None,
        max_power_uw: int = 0,
    ) -> None:
        """Add a zone; its parent, if its id names one, has to be there already.

        Args:
            ident: Kernel id, e.g. ``intel-rapl:0:1``.
            name: Kernel name, e.g. ``dram``.
            unit_nj: The kernel's integer unit [nJ per tick].
            ticks: First value of the register.
            range_uj: ``max_energy_range_uj`` if not that of the unit [µJ].
            max_power_uw: Largest constraint [µW]; 0: no constraint files.
        """
        control, _, path = ident.partition(":")
        parts = path.split(":")
        top = os.path.join(self._base, DEVICES, control)
        self._link_class(control, top)
        where = top
        for depth in range(len(parts)):
            where = os.path.join(where, ":".join([control, *parts[: depth + 1]]))
        self._link_class(ident, where)
        top_uj = (REGISTER_TICKS - 1) * unit_nj // 1000
        self._dirs[ident], self._unit_nj[ident] = where, unit_nj
        self.write(ident, "name", f"{name}\n")
        self.write(ident, "max_energy_range_uj", f"{range_uj or top_uj}\n")
        self.write(ident, "enabled", "1\n")
        if max_power_uw:
            self.write(ident, "constraint_0_name", "long_term\n")
            self.write(ident, "constraint_0_max_power_uw", f"{max_power_uw}\n")
        self.ticks[ident] = ticks
        self.advance(ident, 0)

    def _link_class(self, entry: str, where: str) -> None:
        os.makedirs(where, exist_ok=True)
        for link, target in (
            (os.path.join(where, "subsystem"), self.root),
            (os.path.join(self.root, entry), where),
        ):
            if not os.path.islink(link):
                os.symlink(os.path.relpath(target, os.path.dirname(link)), link)

    def write(self, ident: str, file: str, text: str) -> None:
        """Overwrite a file of a zone in place, as an open descriptor sees it."""
        with open(os.path.join(self._dirs[ident], file), "w", encoding="ascii") as out:
            out.write(text)

    def advance(self, ident: str, ticks: int) -> None:
        """Let a register count on by ``ticks``; it wraps at 32 bits."""
        self.ticks[ident] = (self.ticks[ident] + ticks) % REGISTER_TICKS
        shown_uj = self.ticks[ident] * self._unit_nj[ident] // 1000
        self.write(ident, "energy_uj", f"{shown_uj}\n")

    def tear(self, ident: str, text: str = "") -> None:
        """Let the next reads see ``text`` until the register moves again."""
        self.write(ident, "energy_uj", text)

    def replug(self, ident: str) -> None:
        """Make a zone's counter anew: what had it open reads nothing any more."""
        path = os.path.join(self._dirs[ident], "energy_uj")
        os.truncate(path, 0)
        os.unlink(path)
        self.advance(ident, 0)

    def remove(self, ident: str) -> None:
        """Take a zone away, as when the last CPU of a package goes offline."""
        os.unlink(os.path.join(self.root, ident))
        shutil.rmtree(self._dirs.pop(ident))


def server(base: str, sockets: int = 2) -> FakePowercap:
    """Return a server's tree: packages with core and dram, psys, and mmio repeating
    package 0. Registers stand within 1 J of their top, each at a value of its own."""
    fake = FakePowercap(base)
    for socket in range(sockets):
        top = REGISTER_TICKS - 1000 - 17 * socket
        ident = f"intel-rapl:{socket}"
        fake.add(ident, f"package-{socket}", ticks=top, max_power_uw=205_000_000)
        fake.add(f"{ident}:0", "core", ticks=top - 5)
        fake.add(f"{ident}:1", "dram", unit_nj=15_300, ticks=top - 9)
    fake.add(f"intel-rapl:{sockets}", "psys", ticks=7)
    fake.add("intel-rapl-mmio:0", "package-0", ticks=REGISTER_TICKS - 1000)
    return fake
