"""Who is let go: slow ones, silent ones, and the crowd of the user with most."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator

import pytest

from carbon_ops.governor import access, server
from carbon_ops.governor.sampler import Sampler
from carbon_ops.sources.simulated import SimulatedSource

IDLE = 60_000_000_000


def client(uid: int | None, active_ns: int) -> server.Client:
    with socket.socket(socket.AF_UNIX) as closed:
        return server.Client(closed, uid, active_ns)


def test_a_crowd_pushes_out_its_own_and_not_the_quiet_of_others() -> None:
    crowd = [client(1, 5), client(2, 9), client(2, 8), client(2, 7), client(None, 0)]

    assert server.quietest(crowd) == [crowd[3]]
    assert server.quietest(crowd[:1]) == crowd[:1]
    assert server.quietest([]) == []


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve in a thread with the time-outs that the test sets."""
    folder = tempfile.mkdtemp(prefix="cog", dir="/tmp")
    monkeypatch.setattr(server, "CHECK_NS", 0)
    stopping: list[int] = []
    wakeup, waker = socket.socketpair()
    listener = access.listen(f"{folder}/s", str(os.getegid()))
    sampler = Sampler(SimulatedSource(), 20_000_000)
    sampler.take()
    made = server.Server(listener, sampler, wakeup=wakeup, stopping=stopping)
    thread = threading.Thread(target=made.run)
    thread.start()
    yield listener.path
    stopping.append(15)
    waker.send(b"x")
    thread.join()
    made.close()
    listener.close()
    wakeup.close()
    waker.close()
    shutil.rmtree(folder)


def connected(path: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(20)
    made.connect(path)
    return made


@pytest.mark.parametrize(
    ("begun", "idle_ns", "message_ns"), [(b"", 0, IDLE), (b'{"v":1', IDLE, 0)]
)
def test_who_is_silent_or_slow_is_let_go(
    path: str,
    monkeypatch: pytest.MonkeyPatch,
    begun: bytes,
    idle_ns: int,
    message_ns: int,
) -> None:
    with connected(path) as slow:
        slow.sendall(begun)
        monkeypatch.setattr(server, "IDLE_NS", idle_ns)
        monkeypatch.setattr(server, "MESSAGE_NS", message_ns)

        assert slow.recv(1) == b""


def test_a_request_has_one_deadline_however_it_drips(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MESSAGE_NS", 200_000_000)
    over = threading.Event()

    def drip(slow: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while not over.wait(0.02):
                slow.send(b"x")

    with connected(path) as slow:
        thread = threading.Thread(target=drip, args=(slow,))
        thread.start()
        with contextlib.suppress(ConnectionResetError):  # what came was not read
            assert slow.recv(1) == b""  # and no error after a thousand bytes
        over.set()
        thread.join()


def test_a_series_holds_the_sample_on_either_side(path: str) -> None:
    with connected(path) as asker, asker.makefile("rb") as replies:
        asker.sendall(b'{"v":1,"op":"snapshot"}\n')
        sample = json.loads(replies.readline())["sample"]
        first = last = sample["sequence"]
        while last < first + 3:
            asker.sendall(b'{"v":1,"op":"snapshot"}\n')
            last = json.loads(replies.readline())["sample"]["sequence"]
        when = int(sample["monotonic_ns"]) + 1
        words = {"v": 1, "op": "series", "t0_ns": when, "t1_ns": when}
        asker.sendall(json.dumps(words).encode() + b"\n")
        found = json.loads(replies.readline())["samples"]

    assert [one["sequence"] for one in found] == [first, first + 1]


def test_who_takes_a_reply_slowly_may_go_on(path: str) -> None:
    with connected(path) as slow:
        # More than any buffer takes: the server has to wait for room, again and again.
        slow.sendall(b'{"v":1,"op":"snapshot"}\n' * 2_000)
        got = bytearray()
        while (end := got.count(b"\n")) < 2_000:
            more = slow.recv(4_096)
            assert more, f"hung up after {end} replies"
            got += more

    assert got.count(b'"ok":true') == 2_000


def test_mistakes_of_ours_cost_one_client_each_and_are_not_said_for_ever(
    path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wrong(*_: object) -> None:
        raise RuntimeError("wrong")

    monkeypatch.setattr(server.Server, "_receive", wrong)
    for _ in range(server.MAX_FAULTS_SAID + 3):
        with connected(path) as one:
            one.sendall(b"x")
            # An end, or a reset, because what was sent had not been read.
            with contextlib.suppress(ConnectionResetError):
                assert one.recv(1) == b""

    assert capsys.readouterr().err.count("RuntimeError") == server.MAX_FAULTS_SAID


def test_who_knocks_is_let_in_while_the_talkers_have_to_wait(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No time is left for requests, yet the queue at the door is emptied."""
    monkeypatch.setattr(server, "SERVICE_NS", 0)
    monkeypatch.setattr(access, "_BACKLOG", 1)

    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(connected(path)) for _ in range(100)]
        assert crowd[0].recv(1) == b""  # only an accept of a later one pushes it out
