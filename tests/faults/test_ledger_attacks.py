"""What an attacker does to the records of a signed ledger, and what a stranger sees.

Each row: an attack on 200 honest records (segments of 64, 8 in the active file), the codes
of which one is right, and the record at which it shows, where one can be named.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from carbon_ops.ledger.canonical import dumps
from carbon_ops.ledger.verify import verify_ledger
from carbon_ops.testing.ledgers import Forger, chained, genesis, record, signer

KEY = signer()
THIEF = signer(1)


class Attack(NamedTuple):
    name: str
    forge: Callable[[Forger], None] | None  # on the lines
    spoil: Callable[[Path], None] | None  # on the files
    codes: tuple[str, ...]
    seq: int | None = None


def swap(old: bytes, new: bytes, at: int = 70) -> Callable[[Forger], None]:
    def forge(ledger: Forger) -> None:
        assert old in ledger.lines[at]
        ledger.lines[at] = ledger.lines[at].replace(old, new, 1)

    return forge


def line(text: bytes, at: int = 70) -> Callable[[Forger], None]:
    def forge(ledger: Forger) -> None:
        ledger.lines[at] = text

    return forge


def rechained(forge: Callable[[Forger], None], start: int) -> Callable[[Forger], None]:
    def both(ledger: Forger) -> None:
        forge(ledger)
        ledger.rechain(start)

    return both


def drop(at: int) -> Callable[[Forger], None]:
    return lambda ledger: ledger.lines.__delitem__(at)


def swap_neighbours(ledger: Forger) -> None:
    ledger.lines[80], ledger.lines[81] = ledger.lines[81], ledger.lines[80]
    ledger.rechain(80)


def insert(ledger: Forger) -> None:
    ledger.lines.insert(90, chained([record(90)], 90, "ab" * 32)[0])


def cut(count: int) -> Callable[[Forger], None]:
    return lambda ledger: ledger.lines.__delitem__(slice(-count, None))


def thief_signs(ledger: Forger) -> None:
    swap(b'"grams":282.7', b'"grams":182.7')(ledger)
    ledger.rechain(71)
    ledger.note = ledger.checkpoint(None, THIEF)


def thief_owns(ledger: Forger) -> None:
    ledger.lines[0] = chained([genesis(ledger.origin, THIEF.vkey)])[0]
    ledger.rechain(1)
    ledger.note = ledger.checkpoint(None, THIEF)


def second_genesis(ledger: Forger) -> None:
    ledger.lines[100] = dumps(genesis() | {"seq": 100, "prev_hash": "0" * 64})
    ledger.rechain(100)


def splice(ledger: Forger) -> None:
    other = Forger(200, key=KEY, make=lambda seq: record(seq) | {"grams": 1.5})
    ledger.lines[64:128] = other.lines[64:128]


def splice_beginning(ledger: Forger) -> None:
    ledger.lines[:64] = Forger(200, key=THIEF).lines[:64]


def spoil_lines(
    change: Callable[[bytes], bytes], name: str = "active.jsonl"
) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        file = path / name
        mode = file.stat().st_mode
        file.chmod(0o644)
        file.write_bytes(change(file.read_bytes()))
        file.chmod(mode)

    return spoil


def seg(first: int) -> str:
    return f"seg-{first:020d}.jsonl"


def remove(*names: str) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        for name in names:
            (path / name).unlink()

    return spoil


def exchange(path: Path) -> None:
    a, b, c = path / seg(64), path / seg(128), path / "c"
    a.rename(c), b.rename(a), c.rename(b)


def to_link(name: str) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        outside = path.parent / "outside"
        (path / name).rename(outside)
        (path / name).symlink_to(outside)

    return spoil


def to_pipe(path: Path) -> None:
    (path / seg(64)).unlink()
    os.mkfifo(path / seg(64))


def to_folder(path: Path) -> None:
    (path / "active.jsonl").unlink()
    (path / "active.jsonl").mkdir()


def empty(path: Path) -> None:
    for name in os.listdir(path):
        (path / name).unlink()


def nfd(ledger: Forger) -> None:
    ledger.lines[70] = unicodedata.normalize("NFD", ledger.lines[70].decode()).encode()


TRUNCATED = ("E_TRUNCATED",)
NOT_CANONICAL = ("E_NOT_CANONICAL",)

ATTACKS = [
    Attack("A01 digit", swap(b'"grams":282.7', b'"grams":182.7'), None, ("E_PREV_HASH",), 71),
    Attack("A02 digit in last", swap(b"411.7", b"411.8", 199), None, ("E_ROOT",)),
    Attack("A03 digit, rechained", rechained(swap(b"282.7", b"182.7"), 71), None, ("E_ROOT",)),
    Attack("A04 thief's key", thief_signs, None, ("E_KEY_UNKNOWN",)),
    Attack("A05 thief in genesis", thief_owns, None, ("E_KEY_UNKNOWN",)),
    Attack("A07 swap", swap_neighbours, None, ("E_ROOT",)),
    Attack("A08 insert", insert, None, ("E_SEQ", "E_PREV_HASH"), 90),
    Attack("insert, rechained", rechained(insert, 90), None, ("E_ROOT",)),
    Attack("A10 delete", drop(100), None, ("E_SEQ",), 100),
    Attack("delete at a seam", drop(64), None, ("E_SEQ",), 64),
    Attack("delete first of active", None, spoil_lines(lambda b: b.split(b"\n", 1)[1]), ("E_SEQ",), 192),
    Attack("A11 delete, rechained", rechained(drop(100), 100), None, (*TRUNCATED, "E_ROOT")),
    Attack("delete genesis", drop(0), None, ("E_SEQ",), 0),
    Attack("delete genesis, rechained", rechained(drop(0), 0), None, (*TRUNCATED, "E_GENESIS")),
    Attack("A13 tail", cut(5), None, TRUNCATED, 195),
    Attack("one record of tail", cut(1), None, TRUNCATED, 199),
    Attack("A14 empty active", None, spoil_lines(lambda b: b""), TRUNCATED, 192),
    Attack("active deleted", None, remove("active.jsonl"), TRUNCATED, 192),
    Attack("A16 half last line", None, spoil_lines(lambda b: b[:-400]), TRUNCATED, 199),
    Attack("A17 last LF", None, spoil_lines(lambda b: b[:-1]), TRUNCATED, 199),
    Attack("last LF of a segment", None, spoil_lines(lambda b: b[:-1], seg(64)), TRUNCATED, 127),
    Attack("empty segment", None, spoil_lines(lambda b: b"", seg(64)), TRUNCATED, 64),
    Attack("A19 middle segment", None, remove(seg(64)), ("E_SEGMENT_MISSING",), 64),
    Attack("first segment", None, remove(seg(0)), ("E_SEGMENT_MISSING",), 0),
    Attack("last segment only", None, remove(seg(128)), ("E_SEGMENT_MISSING",), 128),
    Attack("A20 last segment, active", None, remove(seg(128), "active.jsonl"), TRUNCATED, 128),
    Attack("A22 second genesis", second_genesis, None, ("E_GENESIS",), 100),
    Attack("A23 segments swapped", None, exchange, ("E_SEQ",), 64),
    Attack("A25 linked segment", None, to_link(seg(64)), ("E_SYMLINK",)),
    Attack("linked active", None, to_link("active.jsonl"), ("E_SYMLINK",)),
    Attack("linked checkpoint", None, to_link("checkpoint"), ("E_SYMLINK",)),
    Attack("a pipe as segment", None, to_pipe, ("E_SYMLINK",)),
    Attack("a folder as active", None, to_folder, ("E_SYMLINK",)),
    Attack("A26 no checkpoint", None, remove("checkpoint"), ("E_CKPT_MISSING",)),
    Attack("A44 white space", swap(b'{"energy"', b'{ "energy"'), None, NOT_CANONICAL, 70),
    Attack("white space at end", swap(b"7.5}", b"7.5 }"), None, NOT_CANONICAL, 70),
    Attack("A46 name twice", swap(b'"grams":', b'"grams":1,"grams":'), None, NOT_CANONICAL, 70),
    Attack("name twice below", swap(b'"gaps":0', b'"gaps":0,"gaps":0'), None, NOT_CANONICAL, 70),
    Attack("A47 escapes", swap("ü".encode(), b"\\u00fc"), None, NOT_CANONICAL, 70),
    Attack("escaped slash", swap(b"train/", b"train\\/"), None, NOT_CANONICAL, 70),
    Attack("order of names", swap(b'"flags":["a","b"],"gaps":0', b'"gaps":0,"flags":["a","b"]'), None, NOT_CANONICAL, 70),
    Attack("A49 exponent", swap(b":7.5", b":7.5e0"), None, NOT_CANONICAL, 70),
    Attack("large exponent", swap(b":7.5", b":1e16"), None, NOT_CANONICAL, 70),
    Attack("small exponent", swap(b":7.5", b":1e-6"), None, NOT_CANONICAL, 70),
    Attack("trailing zero", swap(b":7.5", b":7.50"), None, NOT_CANONICAL, 70),
    Attack("whole float", swap(b":7.5", b":7.0"), None, NOT_CANONICAL, 70),
    Attack("negative zero", swap(b'"gaps":0', b'"gaps":-0'), None, NOT_CANONICAL, 70),
    Attack("negative whole zero", swap(b'"gaps":0', b'"gaps":-0.0'), None, NOT_CANONICAL, 70),
    Attack("digits no double holds", swap(b":7.5", b":7.50000000000000001"), None, NOT_CANONICAL, 70),
    Attack("A50 seq as float", swap(b'"seq":70', b'"seq":70.0'), None, NOT_CANONICAL, 70),
    Attack("A52 NaN", swap(b":7.5", b":NaN"), None, ("E_PARSE",), 70),
    Attack("infinity", swap(b":7.5", b":-Infinity"), None, ("E_PARSE",), 70),
    Attack("beyond any double", swap(b":7.5", b":1e999"), None, NOT_CANONICAL, 70),
    Attack("A53 2**53", swap(b'"gaps":0', b'"gaps":9007199254740992'), None, NOT_CANONICAL, 70),
    Attack("-2**53", swap(b'"gaps":0', b'"gaps":-9007199254740992'), None, NOT_CANONICAL, 70),
    Attack("2**53 in a list", swap(b'["a","b"]', b'["a",9007199254740992]'), None, NOT_CANONICAL, 70),
    Attack("2**53 first in a list", swap(b'["a","b"]', b"[9007199254740992]"), None, NOT_CANONICAL, 70),
    Attack("1e20 as digits", swap(b'"gaps":0', b'"gaps":100000000000000000000'), None, NOT_CANONICAL, 70),
    Attack("5,000 digits", swap(b'"gaps":0', b'"gaps":' + b"9" * 5000), None, (*NOT_CANONICAL, "E_PARSE"), 70),
    Attack("A55 CRLF", swap(b"7.5}", b"7.5}\r"), None, (*NOT_CANONICAL, "E_PARSE"), 70),
    Attack("A56 blank line", lambda f: f.lines.insert(70, b""), None, ("E_PARSE",), 70),
    Attack("A58 NFD", nfd, None, ("E_PREV_HASH",), 71),
    Attack("A59 array", line(b"[1,2]"), None, ("E_PARSE",), 70),
    Attack("A59 number", line(b"7"), None, ("E_PARSE",), 70),
    Attack("A59 string", line(b'"text"'), None, ("E_PARSE",), 70),
    Attack("null", line(b"null"), None, ("E_PARSE",), 70),
    Attack("empty object", line(b"{}"), None, ("E_SEQ",), 70),
    Attack("BOM", swap(b'{"energy"', b'\xef\xbb\xbf{"energy"'), None, ("E_PARSE",), 70),
    Attack("not UTF-8", swap("ü".encode(), b"\xff"), None, ("E_PARSE",), 70),
    Attack("overlong UTF-8", swap("ü".encode(), b"\xc1\xbc"), None, ("E_PARSE",), 70),
    Attack("lone surrogate", swap("ü".encode(), b"\\ud800"), None, (*NOT_CANONICAL, "E_PARSE"), 70),
    Attack("surrogate as UTF-8", swap("ü".encode(), b"\xed\xa0\x80"), None, ("E_PARSE",), 70),
    Attack("control character", swap("ü".encode(), b"\x01"), None, ("E_PARSE",), 70),
    Attack("A61 zeros inside", None, spoil_lines(lambda b: b[:700] + bytes(512) + b[1212:]), ("E_PARSE",), 192),
    Attack("zeros instead of active", None, spoil_lines(lambda b: bytes(len(b))), TRUNCATED, 192),
    Attack("A65 70,000 bytes", swap(b"xxxx", b"x" * 70_000), None, ("E_LIMIT",), 70),
    Attack("2 MB in one line", swap(b"xxxx", b"x" * 2_000_000), None, ("E_LIMIT",), 70),
    Attack("A67 no prev_hash", swap(b'"prev_hash"', b'"prev_hasn"'), None, ("E_PREV_HASH",), 70),
    Attack("prev_hash in capitals", lambda f: f.lines.__setitem__(70, dumps(record(70) | {"seq": 70, "prev_hash": __import__("hashlib").sha256(f.lines[69]).hexdigest().upper()})), None, ("E_PREV_HASH",), 70),
    Attack("A68 seq as text", swap(b'"seq":70', b'"seq":"70"'), None, ("E_SEQ",), 70),
    Attack("seq true", lambda f: f.lines.__setitem__(1, f.lines[1].replace(b'"seq":1,', b'"seq":true,')), None, ("E_SEQ",), 1),
    Attack("no type", swap(b'"type"', b'"typf"'), None, ("E_SCHEMA",), 70),
    Attack("prev_hash below", swap(b'"gaps":0', b'"gaps":0,"prev_hash":0'), None, ("E_SCHEMA",), 70),
    Attack("A70 splice", splice, None, ("E_PREV_HASH",), 64),
    Attack("splice at the beginning", splice_beginning, None, ("E_PREV_HASH",), 64),
    Attack("A73 nesting bomb", line(b"[" * 60_000), None, ("E_PARSE",), 70),
    Attack("nesting bomb of objects", line(b'{"a":' * 12_000), None, ("E_PARSE",), 70),
    Attack("101 deep", swap(b'["a","b"]', b"[" * 101 + b"]" * 101), None, NOT_CANONICAL, 70),
    Attack("A74 everything deleted", None, empty, ("E_CKPT_MISSING", "E_EMPTY")),
]  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_on_the_records_shows(attack: Attack, tmp_path: Path) -> None:
    ledger = Forger(200, key=KEY)
    if attack.forge is not None:
        attack.forge(ledger)
    path = ledger.write(tmp_path / "ledger")
    if attack.spoil is not None:
        attack.spoil(path)
    before = picture(path)

    report = verify_ledger(path, vkeys=[KEY.vkey])

    assert (report.verdict, report.exit_code) == ("TAMPERED", 1), report
    assert report.code in attack.codes, report
    if attack.seq is not None:
        assert report.seq == attack.seq, report
    assert any("FAILED" in text for text in report.lines)
    assert picture(path) == before


def picture(path: Path) -> dict[str, tuple[int, int, int]]:
    """Return names, sizes and times: a verifier leaves all as it was."""
    states = {name: os.lstat(path / name) for name in os.listdir(path)}
    return {n: (s.st_size, s.st_mtime_ns, s.st_mode) for n, s in states.items()}


def test_the_honest_ledger_is_ok(tmp_path: Path) -> None:
    path = Forger(200, key=KEY).write(tmp_path / "ledger")

    report = verify_ledger(path, vkeys=[KEY.vkey])

    assert (report.verdict, report.exit_code, report.size) == ("OK", 0, 200)
    assert report.lines[0].startswith("integrity:    checked; 200 records")
    assert all("NOT CHECKED" in line for line in report.lines[1:])


def test_leftovers_of_a_crashed_writer_do_not_matter(tmp_path: Path) -> None:
    path = Forger(200, key=KEY).write(tmp_path / "ledger")
    (path / "checkpoint.tmp.123").write_bytes(b"half")
    (path / "active.jsonl.tmp.9").write_bytes(b"half")
    (path / "seg-1.jsonl").write_bytes(b"not a segment's name")

    assert verify_ledger(path, vkeys=[KEY.vkey]).verdict == "OK"


def test_a_signed_ledger_without_a_key_gives_no_verdict(tmp_path: Path) -> None:
    path = Forger(200, key=KEY).write(tmp_path / "ledger")

    report = verify_ledger(path)

    assert (report.verdict, report.code) == ("NOT_CHECKED", "E_KEY_UNKNOWN")
    assert report.exit_code == 2


@pytest.mark.parametrize("size", [1, 2, 63, 64, 65, 128, 129, 200])
def test_any_size_verifies(size: int, tmp_path: Path) -> None:
    path = Forger(size, key=KEY).write(tmp_path / "ledger")

    report = verify_ledger(path, vkeys=[KEY.vkey])

    assert (report.verdict, report.size, report.covered) == ("OK", size, size)
