"""Every proof holds, and none holds for anything else."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from carbon_ops.ledger.checks import fold
from carbon_ops.ledger.merkle import Frontier, leaf_hash, node_hash, root
from carbon_ops.ledger.proofs import consistency, consistent, included, inclusion
from carbon_ops.ledger.walk import split_fold

LEAVES = [leaf_hash(b"%d" % n) for n in range(300)]
ROOTS = [root(LEAVES[:n]) for n in range(301)]


def node(low: int, high: int) -> bytes:
    return root(LEAVES[low:high])


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_an_inclusion_proof_holds_for_its_leaf_alone(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 300))
    index = data.draw(st.integers(0, size - 1))
    path = inclusion(index, size, node)
    leaf, top = LEAVES[index], ROOTS[size]

    assert included(leaf, index, size, path, top)
    assert len(path) <= (size - 1).bit_length()
    for other in {index - 1, index + 1, index ^ 2} - {index}:
        assert not included(leaf, other, size, path, top)
    for other in (size * 2, size // 2):  # a tree of another height
        assert not included(leaf, index, other, path, top)
    assert not included(LEAVES[index - 1], index, size, path, top) or size == 1
    assert not included(leaf, index, size, [*path, bytes(32)], top)
    assert not included(leaf, index, size, [bytes(32), *path], top)
    assert not included(leaf, index, size, path, ROOTS[size - 1])
    for n in range(len(path)):
        flipped = bytes([path[n][0] ^ 1]) + path[n][1:]
        assert not included(
            leaf, index, size, [*path[:n], flipped, *path[n + 1 :]], top
        )
        assert not included(leaf, index, size, path[:n] + path[n + 1 :], top)
        assert not included(
            leaf, index, size, [*path[:n], path[n][1:], *path[n + 1 :]], top
        )
    if len(path) > 1 and path != path[::-1]:
        assert not included(leaf, index, size, path[::-1], top)


@given(st.integers(1, 300), st.integers(1, 300), st.data())
@settings(max_examples=300, deadline=None)
def test_a_consistency_proof_holds_for_its_trees_alone(
    one: int, other: int, data: st.DataObject
) -> None:
    old, new = sorted((one, other))
    path = consistency(old, new, node)

    assert consistent(old, new, ROOTS[old], ROOTS[new], path)
    if old != new:
        assert not consistent(old, new, ROOTS[new], ROOTS[old], path)
        assert not consistent(old, new, bytes(32), ROOTS[new], path)
        assert not consistent(old, new, ROOTS[old], bytes(32), path)
        assert not consistent(old, new, ROOTS[old], ROOTS[new], path[1:])
    assert not consistent(old, new, ROOTS[old], ROOTS[new], [*path, bytes(32)])
    if path:
        n = data.draw(st.integers(0, len(path) - 1))
        flipped = bytes([path[n][0] ^ 1]) + path[n][1:]
        changed = [*path[:n], flipped, *path[n + 1 :]]
        assert not consistent(old, new, ROOTS[old], ROOTS[new], changed)


@given(st.integers(0, 300), st.lists(st.integers(0, 300), max_size=4), st.data())
@settings(max_examples=200, deadline=None)
def test_folded_runs_give_the_same_tree(
    size: int, marks: list[int], data: st.DataObject
) -> None:
    """However the leaves are cut into runs, and whatever sizes are asked for."""
    tree, at, roots = Frontier(), 0, {}
    while at < size:
        end = data.draw(st.integers(at + 1, size))
        for count, top in split_fold(at, LEAVES[at:end], marks):
            tree.append_subtree(top, count)
            roots[tree.size] = tree.root()
        at = end
    assert tree.root() == ROOTS[size]
    for mark in marks:
        if 0 < mark <= size:
            assert roots[mark] == ROOTS[mark]
    assert sum(count for count, _ in fold(0, LEAVES[:size])) == size


def test_a_node_does_not_pass_as_a_leaf() -> None:
    """A record made of two hashes is not the node over them: the prefixes differ."""
    left, right = LEAVES[0], LEAVES[1]
    inner = node_hash(left, right)
    assert leaf_hash(left + right) != inner
    path = inclusion(0, 4, node)[1:]
    assert not included(leaf_hash(left + right), 0, 2, path, ROOTS[4])


def test_an_empty_path_proves_a_tree_of_one() -> None:
    assert included(LEAVES[0], 0, 1, [], ROOTS[1])
    assert not included(LEAVES[0], 0, 0, [], ROOTS[0])
