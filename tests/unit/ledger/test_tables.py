"""Copies of a ledger for other programs."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from carbon_ops.errors import InvalidInputError, LedgerError
from carbon_ops.ledger import tables
from carbon_ops.ledger.lines import count, lines
from carbon_ops.testing.ledgers import Forger, chained, signer

MIXED: list[dict[str, object]] = [
    {"type": "a", "n": 1, "deep": {"x": True, "empty": {}}, "text": 'say "hi", ü'},
    {"type": "b", "n": 1.5, "deep": {"x": None}, "list": [1, {"y": 2}]},
    {"type": "a", "n": "text", "only": None},
]


def plain(path: Path) -> str:
    path.write_bytes(b"".join(line + b"\n" for line in chained(MIXED)))
    return str(path)


def test_a_table_has_a_column_for_every_member(tmp_path: Path) -> None:
    source = plain(tmp_path / "l.jsonl")
    assert tables.to_csv(source, tmp_path / "t.csv", None) == 3
    with open(tmp_path / "t.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["seq"] for row in rows] == ["0", "1", "2"]
    assert [row["n"] for row in rows] == ["1", "1.5", "text"]
    assert [row["deep.x"] for row in rows] == ["true", "", ""]
    assert rows[0]["text"] == 'say "hi", ü'
    assert rows[0]["deep.empty"] == "{}"
    assert rows[1]["list"] == '[1, {"y": 2}]'
    assert rows[2]["only"] == ""


def test_types_of_columns_hold_all_their_values(tmp_path: Path) -> None:
    source = plain(tmp_path / "l.jsonl")
    found = tables.columns(source, None)
    assert list(found)[:3] == ["seq", "type", "prev_hash"]
    assert (found["seq"], found["n"], found["deep.x"]) == (int, str, bool)
    assert tables.columns(source, "b")["n"] is float
    assert found["only"] is type(None)


HOSTILE = [
    '=HYPERLINK("http://host.example")',
    "+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "＝1",
    "＋1",
    "－1",
    "＠1",
    "'=1",
    "a;=1+1",
    "plain",
    "",
]


def test_no_cell_opens_as_a_formula_and_all_can_be_read_back(tmp_path: Path) -> None:
    records: list[dict[str, object]] = [
        {"type": "a", "label": text, "=name": -1.5, "n": -3} for text in HOSTILE
    ]
    source = tmp_path / "l.jsonl"
    source.write_bytes(b"".join(line + b"\n" for line in chained(records)))
    tables.to_csv(str(source), tmp_path / "t.csv", None)
    with open(tmp_path / "t.csv", newline="", encoding="utf-8") as file:
        head, *body = csv.reader(file)
    raw = (tmp_path / "t.csv").read_text(encoding="utf-8")

    label, name, n = (head.index(column) for column in ("label", "'=name", "n"))
    cells = [row[label] for row in body]
    assert [cell[:1] == "'" for cell in cells] == [True] * 12 + [False] * 3
    assert [cell[cell[:1] == "'" :] for cell in cells] == HOSTILE
    assert {(row[name], row[n]) for row in body} == {("-1.5", "-3")}
    assert '"a;=1+1"' in raw, "a semicolon parts cells in some countries"


def test_one_type_can_be_chosen(tmp_path: Path) -> None:
    source = plain(tmp_path / "l.jsonl")
    assert tables.to_csv(source, tmp_path / "t.csv", "a") == 2


def test_a_failed_export_leaves_no_file_and_an_old_one_alone(tmp_path: Path) -> None:
    source = tmp_path / "l.jsonl"
    source.write_bytes(b'{"seq":0}\nnonsense\n')
    with pytest.raises(LedgerError, match="line 1"):
        tables.to_csv(str(source), tmp_path / "t.csv", None)
    assert os.listdir(tmp_path) == ["l.jsonl"]
    (tmp_path / "t.csv").write_text("mine")
    with pytest.raises(InvalidInputError, match="File exists"):
        tables.to_csv(plain(tmp_path / "l.jsonl"), tmp_path / "t.csv", None)
    assert (tmp_path / "t.csv").read_text() == "mine"


@pytest.mark.parametrize("size", [1, 63, 64, 65, 200])
def test_lines_are_read_from_anywhere(size: int, tmp_path: Path) -> None:
    ledger = Forger(size, key=signer())
    path = str(ledger.write(tmp_path / "ledger"))
    assert count(path) == size
    for start in {0, 1, 63, 64, 65, size - 1, size, size + 5}:
        assert list(lines(path, start)) == ledger.lines[start:]


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="no ledger"):
        list(lines(str(tmp_path / "none")))
    (tmp_path / "l").mkdir()
    (tmp_path / "l/active.jsonl").symlink_to("/etc/hostname")
    with pytest.raises(LedgerError, match="symbolic link"):
        list(lines(str(tmp_path / "l")))
