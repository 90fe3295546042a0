"""Records that a waiting writer hands to the one who holds the lock."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from carbon_ops.ledger.chain import draft
from carbon_ops.ledger.files import Directory
from carbon_ops.ledger.handover import MOST_BYTES, WAITING, Handover, take
from carbon_ops.ledger.note import Signer
from carbon_ops.ledger.store import Ledger, LockTimeout
from carbon_ops.ledger.verify import verify_ledger

KEY = Signer("host.example/test", bytes(range(32)))


def one(i: int, **more: object) -> dict[str, object]:
    return {"type": "energy_metric", "a": 1, "i": i, "z": "ü", **more}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    Ledger.init(tmp_path / "l", signer=KEY, segment_records=64).close()
    return tmp_path / "l"


@contextlib.contextmanager
def offered(
    path: Path, *numbers: int, key: str | None = KEY.vkey
) -> Iterator[Handover]:
    """Offer records as a writer does that finds the ledger locked."""
    directory = Directory(str(path))
    with Handover(directory, key, [draft(one(i)) for i in numbers]) as handover:
        assert not handover.done()
        yield handover
    directory.close()


def lines(path: Path) -> list[dict[str, object]]:
    files = [*sorted(path.glob("seg-*")), path / "active.jsonl"]
    return [
        json.loads(line)
        for file in files
        if file.exists()
        for line in file.read_bytes().splitlines()
    ]


def numbers(path: Path) -> list[object]:
    assert verify_ledger(path, vkeys=[KEY.vkey]).verdict == "OK"
    return [line["i"] for line in lines(path)[1:]]


def test_the_holder_of_the_lock_writes_what_others_wait_with(path: Path) -> None:
    with Ledger.open(path, signer=KEY) as ledger, offered(path, 1, 2, 3) as handover:
        assert ledger.append(one(0)).seq == 1
        assert handover.done()
        assert [receipt.seq for receipt in handover.receipts] == [2, 3, 4]
        assert not handover.take_back()
        assert ledger.holds(handover.receipts[2])

    assert numbers(path) == [0, 1, 2, 3]
    assert not (path / WAITING).exists()


def test_records_handed_over_go_across_segments(path: Path) -> None:
    with (
        Ledger.open(path, signer=KEY) as ledger,
        offered(path, *range(100)) as handover,
    ):
        ledger.append_many(one(i) for i in range(50))
        assert handover.done()

    assert numbers(path) == [*range(50), *range(100)]


def test_what_was_taken_back_is_not_written(path: Path) -> None:
    with Ledger.open(path, signer=KEY) as ledger, offered(path, 1) as handover:
        assert handover.take_back()
        assert handover.take_back()
        ledger.append(one(0))
        assert not handover.done()

    assert numbers(path) == [0]


def test_a_writer_that_is_interrupted_leaves_nothing_behind(path: Path) -> None:
    with offered(path, 1):
        (file,) = (path / WAITING).iterdir()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE((path / WAITING).stat().st_mode) == 0o700
    assert not os.listdir(path / WAITING)


def _nothing(file: Path) -> None:
    file.write_bytes(b"")


def _half(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9])


def _other_key(file: Path) -> None:
    file.write_bytes(b"host.example/other+00000000+AA\n" + file.read_bytes())


@pytest.mark.parametrize("spoil", [_nothing, _half, _other_key])
def test_what_a_dead_writer_left_goes_whatever_it_is(
    path: Path, spoil: Callable[[Path], None]
) -> None:
    """A writer may be killed between any two of its calls."""
    with offered(path, 1) as handover:
        (file,) = (path / WAITING).iterdir()
        whole = file.read_bytes()
        handover.take_back()
    file.write_bytes(whole)
    spoil(file)
    with Ledger.open(path, signer=KEY) as ledger:
        ledger.append(one(0))
        assert not os.listdir(path / WAITING)

    assert numbers(path) == [0]


@pytest.mark.parametrize("count", [0, 257])
def test_no_records_and_very_many_are_not_offered(path: Path, count: int) -> None:
    with offered(path, *range(count)) as handover:
        assert not handover.done()
        assert handover.take_back()
    assert not (path / WAITING).exists()


def test_a_dead_writers_records_are_thrown_away(path: Path) -> None:
    program = (
        "import os, sys, test_handover as t\n"
        "with t.offered(t.Path(sys.argv[1]), 7):\n"
        "    os._exit(0)\n"
    )
    here = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parent)]),
    }
    subprocess.run([sys.executable, "-c", program, path], check=True, env=here)
    assert len(os.listdir(path / WAITING)) == 1
    with Ledger.open(path, signer=KEY) as ledger:
        ledger.append(one(0))

    assert numbers(path) == [0]
    assert not (path / WAITING).exists()


def test_records_for_another_key_wait_for_it(path: Path) -> None:
    with (
        Ledger.open(path, signer=KEY) as ledger,
        offered(path, 1, key="host.example/other+00000000+AA") as other,
        offered(path, 2, key=None) as unsigned,
    ):
        ledger.append(one(0))
        assert other.take_back()
        assert unsigned.take_back()

    assert numbers(path) == [0]


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def _forged(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b'"i":1', b'"i": 1'))


def _second_genesis(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b"energy_metric", b"genesis"))


def _a_line_more(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b"\nend", b"\n\nend"))


def _too_long(file: Path) -> None:
    file.write_bytes(file.read_bytes() + bytes(MOST_BYTES))


def _link(file: Path) -> None:
    file.rename(file.parent.parent / "moved")
    file.symlink_to(file.parent.parent / "moved")


def _pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def _folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    "spoil",
    [_cut, _forged, _second_genesis, _a_line_more, _too_long, _link, _pipe, _folder],
    ids=lambda spoil: spoil.__name__,
)
def test_what_is_no_record_is_not_taken(
    path: Path, spoil: Callable[[Path], None]
) -> None:
    with Ledger.open(path, signer=KEY) as ledger, offered(path, 1) as handover:
        (file,) = (path / WAITING).iterdir()
        spoil(file)
        assert ledger.append(one(0)).seq == 1
        assert not handover.done()
        assert not handover.receipts

    assert numbers(path) == [0]


def test_half_a_request_is_not_taken_wherever_it_ends(path: Path) -> None:
    with Ledger.open(path, signer=KEY) as ledger, offered(path, 1, 2) as handover:
        (file,) = (path / WAITING).iterdir()
        whole = file.read_bytes()
        for end in range(len(whole)):
            os.truncate(file, 0)
            with file.open("ab") as again:  # the same file: its writer has a lock on it
                again.write(whole[:end])
            assert take(ledger._writer.directory, KEY.vkey) == []
        assert handover.take_back()


def test_a_writer_whose_helper_died_finds_out_what_it_wrote(path: Path) -> None:
    """It took the records, said where they would be, wrote two of three, and died."""
    drafts = [draft(one(i)) for i in (1, 2, 3)]
    with Ledger.open(path, signer=KEY) as ledger, offered(path, 1, 2, 3) as handover:
        (taken,) = take(ledger._writer.directory, KEY.vkey)
        _, places = ledger._writer.tail.lines(taken.drafts)
        taken.plan(places)
        taken.close()
        assert not handover.done()
        with ledger._turns.alone():
            ledger._writer.settle(drafts[:2])
            written = ledger._turns._write(drafts, handover)
        assert written.receipts == places
        assert written.acknowledged == 3

    assert numbers(path) == [1, 2, 3]


def test_what_a_dead_helper_wrote_is_written_anew_before_it_is_believed(
    path: Path,
) -> None:
    with Ledger.open(path, signer=KEY) as ledger, offered(path, 1) as handover:
        (taken,) = take(ledger._writer.directory, KEY.vkey)
        taken.plan(ledger._writer.tail.lines(taken.drafts)[1])
        taken.close()
        with ledger._turns.alone():
            ledger._writer.settle(taken.drafts)
            before = (path / "active.jsonl").stat().st_ino
            written = ledger._turns._write(taken.drafts, handover)
        assert written.acknowledged == 1
        assert (path / "active.jsonl").stat().st_ino != before

    assert numbers(path) == [1]


def test_a_writer_whose_helper_wrote_nothing_does_it_itself(path: Path) -> None:
    with Ledger.open(path, signer=KEY) as ledger, offered(path, 1) as handover:
        (taken,) = take(ledger._writer.directory, KEY.vkey)
        _, places = ledger._writer.tail.lines(taken.drafts)
        taken.plan(places)
        taken.close()
        ledger.append(one(0))  # where the other would have been
        with ledger._turns.alone():
            written = ledger._turns._write(taken.drafts, handover)
        assert [receipt.seq for receipt in written.receipts] == [2]

    assert numbers(path) == [0, 1]


@pytest.mark.parametrize("planned", [False, True])
def test_a_writer_that_gives_up_has_its_records_alone_or_knows_where_they_may_be(
    path: Path, planned: bool
) -> None:
    with Ledger.open(path, signer=KEY) as ledger, offered(path, 1) as handover:
        (taken,) = take(ledger._writer.directory, KEY.vkey)
        places = ledger._writer.tail.lines(taken.drafts)[1]
        if planned:
            taken.plan(places)
            assert not handover.take_back()
            assert handover.receipts == places
        else:
            assert handover.take_back()
            with pytest.raises(OSError, match="gave up"):
                taken.plan(places)
            assert not handover.receipts
        taken.close()


def test_a_writer_that_gives_up_before_anybody_took_its_records_leaves_none(
    path: Path,
) -> None:
    with (
        Ledger.open(path, signer=KEY) as holder,
        Ledger.open(path, signer=KEY, lock_timeout_s=0.3) as waiter,
        holder._turns.alone(),
    ):
        with pytest.raises(LockTimeout, match="nothing was written"):
            waiter.append(one(1))
        assert not os.listdir(path / WAITING)

    assert numbers(path) == []


def test_threads_whose_process_waits_hand_over_together(path: Path) -> None:
    seqs: list[int] = []
    with (
        Ledger.open(path, signer=KEY) as holder,
        Ledger.open(path, signer=KEY) as waiter,
    ):
        threads = [
            threading.Thread(target=lambda i=i: seqs.append(waiter.append(one(i)).seq))
            for i in range(8)
        ]
        with holder._turns.alone():
            for thread in threads:
                thread.start()
        for i in range(100, 110):
            holder.append(one(i))
        for thread in threads:
            thread.join()

    found = {line["seq"]: line["i"] for line in lines(path)[1:]}
    assert sorted(numbers(path)) == [*range(8), *range(100, 110)]  # type: ignore[type-var]
    assert {found[seq] for seq in seqs} == set(range(8))
