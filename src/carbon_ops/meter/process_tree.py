"""CPU time and resident memory of processes, as the kernel counts them.

A clock here is anything with ``read() -> int``: CPU time [ns] that only grows. The
meter reads it at both ends of a span. Nothing is cached and no descriptor is kept, so
that a fork, a chroot or a program that closes every descriptor does no harm.

How children are counted
    Living descendants are found through ``/proc/<pid>/task/<tid>/children``; what they
    used comes from their CPU-time clock (nanoseconds). What a process reaped is in its
    own ``RUSAGE_CHILDREN`` (ours, microseconds) or in ``cutime + cstime`` of its
    ``stat`` file (others', clock ticks of 10 ms). Children that were reaped by the
    kernel itself because ``SIGCHLD`` is ignored are in neither, which
    :func:`children_vanish` tells, and those whose parent died are no descendants any
    more: what was seen of them stays counted, see :class:`Descendants`.

Sources
    Linux man pages proc_pid_stat(5), proc_tid_children(5), getrusage(2), waitid(2);
    the clock of another process: clock_getcpuclockid(3), whose identifier is
    ``~pid << 3 | 2`` (``include/linux/posix-timers_types.h``, CPUCLOCK_SCHED).
"""

from __future__ import annotations

import os
import resource
import time

# The C module: `signal` itself would cost a millisecond of enums at every start.
from _signal import SIG_IGN, SIGCHLD, getsignal  # type: ignore[import-not-found]
from _thread import RLock
from errno import EINVAL, ENOENT, ESRCH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class CpuClock(Protocol):
        """CPU time of some scope; :meth:`read` raises ``OSError`` once it is gone."""

        @property
        def name(self) -> str:
            """What is counted, as written into a record's flags."""

        def read(self) -> int:
            """Return the CPU time used so far [ns]."""

        def pids(self) -> list[int]:
            """Return the living processes counted, for their memory."""

    # Optional: ``leader``, the process that with its descendants is the scope's, as far
    # as CPU affinity goes; THIS_PROCESS, or 0 for the calling thread alone.


THIS_PROCESS = -1
NS_PER_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGESIZE")
_ANY_CHILD = os.WEXITED | os.WSTOPPED | os.WNOHANG | os.WNOWAIT
_TRIES = 4  # a child reaped between two reads makes them disagree; then read again
# A sum over processes may fall by this much when one is reaped: from then on it counts in
# whole ticks, of user and of system time, in its parent's account.
_SLACK_NS = 4 * NS_PER_TICK
_FULL = PAGE_BYTES // 2  # a list as long as this may go on in another read


def read_file(path: str, size: int = 4096) -> bytes:
    """Return the beginning of a kernel file; one ``read`` is one consistent view."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, size)
    finally:
        os.close(fd)


def process_ns(pid: int) -> int:
    """Return the CPU time of process ``pid``, all its threads [ns]; zombies included.

    Raises:
        OSError: there is no such process.
    """
    return time.clock_gettime_ns((~pid << 3) | 2)


def reaped_ns(pid: int) -> int:
    """Return the CPU time of the children that ``pid`` has waited for [ns].

    In whole clock ticks. Raises ``OSError`` when there is no such process.
    """
    stat = read_file(f"/proc/{pid}/stat")
    # The name (field 2) may hold anything, also ')': count from its last bracket.
    fields = stat[stat.rindex(b")") + 2 :].split()
    return (int(fields[13]) + int(fields[14])) * NS_PER_TICK


def is_gone(error: OSError) -> bool:
    """Return whether a process ended; the clock of one that is gone is EINVAL."""
    return error.errno in (ENOENT, ESRCH, EINVAL)


def children_of(pid: int) -> list[int]:
    """Return the living children of ``pid``, of all its threads; none if it is gone.

    Raises:
        OSError: they cannot be told, for instance for want of descriptors.
    """
    found: list[int] = []
    threads: list[str] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError as error:
        if not is_gone(error) or pid == os.getpid():  # we are here: /proc is not
            raise
    for tid in threads:
        try:
            found += _children(f"/proc/{pid}/task/{tid}/children")
        except OSError as error:
            if not is_gone(error):
                raise
    return found


def _children(path: str) -> list[int]:
    """Read the whole list; the kernel hands out a page at a time, in whole numbers."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = part = os.read(fd, PAGE_BYTES)
        while len(part) > _FULL:
            part = os.read(fd, PAGE_BYTES)
            text += part
    finally:
        os.close(fd)
    return [int(number) for number in text.split()]


def descendants(pid: int) -> list[int]:
    """Return all living descendants of ``pid``, without itself."""
    found = children_of(pid)
    for child in found:  # the list grows while it is walked
        found += children_of(child)
    return found


def have_children() -> bool:
    """Return whether this process has any child, alive or not yet reaped.

    One system call, so that programs without children pay nothing for the question.
    """
    try:
        os.waitid(os.P_ALL, 0, _ANY_CHILD)
    except ChildProcessError:
        return False
    return True


def children_vanish() -> bool:
    """Return whether ended children leave no account (``SIGCHLD`` is ignored)."""
    return bool(getsignal(SIGCHLD) == SIG_IGN)


def resident_bytes(pids: list[int]) -> int | None:
    """Return the resident memory of ``pids`` [bytes]; shared pages count in each."""
    total = None
    for pid in pids:
        try:
            pages = int(read_file(f"/proc/{pid}/statm", 256).split()[1])
        except (OSError, IndexError, ValueError):
            continue  # it ended; another one's memory is still worth naming
        total = (total or 0) + pages * PAGE_BYTES
    return total


def _living_ns(pids: list[int]) -> int:
    total = 0
    for pid in pids:
        try:
            used = process_ns(pid)
            used += reaped_ns(pid)
        except OSError as error:
            if not is_gone(error):
                raise
            continue  # ended and reaped meanwhile: its parent's account has it now
        total += used
    return total


class Descendants:
    """CPU time of processes that come and go, as a sum that only grows.

    One that leaves without being reaped by another one (its parent died, or the kernel
    reaped it) takes what it used out of what can be read; what was seen of it is kept.
    While nothing can be read the sum stands still; what was used meanwhile is added as
    far as it can be read later.

    Args:
        read: CPU time [ns] of those that are there now and of those that were reaped.
    """

    def __init__(self, read: Callable[[], int]) -> None:
        self._read = read
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._lock = RLock()  # a signal's handler may measure, too
        self._seen = 0
        self._kept = 0  # what is counted and cannot be read any more [ns]
        self.left = 0  # how often something left
        self.unread = 0  # how often nothing could be read

    def read(self) -> int:
        """Return the CPU time so far [ns]. Never raises."""
        if self._pid != os.getpid():
            self._start()
        with self._lock:
            before = self._seen
            try:
                now = self._read()
                for _ in range(_TRIES):
                    if now >= before - _SLACK_NS:
                        break
                    now = max(now, self._read())
            except OSError:
                self.unread += 1
                return self._seen + self._kept
            if now < before - _SLACK_NS:
                self.left += 1
                self._kept += before - now
            else:
                now = max(now, before)
            self._seen = now
            return now + self._kept


class OwnTree:
    """This process and its children, living and reaped: the default scope."""

    name = "tree"
    leader = THIS_PROCESS

    def __init__(self, *, with_self: bool = True) -> None:
        self._with_self = with_self
        if not with_self:
            self.name = "children"

    def read(self) -> int:
        own = time.process_time_ns() if self._with_self else 0
        return own + ours.read()

    def pids(self) -> list[int]:
        own = os.getpid()
        try:
            found = descendants(own) if have_children() else []
        except OSError:
            found = []
        return [own, *found] if self._with_self else found


def _reaped_here_ns() -> int:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return round((usage.ru_utime + usage.ru_stime) * 1e6) * 1_000


def _children_here_ns() -> int:
    total = 0
    for _ in range(_TRIES):
        before = _reaped_here_ns()
        total = before
        if not have_children():
            break
        total += _living_ns(descendants(os.getpid()))
        if _reaped_here_ns() == before:
            break
    return total


ours = Descendants(_children_here_ns)  # of this process, living and reaped


class OwnProcess:
    """This process without its children."""

    name = "process"
    leader = THIS_PROCESS

    def read(self) -> int:
        return time.process_time_ns()

    def pids(self) -> list[int]:
        return [os.getpid()]


class OwnThread:
    """The thread that made this object; other threads may read it while it lives."""

    name = "thread"
    leader = 0

    def __init__(self) -> None:
        from _thread import get_ident

        self._clock = time.pthread_getcpuclockid(get_ident())

    def read(self) -> int:
        return time.clock_gettime_ns(self._clock)

    def pids(self) -> list[int]:
        return [os.getpid()]


class TreeClock:
    """Another process, ``pid``, and its children, living and reaped.

    Measure a program that was started elsewhere::

        clock = TreeClock(child.pid)
        with logger.span("job", scope=clock):
            ...

    After the process has been reaped :meth:`read` goes on answering with the last value
    it saw, and :attr:`gone` is true: what was used between that reading and the end is
    missing, and the metric has the flag ``process_ended``. A parent that needs all of it measures its children instead
    (``EnergyLogger(scope="children")``), or hands over what ``os.wait4`` returned
    (``span.end(cpu_s=usage.ru_utime + usage.ru_stime)``).

    Raises:
        OSError: there is no process ``pid`` now.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.name = f"pid:{pid}"
        self.leader = pid
        self.gone = False
        self._began = self._start_time()
        self._last = 0
        self._below = Descendants(self._children_ns)
        self.read()

    def _start_time(self) -> int:
        stat = read_file(f"/proc/{self.pid}/stat")
        return int(stat[stat.rindex(b")") + 2 :].split()[19])

    def read(self) -> int:
        try:
            if self._start_time() != self._began:  # the number went to another process
                self.gone = True
                return self._last
            own = process_ns(self.pid)
        except OSError as error:
            if not is_gone(error):
                raise
            self.gone = True
            return self._last
        self._last = max(self._last, own + self._below.read())
        return self._last

    def _children_ns(self) -> int:
        return reaped_ns(self.pid) + _living_ns(descendants(self.pid))

    @property
    def flags(self) -> set[str]:
        """For the quality of a metric."""
        return {"process_ended"} if self.gone else set()

    def pids(self) -> list[int]:
        if self.gone:  # the number may be somebody else's
            return []
        try:
            return [self.pid, *descendants(self.pid)]
        except OSError:
            return [self.pid]
