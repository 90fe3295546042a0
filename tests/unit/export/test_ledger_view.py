"""A ledger's size and health as series."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from carbon_ops.export import table
from carbon_ops.export.ledger import LedgerView, size
from carbon_ops.ledger.store import SEGMENT_RECORDS, Ledger


def failures(view: LedgerView) -> dict[str, float]:
    return {
        point.labels[0]: point.value
        for family in view.families()
        if family.instrument is table.LEDGER_FAILURES
        for point in family.points
        if isinstance(point.value, float)
    }


@pytest.mark.parametrize("records", [0, 1, SEGMENT_RECORDS - 1, SEGMENT_RECORDS + 3])
def test_the_size_is_the_ledgers_own(tmp_path: Path, records: int) -> None:
    path = str(tmp_path / "ledger")
    with Ledger.init(path) as ledger:
        ledger.append_many({"type": "heartbeat"} for _ in range(records))
        assert size(path) == ledger.size


def test_tampering_counts_once_for_each_verification(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    with Ledger.init(str(path)) as ledger:
        ledger.append_many([{"type": "heartbeat"}] * 3)
    view = LedgerView(str(path))
    assert set(failures(view).values()) == {0}
    while view.verifying:
        time.sleep(0.01)
    active = path / "active.jsonl"
    active.write_bytes(active.read_bytes().replace(b"heartbeat", b"heartbeef", 1))
    view.verify()
    view.verify()
    found = failures(view)
    assert (found["TAMPERED"], found["TORN_TAIL"], found["NOT_CHECKED"]) == (2, 0, 0)


def test_where_there_is_no_ledger_there_is_no_size(tmp_path: Path) -> None:
    assert size(str(tmp_path / "none")) is None
    (tmp_path / "active.jsonl").symlink_to("/etc/passwd")
    assert size(str(tmp_path)) is None
