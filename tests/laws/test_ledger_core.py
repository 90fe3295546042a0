"""Laws of the ledger's pure parts."""

from __future__ import annotations

import json
from hashlib import sha256

import pytest
import rfc8785
from hypothesis import assume, given
from hypothesis import strategies as st

from carbon_ops.errors import InvalidInputError
from carbon_ops.ledger.canonical import MAX_INTEGER, CanonicalError, dumps, number
from carbon_ops.ledger.chain import ZERO_HASH, draft
from carbon_ops.ledger.merkle import Frontier, node_hash, root

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
SCALAR = (
    st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | FLOATS | TEXT
)
JSON = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=5)
    | st.dictionaries(TEXT, inner, max_size=6),
    max_leaves=30,
)
LEAVES = st.lists(st.binary(min_size=1, max_size=4).map(lambda b: sha256(b).digest()))


@given(JSON)
def test_the_bytes_are_those_of_another_implementation(value: object) -> None:
    assert dumps(value) == rfc8785.dumps(value)  # type: ignore[arg-type]


@given(JSON)
def test_reading_a_record_and_writing_it_again_changes_no_byte(value: object) -> None:
    try:
        once = draft({"type": "t", "x": value}).line(0, ZERO_HASH)
    except InvalidInputError:
        assume(False)

    assert dumps(json.loads(once)) == once


@given(FLOATS)
def test_a_number_keeps_its_value_to_the_last_bit(value: float) -> None:
    assert float(number(value)) == value


@given(JSON, st.sampled_from([float("nan"), float("inf"), 2**53, b"", "\ud800"]))
def test_one_bad_value_anywhere_spoils_the_whole(value: object, bad: object) -> None:
    with pytest.raises(CanonicalError):
        dumps([value, {"a": [bad]}])


@given(
    st.dictionaries(
        TEXT.filter(lambda n: n not in ("seq", "prev_hash", "type")), SCALAR
    ),
    st.integers(0, MAX_INTEGER),
)
def test_a_draft_in_its_place_is_what_dumps_writes(
    members: dict[str, object], seq: int
) -> None:
    assume(not any(isinstance(v, float) and abs(v) >= 2**53 for v in members.values()))
    whole = {**members, "type": "t", "seq": seq, "prev_hash": ZERO_HASH}

    assert draft({**members, "type": "t"}).line(seq, ZERO_HASH) == dumps(whole)


@given(LEAVES, st.data())
def test_a_tree_saved_in_the_middle_grows_to_the_same_root(
    leaves: list[bytes], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(leaves)))
    first = Frontier()
    first.extend(leaves[:cut])
    second = Frontier(first.size, first.nodes)
    second.extend(leaves[cut:])

    assert second.root() == root(leaves)


@given(st.lists(st.binary(min_size=32, max_size=32), max_size=40), st.integers(0, 3))
def test_whole_subtrees_append_like_their_leaves(
    nodes: list[bytes], level: int
) -> None:
    count = 2**level
    whole = len(nodes) // count * count
    leafwise, treewise = Frontier(), Frontier()
    leafwise.extend(nodes[:whole])
    for at in range(0, whole, count):
        treewise.append_subtree(root(nodes[at : at + count]), count)

    assert treewise.root() == leafwise.root()
    assert treewise.nodes == leafwise.nodes


@given(LEAVES.filter(lambda leaves: len(leaves) > 1), st.data())
def test_any_changed_leaf_changes_the_root(
    leaves: list[bytes], data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(leaves) - 1))
    changed = [*leaves]
    changed[at] = bytes(b ^ 1 for b in leaves[at])

    assert root(changed) != root(leaves)


def test_a_record_made_of_two_hashes_is_no_node() -> None:
    left, right = bytes(32), bytes([1]) * 32

    assert root([sha256(b"\x00" + left + right).digest()]) != node_hash(left, right)


@pytest.mark.parametrize(
    ("size", "nodes"), [(-1, []), (1, []), (3, [bytes(32)]), (1, [bytes(31)])]
)
def test_a_frontier_that_does_not_fit_its_size_is_refused(
    size: int, nodes: list[bytes]
) -> None:
    with pytest.raises(ValueError, match=r"nodes|32 bytes"):
        Frontier(size, nodes)


@pytest.mark.parametrize(("size", "leaves"), [(1, 2), (2, 3), (2, 0), (6, 4)])
def test_a_subtree_out_of_place_is_refused(size: int, leaves: int) -> None:
    tree = Frontier()
    tree.extend(bytes([i]) * 32 for i in range(size))
    with pytest.raises(ValueError, match="do not fit"):
        tree.append_subtree(bytes(32), leaves)
