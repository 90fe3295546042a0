"""What a ledger remembers about the tree over its sealed segments. Derived, never trusted.

``frontier`` holds the roots of the newest segments' subtrees and the compact range before
them; every 256 segments their roots move to an immutable ``tree-<first record>`` file, so
that neither grows with the ledger. Both are believed only as far as they fold to the root
of the signed checkpoint; without them everything is computed from the records.
"""

from __future__ import annotations

import json

from carbon_ops.ledger.canonical import dumps
from carbon_ops.ledger.files import (
    FRONTIER,
    Directory,
    segment_name,
    tree_name,
)
from carbon_ops.ledger.merkle import Frontier, leaf_hash

FANOUT = 256  # segments per tree file: one C2SP tile of the level above


class Subtrees:
    """The tree over the first ``size`` records, whole segments all of them."""

    __slots__ = ("base", "segments", "step")

    def __init__(self, step: int, base: Frontier, segments: list[bytes]) -> None:
        self.step = step  # records per segment
        self.base = base  # over the complete groups of FANOUT segments
        self.segments = segments  # subtree roots of the segments since, below FANOUT

    @property
    def size(self) -> int:
        """Records covered."""
        return self.base.size + len(self.segments) * self.step

    def frontier(self) -> Frontier:
        """Return the compact range over everything covered."""
        whole = self.base.copy()
        for node in self.segments:
            whole.append_subtree(node, self.step)
        return whole

    def add(self, node: bytes) -> bytes:
        """Add the next segment's root; return the file of a group it completed, or b""."""
        self.segments.append(node)
        if len(self.segments) < FANOUT:
            return b""
        full = b"".join(self.segments)
        for segment in self.segments:
            self.base.append_subtree(segment, self.step)
        self.segments = []
        return full

    def dump(self) -> bytes:
        """Return the bytes of the file ``frontier``."""
        return (
            dumps(
                {
                    "base": [node.hex() for node in self.base.nodes],
                    "segments": [node.hex() for node in self.segments],
                    "size": self.size,
                    "step": self.step,
                }
            )
            + b"\n"
        )


def empty(step: int) -> Subtrees:
    """Return the subtrees of a ledger without sealed segments."""
    return Subtrees(step, Frontier(), [])


def parse(data: bytes | None, step: int) -> Subtrees | None:
    """Read the file ``frontier``; None if it is missing or makes no sense."""
    try:
        value = json.loads(data or b"")
        segments = [bytes.fromhex(node) for node in value["segments"]]
        before = value["size"] - len(segments) * step
        base = Frontier(before, [bytes.fromhex(node) for node in value["base"]])
        sound = value["step"] == step and len(segments) < FANOUT
        sound = sound and before % (FANOUT * step) == 0
        sound = sound and all(len(node) == 32 for node in segments)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return Subtrees(step, base, segments) if sound else None


def segment_root(data: bytes) -> bytes:
    """Return the root of the subtree over a segment's records."""
    tree = Frontier()
    for line in data.split(b"\n")[:-1]:
        tree.append(leaf_hash(line))
    return tree.root()


def store(directory: Directory, subtrees: Subtrees, node: bytes) -> None:
    """Add a segment's root and write the files; errors lose nothing that is needed."""
    first = subtrees.base.size
    full = subtrees.add(node)
    if full:
        directory.replace(tree_name(first), full)
    directory.replace(FRONTIER, subtrees.dump())


def computed(directory: Directory, step: int, upto: int) -> Subtrees:
    """Compute the subtrees of the first ``upto`` records from the segments themselves."""
    subtrees = empty(step)
    for first in range(0, upto, step):
        subtrees.add(segment_root(directory.read(segment_name(first)) or b""))
    return subtrees


def stored_roots(directory: Directory, step: int) -> list[bytes] | None:
    """Return the subtree roots of all segments that the files know, in order.

    None where a file is missing or damaged. The caller compares the root it gets from
    them with the checkpoint's.
    """
    newest = parse(directory.read(FRONTIER), step)
    if newest is None:
        return None
    roots: list[bytes] = []
    for first in range(0, newest.base.size, FANOUT * step):
        full = directory.read(tree_name(first)) or b""
        if len(full) != FANOUT * 32:
            return None
        roots.extend(full[at : at + 32] for at in range(0, len(full), 32))
    return roots + newest.segments
