"""Makes proofs from a ledger's files, quickly where the derived tree files are right.

What those files say is used only if it folds to the signed root; otherwise the segments
themselves are read. Writes nothing into the ledger.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from carbon_ops.errors import InvalidInputError, LedgerError
from carbon_ops.ledger import subtrees
from carbon_ops.ledger.files import ACTIVE, CHECKPOINT, Directory, segment_name
from carbon_ops.ledger.merkle import Frontier, leaf_hash
from carbon_ops.ledger.note import MAX_NOTE_BYTES, Checkpoint, parse_note
from carbon_ops.ledger.proofs import consistency, inclusion, write_proof
from carbon_ops.ledger.recovery import read_genesis


class Proof(NamedTuple):
    """A record with its proof file."""

    seq: int
    record: bytes
    file: bytes


class Prover:
    """Reads a signed ledger as its checkpoint stands; see :func:`prove`."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open the ledger.

        Raises:
            LedgerError: no ledger, unsigned, or its records are not those signed.
            NoteError: the checkpoint is damaged.
        """
        self._directory = Directory(os.path.abspath(path))
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        note = self._directory.read(CHECKPOINT, MAX_NOTE_BYTES)
        if note is None:
            raise LedgerError(
                f"{self._directory.path} has no checkpoint: nothing can be proven",
                hint="An unsigned ledger is handed on whole (`ledger export`).",
            )
        self.note = note
        self.checkpoint = Checkpoint.parse(parse_note(note).body)
        self.size = self.checkpoint.size
        self._step = read_genesis(self._directory).step
        self._lines: tuple[int, list[bytes]] = (-1, [])
        self._roots = subtrees.stored_roots(self._directory, self._step) or []
        if self.node(0, self.size) != self.checkpoint.root:
            self._roots = self._computed()
            if self.node(0, self.size) != self.checkpoint.root:
                raise LedgerError(
                    f"the records of {self._directory.path} are not those signed",
                    hint="`carbon-ops ledger verify` says where.",
                )

    def close(self) -> None:
        self._directory.close()

    def _computed(self) -> list[bytes]:
        whole = self.size // self._step * self._step
        return [
            subtrees.segment_root(self._directory.read(segment_name(first)) or b"")
            for first in range(0, whole, self._step)
        ]

    def line(self, seq: int) -> bytes:
        """Return a record's bytes."""
        first = seq // self._step * self._step
        if self._lines[0] != first:
            data = self._directory.read(segment_name(first))
            if data is None:  # the active one, unless it is sealed between the looks
                active = self._directory.read(ACTIVE)
                data = self._directory.read(segment_name(first)) or active or b""
            self._lines = (first, data.split(b"\n")[:-1])
        lines = self._lines[1]
        if seq - first >= len(lines):
            raise LedgerError(f"record {seq} is missing in {self._directory.path}")
        return lines[seq - first]

    def node(self, low: int, high: int) -> bytes:
        """Return the root over the records from ``low`` to ``high`` - 1."""
        tree, step = Frontier(), self._step
        while low < high:
            number = low // step
            if low % step == 0 and low + step <= high and number < len(self._roots):
                tree.append_subtree(self._roots[number], step)
                low += step
            else:
                tree.append(leaf_hash(self.line(low)))
                low += 1
        return tree.root()

    def prove(self, seq: int) -> Proof:
        """Return the proof that record ``seq`` is under the checkpoint.

        Raises:
            InvalidInputError: there is no such record, or none that is covered yet.
        """
        if not 0 <= seq < self.size:
            raise InvalidInputError(
                f"record {seq} is not under the checkpoint, which covers {self.size}"
            )
        record = self.line(seq)
        path = inclusion(seq, self.size, self.node)
        return Proof(seq, record, write_proof(record, seq, path, self.note))

    def extends(self, old: int) -> list[bytes]:
        """Return the consistency proof from ``old`` records to the checkpoint's."""
        return consistency(old, self.size, self.node)


def prove(path: str | os.PathLike[str], seq: int) -> Proof:
    """Return record ``seq`` of the signed ledger at ``path`` with a proof file.

    Raises:
        LedgerError: no signed ledger there, or its records are not those signed.
        InvalidInputError: no such record, or it is not covered yet.
    """
    prover = Prover(path)
    try:
        return prover.prove(seq)
    finally:
        prover.close()
