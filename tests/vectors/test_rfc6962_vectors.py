"""The published roots of small RFC 6962 trees, and the RFC's own definition."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest

from carbon_ops.ledger.merkle import Frontier, leaf_hash, root

VECTORS = json.loads(
    (Path(__file__).parent / "rfc6962" / "roots.json").read_text(encoding="utf-8")
)
LEAVES = [bytes.fromhex(leaf) for leaf in VECTORS["leaves"]]


def as_the_rfc_defines(data: list[bytes]) -> bytes:
    """MTH of RFC 6962 section 2.1, word for word."""
    if not data:
        return sha256(b"").digest()
    if len(data) == 1:
        return sha256(b"\x00" + data[0]).digest()
    split = 1
    while split * 2 < len(data):
        split *= 2
    left, right = as_the_rfc_defines(data[:split]), as_the_rfc_defines(data[split:])
    return sha256(b"\x01" + left + right).digest()


@pytest.mark.parametrize("size", range(9))
def test_small_trees_have_the_published_roots(size: int) -> None:
    assert root([leaf_hash(leaf) for leaf in LEAVES[:size]]).hex() == (
        VECTORS["roots"][size]
    )


def test_growing_leaf_by_leaf_gives_the_root_of_the_definition() -> None:
    data = [bytes([i % 251]) * (i % 7) for i in range(300)]
    tree = Frontier()
    for size, item in enumerate(data, 1):
        tree.append(leaf_hash(item))
        if size % 13 == 0 or size < 40:
            assert tree.root() == as_the_rfc_defines(data[:size])
