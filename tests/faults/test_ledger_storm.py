"""Writers that are killed at any moment, full disks, and file-size limits."""

from __future__ import annotations

import json
import os
import random
import resource
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from carbon_ops.errors import LedgerError
from carbon_ops.ledger.note import Signer
from carbon_ops.ledger.store import Ledger, LedgerWriteError, LockTimeout
from carbon_ops.ledger.verify import verify_ledger

HERE = Path(__file__).parent
KEY = Signer("host.example/test", bytes(range(32)))


def records_of(path: Path) -> dict[int, dict[str, object]]:
    files = [*sorted(path.glob("seg-*")), path / "active.jsonl"]
    lines = [
        json.loads(line)
        for file in files
        if file.exists()
        for line in file.read_bytes().splitlines()
    ]
    return {line["seq"]: line for line in lines}


def start(path: Path, name: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, HERE / "ledger_storm_writer.py", path, name],
        stdout=subprocess.PIPE,
    )


def read_some(process: subprocess.Popen[bytes], deadline: float) -> bytes:
    """Return what the process printed, waiting for the first of it."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], deadline - time.monotonic())
    return os.read(process.stdout.fileno(), 65_536) if ready else b""


def test_a_storm_of_kills_loses_no_acknowledged_record(tmp_path: Path) -> None:
    path = tmp_path / "l"
    Ledger.init(path, signer=KEY, segment_records=64).close()
    chance = random.Random(7)
    acked: list[tuple[int, str, int]] = []
    for round_ in range(6):
        writers = [start(path, f"{round_}.{i}") for i in range(4)]
        told = [read_some(w, time.monotonic() + 60) for w in writers]
        for at in chance.sample(range(4), 4):
            more = read_some(writers[at], time.monotonic() + chance.random() / 20)
            told[at] += more
            writers[at].send_signal(signal.SIGKILL)
        for at, writer in enumerate(writers):
            assert writer.stdout is not None
            told[at] += writer.stdout.read()
            writer.stdout.close()
            assert writer.wait() == -signal.SIGKILL
        for text in told:
            for line in text.decode().splitlines():
                seq, name, counter = line.split()
                acked.append((int(seq), name, int(counter)))
        report = verify_ledger(path, vkeys=[KEY.vkey])
        assert report.verdict in ("OK", "OK_PENDING"), report.detail

    found = records_of(path)
    assert sorted(found) == list(range(len(found)))
    assert len({seq for seq, _, _ in acked}) == len(acked) > 24
    for place, name_, count in acked:
        assert (found[place]["by"], found[place]["n"]) == (name_, count)
    with Ledger.open(path, signer=KEY) as ledger:
        ledger.append({"type": "energy_metric"})
    assert verify_ledger(path, vkeys=[KEY.vkey]).verdict == "OK"
    assert not [name for name in os.listdir(path) if ".tmp." in name]


def test_a_stopped_writer_makes_the_other_wait_and_not_write(tmp_path: Path) -> None:
    path = tmp_path / "l"
    Ledger.init(path, signer=KEY).close()
    writer = start(path, "stopped")
    try:
        deadline = time.monotonic() + 60
        refused = False
        while not refused and time.monotonic() < deadline:  # stop it inside a flush
            # Only one that has gone on since is not where it was.
            assert read_some(writer, deadline)
            writer.send_signal(signal.SIGSTOP)
            os.waitpid(writer.pid, os.WUNTRACED)
            # Between two segments there is no active file.
            before = records_of(path)
            try:
                with Ledger.open(path, signer=KEY, lock_timeout_s=0.02) as ledger:
                    ledger.append({"type": "energy_metric"})
            except LockTimeout:
                refused = True
                assert records_of(path) == before
            writer.send_signal(signal.SIGCONT)
        assert refused
    finally:
        writer.kill()
        writer.communicate()
    assert verify_ledger(path, vkeys=[KEY.vkey]).verdict in ("OK", "OK_PENDING")


def test_verifying_beside_running_writers_never_cries_wolf(tmp_path: Path) -> None:
    path = tmp_path / "l"
    Ledger.init(path, signer=KEY, segment_records=64).close()
    writers = [start(path, str(i)) for i in range(2)]
    try:
        deadline = time.monotonic() + 60
        for writer in writers:
            assert read_some(writer, deadline)
        sizes: list[int] = []
        while len(sizes) < 20 or (sizes[-1] < 200 and time.monotonic() < deadline):
            report = verify_ledger(path, vkeys=[KEY.vkey])
            assert report.verdict in ("OK", "OK_PENDING"), report.detail
            sizes.append(report.size)
        assert sizes == sorted(sizes)
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system of 192 KiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    where = tmp_path / "tiny"
    where.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=192k", "none", where],
        capture_output=True,
        check=False,
    )
    if made.returncode != 0:
        pytest.skip(f"cannot mount a tmpfs: {made.stderr.decode().strip()}")
    try:
        yield where
    finally:
        subprocess.run(["umount", where], check=True)


def test_a_full_disk_refuses_and_after_making_room_it_goes_on(tiny: Path) -> None:
    path = tiny / "l"
    (tiny / "ballast").write_bytes(bytes(64 * 1024))
    with Ledger.init(path, signer=KEY, segment_records=64) as ledger:
        written = 0

        def write_on() -> None:
            nonlocal written
            for _ in range(400):
                written = ledger.append({"type": "energy_metric", "x": "y" * 900}).seq

        with pytest.raises(LedgerWriteError) as caught:
            write_on()
        assert "No space left" in str(caught.value)
        assert not caught.value.unsure
        on_disk = records_of(path)
        durable = [receipt.seq for receipt in caught.value.durable]
        assert sorted(on_disk) == list(range(written + 1 + len(durable)))
        assert not [name for name in os.listdir(path) if ".tmp." in name]
        assert verify_ledger(path, vkeys=[KEY.vkey]).verdict in ("OK", "OK_PENDING")

        (tiny / "ballast").unlink()
        receipt = ledger.append({"type": "energy_metric", "x": "z"})
        assert receipt.seq == written + len(durable) + 1
    assert verify_ledger(path, vkeys=[KEY.vkey]).verdict == "OK"


def test_a_file_size_limit_refuses_cleanly(tmp_path: Path) -> None:
    path = tmp_path / "l"
    with Ledger.init(path, signer=KEY) as ledger:
        ledger.append_many({"type": "energy_metric", "x": "y" * 900} for _ in range(20))
        before = (path / "active.jsonl").read_bytes()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 300, hard))
        try:
            with pytest.raises(LedgerWriteError, match="nothing was written"):
                ledger.append({"type": "energy_metric", "x": "z" * 900})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert (path / "active.jsonl").read_bytes() == before
        assert not [name for name in os.listdir(path) if ".tmp." in name]
        assert ledger.append({"type": "energy_metric"}).seq == 21
    assert verify_ledger(path, vkeys=[KEY.vkey]).verdict == "OK"


def test_a_read_only_file_system_can_be_read_and_verified_but_not_written(
    tiny: Path,
) -> None:
    path = tiny / "l"
    with Ledger.init(path, signer=KEY) as ledger:
        ledger.append({"type": "energy_metric"})
        before = {p.name: p.read_bytes() for p in path.iterdir()}
        subprocess.run(["mount", "-o", "remount,ro", tiny], check=True)
        try:
            with pytest.raises(LedgerError, match="Read-only file system"):
                ledger.append({"type": "energy_metric"})
            with Ledger.open(path, signer=KEY) as second:
                assert second.size == 2
                with pytest.raises(LedgerError, match="nothing was written"):
                    second.append({"type": "energy_metric"})
            assert verify_ledger(path, vkeys=[KEY.vkey]).verdict == "OK"
            with pytest.raises(LedgerError, match="Read-only file system"):
                Ledger.init(tiny / "other")
        finally:
            subprocess.run(["mount", "-o", "remount,rw", tiny], check=True)
        assert {p.name: p.read_bytes() for p in path.iterdir()} == before
        assert ledger.append({"type": "energy_metric"}).seq == 2


def test_a_ledger_that_can_only_grow_by_files_says_that_it_cannot_seal(
    tmp_path: Path,
) -> None:
    """``chattr +a`` on the directory forbids renaming: nothing is replaced."""
    if os.geteuid() != 0 or shutil.which("chattr") is None:
        pytest.skip("chattr +a needs root and the tool")
    path = tmp_path / "l"
    with Ledger.init(path, signer=KEY) as ledger:
        made = subprocess.run(["chattr", "+a", path], capture_output=True, check=False)
        if made.returncode != 0:
            pytest.skip("this file system has no append-only attribute")
        try:
            with pytest.raises(LedgerWriteError, match="nothing was written"):
                ledger.append({"type": "energy_metric"})
        finally:
            subprocess.run(["chattr", "-a", path], check=True)
        assert ledger.append({"type": "energy_metric"}).seq == 1
    with Ledger.open(path, signer=KEY):
        pass
    assert verify_ledger(path, vkeys=[KEY.vkey]).verdict == "OK"
