"""What a writer does with a ledger that somebody else left, or damaged."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from carbon_ops.errors import LedgerError
from carbon_ops.ledger.chain import draft, record_hash
from carbon_ops.ledger.note import Checkpoint, Signer, parse_note, sign_note
from carbon_ops.ledger.store import (
    CheckpointDelayed,
    Ledger,
    LedgerCorruptError,
    LedgerWriteError,
)
from carbon_ops.ledger.verify import verify_ledger

KEY = Signer("host.example/test", bytes(range(32)))


def record(i: int) -> dict[str, object]:
    return {"type": "energy_metric", "i": i, "g": 212.75}


def made(path: Path, key: Signer | None = KEY, records: int = 70) -> Path:
    """Make a ledger of one sealed segment and some active records."""
    with Ledger.init(path, signer=key, origin=KEY.name, segment_records=64) as ledger:
        ledger.append_many(record(i) for i in range(1, records))
    return path


def contents(path: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in path.iterdir() if p.is_file()}


def next_line(path: Path, i: int = 999) -> bytes:
    """Return the line that would rightly come next, with its line feed."""
    last = (path / "active.jsonl").read_bytes().splitlines()[-1]
    seq = int(json.loads(last)["seq"]) + 1
    return draft(record(i)).line(seq, record_hash(last)) + b"\n"


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


TORN: dict[str, object] = {
    "half a line": lambda path: next_line(path)[:50],
    "a line without its line feed": lambda path: next_line(path)[:-1],
    "zeros": lambda _: bytes(4096),
    "a blank line": lambda _: b"\n",
    "a forged line": lambda path: next_line(path).replace(b'"seq":70', b'"seq":71'),
    "a line of another chain": lambda path: next_line(path).replace(
        b'hash":"', b'hash":"0'
    ),
    "a line that is not canonical": lambda path: next_line(path).replace(
        b":", b": ", 1
    ),
    "a second genesis": lambda path: next_line(path).replace(
        b"energy_metric", b"genesis"
    ),
    "a nesting bomb": lambda _: b"[" * 100_000 + b"\n",
    "bytes that are not UTF-8": lambda _: b"\xff\xfe\n",
}


@pytest.mark.parametrize("torn", TORN.values(), ids=TORN.keys())
@pytest.mark.parametrize("key", [KEY, None], ids=["signed", "unsigned"])
def test_a_damaged_end_moves_to_quarantine_and_a_record_says_so(
    tmp_path: Path, torn: object, key: Signer | None
) -> None:
    path = made(tmp_path / "l", key)
    assert callable(torn)
    bad = torn(path)
    with (path / "active.jsonl").open("ab") as file:
        file.write(bad)

    with Ledger.open(path, signer=key) as ledger:
        recovered = ledger.recovered
        assert recovered is not None
        assert recovered[:2] == (70, len(bad))
        assert (path / recovered.quarantine).read_bytes() == bad
        assert ledger.append(record(1)).seq == 71

    told = json.loads((path / "active.jsonl").read_bytes().splitlines()[70 - 64])
    assert told["type"] == "recovery"
    assert told["torn_bytes"] == len(bad)
    assert told["torn_sha256"] == hashlib.sha256(bad).hexdigest()
    report = verify_ledger(path, vkeys=[KEY.vkey] if key is not None else [])
    assert (report.verdict, report.size) == ("OK", 72)


@contextlib.contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Let no file grow beyond ``size`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("torn", [b"[" * 100_000, b"["], ids=["copy", "record"])
def test_a_damaged_end_that_cannot_be_moved_stays_and_says_so(
    tmp_path: Path, torn: bytes
) -> None:
    """There is no room for the copy in quarantine, or for the record that names it."""
    path = made(tmp_path / "l")
    with (path / "active.jsonl").open("ab") as file:
        file.write(torn)
    before = contents(path)
    told = r"cannot move damaged bytes out.*too large"
    with (
        files_up_to(min(50_000, len(before["active.jsonl"]))),
        pytest.raises(LedgerError, match=told),
    ):
        Ledger.open(path, signer=KEY)
    assert contents(path) == before
    with Ledger.open(path, signer=KEY) as ledger:
        assert ledger.recovered is not None
    assert verify_ledger(path, vkeys=[KEY.vkey]).verdict == "OK"


def test_a_repair_stands_though_its_checkpoint_does_not_come_through(
    tmp_path: Path,
) -> None:
    path = made(tmp_path / "l")
    (path / f"checkpoint.tmp.{os.getpid()}").mkdir()
    with Ledger.open(path, signer=KEY) as ledger:
        with (path / "active.jsonl").open("ab") as file:
            file.write(b"torn")
        with pytest.raises(LedgerWriteError, match="Is a directory; nothing"):
            ledger.append(record(1))
        assert ledger.recovered is not None
        (path / f"checkpoint.tmp.{os.getpid()}").rmdir()
        assert ledger.append(record(2)).seq == 71
    assert verify_ledger(path, vkeys=[KEY.vkey]).verdict == "OK"


@pytest.mark.parametrize("key", [KEY, None], ids=["signed", "unsigned"])
def test_damage_right_after_the_first_record_is_cut_off(
    tmp_path: Path, key: Signer | None
) -> None:
    path = made(tmp_path / "l", key, records=1)
    with (path / "active.jsonl").open("ab") as file:
        file.write(b"torn")
    with Ledger.open(path, signer=key) as ledger:
        assert ledger.recovered is not None
        assert ledger.append(record(1)).seq == 2


def test_a_running_writer_clears_a_forged_line_away_too(tmp_path: Path) -> None:
    path = made(tmp_path / "l")
    with Ledger.open(path, signer=KEY) as ledger:
        with (path / "active.jsonl").open("ab") as file:
            file.write(b'{"forged":true}\n')
        assert ledger.append(record(1)).seq == 71
        assert ledger.recovered is not None

    assert verify_ledger(path, vkeys=[KEY.vkey]).verdict == "OK"


def test_everything_after_the_first_bad_line_is_kept_in_quarantine(
    tmp_path: Path,
) -> None:
    path = made(tmp_path / "l")
    good, later = next_line(path), b'{"x":1}\n' + next_line(path)
    with (path / "active.jsonl").open("ab") as file:
        file.write(good + later)

    with Ledger.open(path, signer=KEY) as ledger:
        assert ledger.recovered is not None
        assert ledger.recovered[:2] == (71, len(later))
        assert (path / ledger.recovered.quarantine).read_bytes() == later

    assert verify_ledger(path, vkeys=[KEY.vkey]).verdict == "OK"


def test_an_unsigned_ledger_is_cut_in_the_middle_only_when_asked(
    tmp_path: Path,
) -> None:
    path = made(tmp_path / "l", None)
    flip(path / "active.jsonl", 20)
    before = contents(path)

    with pytest.raises(LedgerCorruptError, match="repair"):
        Ledger.open(path)
    assert contents(path) == before
    with Ledger.open(path, repair=True) as ledger:
        assert ledger.recovered is not None
        assert ledger.recovered.seq == 64
        assert ledger.size == 65


def test_damage_behind_a_full_active_file_is_cut_off_too(tmp_path: Path) -> None:
    path = made(tmp_path / "l", records=128)
    os.rename(path / f"seg-{64:020d}.jsonl", path / "active.jsonl")
    (path / "active.jsonl").chmod(0o644)
    with (path / "active.jsonl").open("ab") as file:
        file.write(b"{}\n")

    with Ledger.open(path, signer=KEY) as ledger:
        assert ledger.recovered is not None
        assert ledger.append(record(1)).seq == 129

    assert verify_ledger(path, vkeys=[KEY.vkey]).verdict == "OK"


COMMITTED: dict[str, object] = {
    "a flipped bit in the active file": lambda p: flip(p / "active.jsonl", 30),
    "a flipped bit in the newest segment": lambda p: flip(
        p / f"seg-{0:020d}.jsonl", 900
    ),
    "the last line cut": lambda p: os.truncate(
        p / "active.jsonl", (p / "active.jsonl").stat().st_size - 10
    ),
    "the last line feed cut": lambda p: os.truncate(
        p / "active.jsonl", (p / "active.jsonl").stat().st_size - 1
    ),
    "the active file emptied": lambda p: os.truncate(p / "active.jsonl", 0),
    "the active file gone": lambda p: (p / "active.jsonl").unlink(),
    "the segment gone": lambda p: (p / f"seg-{0:020d}.jsonl").unlink(),
    "both gone": lambda p: [file.unlink() for file in p.glob("*.jsonl")],
    "the checkpoint gone": lambda p: (p / "checkpoint").unlink(),
    "the checkpoint empty": lambda p: (p / "checkpoint").write_bytes(b""),
    "the checkpoint all zeros": lambda p: (p / "checkpoint").write_bytes(bytes(300)),
    "the checkpoint's size changed": lambda p: (p / "checkpoint").write_bytes(
        (p / "checkpoint").read_bytes().replace(b"\n70\n", b"\n69\n")
    ),
    "the checkpoint a link": lambda p: _link(p / "checkpoint"),
    "the active file a link": lambda p: _link(p / "active.jsonl"),
    "the active file a pipe": lambda p: _pipe(p / "active.jsonl"),
}


def _link(path: Path) -> None:
    moved = path.parent.parent / "moved"
    os.rename(path, moved)
    path.symlink_to(moved)


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("damage", COMMITTED.values(), ids=COMMITTED.keys())
def test_damage_below_the_checkpoint_is_refused_and_left_as_it_is(
    tmp_path: Path, damage: object
) -> None:
    path = made(tmp_path / "l")
    assert callable(damage)
    damage(path)
    before = contents(path)

    with pytest.raises(LedgerError):
        Ledger.open(path, signer=KEY)
    with pytest.raises(LedgerError):
        Ledger.open(path, signer=KEY, repair=True)
    assert contents(path) == before


@pytest.mark.parametrize("damage", COMMITTED.values(), ids=COMMITTED.keys())
def test_a_running_writer_does_not_write_over_such_damage(
    tmp_path: Path, damage: object
) -> None:
    path = made(tmp_path / "l")
    with Ledger.open(path, signer=KEY) as ledger:
        assert callable(damage)
        damage(path)
        before = contents(path)
        seen = (path / "active.jsonl").exists()
        try:
            ledger.append(record(1))
        except LedgerError:
            assert contents(path) == before
        else:  # what it does not read at an append it has not destroyed
            assert seen
            segment = f"seg-{0:020d}.jsonl"
            assert contents(path).get(segment) == before.get(segment)


@pytest.mark.parametrize(
    ("damage", "code", "seq"),
    [
        ("a flipped bit in the active file", "E_CORRUPT_COMMITTED", None),
        ("a flipped bit in the newest segment", "E_CORRUPT_COMMITTED", None),
        ("the last line cut", "E_TRUNCATED", 69),
        ("the active file gone", "E_TRUNCATED", 64),
        ("the segment gone", "E_GENESIS", 0),
        ("both gone", "E_TRUNCATED", 0),
        ("the checkpoint gone", "E_CKPT_MISSING", None),
        ("the checkpoint empty", "E_CKPT_FORMAT", None),
        ("the checkpoint's size changed", "E_CKPT_SIG", None),
    ],
)
def test_the_refusal_carries_a_code(
    tmp_path: Path, damage: str, code: str, seq: int | None
) -> None:
    path = made(tmp_path / "l")
    spoil = COMMITTED[damage]
    assert callable(spoil)
    spoil(path)

    with pytest.raises(LedgerCorruptError) as caught:
        Ledger.open(path, signer=KEY)
    assert (caught.value.code, caught.value.seq) == (code, seq)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("first", [64, 128])
def test_a_missing_segment_is_named_by_its_first_record(
    tmp_path: Path, first: int
) -> None:
    path = made(tmp_path / "l", records=260)
    (path / f"seg-{first:020d}.jsonl").unlink()
    with pytest.raises(LedgerCorruptError, match=f"{first:020d}") as caught:
        Ledger.open(path, signer=KEY)
    assert (caught.value.code, caught.value.seq) == ("E_SEGMENT_MISSING", first)


@pytest.mark.parametrize(
    ("spoil", "code", "seq"),
    [
        (lambda data: data.replace(b'"i":70,', b'"i":71,'), "E_PREV_HASH", 71),
        (lambda data: data[: data.rfind(b"\n", 0, -1) + 1], "E_TRUNCATED", 127),
        (lambda data: data[:-1], "E_TRUNCATED", 127),
        (lambda data: b"", "E_TRUNCATED", 64),
        (lambda data: data.replace(b"hash", b"hasn", 1), "E_SCHEMA", 64),
    ],
    ids=["changed", "a line cut", "a line feed cut", "emptied", "no hash"],
)
def test_of_an_unsigned_ledger_the_newest_segment_is_checked(
    tmp_path: Path, spoil: Callable[[bytes], bytes], code: str, seq: int
) -> None:
    path = made(tmp_path / "l", None, records=130)
    segment = path / f"seg-{64:020d}.jsonl"
    segment.chmod(0o644)
    segment.write_bytes(spoil(segment.read_bytes()))
    with pytest.raises(LedgerCorruptError) as caught:
        Ledger.open(path)
    assert (caught.value.code, caught.value.seq) == (code, seq)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"segment_records":64', b'"segment_records":63'),
        (b'"segment_records":64', b'"segment_records":8192'),
        (b'"segment_records":64', b'"segment_records":true'),
        (b'"origin":"host.example/test"', b'"origin":7'),
        (b'"format":1', b'"format":"1"'),
        (b'"format":1', b'"format":0'),
    ],
)
def test_a_first_record_that_makes_no_sense_is_refused(
    tmp_path: Path, old: bytes, new: bytes
) -> None:
    path = made(tmp_path / "l", None, records=1)
    active = path / "active.jsonl"
    assert old in active.read_bytes()
    active.write_bytes(active.read_bytes().replace(old, new))
    with pytest.raises(LedgerCorruptError) as caught:
        Ledger.open(path)
    assert (caught.value.code, caught.value.seq) == ("E_GENESIS", 0)


def test_the_checkpoint_of_another_ledger_with_the_same_key_is_refused(
    tmp_path: Path,
) -> None:
    path = made(tmp_path / "l")
    claim = Checkpoint.parse(parse_note((path / "checkpoint").read_bytes()).body)
    moved = claim._replace(origin="host.example/other")
    (path / "checkpoint").write_bytes(sign_note(moved.body(), KEY))
    with pytest.raises(LedgerCorruptError, match="E_ORIGIN"):
        Ledger.open(path, signer=KEY)


def test_opening_a_signed_ledger_reads_the_end_of_it_alone(tmp_path: Path) -> None:
    """So that it takes no longer for a million records. `verify` reads all of them."""
    path = made(tmp_path / "l", records=200)
    first = path / f"seg-{0:020d}.jsonl"
    genesis = first.read_bytes().partition(b"\n")[0]
    first.chmod(0o644)
    first.write_bytes(genesis + b"\nnot read\n")
    with Ledger.open(path, signer=KEY) as ledger:
        assert ledger.append(record(1)).seq == 200
    assert verify_ledger(path, vkeys=[KEY.vkey]).code == "E_PARSE"


def test_a_checkpoint_that_lags_and_cannot_be_mended_is_an_error(
    tmp_path: Path,
) -> None:
    path = made(tmp_path / "l")
    old = (path / "checkpoint").read_bytes()
    with Ledger.open(path, signer=KEY) as ledger:
        ledger.append(record(1))
    (path / "checkpoint").write_bytes(old)
    before = contents(path)
    with (
        files_up_to(len(before["active.jsonl"]) - 1),
        pytest.raises(CheckpointDelayed, match="too large"),
    ):
        Ledger.open(path, signer=KEY)
    assert contents(path) == before


def test_records_beyond_the_checkpoint_are_covered_at_the_next_open(
    tmp_path: Path,
) -> None:
    path = made(tmp_path / "l")
    old = (path / "checkpoint").read_bytes()
    with Ledger.open(path, signer=KEY) as ledger:
        ledger.append(record(1))
    (path / "checkpoint").write_bytes(old)
    assert verify_ledger(path, vkeys=[KEY.vkey]).verdict == "OK_PENDING"

    Ledger.open(path, signer=KEY).close()
    assert verify_ledger(path, vkeys=[KEY.vkey]).verdict == "OK"


def test_a_checkpoint_far_behind_is_mended_after_reading_everything(
    tmp_path: Path,
) -> None:
    path = made(tmp_path / "l", records=3)
    old = (path / "checkpoint").read_bytes()
    with Ledger.open(path, signer=KEY) as ledger:
        ledger.append_many(record(i) for i in range(300))
    (path / "checkpoint").write_bytes(old)

    with Ledger.open(path, signer=KEY) as ledger:
        assert ledger.append(record(1)).seq == 303
    assert verify_ledger(path, vkeys=[KEY.vkey]).verdict == "OK"


@pytest.mark.parametrize(
    "frontier", [None, b"", b"{}", b"\x00" * 100, b'{"base":[],"segments":[],"size":0}']
)
def test_the_frontier_may_be_lost_or_garbage(
    tmp_path: Path, frontier: bytes | None
) -> None:
    path = made(tmp_path / "l", records=300)
    if frontier is None:
        (path / "frontier").unlink()
    else:
        (path / "frontier").write_bytes(frontier)

    with Ledger.open(path, signer=KEY) as ledger:
        ledger.append_many(record(i) for i in range(100))
    assert verify_ledger(path, vkeys=[KEY.vkey]).verdict == "OK"


def test_a_plausible_frontier_that_is_wrong_is_not_believed(tmp_path: Path) -> None:
    path = made(tmp_path / "l", records=300)
    state = json.loads((path / "frontier").read_bytes())
    state["segments"][1] = state["segments"][0]
    (path / "frontier").write_text(json.dumps(state))

    with Ledger.open(path, signer=KEY) as ledger:
        ledger.append_many(record(i) for i in range(100))
    assert verify_ledger(path, vkeys=[KEY.vkey]).verdict == "OK"
    assert json.loads((path / "frontier").read_bytes())["segments"][1] != (
        state["segments"][1]
    )


def test_an_older_frontier_is_brought_up_to_date(tmp_path: Path) -> None:
    path = made(tmp_path / "l", records=130)
    old = (path / "frontier").read_bytes()
    with Ledger.open(path, signer=KEY) as ledger:
        ledger.append_many(record(i) for i in range(200))
    (path / "frontier").write_bytes(old)

    with Ledger.open(path, signer=KEY) as ledger:
        ledger.append_many(record(i) for i in range(64))
    assert verify_ledger(path, vkeys=[KEY.vkey]).verdict == "OK"


def test_a_writer_that_died_before_its_first_checkpoint_gets_one(
    tmp_path: Path,
) -> None:
    path = made(tmp_path / "l", records=1)
    (path / "checkpoint").unlink()

    with Ledger.open(path, signer=KEY) as ledger:
        assert ledger.append(record(1)).seq == 1
    assert verify_ledger(path, vkeys=[KEY.vkey]).verdict == "OK"
    (path / "checkpoint").unlink()  # two records: one of them was acknowledged
    with pytest.raises(LedgerCorruptError, match="E_CKPT_MISSING"):
        Ledger.open(path, signer=KEY)


def test_a_writer_that_died_before_sealing_leaves_that_to_the_next(
    tmp_path: Path,
) -> None:
    path = made(tmp_path / "l", records=128)
    os.rename(path / f"seg-{64:020d}.jsonl", path / "active.jsonl")

    Ledger.open(path, signer=KEY).close()
    assert (path / f"seg-{64:020d}.jsonl").exists()
    assert verify_ledger(path, vkeys=[KEY.vkey]).verdict == "OK"


def test_a_rotation_without_its_checkpoint_is_finished_with_the_new_key(
    tmp_path: Path,
) -> None:
    path = made(tmp_path / "l")
    new = Signer(KEY.name, bytes(range(1, 33)))
    old = (path / "checkpoint").read_bytes()
    with Ledger.open(path, signer=KEY) as ledger:
        ledger.rotate_key(new)
    (path / "checkpoint").write_bytes(old)

    with pytest.raises(LedgerError, match="replaced by record 70"):
        Ledger.open(path, signer=KEY)
    with Ledger.open(path, signer=new) as ledger:
        assert ledger.append(record(1)).seq == 71
    assert verify_ledger(path, vkeys=[KEY.vkey]).verdict == "OK"


def test_a_segment_in_the_way_of_sealing_is_not_overwritten(tmp_path: Path) -> None:
    path = made(tmp_path / "l", records=127)
    with Ledger.open(path, signer=KEY) as ledger:
        (path / f"seg-{64:020d}.jsonl").write_bytes(b"somebody's\n")
        with pytest.raises(LedgerError):
            ledger.append_many([record(1), record(2)])

    assert (path / f"seg-{64:020d}.jsonl").read_bytes() == b"somebody's\n"


def test_a_running_writer_notices_a_ledger_that_was_rolled_back(tmp_path: Path) -> None:
    path = made(tmp_path / "l")
    shutil.copytree(path, tmp_path / "old")
    with Ledger.open(path, signer=KEY) as ledger:
        ledger.append(record(1))
        for name in ("active.jsonl", "checkpoint"):
            shutil.copy(tmp_path / "old" / name, path / name)
        with pytest.raises(LedgerCorruptError) as caught:
            ledger.append(record(2))
        assert caught.value.code == "E_TRUNCATED"


def test_a_ledger_deleted_under_a_writer_is_an_error(tmp_path: Path) -> None:
    path = made(tmp_path / "l")
    with Ledger.open(path, signer=KEY) as ledger:
        shutil.rmtree(path)
        made(path)  # another one in its place is not this one
        before = contents(path)
        with pytest.raises(LedgerError):
            ledger.append(record(1))

    assert contents(path) == before


def test_temporary_files_of_the_dead_go_and_those_of_the_living_stay(
    tmp_path: Path,
) -> None:
    path = made(tmp_path / "l")
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    kept = [f"active.jsonl.tmp.{os.getppid()}", "notes.tmp.txt", "x.tmp.", ".tmp.1x"]
    for name in [f"active.jsonl.tmp.{dead}", f"checkpoint.tmp.{os.getpid()}", *kept]:
        (path / name).write_bytes(b"left over")

    Ledger.open(path, signer=KEY).close()
    assert {name for name in os.listdir(path) if ".tmp." in name} == set(kept)


@pytest.mark.parametrize("what", ["missing", "file", "link", "empty", "foreign"])
def test_what_is_no_ledger_is_named(tmp_path: Path, what: str) -> None:
    path = tmp_path / "l"
    if what == "file":
        path.write_bytes(b"{}\n")
    elif what == "link":
        made(tmp_path / "real")
        path.symlink_to(tmp_path / "real")
    elif what in ("empty", "foreign"):
        path.mkdir()
    if what == "foreign":
        (path / "active.jsonl").write_bytes(b'{"a":1}\n')

    with pytest.raises(LedgerError) as caught:
        Ledger.open(path, signer=KEY)
    assert str(caught.value)
    assert caught.value.hint
    if what not in ("missing", "empty"):
        with pytest.raises(LedgerError):
            Ledger.init(path / "below" if what == "file" else path)


def test_a_ledger_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    path = made(tmp_path / "l", None, 1)
    active = path / "active.jsonl"
    active.write_bytes(active.read_bytes().replace(b'"format":1', b'"format":2'))

    with pytest.raises(LedgerError, match="format 2"):
        Ledger.open(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_may_not_be_written_is_an_error(tmp_path: Path) -> None:
    path = made(tmp_path / "l")
    path.chmod(0o500)
    try:
        with Ledger.open(path, signer=KEY) as ledger:
            with pytest.raises(LedgerError, match="nothing was written"):
                ledger.append(record(1))
    finally:
        path.chmod(0o700)
