"""The host's busy CPU time and the identity of its boot, from ``/proc``."""

from __future__ import annotations

import os

_NS_PER_S = 1_000_000_000


def busy_jiffies(first_line: bytes) -> int:
    """Return user+nice+system+irq+softirq of the ``cpu`` line of ``/proc/stat``.

    ``idle`` and ``iowait`` are not work, ``steal`` was not this machine's, and ``guest``
    is already in ``user`` (Linux ``Documentation/filesystems/proc.rst``).

    Raises:
        ValueError: this is not that line.

    >>> busy_jiffies(b"cpu  10 2 30 400 50 6 7 8 9 0")
    55
    """
    try:
        cpu, user, nice, system, _, _, irq, softirq, *_ = first_line.split()
    except ValueError:
        cpu = b""
    if cpu != b"cpu":
        raise ValueError(f"not the cpu line of /proc/stat: {first_line[:40]!r}")
    return int(user) + int(nice) + int(system) + int(irq) + int(softirq)


class HostClock:
    """Busy CPU time of the whole host, through one kept descriptor."""

    def __init__(self, stat: str = "/proc/stat") -> None:
        self._fd = os.open(stat, os.O_RDONLY | os.O_CLOEXEC)
        self._ns = _NS_PER_S // os.sysconf("SC_CLK_TCK")
        self._last = 0

    def busy_ns(self) -> int:
        """Return the CPU time spent on work since boot, over all CPUs [ns].

        Moves in steps of a clock tick per CPU (10 ms as a rule); never decreases.

        Raises:
            OSError: ``/proc/stat`` cannot be read.
        """
        line = os.pread(self._fd, 512, 0).split(b"\n", 1)[0]
        self._last = max(self._last, busy_jiffies(line) * self._ns)
        return self._last

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def boot_id() -> str:
    """Return the kernel's random id of this boot, or an empty text without one."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
