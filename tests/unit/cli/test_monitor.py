"""What monitor keeps for a ledger, and what it says when it can keep it no longer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from carbon_ops.cli import monitor
from carbon_ops.cli.recording import Book


def test_every_record_is_in_the_ledger_or_on_standard_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(monitor, "KEPT", 2)
    book = Book(str(tmp_path / "ledger"))
    assert monitor._keep(book, {"type": "host_sample", "number": 0}) == 0
    shutil.rmtree(tmp_path / "ledger")
    lost = [
        monitor._keep(book, {"type": "host_sample", "number": number})
        for number in range(1, 6)
    ]
    assert lost == [0, 0, 0, 1, 1]  # two wait, and one is tried
    assert monitor._closed(book) == 3
    said = capsys.readouterr().err.splitlines()
    shown = [json.loads(line)["number"] for line in said if line[0] == "{"]
    assert shown == [1, 2, 3, 4, 5]
    assert sum("records wait until it can" in line for line in said) == 1
