"""A record's bytes and what a caller may put into them."""

from __future__ import annotations

import json

import pytest

from carbon_ops.errors import InvalidInputError
from carbon_ops.ledger.canonical import dumps
from carbon_ops.ledger.chain import (
    MAX_RECORD_BYTES,
    ZERO_HASH,
    RecordError,
    draft,
    record_hash,
)
from carbon_ops.ledger.merkle import leaf_hash, root

VKEY = "carbon-ops.example/host1+6051eb4d+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"


def test_a_known_chain_of_three_has_its_known_hashes_and_root() -> None:
    """Computed once with sha256sum and RFC 6962's definition."""
    records: list[dict[str, object]] = [
        {
            "type": "genesis",
            "format": 1,
            "origin": "carbon-ops.example/host1",
            "segment_records": 4096,
            "vkey": VKEY,
        },
        {
            "type": "carbon_estimate",
            "grams": 212.7,
            "pue_used": 1.0,
            "region": "GB-16",
        },
        {"type": "carbon_estimate", "grams": 1e-6, "note": "Zürich 😀"},
    ]
    lines, before = [], ZERO_HASH
    for seq, record in enumerate(records):
        lines.append(draft(record).line(seq, before))
        before = record_hash(lines[-1])

    assert [record_hash(line) for line in lines] == [
        "55467e174f30afcfe71a0252d0f37070da9a718a97f048b63524896e8f6c8b96",
        "687cca1163c1bdfa4574f0374f1983cce60e4e560355c9efca430c113b023467",
        "fb80427822aa848b5dcf23798804bad9f5af6671f7227e2d4a1cdfee6806fc09",
    ]
    assert root([leaf_hash(line) for line in lines]).hex() == (
        "040e03df108624acea319b45d5a1fff3a5674a43e9775d5fa6f7dfd5693a0fe9"
    )


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["a"],
        ["q"],
        ["z"],
        ["a", "q", "z"],
        ["prev_hasi", "ser"],
        ["é", "\U00010000"],
    ],
)
def test_a_record_put_in_its_place_is_canonical(names: list[str]) -> None:
    record: dict[str, object] = {name: [1.0, {"b": 1, "a": 2}] for name in names}
    whole = {**record, "type": "t", "seq": 7, "prev_hash": ZERO_HASH}

    assert draft({**record, "type": "t"}).line(7, ZERO_HASH) == dumps(whole)


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"type": ""},
        {"type": 5},
        {"type": None},
        {"type": "t", "seq": 1},
        {"type": "t", "prev_hash": ZERO_HASH},
        {"type": "t", "info": {"prev_hash": "x"}},
        {"type": "t", "info": {"seq": 1}},
        {"type": "t", "info": [[{"deep": ({"type": 1},)}]]},
        {"type": "t", "text": "x" * MAX_RECORD_BYTES},
        {"type": "t", 5: "not a name"},
        {"type": "t", "x": float("nan")},
        {"type": "t", "x": 2.0**53},
        {"type": "t", "x": [{"y": -9.5e20}]},
    ],
    ids=lambda record: repr(record)[:40],
)
def test_a_record_that_readers_could_misread_is_refused(
    record: dict[str, object],
) -> None:
    with pytest.raises(InvalidInputError):
        draft(record)


def test_the_longest_record_fits_and_one_byte_more_does_not() -> None:
    empty = len(draft({"type": "t", "x": ""}).line(2**53 - 1, ZERO_HASH))
    room = MAX_RECORD_BYTES - empty

    assert draft({"type": "t", "x": "y" * room})
    with pytest.raises(RecordError, match="65535"):
        draft({"type": "t", "x": "y" * (room + 1)})


@pytest.mark.parametrize("value", [2.0**53 - 1, 1e21, 1.5, -1e300, 0.1])
def test_floats_that_read_back_as_themselves_are_taken(value: float) -> None:
    line = draft({"type": "t", "x": value}).line(0, ZERO_HASH)

    assert dumps(json.loads(line)) == line


def test_what_the_caller_does_later_changes_nothing() -> None:
    record: dict[str, object] = {"type": "t", "list": [1]}
    made = draft(record)
    record["list"] = [2]

    assert b'"list":[1]' in made.line(0, ZERO_HASH)
