"""A writer that writes for others is killed, stopped or refused; so are those who wait.

Each in a process of its own. Whatever happens, every record that was acknowledged is
there once, none is there twice, and nobody waits longer than it said it would.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from carbon_ops.ledger import keys
from carbon_ops.ledger.handover import WAITING
from carbon_ops.ledger.note import Signer
from carbon_ops.ledger.store import Ledger
from carbon_ops.ledger.verify import verify_ledger

HERE = Path(__file__).parent
KEY = Signer("host.example/test", bytes(range(32)))
NEXT = Signer("host.example/test", bytes(range(1, 33)))
NOBODY = 65534


@pytest.fixture
def path(tmp_path: Path) -> Path:
    Ledger.init(tmp_path / "l", signer=KEY, segment_records=64).close()
    return tmp_path / "l"


class Process:
    """A writer; see ``ledger_handover_process.py``."""

    def __init__(self, path: Path, number: int, **options: object) -> None:
        words = [f"--{name}={value}" for name, value in options.items()]
        program = HERE / "ledger_handover_process.py"
        self._process = subprocess.Popen(
            [sys.executable, program, path, str(number), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid
        assert self.line() == "open"

    def line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def go(self) -> None:
        """Let it append."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def lead(self) -> None:
        """Let it append; it has the lock from now on."""
        self.go()
        assert self.line() == "leads"

    def told(self) -> dict[str, Any]:
        """Return what came of it."""
        return dict(json.loads(self.line()))

    def held(self) -> list[bool]:
        """Let it look at what was in doubt."""
        self.go()
        return list(json.loads(self.line()))

    def stopped(self) -> None:
        """Return once it has stopped."""
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it, whatever it is doing; fine if it ended by itself."""
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def start(path: Path) -> Iterator[type[Process]]:
    """Start writers, and end those that are left."""
    begun: list[Process] = []

    class Ours(Process):
        def __init__(self, path: Path, number: int, **options: object) -> None:
            begun.append(self)
            super().__init__(path, number, **options)

    yield Ours
    for process in begun:
        process.kill()


def numbers(path: Path, *vkeys: str) -> list[int]:
    """Return the numbers of the records, in order, of a ledger that is whole."""
    Ledger.open(path, signer=NEXT if len(vkeys) > 1 else KEY).close()
    report = verify_ledger(path, vkeys=vkeys or [KEY.vkey])
    assert report.verdict == "OK", report.detail
    assert not (path / WAITING).exists()
    records = [
        json.loads(line)
        for file in [*sorted(path.glob("seg-*")), path / "active.jsonl"]
        for line in file.read_bytes().splitlines()
    ]
    return [record["i"] for record in records if "i" in record]


@pytest.mark.parametrize("at", ["looks", "took", "planned", "placed", "written"])
def test_a_leader_that_is_killed_takes_no_record_along_and_doubles_none(
    path: Path, start: type[Process], at: str
) -> None:
    leader = start(path, 1, at=at, do="kill")
    waiters = [start(path, i) for i in (2, 3)]
    leader.lead()
    for waiter in waiters:
        waiter.go()
    told = [waiter.told() for waiter in waiters]
    leader.kill()

    assert [answer for answer in told if "seq" not in answer] == []
    found = numbers(path)
    assert sorted(found) in ([1, 2, 3], [2, 3])
    assert [found[answer["seq"] - 1] for answer in told] == [2, 3]


@pytest.mark.parametrize("at", ["looks", "took"])
def test_who_waits_for_a_stopped_leader_gives_up_and_keeps_its_record(
    path: Path, start: type[Process], at: str
) -> None:
    leader = start(path, 1, at=at, do="stop")
    waiter = start(path, 2, timeout=0.5)
    leader.lead()
    waiter.go()
    leader.stopped()
    told = waiter.told()
    leader.resume()

    assert told["error"] == "LockTimeout"
    assert "nothing was written" in str(told["message"])
    assert "seq" in leader.told()
    assert numbers(path) == [1]


@pytest.mark.parametrize("at", ["planned", "placed", "written"])
def test_who_waits_for_a_leader_that_stopped_later_learns_what_to_ask_for(
    path: Path, start: type[Process], at: str
) -> None:
    leader = start(path, 1, at=at, do="stop")
    waiter = start(path, 2, timeout=0.5)
    leader.lead()
    waiter.go()
    leader.stopped()
    told = waiter.told()
    leader.resume()

    assert told["error"] == "LedgerWriteError"
    assert [seq for seq, _ in told["attempted"]] == [2]
    assert leader.told() == {"seq": 1}
    assert waiter.held() == [True]
    assert numbers(path) == [1, 2]


def test_what_a_killed_waiter_left_is_written_by_nobody_and_goes(
    path: Path, start: type[Process]
) -> None:
    leader, waiter = start(path, 1, at="looks", do="stop"), start(path, 2)
    leader.lead()
    waiter.go()
    leader.stopped()
    waiter.kill()
    assert len(os.listdir(path / WAITING)) == 1
    leader.resume()

    assert leader.told() == {"seq": 1}
    assert not os.listdir(path / WAITING)
    assert numbers(path) == [1]


def test_a_waiter_killed_after_its_record_was_taken_has_it_written_at_most_once(
    path: Path, start: type[Process]
) -> None:
    leader, waiter = start(path, 1, at="took", do="stop"), start(path, 2)
    leader.lead()
    waiter.go()
    leader.stopped()
    waiter.kill()
    leader.resume()

    assert leader.told() == {"seq": 1}
    assert numbers(path) == [1, 2]


def test_a_leader_without_room_fails_alone(path: Path, start: type[Process]) -> None:
    """Its record is too long for the file that may be written; the other's is not."""
    leader, waiter = start(path, 1, at="go", size=60_000), start(path, 2)
    leader.lead()
    resource.prlimit(leader.pid, resource.RLIMIT_FSIZE, (30_000, 30_000))
    waiter.go()

    assert "File too large" in leader.told()["message"]
    assert waiter.told() == {"seq": 1}
    assert numbers(path) == [2]


def test_on_a_full_disk_all_are_told_and_all_go_on_when_there_is_room(
    tmp_path: Path, start: type[Process]
) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=192k", "none", tmp_path],
        capture_output=True,
        check=False,
    )
    if made.returncode != 0:
        pytest.skip(f"cannot mount a tmpfs: {made.stderr.decode().strip()}")
    try:
        path = tmp_path / "l"
        Ledger.init(path, signer=KEY).close()
        leader = start(path, 1, at="looks", do="stop", size=20_000)
        waiter = start(path, 2, size=20_000)
        leader.lead()
        waiter.go()
        leader.stopped()
        ballast = tmp_path / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        leader.resume()

        for writer in (leader, waiter):
            told = writer.told()
            assert "No space left" in told["message"], told
            assert told["attempted"] == []
        ballast.unlink()
        assert numbers(path) == []
        with Ledger.open(path, signer=KEY) as ledger:
            assert ledger.append({"type": "energy_metric", "i": 3}).seq == 1
        assert numbers(path) == [3]
    finally:
        for writer in (leader, waiter):
            writer.kill()
        subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.parametrize("finds", ["the next key", "the old key"])
def test_a_key_rotated_while_a_writer_waits(
    tmp_path: Path, path: Path, start: type[Process], finds: str
) -> None:
    key = tmp_path / "key"
    keys.save(KEY, key)
    waiter = start(path, 2, key=key)
    with Ledger.open(path, signer=KEY) as ledger:

        def install() -> None:
            waiter.go()
            while not [*path.glob(f"{WAITING}/*")]:
                pass
            if finds == "the next key":
                keys.save(NEXT, keys.successor(key))
                keys.install(key)

        ledger.rotate_key(NEXT, install)
        if finds == "the next key":
            assert waiter.told() == {"seq": 2}
        else:
            told = waiter.told()
            assert told["error"] == "KeyNotInForceError"
            assert "nothing was written" in told["message"]
        found = numbers(path, KEY.vkey, NEXT.vkey)
        assert found == ([2] if finds == "the next key" else [])


@pytest.mark.parametrize("other", ["leads", "waits"])
def test_writers_of_two_users(start: type[Process], other: str) -> None:
    """Root may take what the ledger's owner waits with; the owner has to leave root's."""
    if os.geteuid() != 0:
        pytest.skip("another user's writer needs root")
    place = Path(tempfile.mkdtemp(prefix="co-"))
    try:
        place.chmod(0o711)
        path = place / "l"
        Ledger.init(path, signer=KEY).close()
        for found in (path, *path.iterdir()):
            os.chown(found, NOBODY, NOBODY)
        here = os.getuid()
        users = (NOBODY, here) if other == "leads" else (here, NOBODY)
        leader = start(path, 1, at="go", uid=users[0])
        waiter = start(path, 2, uid=users[1])
        leader.lead()
        waiter.go()

        assert leader.told() == {"seq": 1}
        assert waiter.told() == {"seq": 2}
        assert numbers(path) == [1, 2]
        assert {file.stat().st_uid for file in path.iterdir()} == {NOBODY}
    finally:
        shutil.rmtree(place)
