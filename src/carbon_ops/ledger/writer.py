"""The steps of a flush, a seal and a repair, in the order that keeps the ledger whole.

One thread of one process at a time runs them; :mod:`carbon_ops.ledger.store` sees to it.
The order is: data durable, directory durable, then the checkpoint over them in its place,
then the segment sealed. A checkpoint never covers bytes that are not on the disk, and
never fewer than before.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

from carbon_ops.clock import rfc3339, wall_ns
from carbon_ops.errors import LedgerError
from carbon_ops.ledger import subtrees as trees
from carbon_ops.ledger.chain import FORMAT, Draft, draft
from carbon_ops.ledger.failures import (
    CheckpointDelayed,
    LedgerExistsError,
    LedgerWriteError,
    Stopped,
    Written,
)
from carbon_ops.ledger.files import (
    ACTIVE,
    CHECKPOINT,
    Directory,
    SyncFailedError,
    segment_name,
    segment_start,
)
from carbon_ops.ledger.merkle import Frontier
from carbon_ops.ledger.note import Signer, sign_note
from carbon_ops.ledger.picture import Picture
from carbon_ops.ledger.recovery import Genesis
from carbon_ops.ledger.tail import LedgerCorruptError, Receipt, Tail
from carbon_ops.log import log

if TYPE_CHECKING:
    from pathlib import Path


class Recovered(NamedTuple):
    """What was cut off the end of a damaged ledger."""

    seq: int  # where the damage began
    torn_bytes: int
    quarantine: str  # file of the ledger's directory that keeps the bytes


class Writer(Picture):
    """What one process does to a ledger."""

    def __init__(
        self,
        directory: Directory,
        genesis: Genesis,
        signer: Signer | None,
        key_file: Path | None = None,
    ) -> None:
        super().__init__(directory, genesis, signer, key_file)
        self.cut_any = False  # cut an unsigned ledger whatever follows the damage
        self.recovered: Recovered | None = None
        self._delayed: OSError | None = None  # why no checkpoint was prepared

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

    @property
    def unfinished(self) -> bool:
        """An earlier failure left something to mend, or a heartbeat is due."""
        behind = self.signer is not None and self._covered < self.tail.size
        return behind or not self.tail.room or self.beat.due()

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
                parts = (self.tail.data, self._torn)
                self._active = self.directory.replace(ACTIVE, *parts)
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
            made = directory.prepare(ACTIVE, self.tail.data, data)
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

    # --- repair -------------------------------------------------------------------

    def refresh(self) -> None:
        """Take over what other writers did, and cut off what is no record.

        Raises:
            LedgerCorruptError: committed records are missing or changed.
            LedgerError: the key given is not the one in force.
        """
        super().refresh()
        if self._torn:
            self._cut(self._torn)

    def _cut(self, torn: bytes) -> None:
        """Move bytes that are no records out of the way, and say so in a record."""
        tail = self.tail
        one_line = torn.find(b"\n") in (-1, len(torn) - 1)
        if not (self.signer or one_line or self.cut_any):
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
                if self._torn:  # still: they are where they were
                    self.directory.remove(name)
        if cause is not None:
            self._known = False
            raise LedgerError(
                f"cannot move damaged bytes out of the ledger {self.directory.path}: "
                f"{cause.strerror}"
            ) from cause
        self.recovered = Recovered(seq, len(torn), name)
