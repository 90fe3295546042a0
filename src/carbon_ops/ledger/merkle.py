"""The hash tree over the records, and its compact form for appending.

RFC 6962 section 2.1: a leaf is SHA-256(0x00 || record), a node SHA-256(0x01 || left ||
right), and a tree of n leaves splits at the largest power of two below n. The prefixes
keep a record from passing as a node.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256

EMPTY_ROOT = sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """Return the leaf hash of a record's bytes (without line feed), 32 bytes."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node over two 32-byte hashes."""
    return sha256(b"\x01" + left + right).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """Return the root over ``leaves``, leaf hashes of 32 bytes each, in order.

    >>> root([]).hex()[:16]
    'e3b0c44298fc1c14'
    """
    frontier = Frontier()
    frontier.extend(leaves)
    return frontier.root()


class Frontier:
    """The roots of the largest complete subtrees, left to right (a compact range).

    Enough to append and to know the root, at log2(n) hashes of memory. It cannot prove
    anything about single records.
    """

    __slots__ = ("nodes", "size")

    def __init__(self, size: int = 0, nodes: Iterable[bytes] = ()) -> None:
        """Take up a frontier of ``size`` leaves.

        Raises:
            ValueError: the number of ``nodes`` or their length does not fit ``size``.
        """
        self.size = size
        self.nodes = list(nodes)
        if size < 0 or len(self.nodes) != size.bit_count():
            raise ValueError(f"{len(self.nodes)} nodes cannot cover {size} leaves")
        if any(len(node) != 32 for node in self.nodes):
            raise ValueError("a node of the tree is 32 bytes long")

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash."""
        size = self.size
        nodes = self.nodes
        while size & 1:  # each trailing one bit is a subtree that is now complete
            leaf = node_hash(nodes.pop(), leaf)
            size >>= 1
        nodes.append(leaf)
        self.size += 1

    def append_subtree(self, node: bytes, leaves: int) -> None:
        """Add the root of a complete subtree.

        Args:
            node: Root of the subtree, 32 bytes.
            leaves: Its leaves, a power of two that divides the present size.

        Raises:
            ValueError: the subtree would not be a complete one of the larger tree.
        """
        if leaves < 1 or leaves & (leaves - 1) or self.size % leaves:
            raise ValueError(f"{leaves} leaves do not fit at {self.size}")
        level = self.size // leaves
        while level & 1:
            node = node_hash(self.nodes.pop(), node)
            level >>= 1
        self.nodes.append(node)
        self.size += leaves

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Add leaf hashes in order."""
        for leaf in leaves:
            self.append(leaf)

    def root(self) -> bytes:
        """Return the root of the whole tree; of no leaves, the hash of nothing."""
        if not self.nodes:
            return EMPTY_ROOT
        *left, node = self.nodes
        for other in reversed(left):
            node = node_hash(other, node)
        return node

    def copy(self) -> Frontier:
        """Return an independent copy."""
        return Frontier(self.size, self.nodes)
