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

from carbon_ops.meter.process_tree import (
    NS_PER_TICK,
    THIS_PROCESS,
    descendants,
    is_gone,
    read_file,
)

SYS_CPU = "/sys/devices/system/cpu"


class PinMark(NamedTuple):
    """Which packages a task may run on, and their busy CPU time so far."""

    packages: frozenset[int]
    of: int  # packages of the host
    busy_ns: int


def _everybodys(pid: int, allowed: set[int]) -> set[int]:
    """Add the CPUs that other threads of a process and its descendants may run on."""
    for process in (pid, *descendants(pid)):
        try:
            for tid in os.listdir(f"/proc/{process}/task"):
                allowed = allowed | os.sched_getaffinity(int(tid))
        except OSError as error:
            if not is_gone(error):
                raise
    return allowed


class Topology:
    """Which package each CPU belongs to; read once, when a task is first restricted."""

    def __init__(self, root: str = SYS_CPU, stat: str = "/proc/stat") -> None:
        self._root, self._stat = root, stat
        self._package_of: dict[int, int] = {}

    def mark(self, pid: int, cpus: int) -> PinMark | None:
        """Return where ``pid`` is pinned to, None if that is every package.

        A process is where all its threads and all its descendants are.

        Args:
            pid: A process; 0 is the calling thread alone.
            cpus: CPUs of the host.
        """
        if pid == THIS_PROCESS:
            pid = os.getpid()
        try:
            allowed = os.sched_getaffinity(pid)
            if len(allowed) >= cpus or self._some(allowed) is None:
                return None  # the usual case, at the price of one call
            if pid:
                allowed = _everybodys(pid, allowed)
        except OSError:
            return None
        return self.of(allowed)

    def of(self, allowed: set[int]) -> PinMark | None:
        """Return the packages of the CPUs ``allowed``, None if those are all."""
        mine = self._some(allowed)
        busy = None if mine is None else self._busy_ns(mine)
        if mine is None or busy is None:
            return None
        return PinMark(mine, len(set(self._package_of.values())), busy)

    def _some(self, allowed: set[int]) -> frozenset[int] | None:
        if not self._package_of:
            self._package_of = self._read()
        mine = frozenset(self._package_of.get(cpu, -1) for cpu in allowed)
        return None if -1 in mine or mine >= set(self._package_of.values()) else mine

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

    def _busy_ns(self, packages: frozenset[int]) -> int | None:
        ticks = 0
        try:
            with open(self._stat, "rb") as file:
                for line in file:
                    if not line.startswith(b"cpu"):
                        break
                    f = line.split()
                    number = f[0][3:]
                    if number and self._package_of.get(int(number)) in packages:
                        ticks += int(f[1]) + int(f[2]) + int(f[3])
                        ticks += int(f[6]) + int(f[7])
        except (OSError, ValueError, IndexError):
            return None
        return ticks * NS_PER_TICK
