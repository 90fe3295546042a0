"""A disk that does not say whether it kept a write, and how a writer goes on after it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from carbon_ops.ledger.failures import Stopped, Written
from carbon_ops.ledger.note import Signer
from carbon_ops.ledger.store import (
    CheckpointDelayed,
    Ledger,
    LedgerWriteError,
    Receipt,
)
from carbon_ops.ledger.verify import verify_ledger

KEY = Signer("host.example/test", bytes(range(32)))
Break = Callable[..., None]


def record(i: int) -> dict[str, object]:
    return {"type": "energy_metric", "i": i}


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Break:
    """Let the directory's fsync fail: ``broken(after=n, times=m)``."""
    real = os.fsync

    def plan(after: int = 0, times: int = 1) -> None:
        left = [after, times]

        def fsync(descriptor: int) -> None:
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                left[0] -= 1
                if left[0] < 0 < left[1]:
                    left[1] -= 1
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)

    return plan


@pytest.fixture(params=["signed", "unsigned"])
def key(request: pytest.FixtureRequest) -> Signer | None:
    return KEY if request.param == "signed" else None


def verdict(path: Path, key: Signer | None) -> str:
    report = verify_ledger(path, vkeys=[key.vkey] if key is not None else [])
    return f"{report.verdict} {report.size}"


def test_the_next_call_makes_sure_of_what_the_disk_did_not_confirm(
    tmp_path: Path, key: Signer | None, broken: Break
) -> None:
    path = tmp_path / "l"
    with Ledger.init(path, signer=key) as ledger:
        ledger.append(record(0))
        broken()
        with pytest.raises(LedgerWriteError, match="confirmed none") as caught:
            ledger.append_many([record(1), record(2)])
        error = caught.value
        assert "records before 2 are known to be on the disk" in str(error)
        assert (error.unsure, error.durable) == (True, ())
        assert [receipt.seq for receipt in error.attempted] == [2, 3]

        assert [ledger.holds(receipt) for receipt in error.attempted] == [True, True]
        assert not ledger.holds(error.attempted[0]._replace(hash="0" * 64))
        assert not ledger.holds(error.attempted[0]._replace(seq=99))
        assert ledger.append(record(3)).seq == 4
    assert verdict(path, key) == "OK 5"


def test_the_files_themselves_are_written_anew_before_they_are_believed(
    tmp_path: Path, key: Signer | None, broken: Break
) -> None:
    path = tmp_path / "l"
    with Ledger.init(path, signer=key) as ledger:
        broken()
        with pytest.raises(LedgerWriteError):
            ledger.append(record(1))
        before = (path / "active.jsonl").stat().st_ino
        ledger.flush()
        assert (path / "active.jsonl").stat().st_ino != before
        again = (path / "active.jsonl").stat().st_ino
        ledger.flush()
        assert (path / "active.jsonl").stat().st_ino == again  # once is enough


def test_while_the_disk_still_refuses_the_error_says_how_far_it_is_sure(
    tmp_path: Path, key: Signer | None, broken: Break
) -> None:
    path = tmp_path / "l"
    with Ledger.init(path, signer=key) as ledger:
        ledger.append(record(0))
        broken(times=3)
        for _ in range(3):
            with pytest.raises(LedgerWriteError, match="records before 2 are known"):
                ledger.append(record(1))
        assert ledger.append(record(2)).seq == 3  # the first of the three stands
    assert verdict(path, key) == "OK 4"


def test_a_flush_that_cannot_make_sure_says_so(
    tmp_path: Path, key: Signer | None, broken: Break
) -> None:
    with Ledger.init(tmp_path / "l", signer=key) as ledger:
        broken(times=2)
        with pytest.raises(LedgerWriteError):
            ledger.append(record(1))
        with pytest.raises(LedgerWriteError, match="records before 1 are known"):
            ledger.flush()
        ledger.flush()


def test_records_that_the_disk_lost_after_all_are_written_again_by_their_owner(
    tmp_path: Path, key: Signer | None, broken: Break
) -> None:
    path = tmp_path / "l"
    with Ledger.init(path, signer=key) as ledger:
        ledger.append(record(0))
        before = (path / "active.jsonl").read_bytes()
        broken()
        with pytest.raises(LedgerWriteError) as caught:
            ledger.append(record(1))
        (path / "active.jsonl").write_bytes(before)  # as after a power cut
        assert not ledger.holds(caught.value.attempted[0])
        assert ledger.append(record(1)).seq == 2
    assert verdict(path, key) == "OK 3"


def test_a_checkpoint_that_was_not_confirmed_is_written_anew(
    tmp_path: Path, broken: Break
) -> None:
    path = tmp_path / "l"
    with Ledger.init(path, signer=KEY) as ledger:
        broken(after=1)  # the records' sync is well
        with pytest.raises(CheckpointDelayed, match="1 to 1 are on the disk") as caught:
            ledger.append(record(1))
        assert not caught.value.unsure
        before = (path / "checkpoint").stat().st_ino
        ledger.flush()
        assert (path / "checkpoint").stat().st_ino != before
        assert ledger.append(record(2)).seq == 2
    assert verdict(path, KEY) == "OK 3"


def test_a_checkpoint_that_could_not_be_written_says_why(tmp_path: Path) -> None:
    path = tmp_path / "l"
    with Ledger.init(path, signer=KEY) as ledger:
        (path / f"checkpoint.tmp.{os.getpid()}").mkdir()
        with pytest.raises(CheckpointDelayed, match="Is a directory") as caught:
            ledger.append(record(1))
        assert caught.value.seq == 1
        (path / f"checkpoint.tmp.{os.getpid()}").rmdir()
    assert verdict(path, KEY) == "OK 2"


def test_closing_writes_the_checkpoint_that_is_missing(
    tmp_path: Path, broken: Break
) -> None:
    path = tmp_path / "l"
    old = b""
    with Ledger.init(path, signer=KEY) as ledger:
        old = (path / "checkpoint").read_bytes()
        broken(after=1)
        with pytest.raises(CheckpointDelayed):
            ledger.append(record(1))
        (path / "checkpoint").write_bytes(old)  # the disk did not keep it
    assert verdict(path, KEY) == "OK 2"


def test_each_call_is_told_of_its_own_records() -> None:
    receipts = [Receipt(seq, "") for seq in range(4)]
    stopped = Stopped(LedgerWriteError, OSError(errno.EIO, "error"), 4)
    written = Written(receipts[:3], 2, stopped, (receipts[3],))

    assert [written.part(a, b).acknowledged for a, b in ((0, 1), (1, 3), (2, 4))] == [
        1,
        1,
        0,
    ]
    assert written.part(1, 3)[:2] == (receipts[1:3], 1)
    assert written.part(2, 4).attempted == (receipts[3],)
    assert written.part(0, 2).attempted == ()
    error = written.part(2, 4).error(stopped, "l", 2)
    assert (error.durable, error.attempted) == ((receipts[2],), (receipts[3],))
    assert "the other 1 are not or not surely" in str(error)


def test_a_temporary_file_in_the_way_is_replaced(
    tmp_path: Path, key: Signer | None
) -> None:
    path = tmp_path / "l"
    with Ledger.init(path, signer=key) as ledger:
        (path / f"active.jsonl.tmp.{os.getpid()}").write_bytes(b"of a dead namesake")
        assert ledger.append(record(1)).seq == 1
    assert verdict(path, key) == "OK 2"


@pytest.mark.parametrize("many", [63, 64])
def test_a_seal_that_was_not_confirmed_takes_no_record_along(
    tmp_path: Path, key: Signer | None, broken: Break, many: int
) -> None:
    path = tmp_path / "l"
    with Ledger.init(path, signer=key, segment_records=64) as ledger:
        broken(after=2 if key else 1)  # records, checkpoint, then the seal
        if many == 63:
            assert len(ledger.append_many(map(record, range(many)))) == many
        else:
            with pytest.raises(LedgerWriteError, match="the other 1 are not") as caught:
                ledger.append_many(map(record, range(many)))
            assert not caught.value.unsure
        assert ledger.append(record(99)).seq == 64
    assert verdict(path, key) == "OK 65"


def test_after_a_seal_that_was_not_confirmed_nothing_takes_the_old_name(
    tmp_path: Path, key: Signer | None, broken: Break
) -> None:
    """On the disk the segment may still be called as the next file would be."""
    path = tmp_path / "l"
    with Ledger.init(path, signer=key, segment_records=64) as ledger:
        ledger.append_many(record(i) for i in range(62))
        broken(after=2 if key else 1, times=2)
        assert ledger.append(record(62)).seq == 63
        with pytest.raises(LedgerWriteError, match="nothing was written"):
            ledger.append(record(63))
        assert not (path / "active.jsonl").exists()
        assert ledger.append(record(63)).seq == 64
    assert verdict(path, key) == "OK 65"


def test_records_of_a_dead_writer_are_written_anew_before_they_are_signed(
    tmp_path: Path,
) -> None:
    path = tmp_path / "l"
    with Ledger.init(path, signer=KEY) as ledger:
        old = (path / "checkpoint").read_bytes()
        ledger.append(record(1))
        (path / "checkpoint").write_bytes(old)
    before = (path / "active.jsonl").stat().st_ino
    Ledger.open(path, signer=KEY).close()
    assert (path / "active.jsonl").stat().st_ino != before
    assert verdict(path, KEY) == "OK 2"
