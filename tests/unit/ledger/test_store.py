"""Writing a ledger: one writer or many, and what each of them is told."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from carbon_ops.errors import InvalidInputError, LedgerError
from carbon_ops.ledger import keys
from carbon_ops.ledger.chain import ZERO_HASH
from carbon_ops.ledger.note import Signer, parse_note
from carbon_ops.ledger.store import (
    Ledger,
    LedgerExistsError,
    LockTimeout,
    Receipt,
)
from carbon_ops.ledger.verify import verify_ledger

KEY = Signer("host.example/test", bytes(range(32)))


def record(i: int) -> dict[str, object]:
    return {"type": "energy_metric", "i": i, "j": i / 7}


def lines_of(path: Path) -> list[bytes]:
    names = sorted(p.name for p in path.iterdir() if p.name.startswith("seg-"))
    data = b"".join((path / name).read_bytes() for name in names)
    active = path / "active.jsonl"
    return (data + (active.read_bytes() if active.exists() else b"")).splitlines()


def verdict(path: Path, key: Signer | None = KEY) -> str:
    report = verify_ledger(path, vkeys=[key.vkey] if key is not None else [])
    return f"{report.verdict} {report.size}"


@pytest.fixture(params=["signed", "unsigned"])
def key(request: pytest.FixtureRequest) -> Signer | None:
    return KEY if request.param == "signed" else None


def test_a_new_ledger_holds_its_genesis_alone(tmp_path: Path) -> None:
    with Ledger.init(tmp_path / "l", signer=KEY) as ledger:
        assert ledger.size == 1
        assert ledger.origin == KEY.name

    assert json.loads((tmp_path / "l" / "active.jsonl").read_text()) == {
        "format": 1,
        "origin": KEY.name,
        "prev_hash": ZERO_HASH,
        "segment_records": 256,
        "seq": 0,
        "type": "genesis",
        "vkey": KEY.vkey,
    }
    assert stat.S_IMODE((tmp_path / "l").stat().st_mode) == 0o700
    assert sorted(os.listdir(tmp_path / "l")) == ["LOCK", "active.jsonl", "checkpoint"]


def test_receipts_are_the_places_and_hashes_of_the_lines(
    tmp_path: Path, key: Signer | None
) -> None:
    path = tmp_path / "l"
    with Ledger.init(path, signer=key, segment_records=64) as ledger:
        receipts = [ledger.append(record(0))]
        receipts += ledger.append_many(record(i) for i in range(1, 200))
        receipts += [ledger.append(record(200))]

    lines = lines_of(path)
    assert receipts == [
        Receipt(seq, hashlib.sha256(lines[seq]).hexdigest()) for seq in range(1, 202)
    ]
    assert [json.loads(line)["i"] for line in lines[1:]] == list(range(201))
    assert verdict(path, key) == "OK 202"


def test_full_segments_are_sealed_read_only_and_hold_equal_shares(
    tmp_path: Path, key: Signer | None
) -> None:
    path = tmp_path / "l"
    with Ledger.init(path, signer=key, segment_records=64) as ledger:
        for i in range(127):
            ledger.append(record(i))

    segments = sorted(path.glob("seg-*"))
    assert [p.name for p in segments] == [f"seg-{i:020d}.jsonl" for i in (0, 64)]
    assert [len(p.read_bytes().splitlines()) for p in segments] == [64, 64]
    assert {stat.S_IMODE(p.stat().st_mode) for p in segments} == {0o444}
    assert not (path / "active.jsonl").exists()
    assert verdict(path, key) == "OK 128"


def test_appends_go_on_where_another_program_stopped(
    tmp_path: Path, key: Signer | None
) -> None:
    path = tmp_path / "l"
    Ledger.init(path, signer=key, segment_records=64).close()
    for start in range(0, 330, 33):
        with Ledger.open(path, signer=key) as ledger:
            assert ledger.size == start + 1
            receipts = ledger.append_many(record(i) for i in range(start, start + 33))
            assert receipts[0].seq == start + 1

    assert verdict(path, key) == "OK 331"


def test_two_writers_take_turns_without_losing_a_record(
    tmp_path: Path, key: Signer | None
) -> None:
    path = tmp_path / "l"
    with (
        Ledger.init(path, signer=key, segment_records=64) as one,
        Ledger.open(path, signer=key) as two,
    ):
        seqs = [
            receipt.seq
            for i in range(40)
            for writer in ((one, two) if i % 3 else (two, one))
            for receipt in writer.append_many([record(i)] * (1 + i % 5))
        ]

    assert seqs == list(range(1, 1 + len(seqs)))
    assert verdict(path, key) == f"OK {1 + len(seqs)}"


def test_a_writer_that_slept_while_others_filled_segments_wakes_up_right(
    tmp_path: Path, key: Signer | None
) -> None:
    path = tmp_path / "l"
    with (
        Ledger.init(path, signer=key, segment_records=64) as sleeper,
        Ledger.open(path, signer=key) as busy,
    ):
        for fill in (10, 53, 1, 63, 64, 65, 640):
            busy.append_many(record(i) for i in range(fill))
            assert sleeper.append(record(0)).seq == busy.size

    assert verdict(path, key).startswith("OK ")


def test_an_exact_fill_by_another_leaves_the_sleeper_a_missing_active_file(
    tmp_path: Path, key: Signer | None
) -> None:
    path = tmp_path / "l"
    with (
        Ledger.init(path, signer=key, segment_records=64) as sleeper,
        Ledger.open(path, signer=key) as busy,
    ):
        sleeper.append_many(record(i) for i in range(63))  # sealed: no active file
        busy.append_many(record(i) for i in range(64))  # sealed again
        assert sleeper.append(record(0)).seq == 128

    assert verdict(path, key) == "OK 129"


def test_threads_share_one_ledger(tmp_path: Path, key: Signer | None) -> None:
    path = tmp_path / "l"
    seqs: list[int] = []
    with Ledger.init(path, signer=key, segment_records=64) as ledger:

        def work() -> None:
            for i in range(20):
                seqs.append(ledger.append(record(i)).seq)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert sorted(seqs) == list(range(1, 161))
    assert verdict(path, key) == "OK 161"


FORK = """
import os, signal, sys, threading
from carbon_ops.ledger.note import Signer
from carbon_ops.ledger.store import Ledger

signal.alarm(60)  # whatever it waits for, the test does not wait for ever
signer = Signer("host.example/test", bytes(range(32))) if "signed" in sys.argv else None
ledger = Ledger.init(sys.argv[1], signer=signer, segment_records=64)
record = {"type": "energy_metric"}

def fork(work):
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return child
"""

BOTH_WRITE = """
ledger.append(record)
child = fork(lambda: [ledger.append(record) for _ in range(30)])
for _ in range(30):
    ledger.append(record)
assert os.waitpid(child, 0)[1] == 0
assert ledger.append(record).seq == 62
ledger.close()
"""

FORK_UNDER_LOCK = """
inside, go_on = threading.Event(), threading.Event()

def hold():
    with ledger._turns.alone():
        inside.set()
        go_on.wait(30)

thread = threading.Thread(target=hold)
thread.start()
inside.wait(30)
read, write = os.pipe()
child = fork(lambda: (os.read(read, 1), ledger.append(record)))
go_on.set()
thread.join()
os.write(write, b"x")  # the lock is free now: nothing of it was inherited
assert os.waitpid(child, 0)[1] == 0
assert ledger.append(record).seq == 2
ledger.close()
"""


@pytest.mark.parametrize(
    ("program", "size"),
    [(BOTH_WRITE, 63), (FORK_UNDER_LOCK, 3)],
    ids=["both at once", "a thread holds the lock"],
)
def test_a_forked_child_writes_beside_its_parent(
    tmp_path: Path, key: Signer | None, program: str, size: int
) -> None:
    path = tmp_path / "l"
    run = subprocess.run(
        [sys.executable, "-c", FORK + program, path, "signed" if key else ""],
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stderr
    assert verdict(path, key) == f"OK {size}"


def test_a_lock_that_is_kept_gives_an_error_and_no_record(tmp_path: Path) -> None:
    path = tmp_path / "l"
    with (
        Ledger.init(path, signer=KEY) as holder,
        Ledger.open(path, signer=KEY, lock_timeout_s=0.05) as waiter,
    ):
        with holder._turns.alone():
            with pytest.raises(LockTimeout, match="nothing was written"):
                waiter.append(record(1))
            with pytest.raises(LockTimeout):
                waiter.checkpoint()
        assert waiter.append(record(2)).seq == 1

    assert [json.loads(line).get("i") for line in lines_of(path)] == [None, 2]


def test_deleting_the_lock_file_does_not_let_a_second_writer_in(tmp_path: Path) -> None:
    path = tmp_path / "l"
    with (
        Ledger.init(path, signer=KEY) as holder,
        Ledger.open(path, signer=KEY, lock_timeout_s=0.05) as waiter,
    ):
        with holder._turns.alone():
            (path / "LOCK").unlink()
            with pytest.raises(LockTimeout):
                waiter.append(record(1))
        assert waiter.append(record(1)).seq == 1


def test_a_call_from_within_a_call_is_an_error_not_a_deadlock(tmp_path: Path) -> None:
    with Ledger.init(tmp_path / "l", signer=KEY) as ledger:
        with ledger._turns.alone(), pytest.raises(LedgerError, match="within itself"):
            ledger.append(record(1))
        assert ledger.append(record(1)).seq == 1


def test_one_bad_record_keeps_the_whole_call_out(tmp_path: Path) -> None:
    with Ledger.init(tmp_path / "l") as ledger:
        with pytest.raises(InvalidInputError):
            ledger.append_many([record(1), {"type": "t", "x": float("nan")}])
        with pytest.raises(InvalidInputError):
            ledger.append({"type": "t", "seq": 4})
        assert ledger.append_many([]) == []
        assert ledger.append(record(1)).seq == 1


def test_the_checkpoint_covers_every_acknowledged_record(tmp_path: Path) -> None:
    path = tmp_path / "l"
    with Ledger.init(path, signer=KEY, segment_records=64) as ledger:
        for i in range(70):
            receipt = ledger.append(record(i))
            assert (path / "checkpoint").read_text().split("\n")[1] == (
                str(receipt.seq + 1)
            )
        statement = ledger.checkpoint()
        assert statement is not None
        assert parse_note((path / "checkpoint").read_bytes()).body == statement.body()


def test_an_unsigned_ledger_has_no_checkpoint(tmp_path: Path) -> None:
    with Ledger.init(tmp_path / "l") as ledger:
        ledger.append(record(1))
        assert ledger.checkpoint() is None
        with pytest.raises(LedgerError, match="no key"):
            ledger.rotate_key(KEY)

    assert not (tmp_path / "l" / "checkpoint").exists()


def test_after_a_rotation_only_the_new_key_writes(tmp_path: Path) -> None:
    path = tmp_path / "l"
    new = Signer(KEY.name, bytes(range(1, 33)))
    with Ledger.init(path, signer=KEY) as ledger:
        ledger.append(record(1))
        assert ledger.rotate_key(new).seq == 2
        with pytest.raises(LedgerError, match="in force already"):
            ledger.rotate_key(new)
        note = parse_note((path / "checkpoint").read_bytes())
        assert note.by(KEY.key)
        assert note.by(new.key)
        with pytest.raises(LedgerError, match="replaced by record 2"):
            Ledger.open(path, signer=KEY)
        ledger.append(record(2))
        assert not parse_note((path / "checkpoint").read_bytes()).by(KEY.key)
        with pytest.raises(LedgerError, match=r"replaced|not by"):
            Ledger.open(path, signer=KEY)
    with Ledger.open(path, signer=new) as ledger:
        assert ledger.append(record(3)).seq == 4

    assert verdict(path, KEY) == "OK 5"  # the new key follows from the old one


def test_the_wrong_key_or_a_key_too_many_is_refused(tmp_path: Path) -> None:
    other = Signer("host.example/other", bytes(32))
    Ledger.init(tmp_path / "signed", signer=KEY).close()
    Ledger.init(tmp_path / "plain").close()

    with pytest.raises(LedgerError, match="signed by"):
        Ledger.open(tmp_path / "signed", signer=other)
    with pytest.raises(LedgerError, match="without a key"):
        Ledger.open(tmp_path / "plain", signer=KEY)


def test_the_key_is_found_outside_the_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Ledger.init(tmp_path / "l", signer=KEY).close()
    monkeypatch.setenv("CARBON_OPS_LEDGER_KEY", str(tmp_path / "k"))
    with pytest.raises(LedgerError, match="cannot read the key"):
        Ledger.open(tmp_path / "l")

    (tmp_path / "k").write_text(KEY.text() + "\n")
    (tmp_path / "k").chmod(0o600)
    with Ledger.open(tmp_path / "l") as ledger:
        assert ledger.append(record(1)).seq == 1


def test_a_ledger_is_made_once(tmp_path: Path, key: Signer | None) -> None:
    path = tmp_path / "l"
    with Ledger.init(path, signer=key, origin="host.example/test"):
        pass
    before = (path / "active.jsonl").read_bytes()

    with pytest.raises(LedgerExistsError):
        Ledger.init(path)
    with Ledger.open_or_init(path, signer=key) as ledger:
        assert ledger.size == 1
    assert (path / "active.jsonl").read_bytes() == before
    with Ledger.open_or_init(tmp_path / "new") as ledger:
        assert ledger.size == 1
        assert "/new-" in ledger.origin


@pytest.mark.parametrize("begun", [["LOCK"], ["LOCK", "active.jsonl.tmp.1"]])
def test_a_ledger_that_another_process_has_begun_is_made_by_whoever_is_quicker(
    tmp_path: Path, begun: list[str]
) -> None:
    for name in begun:
        (tmp_path / name).touch()
    with Ledger.open_or_init(tmp_path) as ledger:
        assert ledger.size == 1
    (tmp_path / "active.jsonl").unlink()
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(LedgerError, match="no ledger in"):
        Ledger.open_or_init(tmp_path)


def test_a_ledger_made_on_the_way_is_signed_by_the_key_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signer = Signer.generate("host.example/made")
    keys.save(signer, tmp_path / "k.key")
    monkeypatch.setenv(keys.ENV, str(tmp_path / "k.key"))
    for _ in range(2):  # made, then opened
        with Ledger.open_or_init(tmp_path / "ledger") as ledger:
            assert (ledger.signed, ledger.origin) == (True, "host.example/made")


@pytest.mark.parametrize(
    "origin", ["", "two words", "a+b", "line\nfeed", "tab\t", "\x00"]
)
def test_an_origin_has_to_be_one_word(tmp_path: Path, origin: str) -> None:
    with pytest.raises(InvalidInputError):
        Ledger.init(tmp_path / "l", origin=origin)
    assert not (tmp_path / "l").exists()


@pytest.mark.parametrize("step", [0, -64, 32, 100, 8192, 64.0, True])
def test_a_segment_holds_a_power_of_two(tmp_path: Path, step: int) -> None:
    with pytest.raises(InvalidInputError, match="power of two"):
        Ledger.init(tmp_path / "l", segment_records=step)


def test_a_closed_ledger_says_so(tmp_path: Path) -> None:
    ledger = Ledger.init(tmp_path / "l")
    ledger.close()
    ledger.close()

    with pytest.raises(LedgerError, match="closed"):
        ledger.append(record(1))


def test_a_heartbeat_is_a_record_and_comes_when_it_was_silent(tmp_path: Path) -> None:
    path = tmp_path / "l"
    with Ledger.init(path, signer=KEY) as ledger:
        assert ledger.heartbeat().seq == 1
        ledger.append(record(1))
        ledger._writer.beat._monotonic_ns -= (
            3_600_000_000_001  # as if an hour had passed
        )
        assert ledger.append(record(2)).seq == 4
        ledger._writer.beat._monotonic_ns -= 3_600_000_000_001
        ledger.flush()

    kinds = [json.loads(line)["type"] for line in lines_of(path)]
    assert kinds == [
        "genesis",
        "heartbeat",
        "energy_metric",
        "heartbeat",
        "energy_metric",
        "heartbeat",
    ]
    assert set(json.loads(lines_of(path)[1])) == {
        "type",
        "seq",
        "prev_hash",
        "ts",
        "monotonic_ns",
        "boottime_ns",
    }


@pytest.mark.parametrize("other", [record(5), {"type": "note", "ts": "2020"}])
def test_a_heartbeat_of_another_writer_counts(
    tmp_path: Path, other: dict[str, object]
) -> None:
    path = tmp_path / "l"
    with (
        Ledger.init(path, signer=KEY) as one,
        Ledger.open(path, signer=KEY) as two,
    ):
        one.append(other)
        one.heartbeat()
        one.append(other)
        two._writer.beat._monotonic_ns -= 3_600_000_000_001
        two.append(record(1))
        written = json.loads(lines_of(path)[2])["ts"]
        assert two._writer.beat._wall == written
        two._writer.beat._wall = f"2020{written[4:]}"  # by the clock on the wall, too
        two.append(record(1))

    kinds = [json.loads(line)["type"] for line in lines_of(path)]
    assert kinds[2:] == [
        "heartbeat",
        other["type"],
        "energy_metric",
        "heartbeat",
        "energy_metric",
    ]


def test_the_frontier_moves_whole_groups_of_segments_to_files_of_their_own(
    tmp_path: Path,
) -> None:
    from carbon_ops.ledger import subtrees
    from carbon_ops.ledger.files import Directory

    path = tmp_path / "l"
    with Ledger.init(path, signer=KEY, segment_records=64) as ledger:
        for _ in range(5):
            ledger.append_many(record(i) for i in range(3_300))
    assert (path / f"tree-{0:020d}").stat().st_size == 256 * 32

    directory = Directory(str(path))
    computed = subtrees.computed(directory, 64, 64 * (16_501 // 64))
    stored = subtrees.stored_roots(directory, 64)
    newest = subtrees.parse(directory.read("frontier"), 64)
    directory.close()
    assert newest is not None
    assert newest.dump() == computed.dump()
    assert stored is not None
    assert len(stored) == 16_501 // 64
    with Ledger.open(path, signer=KEY) as ledger:
        assert ledger.size == 16_501


def test_the_frontier_follows_what_another_writer_sealed(tmp_path: Path) -> None:
    from carbon_ops.ledger import subtrees
    from carbon_ops.ledger.files import Directory

    path = tmp_path / "l"
    with (
        Ledger.init(path, signer=KEY, segment_records=64) as one,
        Ledger.open(path, signer=KEY) as other,
    ):
        one.append_many(record(i) for i in range(200))
        other.append_many(record(i) for i in range(200))
    directory = Directory(str(path))
    stored = subtrees.parse(directory.read("frontier"), 64)
    assert stored is not None
    assert stored.dump() == subtrees.computed(directory, 64, 384).dump()
    directory.close()


def test_a_record_is_found_wherever_it_lies(tmp_path: Path, key: Signer | None) -> None:
    with Ledger.init(tmp_path / "l", signer=key, segment_records=64) as ledger:
        receipts = ledger.append_many(record(i) for i in range(200))
        for receipt in (
            *receipts[:3],
            *receipts[60:70],
            *receipts[126:130],
            receipts[-1],
        ):
            assert ledger.holds(receipt)
            assert not ledger.holds(receipt._replace(seq=receipt.seq + 1))
        assert not ledger.holds(receipts[-1]._replace(seq=256))


@pytest.mark.parametrize("unit", [int, float])
def test_a_lifetime_of_microjoules_is_never_rounded_silently(
    tmp_path: Path, unit: type[int] | type[float]
) -> None:
    """2**53 µJ are 2,502 kWh: 104 days at 1 kW."""
    total_uj = 105 * 86_400 * 1_000 * 10**6
    path = tmp_path / "l"
    with Ledger.init(path, signer=KEY) as ledger:
        with pytest.raises(InvalidInputError, match=r"2\*\*53"):
            ledger.append({"type": "total", "energy_uj": unit(total_uj)})
        assert ledger.append({"type": "total", "energy_uj": str(total_uj)}).seq == 1
        assert ledger.append({"type": "total", "energy_mj": total_uj // 1_000}).seq == 2
    assert verdict(path) == "OK 3"
    assert json.loads(lines_of(path)[1])["energy_uj"] == str(total_uj)


def test_a_folder_of_somebody_elses_is_told_as_such() -> None:
    place = Path(tempfile.mkdtemp(dir="/tmp"))  # whose parents everybody may pass
    place.chmod(0o755)
    closed = place / "closed"
    closed.mkdir(mode=0)
    program = """
import os, pathlib, sys  # all that root alone may be able to read
from carbon_ops.errors import LedgerError
from carbon_ops.ledger import keys
from carbon_ops.ledger.store import Ledger

if os.geteuid() == 0:
    os.setuid(65_534)
os.chdir("/")
try:
    Ledger.open_or_init(sys.argv[1])
except LedgerError:
    print("told")
"""
    run = subprocess.run(
        [sys.executable, "-c", program, closed],
        capture_output=True,
        text=True,
        check=False,
    )
    closed.rmdir()
    place.rmdir()
    assert run.stdout == "told\n", run.stderr
