"""The steps of a flush, a seal and a repair, in the order that keeps the ledger whole.

One thread of one process at a time runs them; :mod:`carbon_ops.ledger.store` sees to it.
The order is: data durable, directory durable, then the checkpoint over them in its place,
then the segment sealed. A checkpoint never covers bytes that are not on the disk, and
never fewer than before.
"""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING, NamedTuple

from carbon_ops.clock import boottime_ns, monotonic_ns, rfc3339, wall_ns
from carbon_ops.errors import LedgerError
from carbon_ops.ledger import subtrees as trees
from carbon_ops.ledger.chain import FORMAT, Draft, draft, record_hash
from carbon_ops.ledger.failures import (
    CheckpointDelayed,
    KeyNotInForceError,
    LedgerExistsError,
    LedgerWriteError,
    Stopped,
    Written,
)
from carbon_ops.ledger.files import (
    ACTIVE,
    CHECKPOINT,
    Directory,
    Identity,
    SyncFailedError,
    segment_name,
    segment_start,
)
from carbon_ops.ledger.merkle import Frontier
from carbon_ops.ledger.note import Checkpoint, Signer, sign_note
from carbon_ops.ledger.recovery import ROTATE, Found, Genesis, load, read_anchor
from carbon_ops.ledger.tail import LedgerCorruptError, Receipt, Tail
from carbon_ops.log import log

if TYPE_CHECKING:
    from pathlib import Path

HEARTBEAT_NS = 3_600_000_000_000  # 1 h: a longer silence shows as one


class Recovered(NamedTuple):
    """What was cut off the end of a damaged ledger."""

    seq: int  # where the damage began
    torn_bytes: int
    quarantine: str  # file of the ledger's directory that keeps the bytes


class Writer:
    """What one process knows of a ledger, and what it does to it."""

    def __init__(
        self,
        directory: Directory,
        genesis: Genesis,
        signer: Signer | None,
        key_file: Path | None = None,
    ) -> None:
        self.directory = directory
        self.genesis = genesis
        self.signer = signer
        self._key_file = key_file  # where a later key is found; None: nowhere
        self.cut_any = False  # cut an unsigned ledger whatever follows the damage
        self.recovered: Recovered | None = None
        self.tail = Tail(genesis.step)
        self._known = False  # tail and active show the files as they were
        self._doubted = False  # the disk may not hold what the files show
        self._sure = 0  # records that it does hold
        self._torn = b""  # what follows the last good record in the active file
        self._subtrees = trees.empty(genesis.step)
        self._active: Identity | None = None  # as we know it; None: there is none
        self._covered = 0  # size of the newest checkpoint
        self._delayed: OSError | None = None  # why no checkpoint was prepared
        self._beat_ns = monotonic_ns()
        self._beat_wall = ""  # time in the newest heartbeat record seen

    def begin(self) -> None:
        """Write record 0 into an empty ledger.

        Raises:
            LedgerExistsError: it is not empty.
        """
        for name in self.directory.names():
            if name in (ACTIVE, CHECKPOINT) or segment_start(name) is not None:
                raise LedgerExistsError(
                    f"{self.directory.path} holds a ledger already ({name})",
                    hint="Open it, or name another directory.",
                )
        genesis = self.genesis
        self.tail = Tail(genesis.step, frontier=Frontier())
        record = {
            "type": "genesis",
            "format": FORMAT,
            "origin": genesis.origin,
            "segment_records": genesis.step,
            "vkey": genesis.vkey,
        }
        self._known = True
        self.settle([draft(record)])

    def forget(self) -> None:
        """Read everything from the disk at the next refresh."""
        self._known = False

    @property
    def vkey(self) -> str | None:
        """The key in force, as verifiers know it; None: unsigned."""
        return self.signer.vkey if self.signer is not None else None

    def statement(self) -> Checkpoint:
        """Return the unsigned statement over all records."""
        return Checkpoint(
            self.genesis.origin, self.tail.size, self.tail.frontier.root()
        )

    @property
    def unfinished(self) -> bool:
        """An earlier failure left something to mend, or a heartbeat is due."""
        behind = self.signer is not None and self._covered < self.tail.size
        return behind or not self.tail.room or self.heartbeat_due()

    # --- writing ------------------------------------------------------------------

    def settle(
        self,
        drafts: list[Draft],
        also: Signer | None = None,
        then: Signer | None = None,
    ) -> list[Receipt]:
        """Write ``drafts`` or raise what stopped it; see :meth:`write`."""
        written = self.write(drafts, also, then)
        if written.stopped is not None:
            raise written.error(written.stopped, self.directory.path, len(drafts))
        return written.receipts

    def write(
        self,
        drafts: list[Draft],
        also: Signer | None = None,
        then: Signer | None = None,
    ) -> Written:
        """Write ``drafts``, segment by segment, each with its checkpoint.

        First mends what an earlier failure left: an end of the ledger that the disk did
        not confirm, a checkpoint that lags behind, a full active file.

        Args:
            drafts: Records; none at all just mends.
            also: A second key for the checkpoints.
            then: The key in force once the records are durable.
        """
        receipts: list[Receipt] = []
        attempted: list[Receipt] = []
        acknowledged = 0
        known, self._known = self._known, False  # an interrupt leaves it so
        try:
            self._mend()
            if not self.tail.room:
                self._seal()
            while acknowledged < len(drafts):
                part = drafts[acknowledged : acknowledged + self.tail.room]
                data, attempted = self.tail.lines(part)
                self._put(data, attempted[-1].hash, also, then)
                receipts, attempted = receipts + attempted, []
                self._sign(prepared=True)
                acknowledged = len(receipts)
                if not self.tail.room:
                    self._seal(last=acknowledged == len(drafts))
        except Stopped as stopped:
            unsynced = isinstance(stopped.cause, SyncFailedError)
            self._doubted = self._doubted or unsynced
            self._known = known and not unsynced
            tried = tuple(attempted) if unsynced else ()
            return Written(receipts, acknowledged, stopped, tried)
        self._known = known and not self._doubted
        return Written(receipts, acknowledged, None)

    def _mend(self) -> None:
        """Write the end of the ledger anew, where the disk may not hold what it shows.

        That is after a sync that failed, ours or that of a writer that left records
        without a checkpoint: to read them back proves nothing.
        """
        behind = self.signer is not None and self._covered != self.tail.size
        if not self._doubted and not behind:
            return
        try:
            if self.tail.data or self._torn:
                whole = self.tail.data + self._torn
                self._active = self.directory.replace(ACTIVE, whole)
            else:
                self.directory.sync()
        except OSError as error:
            if self._doubted:
                raise Stopped(LedgerWriteError, error, self._sure) from error
            raise Stopped(CheckpointDelayed, error) from error
        self._sure = self.tail.size
        self._covered = 0  # its file may be in doubt as well
        self._sign()
        self._doubted = False

    def distrust(self, sure: int) -> None:
        """Write the end of the ledger anew at the next write, before anything else.

        Args:
            sure: Records that the disk surely holds.
        """
        self._doubted, self._sure = True, sure

    def prefix(self, receipts: list[Receipt]) -> list[Receipt]:
        """Return the receipts, up to the first one whose record is not in the ledger."""
        lines: dict[int, list[bytes]] = {}  # by the segment's first record
        for at, (seq, digest) in enumerate(receipts):
            first = seq - seq % self.genesis.step
            if first not in lines:
                sealed = first < self.tail.sealed
                name = segment_name(first)
                data = self.directory.read(name) if sealed else self.tail.data
                lines[first] = (data or b"").split(b"\n")[:-1]
            found = lines[first][seq - first : seq - first + 1]
            if [record_hash(line) for line in found] != [digest]:
                return receipts[:at]
        return receipts

    def _put(
        self, data: bytes, last_hash: str, also: Signer | None, then: Signer | None
    ) -> None:
        """Replace the active file by itself and ``data``, and prepare the checkpoint.

        The checkpoint's temporary file is written before the directory is synced: where a
        file's ``fsync`` commits what was renamed before, that sync is then nearly free.
        The checkpoint itself is replaced after it, by :meth:`_sign`.
        """
        directory = self.directory
        self._sure = self.tail.size
        try:
            made = directory.prepare(ACTIVE, self.tail.data + data)
            directory.put_in_place(ACTIVE)
        except OSError as error:
            raise Stopped(LedgerWriteError, error) from error
        self._active, self._torn = made, b""
        self.tail.grow(data, last_hash)
        self.signer = then or self.signer
        if self.signer is not None:
            try:
                self._prepare_checkpoint(also)
            except OSError as error:  # told by _sign; the records come first
                self._delayed = error
        try:
            directory.sync()
        except OSError as error:
            directory.discard(CHECKPOINT)
            raise Stopped(LedgerWriteError, error, self._sure) from error
        self._sure = self.tail.size

    def _prepare_checkpoint(self, also: Signer | None) -> None:
        signers = [one for one in (self.signer, also) if one is not None]
        note = sign_note(self.statement().body(), *signers)
        self.directory.prepare(CHECKPOINT, note)

    def _sign(self, *, prepared: bool = False) -> None:
        """Replace the checkpoint by one over all records, which are on the disk."""
        if self.signer is None or self._covered == self.tail.size:
            return
        failed, self._delayed = self._delayed, None
        try:
            if prepared and failed is not None:
                raise failed
            if not prepared:
                self._prepare_checkpoint(None)
            self.directory.put_in_place(CHECKPOINT)
            self.directory.sync()
        except OSError as error:
            raise Stopped(CheckpointDelayed, error) from error
        self._covered = self.tail.size

    def _seal(self, *, last: bool = False) -> None:
        """Turn the full active file into a segment.

        With ``last`` a refusal is left to the next flush: every record is acknowledged.
        """
        first = self.tail.sealed
        try:
            self.directory.seal(first)
        except OSError as error:
            if not last:
                raise Stopped(LedgerWriteError, error) from error
            self._doubted = self._doubted or isinstance(error, SyncFailedError)
            log().warning("%s not sealed: %s", segment_name(first), error)
            return
        self._active = None
        node = self.tail.turn_over()
        if self.signer is None:
            return
        try:
            trees.store(self.directory, self._subtrees, node)
        except OSError as error:  # derived: computed anew where it is missing
            log().warning("frontier not written: %s", error)

    # --- what others did ----------------------------------------------------------

    def refresh(self) -> None:
        """Take over what other writers did since.

        Raises:
            LedgerCorruptError: committed records are missing or changed.
            LedgerError: the key given is not the one in force.
        """
        sealed = self.directory.state(segment_name(self.tail.sealed)) is not None
        if self._known and not sealed:
            if self.directory.unchanged(ACTIVE, self._active):
                return
            self._known = False  # until all of it was read without an error
            if self._read_more():
                self._known = True
                return
        before = self._sure if self._doubted else self.tail.size
        self._known = False
        found = self._load()
        self._active = found.active
        if found.tail.size < before:
            raise LedgerCorruptError(
                "E_TRUNCATED",
                found.tail.size,
                f"{found.tail.size} records, there were {before}",
            )
        self.tail, self._covered = found.tail, found.covered
        self._subtrees = found.subtrees or self._subtrees
        self._torn = found.torn
        if not self._doubted:
            self._sure = self._covered if self.signer else self.tail.size
        self._look_for_beat(found.newest + found.tail.data)
        self._known = True
        if found.torn:
            self._cut(found.torn)

    def _load(self) -> Found:
        """Read the end of the ledger, with the key that followed ours if there is one."""
        try:
            return load(self.directory, self.genesis, self.signer)
        except KeyNotInForceError:
            if self._key_file is not None:
                from carbon_ops.ledger.keys import candidates

                for signer in candidates(self._key_file):
                    with contextlib.suppress(KeyNotInForceError):
                        found = load(self.directory, self.genesis, signer)
                        self.signer = signer
                        return found
            raise

    def _read_more(self) -> bool:
        """Read what follows our picture of the active file; False if it is not that."""
        tail = self.tail
        found = self.directory.look(ACTIVE)
        if found is None:
            return False
        data, self._active = found
        if not data.startswith(tail.data):
            return False
        more = data[len(tail.data) :]
        if ROTATE in more:
            return False  # another key may have to sign: read_anchor takes either
        size = tail.size
        if self.signer is not None:
            anchor = read_anchor(self.directory, self.genesis, self.signer)
            taken = tail.read(more, anchor if anchor.size > size else None)
            self._covered = size = anchor.size
        else:
            taken = tail.read(more, None)
        if taken < len(more) or tail.size < size:
            return False  # damaged: the long way says what it is
        self._look_for_beat(more)
        return True

    def _cut(self, torn: bytes) -> None:
        """Move bytes that are no records out of the way, and say so in a record."""
        tail = self.tail
        one_line = torn.find(b"\n") in (-1, len(torn) - 1)
        if tail.size == 0 or not (self.signer or one_line or self.cut_any):
            self._known = False
            raise LedgerCorruptError(
                "E_CORRUPT_COMMITTED",
                tail.size,
                f"record {tail.size} is damaged and others follow it; without a signed "
                "checkpoint only `repair` decides that they go",
            )
        at = wall_ns()
        seq = tail.size
        name = f"quarantine-{seq}-{at}"
        record = {
            "type": "recovery",
            "ts": rfc3339(at),
            "torn_bytes": len(torn),
            "torn_sha256": hashlib.sha256(torn).hexdigest(),
            "quarantine": name,
        }
        cause: OSError | None = None
        try:
            self.directory.replace(name, torn)
            if not tail.room:
                self._active = self.directory.replace(ACTIVE, tail.data)
                self._torn = b""
            written = self.write([draft(record)])
        except OSError as error:
            cause = error
        else:  # a checkpoint that is delayed is mended by the next write
            if written.stopped is not None and not written.receipts:
                cause = written.stopped.cause
        if cause is not None:
            self._known = False
            raise LedgerError(
                f"cannot move damaged bytes out of the ledger {self.directory.path}: "
                f"{cause.strerror}"
            ) from cause
        self.recovered = Recovered(seq, len(torn), name)

    # --- heartbeats ---------------------------------------------------------------

    def heartbeat_due(self) -> bool:
        """Say whether a heartbeat is due, by the clock on the wall or by our own."""
        if monotonic_ns() - self._beat_ns >= HEARTBEAT_NS:
            return True
        return bool(self._beat_wall) and (
            self._beat_wall <= rfc3339(wall_ns() - HEARTBEAT_NS)
        )

    def heartbeat(self) -> Draft:
        """Return a record that says: this ledger was alive at this time."""
        self._beat_ns, self._beat_wall = monotonic_ns(), rfc3339(wall_ns())
        return draft(
            {
                "type": "heartbeat",
                "ts": self._beat_wall,
                "monotonic_ns": str(self._beat_ns),
                "boottime_ns": str(boottime_ns()),
            }
        )

    def _look_for_beat(self, data: bytes) -> None:
        """Remember the newest heartbeat in lines that another writer wrote."""
        at = data.rfind(b'"type":"heartbeat"')
        before, _, found = data[data.rfind(b"\n", 0, at) + 1 : at].rpartition(b'"ts":"')
        if at >= 0 and before:
            self._beat_wall = found[:27].decode("ascii", "replace")
            self._beat_ns = monotonic_ns()
