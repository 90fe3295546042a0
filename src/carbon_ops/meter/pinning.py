"""Tasks that may run on some CPU packages only, and how busy those were.

A task pinned to one socket uses that socket's energy: it is billed from its own
packages, and its share is of their busy CPU time.

Sources
    Linux, Documentation/ABI/stable/sysfs-devices-system-cpu (physical_package_id);
    sched_getaffinity(2); proc_stat(5).
"""

from __future__ import annotations

import os
from typing import NamedTuple

from carbon_ops.meter.process_tree import NS_PER_TICK, read_file

SYS_CPU = "/sys/devices/system/cpu"


class PinMark(NamedTuple):
    """Which packages a task may run on, and their busy CPU time so far."""

    packages: frozenset[int]
    of: int  # packages of the host
    busy_ns: int


class Topology:
    """Which package each CPU belongs to; read once, when a task is first restricted."""

    def __init__(self, root: str = SYS_CPU, stat: str = "/proc/stat") -> None:
        self._root, self._stat = root, stat
        self._package_of: dict[int, int] | None = None

    def mark(self, pid: int, cpus: int) -> PinMark | None:
        """Return where ``pid`` is pinned to, None if that is every package.

        Args:
            pid: A process; 0 is the calling thread.
            cpus: CPUs of the host.
        """
        try:
            allowed = os.sched_getaffinity(pid)
        except OSError:
            return None
        return None if len(allowed) >= cpus else self.of(allowed)

    def of(self, allowed: set[int]) -> PinMark | None:
        """Return the packages of the CPUs ``allowed``, None if those are all."""
        if self._package_of is None:
            self._package_of = self._read()
        every = set(self._package_of.values())
        mine = {self._package_of.get(cpu, -1) for cpu in allowed}
        if -1 in mine or mine >= every:
            return None
        busy = self._busy_ns(mine)
        return None if busy is None else PinMark(frozenset(mine), len(every), busy)

    def _read(self) -> dict[int, int]:
        found: dict[int, int] = {}
        try:
            names = os.listdir(self._root)
        except OSError:
            return found
        for name in names:
            if name.startswith("cpu") and name[3:].isdigit():
                path = f"{self._root}/{name}/topology/physical_package_id"
                try:
                    found[int(name[3:])] = int(read_file(path, 32))
                except (OSError, ValueError):
                    continue  # offline
        return found

    def _busy_ns(self, packages: set[int]) -> int | None:
        package_of = self._package_of or {}
        ticks = 0
        try:
            with open(self._stat, "rb") as file:
                for line in file:
                    if not line.startswith(b"cpu"):
                        break
                    f = line.split()
                    number = f[0][3:]
                    if number and package_of.get(int(number)) in packages:
                        ticks += int(f[1]) + int(f[2]) + int(f[3])
                        ticks += int(f[6]) + int(f[7])
        except (OSError, ValueError, IndexError):
            return None
        return ticks * NS_PER_TICK
