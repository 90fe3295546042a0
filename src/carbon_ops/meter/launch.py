"""A command run as if we were not there, while nothing it starts escapes our account.

The command inherits our descriptors, directory, process group and terminal. Sharing the
group is what keeps pipelines, ``Ctrl-C`` and ``Ctrl-Z`` as they were: the terminal
signals the command itself, and a shell script that was interrupted sees it. So:

* A signal from the terminal (``SI_KERNEL``) is not passed on: the command has it.
* A signal sent to us by a process (``kill``) is passed on to the command. Whoever
  signals the whole group signals the command twice, as with any wrapper.
* When the command stops, we stop; when we are continued, so is the command.

This process becomes a *child subreaper*: descendants whose parent has ended are handed
to it instead of to init, so that the kernel adds their CPU time to our
``RUSAGE_CHILDREN`` when they end. Only one thread may use this module, and the process
should have no other children: they would be reaped too.

Sources
    Linux man pages prctl(2) PR_SET_CHILD_SUBREAPER, sigaction(2) si_code, wait(2),
    credentials(7), posix_spawn(3). Exit statuses: POSIX.1-2017, XCU 2.8.2.
    Why an interrupted wrapper dies of SIGINT: Martin Cracauer, "Proper handling of
    SIGINT/SIGQUIT" (2006).
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from carbon_ops.clock import monotonic_ns
from carbon_ops.meter import memory
from carbon_ops.meter.command import CommandNotStarted, is_anywhere, on_path
from carbon_ops.meter.process_tree import THIS_PROCESS, descendants, read_file

if TYPE_CHECKING:
    from carbon_ops.meter.process_tree import CpuClock
    from carbon_ops.model import Memory

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_SI_KERNEL = 0x80  # asm-generic/siginfo.h: sent by the kernel, here the terminal

# Before the first look: at the exec itself there is no memory yet. Then it doubles.
_FIRST_PAUSE_NS = 5_000_000
_LAST_PAUSE_NS = 1_000_000_000
_LAG_BYTES = 1 << 20  # the kernel's counts of pages lag behind by batches

_PASSED_ON = frozenset(
    {
        signal.SIGHUP,
        signal.SIGINT,
        signal.SIGQUIT,
        signal.SIGTERM,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGALRM,
        signal.SIGWINCH,
        signal.SIGTSTP,
        signal.SIGTTIN,
        signal.SIGTTOU,
    }
)
_FATAL = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM})
_TERMINAL_STOPS = frozenset({signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU})
_WAITED_FOR = _PASSED_ON | {signal.SIGCHLD, signal.SIGCONT}


class Ended(NamedTuple):
    """How the command ended."""

    status: int  # what a shell would show: its own status, or 128 + signal
    signal: int | None  # the signal it died of
    interrupted: bool  # the terminal sent us SIGINT too, and the command died of it
    left_running: int  # descendants still alive
    peak_rss_bytes: int | None  # of its largest process; None: not told from ours


class CommandClock:
    """The CPU time of a command as another clock counts it, and its memory over time.

    When a command has ended its memory is gone, and so are the process numbers by which
    a GPU's driver knows it; so both are sampled while it runs.
    """

    leader = THIS_PROCESS  # the command inherits our CPU affinity

    def __init__(self, clock: CpuClock) -> None:
        self.name = clock.name
        self.read = clock.read
        self.flags: set[str] = set()
        self._living = clock.pids
        self._seen: dict[int, None] = {}
        self._at_ns = self._first = self._byte_ns = self._ns = 0
        self._peak: int | None = None

    def pids(self) -> list[int]:
        """Return the processes of the command, those that ended too if they were seen."""
        self.saw(*self._living())
        return list(self._seen)

    def saw(self, *pids: int) -> None:
        self._seen.update(dict.fromkeys(pids))

    def sample(self) -> None:
        """Look at everything that lives now: its memory, and its CPU time for once it
        is gone without account."""
        own, living, now = os.getpid(), self._living(), monotonic_ns()
        self.saw(*living)
        with suppress(OSError):
            self.read()
        found = [memory.status(pid) for pid in living if pid != own]
        if self.name == "children" and any(one.reaps_none for one in found):
            self.flags.add("children_auto_reaped")
        size = sum(one.rss or 0 for one in found)
        if not size:
            return
        if self._peak is None:
            self._first, self._at_ns = size, now
        self._byte_ns += size * (now - self._at_ns)
        self._ns += now - self._at_ns
        self._at_ns = now
        self._peak = max(self._peak or 0, size, *(one.peak or 0 for one in found))

    def ended(self, how: Ended) -> None:
        """Take the peak that the kernel kept; where it has none, a flag says so."""
        if how.peak_rss_bytes is not None:
            self._peak = max(self._peak or 0, how.peak_rss_bytes)
        elif self._peak is None:
            self.flags.add("peak_rss_unknown")
        else:
            self.flags.add("peak_rss_sampled")

    def memory(self) -> Memory:
        """Return the mean over the time of the samples, and the highest value known.

        None of a command too short to be seen.
        """
        mean: int | None = (
            self._byte_ns // self._ns if self._ns else self._first or None
        )
        total = memory.host_total()
        return {
            "rss_bytes": mean,
            "peak_rss_bytes": self._peak,
            "host_percent": 100.0 * mean / total if mean and total else None,
        }


class Supervisor:
    """Start one command and stay with it; a context manager that undoes itself.

    From entering to leaving, signals wait until they can be passed on::

        with Supervisor() as supervisor:
            supervisor.start(["make", "bench"])
            ended = supervisor.wait()

    Raises:
        CommandNotStarted: by :meth:`start`, with the exit status a shell would use.
    """

    def __init__(self) -> None:
        self._pid = self._peak = 0
        self._inherited: int | None = None
        self._terminal_interrupt = False

    def __enter__(self) -> Supervisor:
        # An inherited "ignore" would make the kernel reap the command without account.
        self._old_chld = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._old_mask = signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED_FOR)
        # Refused only by kernels before 3.4; then re-parented children are not counted.
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        if self._pid:  # what was meant for the command must not hit its report
            while signal.sigtimedwait(_WAITED_FOR, 0):
                pass
        signal.pthread_sigmask(signal.SIG_SETMASK, self._old_mask)
        if self._old_chld is not None:
            signal.signal(signal.SIGCHLD, self._old_chld)

    def start(self, argv: Sequence[str]) -> int:
        """Start the command and return its PID."""
        if signal.sigpending() & _FATAL:  # interrupted before there was a command
            signal.pthread_sigmask(signal.SIG_SETMASK, self._old_mask)
            signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED_FOR)
        try:
            self._pid = self._spawn(argv[0], list(argv))
        except OSError as cause:
            if cause.errno == errno.EACCES and not is_anywhere(argv[0]):
                cause.errno = errno.ENOENT  # a folder of PATH was denied, nothing else
            if cause.errno != errno.ENOEXEC:
                raise CommandNotStarted(argv[0], cause) from cause
            # A script without "#!": every shell and execvp(3) hand it to sh.
            found = on_path(argv[0])
            self._pid = self._spawn("/bin/sh", ["sh", found, *argv[1:]])
        except ValueError as cause:  # an argument holds a NUL character
            raise CommandNotStarted(argv[0], OSError(errno.EINVAL, str(cause))) from (
                cause
            )
        self._inherited = memory.of([os.getpid()])["peak_rss_bytes"]
        return self._pid

    def _spawn(self, file: str, argv: list[str]) -> int:
        return os.posix_spawnp(
            file,
            argv,
            inherited_environment(),
            setsigmask=self._old_mask,
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # ignored by Python itself
        )

    def wait(self, look: Callable[[], None] = lambda: None) -> Ended:
        """Wait until the command has ended; pass signals on meanwhile.

        ``look`` is called soon and then ever less often, at last once a second.
        """
        pause = _FIRST_PAUSE_NS
        due = monotonic_ns() + pause
        while True:
            if (left := due - monotonic_ns()) <= 0:
                look()
                pause = min(2 * pause, _LAST_PAUSE_NS)
                due = monotonic_ns() + pause
                continue
            info = signal.sigtimedwait(_WAITED_FOR, left / 1e9)
            # A wait interrupted beyond its time returns no signal but what was there
            # (CPython, signal.sigtimedwait after EINTR).
            if info is None or info.si_signo not in _WAITED_FOR:
                continue
            number = signal.Signals(info.si_signo)
            if number == signal.SIGCHLD:
                ended = self._reap()
                if ended is not None:
                    return ended
            elif number == signal.SIGCONT:
                if _is_stopped(self._pid):
                    self._send(signal.SIGCONT)
            elif info.si_code == _SI_KERNEL and not _only_ours(number):
                self._terminal_interrupt |= number == signal.SIGINT
            else:
                self._send(number)

    def _reap(self) -> Ended | None:
        """Collect every child that has changed; return how the command ended, if so."""
        status = None
        while True:
            try:
                pid, changed, usage = os.wait4(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                break
            if pid == 0:
                break
            self._peak = max(self._peak, usage.ru_maxrss * 1024)
            if pid == self._pid:
                if os.WIFSTOPPED(changed):
                    self._stop_too(signal.Signals(os.WSTOPSIG(changed)))
                else:
                    status = changed
        if status is None:
            return None
        # Between vfork and exec the command was this program, and its ru_maxrss keeps
        # that (Linux, begin_new_exec); the peak of what it then became may be less.
        known = self._inherited is not None and (
            self._peak > self._inherited + _LAG_BYTES
        )
        died_of = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        return Ended(
            status=os.WEXITSTATUS(status) if died_of is None else 128 + died_of,
            signal=died_of,
            interrupted=self._terminal_interrupt and died_of == signal.SIGINT,
            left_running=len(descendants(os.getpid())),
            peak_rss_bytes=self._peak if known else None,
        )

    def _send(self, number: int) -> None:
        # Not reaped yet, so the PID is still the command's; it may have become
        # somebody else's to signal (set-user-ID).
        try:
            os.kill(self._pid, number)
        except (ProcessLookupError, PermissionError):
            return

    def _stop_too(self, number: signal.Signals) -> None:
        """Stop as the command did, so that the shell gets its terminal back.

        A SIGSTOP from elsewhere is between its sender and the command, unless a shell
        waits for us on its terminal.
        """
        if number not in _TERMINAL_STOPS:
            if not _in_foreground():
                return
            number = signal.SIGTSTP
        # Sent while blocked, so that the terminal's own, if it waits too, and this one
        # are one. Unblocked, with the default action, it stops us here until SIGCONT;
        # in an orphaned process group the kernel ignores it, and so do we. Another
        # Ctrl-Z before we run again stops us here too, maybe before the command; any
        # other signal would do without that, but the shell would name it.
        os.kill(os.getpid(), number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        signal.pthread_sigmask(signal.SIG_BLOCK, {number})


def _only_ours(number: int) -> bool:
    """Return whether the terminal sends this to the session leader alone, being us.

    So does a hang-up, as under ``ssh -t host carbon-ops run ...``.
    """
    return number == signal.SIGHUP and os.getsid(0) == os.getpid()


def die_of_interrupt() -> None:
    """End this process by SIGINT, so that a calling shell script stops as well."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)
    signal.pause()  # the signal ends the process here


def inherited_environment() -> dict[bytes, bytes]:
    """Return the environment for the command: ours, as it was before Python started.

    Python sets ``LC_CTYPE`` in its own environment in the C locale (PEP 538); the
    command must not see that.
    """
    environment = dict(os.environb)
    if b"LC_CTYPE" in environment:
        try:
            began = read_file("/proc/self/environ", 1 << 22)
        except OSError:
            return environment
        if not any(x.startswith(b"LC_CTYPE=") for x in began.split(b"\0")):
            del environment[b"LC_CTYPE"]
    return environment


def _is_stopped(pid: int) -> bool:
    try:
        stat = read_file(f"/proc/{pid}/stat")
    except OSError:
        return False
    return stat[stat.rindex(b")") + 2 :][:1] == b"T"


def _in_foreground() -> bool:
    """Return whether this process group has the terminal."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
