"""The end of a ledger, in memory: what the next record needs to know. Pure.

Reads bytes that others wrote, and grows by records of our own. It holds the active
file's bytes (one segment at most) and, for a signed ledger, the tree's compact form.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from carbon_ops.errors import LedgerError
from carbon_ops.ledger.chain import ZERO_HASH, Draft, record_hash
from carbon_ops.ledger.checks import Chain
from carbon_ops.ledger.merkle import Frontier, leaf_hash


class LedgerCorruptError(LedgerError):
    """The ledger's bytes contradict themselves or the signed checkpoint.

    ``code`` is one of the verifier's or ``E_CORRUPT_COMMITTED``, ``seq`` the first record
    concerned, or None. Nothing was written: the evidence stays as it was found.
    """

    exit_code = 1

    def __init__(self, code: str, seq: int | None, detail: str) -> None:
        super().__init__(
            f"{code}: {detail}",
            hint="Keep the directory as it is and run `carbon-ops ledger verify`.",
        )
        self.code = code
        self.seq = seq


class Receipt(NamedTuple):
    """A record's place and hash, given once the record is on the disk."""

    seq: int
    hash: str  # SHA-256 of the record's bytes, hex


class Anchor(NamedTuple):
    """A tree that is known to be right: a signed checkpoint's size and root."""

    size: int
    root: bytes


class Tail:
    """The last records of a ledger and the hashes over all before them.

    Args:
        step: Records per segment.
        sealed: Records in sealed segments.
        last_hash: Hash of the last sealed record; zeros if there is none.
        frontier: The tree over the sealed records; None: nobody asks for roots.
    """

    __slots__ = (
        "data",
        "frontier",
        "last_hash",
        "rooted",
        "sealed",
        "size",
        "step",
        "subtree",
    )

    def __init__(
        self,
        step: int,
        sealed: int = 0,
        last_hash: str = ZERO_HASH,
        frontier: Frontier | None = None,
    ) -> None:
        self.step = step
        self.sealed = sealed
        self.size = sealed  # all records
        self.last_hash = last_hash  # of the last record, sealed or active
        self.rooted = frontier is not None
        self.frontier = frontier or Frontier()  # over all records, if rooted
        self.data = bytearray()  # the active file; grows in place
        self.subtree = Frontier()  # over the active records alone

    @property
    def room(self) -> int:
        """Records that the active file still takes."""
        return self.step - (self.size - self.sealed)

    def read(self, data: bytes, anchor: Anchor | None) -> int:
        """Take over the lines in ``data``, which follow what was read before.

        Lines below the anchor's size are believed, because the root over them has to be
        the anchor's; later ones are checked as the verifier does. Stops before the first
        that is no record in its place, or has no line feed.

        Returns:
            The bytes taken over; ``len(data)`` if all is well.

        Raises:
            LedgerCorruptError: the root at the anchor's size is another one.
        """
        lines = data.split(b"\n", self.room)[:-1]
        known = lines[: max(0, anchor.size - self.size)] if anchor else []
        if known:
            self._count(map(leaf_hash, known), record_hash(known[-1]))
            self.check(anchor)
        taken = len(known)
        if len(lines) > taken:
            chain = Chain(self.size, self.last_hash)
            chain.feed(lines[taken:])
            taken += len(chain.leaves)
            self._count(chain.leaves, chain.prev_hash or ZERO_HASH)
        length = sum(map(len, lines[:taken])) + taken
        self.data += data[:length]
        return length

    def check(self, anchor: Anchor | None) -> None:
        """Compare the tree with ``anchor``, if they are of one size.

        Raises:
            LedgerCorruptError: the roots differ.
        """
        if anchor is None or not self.rooted or anchor.size != self.size:
            return
        if self.frontier.root() != anchor.root:
            raise LedgerCorruptError(
                "E_CORRUPT_COMMITTED",
                None,
                f"the first {self.size} records do not have the checkpoint's root",
            )

    def lines(self, drafts: Iterable[Draft]) -> tuple[bytes, list[Receipt]]:
        """Return the bytes that ``drafts`` become here; nothing is taken over yet."""
        seq, prev_hash = self.size, self.last_hash
        out: list[bytes] = []
        receipts: list[Receipt] = []
        for draft in drafts:
            line = draft.line(seq, prev_hash)
            prev_hash = record_hash(line)
            receipts.append(Receipt(seq, prev_hash))
            out.append(line)
            seq += 1
        out.append(b"")
        return b"\n".join(out), receipts

    def grow(self, data: bytes, last_hash: str) -> None:
        """Take over lines of our own that are now on the disk."""
        self._count(map(leaf_hash, data.split(b"\n")[:-1]), last_hash)
        self.data += data

    def turn_over(self) -> bytes:
        """Begin a new segment; return the root of the subtree over the full one."""
        node = self.subtree.root()
        self.sealed = self.size
        self.data = bytearray()
        self.subtree = Frontier()
        return node

    def _count(self, leaves: Iterable[bytes], last_hash: str) -> None:
        leaves = list(leaves)
        self.size += len(leaves)
        self.last_hash = last_hash
        if self.rooted:
            self.subtree.extend(leaves)
            self.frontier.extend(leaves)
