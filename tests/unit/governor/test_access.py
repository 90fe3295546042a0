"""The socket: nobody gets in before its group is set, and a failure leaves nothing."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from carbon_ops.governor.access import (
    AccessError,
    _admit,
    listen,
    peer_uid,
    watchdog_interval_ns,
)


@pytest.fixture
def path() -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix="cog", dir="/tmp")
    yield f"{folder}/s"
    shutil.rmtree(folder)


def test_nobody_else_may_connect_until_the_group_is_set(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = []

    def refuse(path: str, uid: int, gid: int) -> None:
        modes.append(stat.S_IMODE(os.stat(path).st_mode))
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refuse)

    with pytest.raises(AccessError, match="not permitted"):
        listen(path, "4711")

    assert modes == [0o600]
    assert os.listdir(os.path.dirname(path)) == []


def test_a_socket_in_the_making_is_not_taken_for_a_stale_one(path: str) -> None:
    said: list[str] = []

    def start() -> None:
        try:
            listen(path, None).close()
        except AccessError as error:
            said.append(str(error))

    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)  # as another governor does while it starts
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        second = threading.Thread(target=start)
        second.start()
        second.join(0.2)
        assert second.is_alive()
        other.listen()
        os.close(folder)
        second.join()
        assert os.path.exists(path)

    assert said == [f"another process is listening on {path}"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may give files to any group")
def test_a_group_of_others_is_refused_and_nothing_is_left(path: str) -> None:
    with pytest.raises(AccessError, match="cannot make the socket"):
        listen(path, "0")

    assert os.listdir(os.path.dirname(path)) == []


def test_the_overflow_uid_is_nobody_and_every_other_uid_somebody() -> None:
    one, other = socket.socketpair()
    with one, other:
        own = os.geteuid()

        assert peer_uid(one, None) == own
        assert peer_uid(one, own + 1) == own
        assert peer_uid(one, own) is None


def test_a_link_in_the_sockets_place_is_not_followed(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("")
    kept.chmod(0o600)
    (tmp_path / "s").symlink_to(kept)
    with pytest.raises(OSError, match=r"symbolic links|replaced"):
        _admit(str(tmp_path / "s"), os.getegid())
    with pytest.raises(OSError, match="replaced"):
        _admit(str(kept), os.getegid())
    assert kept.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("pid", "usec", "half_ns"),
    [
        (None, "30000000", 15_000_000_000),
        ("own", "2", 1_000),
        ("1", "30000000", None),  # another process's
        (None, "0", None),
        (None, "-5", None),
        (None, "", None),
    ],
)
def test_a_watchdog_is_heard_of_if_it_is_meant_for_this_process(
    monkeypatch: pytest.MonkeyPatch, pid: str | None, usec: str, half_ns: int | None
) -> None:
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    if pid is not None:
        own = str(os.getpid())
        monkeypatch.setenv("WATCHDOG_PID", own if pid == "own" else pid)
    monkeypatch.setenv("WATCHDOG_USEC", usec)

    assert watchdog_interval_ns() == half_ns


def test_no_capability_is_left_and_the_answer_says_so() -> None:
    program = (
        "from carbon_ops.governor.access import drop_capabilities\n"
        "print(drop_capabilities())\n"
        "with open('/proc/self/status') as file:\n"
        "    print(*[int(l.split()[1], 16) for l in file if l[:6] in ('CapEff', 'CapPrm')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stdout == "True\n0 0\n"
