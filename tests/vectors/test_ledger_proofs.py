"""Proofs and signed notes against what others published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from carbon_ops.ledger.merkle import leaf_hash, root
from carbon_ops.ledger.note import (
    NoteError,
    Signer,
    VerifierKey,
    parse_note,
    sign_note,
)
from carbon_ops.ledger.proofs import consistency, consistent, included, inclusion

HERE = Path(__file__).parent
TREE: dict[str, Any] = json.loads((HERE / "proofs/rfc6962_proofs.json").read_text())
NOTE: dict[str, Any] = json.loads((HERE / "note/peter_neumann.json").read_text())
LEAVES = [leaf_hash(bytes.fromhex(leaf)) for leaf in TREE["leaves"]]
ROOTS = [bytes.fromhex(text) for text in TREE["roots"]]


def node(low: int, high: int) -> bytes:
    return root(LEAVES[low:high])


def path_of(case: dict[str, Any]) -> list[bytes]:
    return [bytes.fromhex(text) for text in case["path"]]


@pytest.mark.parametrize(
    "case", TREE["inclusion"], ids=lambda c: f"{c['index']}.{c['size']}"
)
def test_published_inclusion_proofs(case: dict[str, Any]) -> None:
    index, size, path = case["index"], case["size"], path_of(case)

    assert inclusion(index, size, node) == path
    assert included(LEAVES[index], index, size, path, ROOTS[size - 1])


@pytest.mark.parametrize(
    "case", TREE["consistency"], ids=lambda c: f"{c['old']}.{c['new']}"
)
def test_published_consistency_proofs(case: dict[str, Any]) -> None:
    old, new, path = case["old"], case["new"], path_of(case)

    assert consistency(old, new, node) == path
    assert consistent(old, new, ROOTS[old - 1], ROOTS[new - 1], path)


def test_the_published_note_is_signed_alike() -> None:
    signer = Signer.parse(NOTE["skey"])
    text = NOTE["text"].encode()

    assert signer.vkey == NOTE["vkey"]
    assert signer.text() == NOTE["skey"]
    assert sign_note(text, signer) == text + b"\n" + NOTE["signature"].encode()


def test_the_published_signatures_verify() -> None:
    data = (NOTE["text"] + "\n" + NOTE["signature"] + NOTE["other_signature"]).encode()
    note = parse_note(data)

    assert note.body == NOTE["text"].encode()
    for vkey in (NOTE["vkey"], NOTE["other_vkey"]):
        key = VerifierKey.parse(vkey)
        (line,) = note.by(key)
        assert key.verifies(note.body, line.blob)
        assert not key.verifies(note.body + b"x", line.blob)


@pytest.mark.parametrize("vkey", NOTE["bad_vkeys"])
def test_the_published_bad_keys_are_refused(vkey: str) -> None:
    with pytest.raises(NoteError):
        VerifierKey.parse(vkey)


def test_no_part_and_no_neighbour_of_a_key_is_a_key() -> None:
    """As Go's own tests mangle keys: every substring, every character one further."""
    for whole, parse in (
        (NOTE["vkey"], VerifierKey.parse),
        (NOTE["skey"], Signer.parse),
    ):
        for start in range(len(whole)):
            for end in range(start, len(whole) + 1):
                if (start, end) != (0, len(whole)):
                    with pytest.raises(NoteError):
                        parse(whole[start:end])
        for at, letter in enumerate(whole):
            with pytest.raises(NoteError):
                parse(whole[:at] + chr(ord(letter) + 1) + whole[at + 1 :])


@pytest.mark.parametrize(
    "bad",
    [
        NOTE["text"],
        NOTE["text"] + "\n",
        NOTE["text"] + "\n" + NOTE["signature"][:-1],
        "\x01" + NOTE["text"] + "\n" + NOTE["signature"],
        NOTE["text"] + "\n" + NOTE["signature"].replace("PeterN", "Peter N"),
        NOTE["text"] + "\n" + NOTE["signature"] + "Unexpected line.\n",
        NOTE["text"] + "\n" + NOTE["signature"] * 101,
    ],
    ids=range(7),
)
def test_the_published_malformed_notes_are_refused(bad: str) -> None:
    with pytest.raises(NoteError):
        parse_note(bad.encode())
    with pytest.raises(NoteError):
        parse_note(b"\xff" + bad.encode())
