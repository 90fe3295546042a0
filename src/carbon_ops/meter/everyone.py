"""The CPU time of every process of the host, cheaply, between two looks.

One directory listing and one ``clock_gettime`` a process: about a millisecond for 300.
A process is known by its number alone; when its clock runs backwards, the number went to
another process. What processes used that began and ended between two looks is in none
of them: whoever divides energy has to leave it with the rest.

Sources: as :mod:`carbon_ops.meter.process_tree`; cgroups(7) for ``/proc/<pid>/cgroup``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from carbon_ops.meter.process_tree import read_file


class Everyone:
    """All processes that ``/proc`` shows to this user."""

    def __init__(self) -> None:
        self._last: dict[int, int] = {}
        self._names: dict[int, str] = {}
        self._groups: dict[int, str] = {}
        self._first = True
        self.ended: set[int] = set()  # before the last look; numbers may be reused

    def used(self) -> dict[int, int]:
        """Return the CPU time [ns] each process used since the last call.

        The first call returns nothing: it is where counting begins.
        """
        now: dict[int, int] = {}
        for name in os.listdir("/proc"):
            if name.isdigit():
                pid = int(name)
                try:
                    now[pid] = time.clock_gettime_ns((~pid << 3) | 2)
                except OSError:
                    continue  # ended since it was listed
        used: dict[int, int] = {}
        last = self._last
        self.ended = last.keys() - now.keys()
        for pid, clock in now.items():
            before = last.get(pid)
            if before is not None and clock < before:
                before = None  # another process
                self.ended.add(pid)
            if before is None:
                before = clock if self._first else 0
            if clock > before:
                used[pid] = clock - before
        for pid in self.ended:
            self._names.pop(pid, None)
            self._groups.pop(pid, None)
        self._last, self._first = now, False
        return used

    def __len__(self) -> int:
        return len(self._last)

    def __iter__(self) -> Iterator[int]:
        return iter(self._last)

    def name(self, pid: int) -> str:
        """Return the name of process ``pid``, or its number once it is gone."""
        if pid not in self._names:
            try:
                text = read_file(f"/proc/{pid}/comm", 64).decode("utf-8", "replace")
            except OSError:
                return str(pid)
            self._names[pid] = text.strip()
        return self._names[pid]

    def group(self, pid: int) -> str:
        """Return the cgroup of process ``pid``: version 2's, else of ``cpuacct``."""
        if pid not in self._groups:
            self._groups[pid] = _group(pid)
        return self._groups[pid]


def _group(pid: int) -> str:
    try:
        text = read_file(f"/proc/{pid}/cgroup").decode("utf-8", "replace")
    except OSError:
        return "(ended)"
    unified = "/"
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if "cpuacct" in controllers.split(","):
            return path
        if not controllers:
            unified = path
    return unified
