"""Records of a writer that waits, written by the one who holds the lock, in its own flush.

A flush costs about the same for one record as for many, so writers that have to wait for
each other are slower than one alone. Therefore a writer that finds the ledger locked puts
its records into a file of the folder ``waiting``: the key's name, three lines for each
record, ``end``. Whoever unlinks that file has its records: the holder of the lock, who
takes them, or the writer itself, who takes them back. The holder adds two lines to the
file: before its flush the places and hashes that the records will have, and ``done`` once
they are durable and covered. With less than ``done`` the writer waits for the lock and
looks: a record with such a hash is in the ledger, or it is not and never will be. A writer
that will not wait any longer adds ``no``: whichever of ``no`` and the places is the first
line holds, so that its records are with it alone, or it knows where they may be.

Nothing here is part of the ledger, and nothing is made durable: a file that outlives its
writer, which has a lock on it, is thrown away by the next flush. Any trouble with the
files means waiting for the lock, no more.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
from collections.abc import Sequence

from carbon_ops.ledger.chain import Draft
from carbon_ops.ledger.checks import Chain
from carbon_ops.ledger.files import Directory, close_quietly
from carbon_ops.ledger.tail import Receipt, Tail

WAITING = "waiting"
MOST_RECORDS = 256
MOST_BYTES = 1 << 20
_END, _DONE, _NO = b"end\n", b"done\n", b"no\n"
_FAR = 10**15  # a place where records are as long as they may become
_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Handover:
    """A waiting writer's side; a context manager that takes back what nobody took."""

    def __init__(
        self, directory: Directory, vkey: str | None, drafts: Sequence[Draft]
    ) -> None:
        self._directory = directory
        self._vkey = vkey
        self._drafts = drafts
        self._name = ""
        self._descriptor = -1
        self._length = 0  # of the request; the answer follows
        self._offered = False
        self._gone = False  # somebody took them
        self.receipts: list[Receipt] = []  # the records' places, once they are planned

    def __enter__(self) -> Handover:
        return self

    def __exit__(self, *_: object) -> None:
        self.take_back()
        if self._descriptor >= 0:
            close_quietly(self._descriptor)

    def done(self) -> bool:
        """Say whether the records are written; the first call offers them."""
        if not self._name:
            self._name = f"{WAITING}/{os.urandom(8).hex()}"
            if 0 < len(self._drafts) <= MOST_RECORDS:
                with contextlib.suppress(OSError):
                    self._offer()
        return self._descriptor >= 0 and self._answer().endswith(_DONE)

    def take_back(self) -> bool:
        """Say whether the records are with us alone; from now on they are then."""
        if self._offered:
            self._offered = False
            try:
                os.unlink(self._name, dir_fd=self._directory.descriptor)
            except FileNotFoundError:
                self._gone = not self._refused()
            except OSError:  # then nobody else can unlink it either
                pass
        return not self._gone

    def _refused(self) -> bool:
        """Keep the records from who took them, unless their places are planned."""
        if not self.receipts:
            with contextlib.suppress(OSError):
                os.write(self._descriptor, _NO)
        return self._answer().startswith(_NO)

    def _answer(self) -> bytes:
        """Return what follows the request; remember the places, if they are planned."""
        with contextlib.suppress(OSError, ValueError):
            answer = os.pread(self._descriptor, MOST_BYTES, self._length)
            plan, line_feed, _ = answer.partition(b"\n")
            if line_feed and not self.receipts and not answer.startswith(_NO):
                self.receipts = [
                    Receipt(seq, digest) for seq, digest in json.loads(plan)
                ]
            return answer
        return b""

    def _offer(self) -> None:
        here = self._directory.descriptor
        parts = [part for one in self._drafts for part in one]
        lines = [(self._vkey or "").encode(), *parts, _END]
        request = b"\n".join(lines)
        if len(request) > MOST_BYTES:
            return
        self._directory.make_folder(WAITING)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | _FLAGS
        self._descriptor = os.open(self._name, flags, 0o600, dir_fd=here)
        self._length, self._offered = len(request), True
        written = 0
        with contextlib.suppress(OSError):
            fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            written = os.write(self._descriptor, request)
        if written < len(request):  # nobody takes less than a whole request
            self._offered = False
            os.unlink(self._name, dir_fd=here)


class Taken:
    """The records of another writer, now with us."""

    def __init__(self, descriptor: int, length: int, drafts: list[Draft]) -> None:
        self._descriptor = descriptor
        self._length = length  # of the request
        self.drafts = drafts

    def plan(self, receipts: list[Receipt]) -> None:
        """Tell where the records will be.

        Raises:
            OSError: their writer gave up, or may not know it: do not write them.
        """
        line = json.dumps(receipts).encode() + b"\n"
        self._say(line)
        if os.pread(self._descriptor, len(line), self._length) != line:
            raise OSError("its writer gave up")

    def done(self) -> None:
        """Tell that they are there."""
        with contextlib.suppress(OSError):  # then their writer looks by itself
            self._say(_DONE)

    def _say(self, line: bytes) -> None:
        if os.write(self._descriptor, line) < len(line):
            raise OSError("no room for the answer")

    def close(self) -> None:
        close_quietly(self._descriptor)


def remove_folder(directory: Directory) -> None:
    """Leave nothing behind, unless somebody waits."""
    with contextlib.suppress(OSError):
        os.rmdir(WAITING, dir_fd=directory.descriptor)


def take(directory: Directory, vkey: str | None) -> list[Taken]:
    """Take over what other writers with the same key offer. Under the lock."""
    flags = os.O_RDONLY | os.O_DIRECTORY | _FLAGS
    try:
        folder = os.open(WAITING, flags, dir_fd=directory.descriptor)
    except OSError:
        return []
    try:
        found = [_take(folder, name, vkey) for name in os.listdir(folder)]
    finally:
        close_quietly(folder)
    return [one for one in found if one is not None]


def _take(folder: int, name: str, vkey: str | None) -> Taken | None:
    with contextlib.ExitStack() as undo, contextlib.suppress(OSError):
        descriptor = os.open(name, os.O_RDWR | os.O_APPEND | _FLAGS, dir_fd=folder)
        undo.callback(close_quietly, descriptor)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        if _locked(descriptor):
            os.unlink(name, dir_fd=folder)
            return None
        request = os.read(descriptor, MOST_BYTES)
        drafts = _parse(request, vkey)
        if drafts:
            os.unlink(name, dir_fd=folder)
            undo.pop_all()
            return Taken(descriptor, len(request), drafts)
    return None


def _locked(descriptor: int) -> bool:
    """Lock the file of a writer that lives no more; one that lives holds the lock."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _parse(request: bytes, vkey: str | None) -> list[Draft]:
    """Read a request; an empty list if it is not complete, not for us, or no records."""
    key, *parts = request.split(b"\n")
    if not request.endswith(b"\n" + _END):
        return []
    if key != (vkey or "").encode() or len(parts) % 3 != 2:
        return []
    three = iter(parts[:-2])
    drafts = [Draft(*one) for one in zip(three, three, three, strict=True)]
    lines = Tail(64, _FAR).lines(drafts)[0].split(b"\n")[:-1]
    return drafts if Chain(_FAR).feed(lines) else []
