"""The ledger that programs write: records in, receipts out, each receipt durable.

A flush writes the active file anew with the new records at its end, replaces it, and
replaces the signed checkpoint; only then are the records acknowledged. Whatever fails,
the old state stands or the new one does, and the error says which records are on the
disk. Any number of threads and processes may write; a forked child may go on.

Not for network file systems: ``flock`` and rename-over-an-open-file are not dependable
there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from carbon_ops.clock import boottime_ns, monotonic_ns, rfc3339, wall_ns
from carbon_ops.errors import InvalidInputError, LedgerError
from carbon_ops.ledger import subtrees as trees
from carbon_ops.ledger.chain import FORMAT, Draft, draft
from carbon_ops.ledger.files import (
    ACTIVE,
    CHECKPOINT,
    Directory,
    Held,
    SyncFailedError,
    segment_name,
    segment_start,
)
from carbon_ops.ledger.lock import LockTimeout, WriterLock
from carbon_ops.ledger.merkle import Frontier
from carbon_ops.ledger.note import Checkpoint, Signer, sign_note
from carbon_ops.ledger.recovery import (
    Genesis,
    is_step,
    load,
    read_anchor,
    read_genesis,
)
from carbon_ops.ledger.tail import LedgerCorruptError, Receipt, Tail
from carbon_ops.log import log

__all__ = [
    "CheckpointDelayed",
    "Ledger",
    "LedgerCorruptError",
    "LedgerWriteError",
    "LockTimeout",
    "Receipt",
    "Recovered",
]

SEGMENT_RECORDS = 256  # one C2SP tile
LOCK_TIMEOUT_S = 10.0
HEARTBEAT_NS = 3_600_000_000_000  # 1 h: a longer silence shows as one


class LedgerWriteError(LedgerError):
    """Records could not be written.

    :attr:`durable` holds the receipts of those records of the call that are on the disk
    all the same, from its first record on; the others are not in the ledger. With
    :attr:`unsure` the disk did not say whether it kept the last write, and this ledger
    object refuses further work: look at the disk, then open the ledger again.
    """

    def __init__(
        self,
        message: str,
        durable: tuple[Receipt, ...] = (),
        *,
        unsure: bool = False,
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.durable = durable
        self.unsure = unsure


class CheckpointDelayed(LedgerWriteError):
    """The records are durable, but no checkpoint covers them yet.

    The next flush, or the next program that opens the ledger, writes it. Do not append
    the records again.
    """

    @property
    def seq(self) -> int | None:
        """The last durable record of the call."""
        return self.durable[-1].seq if self.durable else None


class Recovered(NamedTuple):
    """What was cut off the end of a damaged ledger when it was opened."""

    seq: int  # where the damage began
    torn_bytes: int
    quarantine: str  # file of the ledger's directory that keeps the bytes


class _Batch:
    """The records of one call, on their way to the disk."""

    __slots__ = ("done", "drafts", "error", "receipts")

    def __init__(self, drafts: list[Draft]) -> None:
        self.drafts = drafts
        self.receipts: list[Receipt] = []
        self.error: LedgerError | None = None
        self.done = False


class _Interrupted(Exception):
    """A write stopped: ``kind`` of error to raise for whom it concerns."""

    def __init__(self, kind: type[LedgerWriteError], cause: OSError) -> None:
        super().__init__(kind, cause)
        self.kind = kind
        self.cause = cause


_open_ledgers: weakref.WeakSet[Ledger] = weakref.WeakSet()


class Ledger:
    """A ledger opened for writing; a context manager. Make it with init or open."""

    def __init__(
        self,
        directory: Directory,
        genesis: Genesis,
        signer: Signer | None,
        lock_timeout_s: float = LOCK_TIMEOUT_S,
    ) -> None:
        """Use :meth:`init` or :meth:`open`."""
        self.path = directory.path
        self.origin = genesis.origin
        self.recovered: Recovered | None = None
        self._directory = directory
        self._genesis = genesis
        self._signer = signer
        self._lock = WriterLock(directory, lock_timeout_s)
        self._queue: deque[_Batch] = deque()
        self._tail: Tail | None = None  # None: read it from the disk first
        self._subtrees: trees.Subtrees | None = None
        self._held: Held | None = None  # the active file as we know it
        self._covered = 0  # size of the newest checkpoint
        self._stopped = ""  # why no more is written
        self._cut_any = False
        self._process = os.getpid()
        self._beat_ns = monotonic_ns()
        self._beat_wall = ""  # time in the newest heartbeat record seen
        _open_ledgers.add(self)

    # --- making and opening -------------------------------------------------------

    @classmethod
    def init(
        cls,
        path: str | os.PathLike[str],
        *,
        origin: str | None = None,
        signer: Signer | None = None,
        segment_records: int = SEGMENT_RECORDS,
        lock_timeout_s: float = LOCK_TIMEOUT_S,
    ) -> Ledger:
        """Make a ledger: its directory, mode 0700, and record 0.

        Args:
            path: Directory to make; one that exists must not hold a ledger.
            origin: Name of the ledger in the world, without spaces or ``+``. Default:
                the signer's name, else host name, directory name and 8 random digits.
            signer: Key that signs the checkpoints. None: the records are chained, but
                nothing shows that the newest ones were cut off.
            segment_records: Records per file, a power of two from 64 to 4,096.
            lock_timeout_s: How long a call waits for other writers [s].

        Raises:
            LedgerError: there is a ledger already, or the directory cannot be made.
            InvalidInputError: origin or segment_records cannot be used.
        """
        if not is_step(segment_records):
            raise InvalidInputError(
                f"segment_records must be a power of two, 64 to 4096, "
                f"got {segment_records!r}"
            )
        path = os.path.abspath(path)
        if origin is None:
            origin = signer.name if signer is not None else _default_origin(path)
        _check_origin(origin)
        genesis = Genesis(origin, segment_records, signer.vkey if signer else None)
        _make_directory(path)
        ledger = cls(Directory(path), genesis, signer, lock_timeout_s)
        try:
            with ledger._alone():
                ledger._begin()
        except BaseException:
            ledger._drop()
            raise
        return ledger

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        signer: Signer | None = None,
        repair: bool = False,
        lock_timeout_s: float = LOCK_TIMEOUT_S,
    ) -> Ledger:
        """Open a ledger for appending, and check the end of it.

        Records that no checkpoint covers yet get one. Bytes beyond the checkpoint that
        are no records move to a ``quarantine-...`` file, and a ``recovery`` record says
        so; see :attr:`recovered`.

        Args:
            path: Directory of the ledger.
            signer: Key of the ledger. Default for a signed ledger: the file named by
                CARBON_OPS_LEDGER_KEY or the one in the user's configuration folder.
            repair: Cut also an unsigned ledger at the first damaged record of its
                active file, however much follows. (By default only a damaged end is.)
            lock_timeout_s: How long a call waits for other writers [s].

        Raises:
            LedgerCorruptError: committed records are missing or changed; nothing is
                written then.
            LedgerError: no ledger there, no key, the wrong key, or it cannot be read.
        """
        directory = Directory(os.path.abspath(path))
        ledger = None
        try:
            genesis = read_genesis(directory)
            signer = _signer_for(genesis, signer)
            ledger = cls(directory, genesis, signer, lock_timeout_s)
            ledger._cut_any = repair
            with ledger._alone():
                directory.remove_stale()
                ledger._refresh()
                ledger._write([])
        except BaseException:
            if ledger is not None:
                ledger._drop()
            directory.close()
            raise
        ledger._cut_any = False
        return ledger

    @classmethod
    def open_or_init(
        cls,
        path: str | os.PathLike[str],
        *,
        origin: str | None = None,
        signer: Signer | None = None,
    ) -> Ledger:
        """Open the ledger at ``path``, or make one where there is none yet."""
        if not os.path.isdir(path) or not os.listdir(path):
            with contextlib.suppress(LedgerExistsError):
                return cls.init(path, origin=origin, signer=signer)
        return cls.open(path, signer=signer)

    def close(self) -> None:
        """Write what is missing (checkpoint, heartbeat) and let the files go."""
        if self._directory.descriptor < 0:
            return
        try:
            if self._process == os.getpid() and not self._stopped:
                self.flush()
        finally:
            self._drop()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_held"):
            self._drop()

    # --- writing ------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Records in the ledger when this object last looked."""
        return self._tail.size if self._tail is not None else 0

    def append(self, record: Mapping[str, object]) -> Receipt:
        """Write one record; see :meth:`append_many`."""
        return self.append_many([record])[0]

    def append_many(self, records: Iterable[Mapping[str, object]]) -> list[Receipt]:
        """Write records, durably, in order; return their places and hashes.

        They share the cost of the disk. Up to a segment's worth of them stand in the
        ledger together or not at all; calls of several threads are written together.

        Args:
            records: Each with a ``type``, without ``seq`` and ``prev_hash``.

        Raises:
            InvalidInputError: a record has no canonical form; nothing was written.
            CheckpointDelayed: all are durable, but not yet covered.
            LedgerWriteError: the disk refused; ``durable`` says what stands.
            LockTimeout: another writer did not let go; nothing was written.
            LedgerCorruptError: somebody damaged the ledger; nothing was written.
        """
        batch = _Batch([draft(record) for record in records])
        if batch.drafts:
            self._run(batch)
        return batch.receipts

    def flush(self) -> None:
        """Write a checkpoint that is missing, and a heartbeat that is due.

        Records need no flush: :meth:`append` returns when they are on the disk.
        """
        self._run(_Batch([]))

    def heartbeat(self) -> Receipt:
        """Write a record that says: the ledger was alive at this time."""
        return self.append(_heartbeat())

    def checkpoint(self) -> Checkpoint | None:
        """Return the checkpoint over all records, written now; None if unsigned."""
        with self._alone():
            self._refresh()
            self._settle([])
            return self._statement() if self._signer is not None else None

    def rotate_key(self, new: Signer) -> Receipt:
        """Hand over to another key: a record signed by both, and a checkpoint by both.

        From then on only ``new`` opens the ledger for writing.

        Raises:
            LedgerError: the ledger is unsigned, or ``new`` is the key in force.
            LedgerWriteError: as :meth:`append_many`.
        """
        from carbon_ops.ledger.rotation import rotation_record

        with self._alone():
            self._refresh()
            old = self._signer
            if old is None:
                raise LedgerError("an unsigned ledger has no key to rotate")
            if old.vkey == new.vkey:
                raise LedgerError(f"{new.key.short()} is the key in force already")
            self._settle([])
            seq = self.size
            handover = draft(rotation_record(self.origin, seq, old, new))
            return self._settle([handover], also=old, then=new)[0]

    # --- the inside: one thread of one process at a time --------------------------

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        self._check_usable()
        with self._lock.among_threads():
            self._check_usable()
            with self._lock.among_processes():
                yield

    def _check_usable(self) -> None:
        if self._process != os.getpid():
            self._adopt()
        if self._directory.descriptor < 0:
            raise LedgerError(f"the ledger {self.path} is closed")
        if self._stopped:
            raise LedgerError(
                f"the ledger {self.path} stopped: {self._stopped}",
                hint="Check the disk, then open the ledger again.",
            )

    def _run(self, batch: _Batch) -> None:
        """Put ``batch`` in line and see to it that it is written, by whichever thread."""
        self._check_usable()
        self._queue.append(batch)
        with self._lock.among_threads():
            if not batch.done:
                try:
                    self._check_usable()
                    with self._lock.among_processes():
                        self._refresh()
                        self._write_queue()
                except BaseException:
                    if batch in self._queue:
                        self._queue.remove(batch)
                    if not batch.done:
                        raise
        if batch.error is not None:
            raise batch.error

    def _write_queue(self) -> None:
        batches = [self._queue.popleft() for _ in range(len(self._queue))]
        drafts = [one for batch in batches for one in batch.drafts]
        beat = self._due()
        try:
            acknowledged, written, stop = self._write(
                [draft(_heartbeat()), *drafts] if beat else drafts
            )
        except BaseException as error:
            for batch in batches:
                batch.done = True
                batch.error = LedgerWriteError(
                    f"interrupted while writing: {error!r}", unsure=True
                )
            self._tail = None
            raise
        del written[:beat]
        at = 0
        for batch in batches:
            mine = written[at : at + len(batch.drafts)]
            at += len(batch.drafts)
            if stop is None or (mine and at + beat <= acknowledged):
                batch.receipts = mine
            else:
                batch.error = self._error(stop, mine, len(batch.drafts))
            batch.done = True

    def _settle(
        self,
        drafts: list[Draft],
        also: Signer | None = None,
        then: Signer | None = None,
    ) -> list[Receipt]:
        _, written, stop = self._write(drafts, also, then)
        if stop is not None:
            raise self._error(stop, written, len(drafts))
        return written

    def _write(
        self,
        drafts: list[Draft],
        also: Signer | None = None,
        then: Signer | None = None,
    ) -> tuple[int, list[Receipt], _Interrupted | None]:
        """Write drafts, segment by segment, each with its checkpoint.

        Returns:
            The number acknowledged (durable and covered), the receipts of all that are
            durable, and what stopped it, if anything did.
        """
        tail = self._tail
        assert tail is not None
        written: list[Receipt] = []
        acknowledged = 0
        try:
            if self._signer is not None and self._covered < tail.size:
                self._sign()
            if not tail.room:
                self._seal()
            while acknowledged < len(drafts):
                data, receipts = tail.lines(
                    drafts[acknowledged : acknowledged + tail.room]
                )
                self._put(data, receipts)
                written += receipts
                self._signer = then or self._signer
                if self._signer is not None:
                    self._sign(also)
                acknowledged = len(written)
                if not tail.room:
                    self._seal(last=acknowledged == len(drafts))
        except _Interrupted as stop:
            if isinstance(stop.cause, SyncFailedError):
                self._stopped = f"the disk did not confirm a write ({stop.cause})"
            return acknowledged, written, stop
        return acknowledged, written, None

    def _put(self, data: bytes, receipts: list[Receipt]) -> None:
        """Replace the active file by itself and ``data``."""
        tail = self._tail
        assert tail is not None
        try:
            held = self._directory.replace(ACTIVE, tail.data + data)
        except OSError as error:
            raise _Interrupted(LedgerWriteError, error) from error
        self._hold(held)
        tail.grow(data, receipts[-1].hash)

    def _statement(self) -> Checkpoint:
        tail = self._tail
        assert tail is not None and tail.frontier is not None
        return Checkpoint(self.origin, tail.size, tail.frontier.root())

    def _sign(self, also: Signer | None = None) -> None:
        """Replace the checkpoint by one over all records, which are on the disk."""
        assert self._signer is not None
        signers = [self._signer] if also is None else [self._signer, also]
        statement = self._statement()
        try:
            note = sign_note(statement.body(), *signers)
            os.close(self._directory.replace(CHECKPOINT, note).descriptor)
        except OSError as error:
            raise _Interrupted(CheckpointDelayed, error) from error
        self._covered = statement.size

    def _seal(self, *, last: bool = False) -> None:
        """Turn the full active file into a segment.

        With ``last`` a failure is left to the next flush: every record is acknowledged.
        """
        tail = self._tail
        assert tail is not None and self._held is not None
        try:
            self._directory.seal(self._held, tail.sealed)
        except OSError as error:
            if last and not isinstance(error, SyncFailedError):
                log().warning(
                    "segment %d of %s not sealed: %s", tail.sealed, self.path, error
                )
                return
            raise _Interrupted(LedgerWriteError, error) from error
        self._hold(None)
        node = tail.turn_over()
        if self._subtrees is None:
            return
        try:
            trees.store(self._directory, self._subtrees, node)
        except OSError as error:  # derived: computed anew when it is missing
            log().warning("frontier of %s not written: %s", self.path, error)

    # --- what others did ----------------------------------------------------------

    def _refresh(self) -> None:
        """Take over what other writers did since; under the lock."""
        tail = self._tail
        if tail is not None:
            sealed = self._directory.state(segment_name(tail.sealed)) is not None
            if not sealed and self._directory.unchanged(ACTIVE, self._held):
                return
            self._tail = None  # until all of it was read without an error
            if not sealed and self._read_more(tail):
                self._tail = tail
                return
        found = load(self._directory, self._genesis, self._signer)
        self._hold(found.held)
        if tail is not None and found.tail.size < tail.size:
            raise LedgerCorruptError(
                "E_TRUNCATED",
                found.tail.size,
                f"{found.tail.size} records, there were {tail.size}",
            )
        self._tail, self._subtrees = found.tail, found.subtrees
        self._covered = found.covered
        self._look_for_beat(found.newest + found.tail.data)
        if found.torn:
            self._cut(found.torn)

    def _read_more(self, tail: Tail) -> bool:
        """Read what follows our own picture of the active file; False if it is not that."""
        found = self._directory.hold(ACTIVE)
        if found is None or not found[0].startswith(tail.data):
            if found is not None:
                os.close(found[1].descriptor)
            return False
        self._hold(found[1])
        more = found[0][len(tail.data) :]
        anchor = None
        if self._signer is not None:
            anchor = read_anchor(self._directory, self._genesis, self._signer.key)
            if anchor.size <= tail.size:
                anchor = None
        taken = tail.read(more, anchor)
        if anchor is not None:
            self._covered = anchor.size
        if taken < len(more) or (anchor is not None and anchor.size > tail.size):
            return False
        self._look_for_beat(more)
        return True

    def _cut(self, torn: bytes) -> None:
        """Move bytes that are no records out of the way, and say so in a record."""
        tail = self._tail
        assert tail is not None
        one_line = torn.find(b"\n") in (-1, len(torn) - 1)
        if tail.size == 0 or not (self._signer or one_line or self._cut_any):
            raise LedgerCorruptError(
                "E_CORRUPT_COMMITTED",
                tail.size,
                f"record {tail.size} is damaged and others follow it; no checkpoint "
                "says that they are not meant to be there",
            )
        name = f"quarantine-{tail.size}-{wall_ns()}"
        record = {
            "type": "recovery",
            "ts": rfc3339(wall_ns()),
            "torn_bytes": len(torn),
            "torn_sha256": hashlib.sha256(torn).hexdigest(),
            "quarantine": name,
        }
        self.recovered = Recovered(tail.size, len(torn), name)
        stop = None
        try:
            os.close(self._directory.replace(name, torn).descriptor)
            if not tail.room:
                self._hold(self._directory.replace(ACTIVE, tail.data))
        except OSError as error:
            stop = _Interrupted(LedgerWriteError, error)
        if stop is None:
            _, _, stop = self._write([draft(record)])
        if stop is not None:
            self._tail = None
            raise self._error(stop, [], 0)

    def _look_for_beat(self, data: bytes) -> None:
        """Remember the newest heartbeat in lines that we did not write ourselves."""
        at = data.rfind(b'"type":"heartbeat"')
        if at < 0:
            return
        line = data[data.rfind(b"\n", 0, at) + 1 : at]
        before, _, found = line.rpartition(b'"ts":"')
        if before and len(found) >= 27:
            self._beat_wall = max(
                self._beat_wall, found[:27].decode("ascii", "replace")
            )
            self._beat_ns = monotonic_ns()

    def _due(self) -> bool:
        """Say whether a heartbeat is due, by the clock on the wall or by our own."""
        wall, now = wall_ns(), monotonic_ns()
        silent = now - self._beat_ns >= HEARTBEAT_NS
        if self._beat_wall and self._beat_wall <= rfc3339(wall - HEARTBEAT_NS):
            silent = True
        if silent:
            self._beat_ns, self._beat_wall = now, rfc3339(wall)
        return silent

    # --- odds and ends --------------------------------------------------------------

    def _begin(self) -> None:
        """Write record 0, under the lock, if there is no ledger yet."""
        taken = [
            name
            for name in self._directory.names()
            if name in (ACTIVE, CHECKPOINT) or segment_start(name) is not None
        ]
        if taken:
            raise LedgerExistsError(f"{self.path} holds a ledger already ({taken[0]})")
        genesis = self._genesis
        frontier = Frontier() if self._signer is not None else None
        self._tail = Tail(genesis.step, frontier=frontier)
        self._subtrees = trees.empty(genesis.step) if self._signer is not None else None
        self._settle(
            [
                draft(
                    {
                        "type": "genesis",
                        "format": FORMAT,
                        "origin": genesis.origin,
                        "segment_records": genesis.step,
                        "vkey": genesis.vkey,
                    }
                )
            ]
        )

    def _error(
        self, stop: _Interrupted, durable: list[Receipt], wanted: int
    ) -> LedgerWriteError:
        cause = stop.cause
        unsure = isinstance(cause, SyncFailedError)
        what = "write its checkpoint" if stop.kind is CheckpointDelayed else "write"
        if durable:
            told = f"records {durable[0].seq} to {durable[-1].seq} are on the disk"
        else:
            told = "nothing was written" if not unsure else "the disk confirmed nothing"
        if 0 < len(durable) < wanted:
            told += f", the other {wanted - len(durable)} are not"
        kind = stop.kind
        if kind is CheckpointDelayed and len(durable) < wanted:
            kind = LedgerWriteError
        error = kind(
            f"cannot {what} in the ledger {self.path}: {cause.strerror}; {told}",
            tuple(durable),
            unsure=unsure,
            hint="Free space or mend the disk; the ledger itself is whole.",
        )
        error.__cause__ = cause
        return error

    def _hold(self, held: Held | None) -> None:
        if self._held is not None:
            os.close(self._held.descriptor)
        self._held = held

    def _drop(self) -> None:
        self._hold(None)
        self._directory.close()

    def _adopt(self) -> None:
        """Become independent of the process this one was forked from."""
        self._process = os.getpid()
        self._lock.forget()
        self._queue.clear()
        self._tail = None
        if self._directory.descriptor >= 0:
            self._directory.reopen()


class LedgerExistsError(LedgerError):
    """There is a ledger already; nothing was changed."""


def _after_fork() -> None:
    for ledger in list(_open_ledgers):
        ledger._adopt()


os.register_at_fork(after_in_child=_after_fork)


def _heartbeat() -> dict[str, object]:
    return {
        "type": "heartbeat",
        "ts": rfc3339(wall_ns()),
        "monotonic_ns": str(monotonic_ns()),
        "boottime_ns": str(boottime_ns()),
    }


def _signer_for(genesis: Genesis, signer: Signer | None) -> Signer | None:
    if genesis.vkey is None:
        if signer is not None:
            raise LedgerError(
                f"the ledger {genesis.origin} was begun without a key",
                hint="Begin a new ledger with a key; the old one stays as it is.",
            )
        return None
    if signer is None:
        from carbon_ops.ledger.keys import key_path
        from carbon_ops.ledger.keys import load as load_key

        signer = load_key(key_path(genesis.origin))
    return signer


def _default_origin(path: str) -> str:
    host = os.uname().nodename or "localhost"
    name = os.path.basename(path) or "ledger"
    plain = "".join(c if c.isalnum() or c in "-._" else "-" for c in name)
    return f"{host}/{plain}-{os.urandom(4).hex()}"


def _check_origin(origin: str) -> None:
    if not origin or "+" in origin or any(c.isspace() for c in origin):
        raise InvalidInputError(
            f"{origin!r} cannot name a ledger: no spaces, no plus sign, not empty",
            hint="A name like host.example/ledger is unique in the world.",
        )
    if not origin.isprintable():
        raise InvalidInputError(f"{origin!r} cannot name a ledger: control characters")


def _make_directory(path: str) -> None:
    try:
        os.makedirs(path, mode=0o700)
        parent = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)
    except FileExistsError:
        return
    except OSError as error:
        raise LedgerError(f"cannot make {path}: {error.strerror}") from error
