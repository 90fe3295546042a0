"""Walks over a ledger's files, in constant memory, beside running writers.

The caller has read the checkpoint before: whatever it covers was durable by then, so a
writer that appends or seals meanwhile can only add to what is found. Files are opened by
the name the next record's number gives; a name that is missing is looked for twice,
because a full ``active.jsonl`` becomes a segment between two looks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import NamedTuple

from carbon_ops.ledger.chain import ZERO_HASH
from carbon_ops.ledger.checks import Chain, Fault, fold
from carbon_ops.ledger.files import ACTIVE, segment_name
from carbon_ops.ledger.merkle import Frontier
from carbon_ops.ledger.reader import blocks, open_file, segments

Progress = Callable[[int], None]  # records done so far
_LOOKS = 100  # at a directory that changes while it is read


class Options(NamedTuple):
    """What to look for; plain values, so that a worker process gets the same."""

    marks: tuple[int, ...] = ()  # sizes at which the tree's root is wanted
    covered: int = 0  # records the checkpoint covers; 0 without one
    signed: bool = False
    links_only: bool = False
    recompute: bool = False


def make_chain(options: Options, seq: int = 0, prev: str | None = ZERO_HASH) -> Chain:
    """Return a chain checker as the options ask for."""
    recompute = None
    if options.recompute:
        from carbon_ops.ledger.recompute import difference

        recompute = difference
    return Chain(
        seq,
        prev,
        covered=options.covered if options.signed else 2**53,
        links_only=options.links_only,
        recompute=recompute,
    )


class Walk:
    """The state of a walk: the chain, the tree, and how it ended."""

    def __init__(self, options: Options, progress: Progress | None = None) -> None:
        self.options = options
        self.chain = make_chain(options)
        self.tree = Frontier()
        self.roots: dict[int, bytes] = {}
        self.torn: Fault | None = None  # an unfinished end, beyond the checkpoint
        self.began: set[int] = set()  # first records of the segments that were read
        self._marks = sorted(set(options.marks))
        self._progress = progress
        self._mark()

    @property
    def fault(self) -> Fault | None:
        return self.chain.fault

    def _stop(self, code: str, why: str) -> None:
        self.chain.fault = Fault(
            code, self.chain.seq, f"record {self.chain.seq}: {why}"
        )

    # --- the tree

    def _mark(self) -> None:
        if self.tree.size in self._marks:
            self.roots[self.tree.size] = self.tree.root()

    def grow(self, subtrees: Iterable[tuple[int, bytes]]) -> None:
        """Add complete subtrees, and keep the root at each marked size."""
        for count, node in subtrees:
            self.tree.append_subtree(node, count)
            self._mark()

    def _grow_leaves(self) -> None:
        self.grow(split_fold(self.tree.size, self.chain.leaves, self._marks))
        self.chain.leaves.clear()
        self.tell()

    def tell(self) -> None:
        """Report progress."""
        if self._progress is not None:
            self._progress(self.chain.seq)

    # --- files

    def file(self, descriptor: int, *, last: bool) -> None:
        """Check one file's lines; ``last``: an unfinished line may be a torn tail."""
        chain = self.chain
        for lines, tail in blocks(descriptor):
            start = chain.seq
            sound = chain.feed(lines)
            self._grow_leaves()
            if not sound:
                self._maybe_torn(lines[chain.seq - start])
                return
            if tail:
                self._unfinished(tail, last=last)

    def _beyond(self) -> bool:
        return self.chain.seq >= self.options.covered

    def _maybe_torn(self, line: bytes) -> None:
        # A block the disk never wrote reads as NUL bytes after a power cut.
        if self.options.signed and self._beyond() and b"\0" in line and self.fault:
            self.torn, self.chain.fault = self.fault, None

    def _unfinished(self, tail: bytes, *, last: bool) -> None:
        why = f"cut off after {len(tail)} bytes, without its line feed"
        self._stop("E_TRUNCATED", why)
        if last and self._beyond():
            self.torn, self.chain.fault = self.fault, None

    def directory(self, path: str) -> None:
        """Check the segments from where the chain stands, then the active file."""
        for _ in range(_LOOKS):
            while self.fault is None and self.torn is None:
                before = self.chain.seq
                descriptor = open_file(os.path.join(path, segment_name(before)))
                if descriptor is None:
                    break
                self.began.add(before)
                self.file(descriptor, last=False)
                if self.chain.seq == before and self.fault is None:
                    self._stop("E_TRUNCATED", "its segment is empty")
            if self.fault is not None or self.torn is not None:
                return
            descriptor = open_file(os.path.join(path, ACTIVE))
            found = segments(path)
            later = [first for first in found if first >= self.chain.seq]
            strays = [first for first in found if first not in self.began.union(later)]
            if later and later[0] == self.chain.seq:  # sealed since we looked
                if descriptor is not None:
                    os.close(descriptor)
                continue
            if descriptor is not None and self._active_is_later(descriptor):
                self._stop("E_SEGMENT_MISSING", "its segment is missing")
                os.close(descriptor)
            elif later:
                self._stop("E_SEGMENT_MISSING", "its segment is missing")
                if descriptor is not None:
                    os.close(descriptor)
            elif descriptor is not None:
                self.file(descriptor, last=True)
            if strays and self.fault is None:  # others would read it, we did not
                why = f"{segment_name(strays[0])} begins inside another segment"
                self.chain.fault = Fault("E_SEQ", strays[0], why)
            return

    def _active_is_later(self, descriptor: int) -> bool:
        """Say whether the active file begins where a later segment would."""
        head = os.pread(descriptor, 1 << 16, 0).split(b"\n")[0]
        digits = head.rpartition(b'"seq":')[2].split(b",")[0].rstrip(b"}")
        if not digits.isdigit() or len(digits) > 16:
            return False
        first = int(digits)
        return first > self.chain.seq and first % 64 == 0  # the smallest segment


def split_fold(
    first: int, leaves: list[bytes], marks: Iterable[int]
) -> list[tuple[int, bytes]]:
    """Return the subtrees of a run of leaves, none of which goes across a mark."""
    made = []
    end = first + len(leaves)
    cuts = [first, *(m for m in sorted(marks) if first < m < end), end]
    for a, b in pairwise(cuts):
        made += fold(a, leaves[a - first : b - first])
    return made
