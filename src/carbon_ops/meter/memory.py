"""Memory of processes and of the host, from ``/proc``."""

from __future__ import annotations

import os
from _signal import SIGCHLD  # type: ignore[import-not-found]
from resource import RUSAGE_SELF, getrusage
from typing import NamedTuple

from carbon_ops.clock import monotonic_ns
from carbon_ops.meter.process_tree import read_file, resident_bytes
from carbon_ops.model import Memory

USED_NS = 100_000_000

_used: tuple[int, int | None] = (-USED_NS, None)  # when, and how much
_rusage_knows = False  # whether getrusage(2) tells this program's own peak
_total: int | None = None  # of this host; it does not change while a program runs


def _value(text: bytes, key: bytes, end: bytes, base: int = 10) -> int | None:
    """Return the number after ``key``; a zombie or a kernel thread has no memory."""
    at = text.find(key)
    try:
        return int(text[at + len(key) : text.index(end, at)], base) if at >= 0 else None
    except ValueError:
        return None


def _kib(text: bytes, key: bytes) -> int | None:
    """Return the line ``key`` of a kernel file [bytes]."""
    value = _value(text, key, b"kB")
    return None if value is None else value * 1024


def _meminfo(key: bytes) -> int | None:
    """Return one line of ``/proc/meminfo`` [bytes]."""
    try:
        return _kib(read_file("/proc/meminfo"), key)
    except OSError:
        return None


def host_total() -> int | None:
    """Return the memory of this host [bytes]."""
    global _total  # noqa: PLW0603 - read once for the whole process
    if _total is None:
        _total = _meminfo(b"MemTotal:")
    return _total


def host_used() -> int | None:
    """Return memory in use [bytes]: all but what the kernel could hand out at once.

    Looked up ten times a second at most, as often as the counters are.
    """
    global _used  # noqa: PLW0603 - one host
    now = monotonic_ns()
    if not 0 <= now - _used[0] < USED_NS:
        total, free = host_total(), _meminfo(b"MemAvailable:")
        _used = now, None if total is None or free is None else total - free
    return _used[1]


class Status(NamedTuple):
    """What ``/proc/<pid>/status`` says of one process."""

    rss: int | None = None  # resident memory [bytes]; None of a zombie
    peak: int | None = None  # its highest value [bytes]
    reaps_none: bool = False  # it ignores SIGCHLD: its children end without account


def status(pid: int) -> Status:
    """Look at one process; one that is gone has nothing. See proc_pid_status(5)."""
    try:
        text = read_file(f"/proc/{pid}/status")
    except OSError:
        return Status()
    ignored = _value(text, b"SigIgn:", b"\n", 16) or 0
    return Status(
        _kib(text, b"VmRSS:"), _kib(text, b"VmHWM:"), bool(ignored >> SIGCHLD - 1 & 1)
    )


def _own() -> tuple[int | None, int | None]:
    """Return what :func:`status` does, of this process, for half the time.

    ``ru_maxrss`` is the greater of VmHWM and of what this process was before its last
    ``execve`` (``getrusage`` and ``exec_mmap`` in the Linux kernel); where VmHWM once
    reached it, both are the same from then on.
    """
    global _rusage_knows  # noqa: PLW0603 - one process; a forked child begins at its own
    if not _rusage_knows:
        before = getrusage(RUSAGE_SELF).ru_maxrss * 1024
        rss, peak, _ = status(os.getpid())
        _rusage_knows = rss is not None and peak is not None and peak >= before
        return rss, peak
    rss = resident_bytes([os.getpid()])
    return rss, max(rss or 0, getrusage(RUSAGE_SELF).ru_maxrss * 1024)


def of(pids: list[int]) -> Memory:
    """Return the memory of a scope: ``pids[0]`` leads it, the others are its children.

    The peak is the highest of the leader alone or the sum just seen, whichever is more:
    the kernel keeps no peak of a sum.
    """
    rss = peak = None
    if pids:
        try:
            rss, peak = _own() if pids[0] == os.getpid() else status(pids[0])[:2]
        except OSError:
            rss = peak = None  # a filter of system calls forbids getrusage
        if len(pids) > 1:
            rss = (rss or 0) + (resident_bytes(pids[1:]) or 0)
            peak = max(peak or 0, rss)
    total = host_total()
    return {
        "rss_bytes": rss,
        "peak_rss_bytes": peak,
        "host_percent": 100.0 * rss / total if rss is not None and total else None,
    }
