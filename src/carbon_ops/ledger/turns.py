"""Who writes: threads and processes take turns, and write for each other.

The thread whose turn it is writes what all threads of its process wait with. The process
that holds the lock also writes what others have handed over; see
:mod:`carbon_ops.ledger.handover`.
"""

from __future__ import annotations

import contextlib
import os
import time
import weakref
from collections import deque
from collections.abc import Iterator

from carbon_ops.errors import LedgerError
from carbon_ops.ledger.chain import Draft
from carbon_ops.ledger.failures import LedgerWriteError, Written
from carbon_ops.ledger.handover import Handover, take
from carbon_ops.ledger.lock import WriterLock
from carbon_ops.ledger.tail import Receipt
from carbon_ops.ledger.writer import Writer


class _Batch:
    """The records of one call, on their way to the disk."""

    __slots__ = ("deadline", "done", "drafts", "error", "receipts")

    def __init__(self, drafts: list[Draft], deadline: float) -> None:
        self.drafts = drafts
        self.deadline = deadline
        self.receipts: list[Receipt] = []
        self.error: LedgerError | None = None
        self.done = False


class Turns:
    """The line before one process's writer.

    Args:
        writer: Writes for whoever has the turn.
        timeout_s: How long a call waits for other processes [s].
    """

    def __init__(self, writer: Writer, timeout_s: float) -> None:
        self.path = writer.directory.path
        self.process = os.getpid()
        self._writer = writer
        self._timeout_s = timeout_s
        self._lock = WriterLock(writer.directory)
        self._queue: deque[_Batch] = deque()
        _all.add(self)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the lock against threads and processes."""
        self._check_usable()
        deadline = time.monotonic() + self._timeout_s
        with self._lock.among_threads():
            self._check_usable()
            with self._lock.among_processes(deadline), told(self.path):
                yield

    def run(self, drafts: list[Draft]) -> list[Receipt]:
        """Put records in line and have them written, by this thread or another."""
        self._check_usable()
        batch = _Batch(drafts, time.monotonic() + self._timeout_s)
        self._queue.append(batch)
        try:
            with self._lock.among_threads():
                if not batch.done:
                    self._write_queue(batch.deadline)
        finally:
            with contextlib.suppress(ValueError):
                self._queue.remove(batch)  # its turn did not come
        if batch.error is not None:
            raise batch.error
        return batch.receipts

    def _check_usable(self) -> None:
        if self.process != os.getpid():
            self.adopt()
        if self._writer.directory.descriptor < 0:
            raise LedgerError(f"the ledger {self.path} is closed")

    def _write_queue(self, deadline: float) -> None:
        """Write the records of all threads that wait, and tell each what became of its."""
        self._check_usable()
        waiting = [self._queue.popleft() for _ in range(len(self._queue))]
        drafts = [one for batch in waiting for one in batch.drafts]
        begun = False
        with Handover(self._writer.directory, self._writer.vkey, drafts) as handover:
            try:
                with (
                    self._lock.among_processes(deadline, handover.done) as held,
                    told(self.path),
                ):
                    if held:
                        self._writer.refresh()
                        begun = True
                        written = self._write(drafts, handover)
                    else:
                        written = Written(handover.receipts, len(drafts), None)
            except BaseException as error:
                if handover.take_back() and not begun:
                    self._queue.extendleft(reversed(waiting))
                    raise  # for this thread; the others see for themselves
                unsure = LedgerWriteError(
                    f"interrupted while writing to the ledger {self.path}: {error!r}",
                    attempted=tuple(handover.receipts),
                    unsure=True,
                )
                for batch in waiting:
                    batch.error, batch.done = unsure, True
                if not isinstance(error, LedgerError):
                    raise
                return
        self._share_out(waiting, written)

    def _write(self, drafts: list[Draft], handover: Handover) -> Written:
        """Write ``drafts``, and with them what other processes handed over."""
        writer = self._writer
        kept: list[Receipt] = []
        if (
            not handover.take_back()
        ):  # they did not come to the end with it, or just now
            handover.done()
            kept = writer.prefix(handover.receipts)
            if kept:
                writer.distrust(kept[0].seq)
        due = [writer.beat.record()] if writer.beat.due() else []
        own = due + drafts[len(kept) :]
        others = take(writer.directory, writer.vkey)
        try:
            whole = own + [one for other in others for one in other.drafts]
            places = writer.tail.lines(whole)[1] if others else []
            ends, end = [], len(own)
            with contextlib.suppress(OSError):  # those who know nothing write theirs
                for other in others:
                    start, end = end, end + len(other.drafts)
                    other.plan(places[start:end])
                    ends.append(end)
            end = ends[-1] if ends else len(own)
            written = writer.write(whole[:end])
            for other, end in zip(others, ends, strict=False):
                if end <= written.acknowledged:
                    other.done()
        finally:
            for other in others:
                other.close()
        return written.part(len(due), len(own)).after(kept)

    def _share_out(self, waiting: list[_Batch], written: Written) -> None:
        start = 0
        for batch in waiting:
            end = start + len(batch.drafts)
            mine = written.part(start, end)
            batch.receipts = mine.receipts
            if mine.stopped is not None and (
                mine.acknowledged < len(batch.drafts) or not batch.drafts
            ):
                batch.error = mine.error(mine.stopped, self.path, len(batch.drafts))
            batch.done = True
            start = end

    def adopt(self) -> None:
        """Become independent of the process that this one was forked from."""
        self.process = os.getpid()
        self._lock.forget()
        self._queue.clear()
        self._writer.forget()
        if self._writer.directory.descriptor >= 0:
            self._writer.directory.reopen()


_all: weakref.WeakSet[Turns] = weakref.WeakSet()


def _after_fork() -> None:
    for turns in list(_all):
        with contextlib.suppress(OSError):  # the ledger is closed then, and says so
            turns.adopt()


os.register_at_fork(after_in_child=_after_fork)


@contextlib.contextmanager
def told(path: str) -> Iterator[None]:
    """Turn what the system refuses before anything is written into a LedgerError."""
    try:
        yield
    except OSError as error:
        raise LedgerError(
            f"cannot read the ledger {path}: {error.strerror}; nothing was written"
        ) from error
