"""Three ways to falsify a ledger, as a forger without the key would do it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from carbon_ops.ledger.canonical import dumps
from carbon_ops.ledger.chain import record_hash


def _lines(ledger: Path) -> list[bytes]:
    return (ledger / "active.jsonl").read_bytes().splitlines()


def _write(ledger: Path, lines: list[bytes]) -> None:
    (ledger / "active.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))


def _with_other_energy(line: bytes) -> bytes:
    """Return ``line`` with one digit of its energy changed, in canonical form still.

    Not every digit will do: another number may have a shorter shortest form.
    """
    key = b'"energy_j_total":'
    start = line.index(key) + len(key)
    for at in range(start, line.index(b",", start)):
        for digit in b"987654321":
            forged = line[:at] + bytes([digit]) + line[at + 1 :]
            if (
                line[at : at + 1].isdigit()
                and digit != line[at]
                and dumps(json.loads(forged)) == forged
            ):
                return forged
    raise ValueError("no digit of this energy can be changed alone")


def _first_metric(lines: list[bytes]) -> int:
    return next(n for n, line in enumerate(lines) if b'"energy_j_total":' in line)


def change_digit(ledger: Path) -> None:
    """Change one digit of the first energy and leave the rest alone."""
    lines = _lines(ledger)
    n = _first_metric(lines)
    lines[n] = _with_other_energy(lines[n])
    _write(ledger, lines)


def cut_tail(ledger: Path) -> None:
    """Cut the last record off."""
    _write(ledger, _lines(ledger)[:-1])


def rechain(ledger: Path) -> None:
    """Change one digit, then compute every later ``prev_hash`` anew."""
    lines = _lines(ledger)
    first = _first_metric(lines)
    lines[first] = _with_other_energy(lines[first])
    for n in range(first + 1, len(lines)):
        record = json.loads(lines[n])
        record["prev_hash"] = record_hash(lines[n - 1])
        lines[n] = dumps(record)
    _write(ledger, lines)


ATTACKS: tuple[tuple[str, Callable[[Path], None]], ...] = (
    ("one digit changed", change_digit),
    ("last record cut off", cut_tail),
    ("digit changed, whole chain computed anew", rechain),
)
