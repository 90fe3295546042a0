"""The host's busy CPU time and the identity of its boot, from ``/proc``."""

from __future__ import annotations

import os

NS_PER_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_BYTES = 256  # ten numbers of up to twenty digits; the whole text is not needed


def busy_jiffies(text: bytes) -> int:
    """Return user+nice+system+irq+softirq of ``/proc/stat``, whose first line has them.

    ``idle`` and ``iowait`` are not work, ``steal`` was not this machine's, and ``guest``
    is already in ``user`` (Linux ``Documentation/filesystems/proc.rst``).

    Raises:
        ValueError: this is not that line.

    >>> busy_jiffies(b"cpu  10 2 30 400 50 6 7 8 9 0")
    55
    """
    try:
        cpu, user, nice, system, _, _, irq, softirq, _ = text.split(None, 8)
    except ValueError:
        cpu = b""
    if cpu != b"cpu":
        raise ValueError(f"not the cpu line of /proc/stat: {text[:40]!r}")
    return int(user) + int(nice) + int(system) + int(irq) + int(softirq)


class HostClock:
    """Busy CPU time of the whole host, through one kept descriptor."""

    def __init__(self, stat: str = "/proc/stat") -> None:
        self._fd = os.open(stat, os.O_RDONLY | os.O_CLOEXEC)
        self._last = 0

    def busy_ns(self) -> int:
        """Return the CPU time spent on work since boot, over all CPUs [ns].

        Moves in steps of a clock tick per CPU (10 ms as a rule); never decreases.

        Raises:
            OSError: ``/proc/stat`` cannot be read.
        """
        busy = busy_jiffies(os.pread(self._fd, _BYTES, 0)) * NS_PER_TICK
        self._last = max(self._last, busy)
        return self._last

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def host_busy_ns() -> int | None:
    """Return the host's busy CPU time since boot [ns], None where it is not shown.

    Through a descriptor of the moment, for programs that are not ours.
    """
    try:
        fd = os.open("/proc/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return busy_jiffies(os.read(fd, _BYTES)) * NS_PER_TICK
        finally:
            os.close(fd)
    except (OSError, ValueError):
        return None


def online_cpus(path: str = "/sys/devices/system/cpu/online") -> int:
    """Return how many CPUs of this host run, whatever this process may use of them.

    ``sysconf(SC_NPROCESSORS_ONLN)`` is the process's affinity in some C libraries (musl)
    and serves where the kernel shows no list, such as ``0-3,8``.
    """
    try:
        with open(path, encoding="utf-8") as file:
            parts = [part.split("-") for part in file.read().strip().split(",")]
        return sum(int(part[-1]) - int(part[0]) + 1 for part in parts)
    except (OSError, ValueError):
        return os.sysconf("SC_NPROCESSORS_ONLN")


def boot_id() -> str:
    """Return the kernel's random id of this boot, or an empty text without one."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
