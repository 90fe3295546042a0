"""Every cut, flipped bits everywhere, and bytes that mean nothing: always a verdict."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from carbon_ops.ledger.store import Ledger
from carbon_ops.ledger.verify import verify_ledger
from carbon_ops.testing.ledgers import Forger, record, signer

KEY = signer()
VKEYS = [KEY.vkey]


def test_a_cut_at_every_byte(tmp_path: Path) -> None:
    """Below the checkpoint: truncated. Beyond: torn inside a line, pending after one."""
    ledger = Forger(68, key=KEY)
    ledger.note = ledger.checkpoint(66)
    path = ledger.write(tmp_path / "ledger")
    whole = (path / "active.jsonl").read_bytes()
    covered = sum(len(line) + 1 for line in ledger.lines[64:66])
    ends = {covered + len(ledger.lines[66]) + 1, len(whole)}
    for at in range(len(whole) + 1):
        os.truncate(path / "active.jsonl", 0)
        (path / "active.jsonl").write_bytes(whole[:at])
        report = verify_ledger(path, vkeys=VKEYS)
        if at < covered:
            assert report.code == "E_TRUNCATED", (at, report)
        elif at == covered:
            assert report.verdict == "OK", (at, report)
        elif at in ends:
            assert report.verdict == "OK_PENDING", (at, report)
        else:
            assert report.verdict == "TORN_TAIL", (at, report)


def test_a_flipped_bit_shows(tmp_path: Path) -> None:
    """Anywhere under the checkpoint; beyond it all but the newest line is chained."""
    ledger = Forger(76, key=KEY)
    ledger.note = ledger.checkpoint(73)
    path = ledger.write(tmp_path / "ledger")
    whole = (path / "active.jsonl").read_bytes()
    covered = sum(len(line) + 1 for line in ledger.lines[64:73])
    newest = len(whole) - len(ledger.lines[75]) - 1
    for at in range(0, len(whole), 7):
        bit = 1 << at % 8
        (path / "active.jsonl").write_bytes(
            whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :]
        )
        report = verify_ledger(path, vkeys=VKEYS)
        if at < covered:
            assert report.verdict == "TAMPERED", (at, report)
        elif at < newest:
            assert report.verdict in ("TAMPERED", "TORN_TAIL"), (at, report)
        else:
            assert report.verdict != "OK", (at, report)


@pytest.mark.parametrize("name", ["active.jsonl", "checkpoint", f"seg-{0:020d}.jsonl"])
@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
def test_any_bytes_give_a_verdict_and_changed_records_never_ok(
    name: str, signed: bool, tmp_path: Path
) -> None:
    """2,400 mutations of what a real writer wrote, and plain noise; the seed is fixed."""
    dice = random.Random(f"{name}{signed}")
    path = tmp_path / "ledger"
    key = KEY if signed else None
    with Ledger.init(path, signer=key, segment_records=64) as ledger:
        ledger.append_many(record(seq) for seq in range(69))
    file = path / name
    if not file.exists():
        file.write_bytes(b"")
    file.chmod(0o644)
    whole = file.read_bytes()
    for number in range(400):
        changed = mutated(dice, whole)
        file.write_bytes(changed)
        for vkeys in (VKEYS, []):
            report = verify_ledger(path, vkeys=vkeys, links_only=number % 7 == 0)
            assert report.exit_code in (0, 1, 2, 3)
            assert len(report.lines) == 4
            assert report.to_dict()["verdict"] == report.verdict
        if signed and name != "checkpoint" and changed != whole:
            report = verify_ledger(path, vkeys=VKEYS)
            assert report.verdict == "TAMPERED", (number, report)


def mutated(dice: random.Random, whole: bytes) -> bytes:
    """Return ``whole`` after one to three random changes."""
    data = bytearray(whole)
    for _ in range(dice.randint(1, 3)):
        at = dice.randrange(len(data) + 1)
        width = dice.choice((1, 2, 16, 300))
        kind = dice.randrange(5)
        if kind == 0:
            data[at : at + width] = dice.randbytes(width)
        elif kind == 1:
            del data[at : at + width]
        elif kind == 2:
            data[at:at] = dice.choice(
                (b"\n", b"\0" * width, b"[" * width, b'"', b"{", b"\xff", b"9" * width)
            )
        elif kind == 3:
            data[at:at] = data[at - width : at]
        else:
            data = bytearray(dice.randbytes(width))
    return bytes(data)
