"""What one process knows of a ledger, and how it takes over what others did to it.

Reads; writes nothing. One thread at a time, under the lock.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from carbon_ops.ledger import subtrees as trees
from carbon_ops.ledger.chain import record_hash
from carbon_ops.ledger.failures import KeyNotInForceError
from carbon_ops.ledger.files import ACTIVE, Directory, Identity, segment_name
from carbon_ops.ledger.heartbeat import Heartbeat
from carbon_ops.ledger.note import Checkpoint, Signer
from carbon_ops.ledger.recovery import ROTATE, Found, Genesis, load, read_anchor
from carbon_ops.ledger.tail import LedgerCorruptError, Receipt, Tail

if TYPE_CHECKING:
    from pathlib import Path


class Picture:
    """The end of a ledger as it was when this process last looked or wrote."""

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
        self.tail = Tail(genesis.step)
        self._known = False  # tail and active show the files as they were
        self._doubted = False  # the disk may not hold what the files show
        self._sure = 0  # records that it does hold
        self._torn = b""  # what follows the last good record in the active file
        self._subtrees = trees.empty(genesis.step)
        self._active: Identity | None = None  # as we know it; None: there is none
        self._covered = 0  # size of the newest checkpoint
        self.beat = Heartbeat()

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
        self.beat.look(found.newest + found.tail.data)
        self._known = True

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
        self.beat.look(more)
        return True

    def prefix(self, receipts: list[Receipt]) -> list[Receipt]:
        """Return the receipts, up to the first one whose record is not in the ledger."""
        lines: dict[int, list[bytes]] = {}  # by the segment's first record
        for at, (seq, digest) in enumerate(receipts):
            first = seq - seq % self.genesis.step
            if first not in lines:
                sealed = first < self.tail.sealed
                name = segment_name(first)
                data = self.directory.read(name) if sealed else self.tail.data
                lines[first] = bytes(data or b"").split(b"\n")[:-1]
            found = lines[first][seq - first : seq - first + 1]
            if [record_hash(line) for line in found] != [digest]:
                return receipts[:at]
        return receipts
