"""One writer at a time, over threads, processes and forks.

``flock`` excludes processes, a :class:`threading.Lock` the threads of one process. Two
files are locked: ``LOCK``, so that other tools can join in, and the directory itself, so
that deleting ``LOCK`` does not let a second writer lock a new one. ``LOCK`` is opened
anew each time; a lock inherited over ``fork`` would belong to both processes.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from carbon_ops.errors import LedgerError
from carbon_ops.ledger.files import LOCK, Directory, close_quietly

_FIRST_WAIT_S = 0.000_05
_LONGEST_WAIT_S = 0.003


class LockTimeout(LedgerError):
    """Another writer kept the ledger locked; nothing was written."""


class WriterLock:
    """The lock of one :class:`~carbon_ops.ledger.files.Directory`."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._threads = threading.Lock()
        self._owner = 0  # thread that holds it
        self._descriptor = -1

    @contextmanager
    def among_threads(self) -> Iterator[None]:
        """Hold the lock against other threads.

        Without a time-out: whoever holds it is limited by :meth:`among_processes`.

        Raises:
            LedgerError: this very thread holds it, in a signal handler for instance.
        """
        here = threading.get_ident()
        if self._owner == here:
            raise LedgerError(
                f"the ledger {self._directory.path} was called again from within itself",
                hint="Do not append from a signal handler or a finaliser.",
            )
        with self._threads:
            self._owner = here
            try:
                yield
            finally:
                self._owner = 0

    @contextmanager
    def among_processes(
        self, deadline: float, needless: Callable[[], bool] = lambda: False
    ) -> Iterator[bool]:
        """Hold the lock against other processes; yields whether it does.

        Args:
            deadline: When to give up [s of CLOCK_MONOTONIC].
            needless: Asked while another holds it; true ends the waiting, without it.

        Raises:
            LockTimeout: not obtained in time.
            LedgerError: ``LOCK`` cannot be opened or locked.
        """
        try:
            try:
                held = self._lock_file(deadline, needless)
            except OSError as error:
                raise LedgerError(
                    f"cannot lock the ledger {self._directory.path}: {error.strerror}",
                    hint="It needs a local file system with flock, and a directory "
                    "this user may write.",
                ) from error
            yield held
        finally:
            self._release()

    def forget(self) -> None:
        """Drop what was inherited over ``fork``, without unlocking it for the parent."""
        self._threads = threading.Lock()
        self._owner = 0
        self._let_go()

    def _lock_file(self, deadline: float, needless: Callable[[], bool]) -> bool:
        here = self._directory.descriptor
        flags = os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        while True:
            self._descriptor = os.open(LOCK, flags, 0o640, dir_fd=here)
            if not self._wait(self._descriptor, deadline, needless):
                return False
            named = self._directory.state(LOCK)
            if named is not None and os.path.samestat(
                named, os.fstat(self._descriptor)
            ):
                return self._wait(here, deadline, needless)
            self._let_go()  # replaced or deleted while we waited: again

    def _wait(
        self, descriptor: int, deadline: float, needless: Callable[[], bool]
    ) -> bool:
        pause_s = _FIRST_WAIT_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                pass
            if needless():
                return False
            if time.monotonic() >= deadline:
                raise LockTimeout(
                    f"the ledger {self._directory.path} stayed locked by another writer; "
                    "nothing was written",
                    hint="`fuser -v` on its file LOCK shows who holds it.",
                )
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _LONGEST_WAIT_S)

    def _release(self) -> None:
        if self._descriptor >= 0:
            # Said aloud: a lock stands as long as a forked child has the descriptor.
            for descriptor in (self._directory.descriptor, self._descriptor):
                with suppress(OSError):
                    fcntl.flock(descriptor, fcntl.LOCK_UN)
            self._let_go()

    def _let_go(self) -> None:
        if self._descriptor >= 0:
            close_quietly(self._descriptor)
            self._descriptor = -1
