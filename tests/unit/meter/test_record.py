"""Whatever a program puts into its measurement, the ledger keeps a record of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbon_ops import EnergyLogger, Ledger, verify_ledger
from carbon_ops.ledger.chain import MAX_RECORD_BYTES, draft
from carbon_ops.ledger.recompute import difference
from carbon_ops.meter.plain import plain
from carbon_ops.meter.record import records

NOWHERE = "/nonexistent/carbon-ops.sock"
AWKWARD: list[tuple[str, dict[str, Any], dict[str, Any], list[str]]] = [
    ("type", {"type": "train"}, {"type_": "train"}, ["info_renamed"]),
    (
        "deep",
        {"a": [{"seq": 1, "prev_hash": 2}]},
        {"a": [{"seq_": 1, "prev_hash_": 2}]},
        ["info_renamed"],
    ),
    (
        "collision",
        {"type": 1, "type_": 2},
        {"type__": 1, "type_": 2},
        ["info_renamed"],
    ),
    ("whole float", {"x": 1e20}, {"x": "1e+20"}, ["info_as_text"]),
    ("larger float", {"x": 1e21}, {"x": 1e21}, []),
    ("integer", {"x": 2**53}, {"x": "9007199254740992"}, ["info_as_text"]),
    ("exact integer", {"x": 2**53 - 1}, {"x": 2**53 - 1}, []),
    ("surrogate", {"x": "\ud800"}, {"x": "\\ud800"}, ["info_as_text"]),
    ("nan", {"x": float("nan")}, {"x": "nan"}, ["info_as_text"]),
    (
        "names",
        {"x": {1: "a", "1": "b"}},
        {"x": {"1": "a", "1_": "b"}},
        ["info_as_text"],
    ),
]


def metric_of(info: dict[str, Any], operation: str = "x") -> Any:
    with EnergyLogger(socket=NOWHERE, model="off") as logger:
        return logger.log_metrics(operation, **info)


@pytest.mark.parametrize(
    ("info", "kept", "flags"),
    [case[1:] for case in AWKWARD],
    ids=[case[0] for case in AWKWARD],
)
def test_awkward_information_is_in_the_ledger_and_flagged(
    tmp_path: Path, info: dict[str, Any], kept: dict[str, Any], flags: list[str]
) -> None:
    folder = tmp_path / "ledger"
    with EnergyLogger(socket=NOWHERE, ledger=folder) as logger:
        logger.log_metrics("x", **info)
    record = json.loads((folder / "active.jsonl").read_bytes().splitlines()[1])

    assert record["additional_info"] == kept
    found = [f for f in record["energy"]["quality"]["flags"] if f.startswith("info_")]
    assert found == flags
    assert verify_ledger(folder).verdict == "OK"


def test_information_longer_than_a_record_leaves_its_length_and_hash() -> None:
    long = "ü" * 70_000
    record = records(metric_of({"long": long, "short": 1}), None)[0]

    assert record["additional_info"]["short"] == 1
    assert record["additional_info"]["long"].startswith("<140002 bytes of JSON, SHA")
    assert "info_shortened" in record["energy"]["quality"]["flags"]
    draft(record)


@pytest.mark.parametrize(
    "info",
    [
        {f"key-{i}": "x" * 100 for i in range(1_000)},
        {"n" * 70_000: 1},
        {"many": [[0.1] * 30] * 1_000},
    ],
    ids=["many names", "a long name", "a long list"],
)
def test_no_information_is_too_long(info: dict[str, Any]) -> None:
    record = records(metric_of(info, "o" * 70_000), None)[0]

    assert len(draft(record).line(2**53 - 1, "0" * 64)) <= MAX_RECORD_BYTES
    assert record["operation"].startswith("o" * 100 + " <70002 bytes")


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=20)
    | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=4)
    | st.tuples(inner)
    | st.dictionaries(
        st.sampled_from(["seq", "type", "prev_hash", "type_", "\ud800"])
        | st.text(max_size=5)
        | st.integers()
        | st.none(),
        inner,
        max_size=4,
    ),
    max_leaves=20,
)
METRIC = metric_of({})


@settings(max_examples=200, deadline=None)
@given(info=st.dictionaries(st.text(st.characters(), max_size=10), ANYTHING))
def test_every_information_becomes_a_record_with_as_many_members(
    info: dict[str, Any],
) -> None:
    metric = {**METRIC, "additional_info": plain(info, set())}
    record = records(metric, None)[0]  # type: ignore[arg-type]

    draft(record)
    assert len(record["additional_info"]) == len(info)


def test_a_name_or_value_whose_own_code_fails_stops_nothing() -> None:
    class Rude:
        def __str__(self) -> str:
            raise RuntimeError("no")

    record = records(metric_of({"x": {Rude(): 1}}), None)[0]

    assert record["additional_info"] == {"x": {"<Rude>": 1}}


def test_an_estimate_of_too_many_intervals_keeps_its_figures(tmp_path: Path) -> None:
    with EnergyLogger(socket=NOWHERE, region="DE") as logger:
        with logger.span("x") as span:
            pass
    assert span.metric is not None
    assert span.estimate is not None
    estimate = span.estimate.to_dict()
    grid = estimate["average"]["intensity"]
    assert difference(records(span.metric, estimate)[1]) == ""
    estimate["average"]["intensity"] = {**grid, "intervals": grid["intervals"] * 700}
    short = records(span.metric, estimate)[1]
    with Ledger.init(tmp_path / "ledger") as ledger:
        ledger.append(short)

    assert short["average"]["g"] == estimate["average"]["g"]
    left_out = short["average"]["intensity"]["intervals_left_out"]
    assert left_out["count"] == 700
    report = verify_ledger(tmp_path / "ledger", recompute=True)
    assert (report.verdict, report.recomputed, report.skipped) == ("OK", 0, 1)
