"""The client and a real governor: what is read, and what each trouble is called."""

from __future__ import annotations

import _socket
import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from carbon_ops.errors import GovernorUnavailableError
from carbon_ops.governor import links, protocol
from carbon_ops.governor.client import GovernorClient, default_socket_path
from carbon_ops.governor.ring import RingReader, RingWriter
from carbon_ops.model import Layout, Sample, Zone, ZoneTotals
from carbon_ops.testing.governor import GovernorProcess


@pytest.fixture(scope="module")
def governor() -> Iterator[GovernorProcess]:
    with GovernorProcess() as process:
        process.wait_ready().close()
        yield process


@pytest.fixture
def short() -> Iterator[str]:
    made = tempfile.mkdtemp(prefix="cog", dir="/tmp")
    yield made
    shutil.rmtree(made)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def reason(call: Callable[[], object]) -> str:
    with pytest.raises(GovernorUnavailableError) as caught:
        call()
    assert caught.value.hint or caught.value.reason in ("restarted", "stale", "refused")
    return caught.value.reason


def by_socket(path: str) -> GovernorClient:
    """A client as on a kernel that cannot seal memory."""
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    connection.settimeout(20)
    connection.connect(path)
    client = GovernorClient(path)
    client._link = links.SocketLink(connection, os.geteuid())
    return client


# --- readings -----------------------------------------------------------------------


def test_the_ring_is_used_and_its_maker_known(governor: GovernorProcess) -> None:
    client = GovernorClient(governor.path)

    assert client.origin.uid == os.geteuid()
    assert client.origin.source == "simulated"
    assert isinstance(client._link, links.RingLink)


def test_ring_and_socket_tell_the_same(governor: GovernorProcess) -> None:
    ring, asked = GovernorClient(governor.path), by_socket(governor.path)
    marks = ring.mark(), asked.mark()
    t0 = time.monotonic_ns()
    until(lambda: ring.latest().sequence >= marks[0].sequence + 3)
    t1 = ring.latest().monotonic_ns

    a, b = ring.window(marks[0], t0, t1), asked.window(marks[1], t0, t1)

    assert a == b
    assert a.samples >= 2
    for newer in (ring.mark(), asked.mark()):
        before = getattr(newer, "before", None)
        assert before is not None
        assert before.sequence == newer.sequence - 1
    assert a.flags == ()
    for zone in a.zones:
        assert zone.low_uj <= zone.point_uj <= zone.high_uj
    assert a.zones[0].point_uj > 0


@pytest.mark.parametrize("make", [GovernorClient, by_socket])
def test_settling_waits_for_the_sample_that_follows(
    governor: GovernorProcess, make: Callable[[str], GovernorClient]
) -> None:
    client = make(governor.path)
    mark = client.mark()
    t0 = time.monotonic_ns()
    until(lambda: client.latest().sequence > mark.sequence)
    t1 = time.monotonic_ns()

    window = client.window(mark, t0, t1, settle=True)

    assert (window.t0_ns, window.t1_ns) == (t0, t1)
    assert client.latest().monotonic_ns >= t1 or "extrapolated" in window.flags


def test_a_forked_child_goes_on(governor: GovernorProcess) -> None:
    for client in (GovernorClient(governor.path), by_socket(governor.path)):
        mark = client.mark()
        pid = os.fork()
        if pid == 0:  # pragma: no cover - another process
            try:
                now = time.monotonic_ns()
                same = client.window(mark, now, now).t0_ns == now
                os._exit(0 if same else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert client.mark().sequence >= mark.sequence


def test_threads_share_one_client(governor: GovernorProcess) -> None:
    client = GovernorClient(governor.path)
    start = threading.Barrier(8)
    finished: list[int] = []

    def work() -> None:
        start.wait()
        for _ in range(50):
            mark = client.mark()
            now = time.monotonic_ns()
            client.window(mark, now, now)
        finished.append(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(finished) == 8


def test_closing_is_not_the_end(governor: GovernorProcess) -> None:
    client = GovernorClient(governor.path)
    mark = client.mark()
    client.close()
    now = time.monotonic_ns()

    assert client.window(mark, now, now).samples >= 0


# --- spans longer than the ring, on a ring made by hand ------------------------------

ZONE = Zone("a/b", "b", "package", 0, True, "", (1, 1), 2**32, 1e3)
STEP = 100_000_000


def hand_made(
    slots: int, count: int, age_ns: int = 0, interval_ns: int = STEP
) -> tuple[RingWriter, GovernorClient, int]:
    """A ring of ``slots`` whose newest of ``count`` samples is of now, at 10 W."""
    layout = Layout("i" * 32, "b", "simulated", interval_ns, (ZONE,), None, 0)
    writer = RingWriter(layout, slots=slots)
    client = GovernorClient("/nonexistent")
    assert writer.fd is not None
    client._link = links.RingLink(RingReader(os.dup(writer.fd)), 0)
    first = time.monotonic_ns() - (count - 1) * STEP - age_ns
    for sequence in range(1, count + 1):
        write(writer, sequence, first + (sequence - 1) * STEP)
    return writer, client, first


def write(writer: RingWriter, sequence: int, when: int, wall: int = 0) -> None:
    totals = ZoneTotals(sequence * 1_000_000, 0, 0, 0, 0, 0, True)
    sample = Sample(sequence, when, 1, when, when + wall, 0, 0, 0, (totals,))
    writer.write(sample)


def test_a_zone_that_is_dead_for_good_does_not_make_every_look_a_search() -> None:
    writer, client, first = hand_made(slots=64, count=1)
    for sequence in range(2, 60):
        totals = ZoneTotals(1_000_000, 0, 0, 0, 0, sequence - 1, False)
        when = first + (sequence - 1) * STEP
        writer.write(Sample(sequence, when, 1, when, when, 0, 0, 0, (totals,)))
    link = client._link
    assert isinstance(link, links.RingLink)

    assert len(link.around(first + 40 * STEP + 1)) == 59  # number one was good
    for sequence in range(60, 90):
        totals = ZoneTotals(1_000_000, 0, 0, 0, 0, sequence - 1, False)
        when = first + (sequence - 1) * STEP
        writer.write(Sample(sequence, when, 1, when, when, 0, 0, 0, (totals,)))
    assert len(link.around(first + 40 * STEP + 1)) == 4
    writer.close()


def test_a_span_longer_than_the_ring_starts_at_its_mark() -> None:
    writer, client, first = hand_made(slots=8, count=3)
    mark = client.mark()
    t0 = mark.monotonic_ns + STEP // 2
    for sequence in range(4, 40):
        write(writer, sequence, first + (sequence - 1) * STEP)
    t1 = first + 38 * STEP

    (zone,) = client.window(mark, t0, t1).zones

    assert zone.point_uj == 35_500_000  # 10 W for 3.55 s: the power before goes on
    assert zone.low_uj < zone.point_uj < zone.high_uj
    writer.close()


def test_a_step_of_the_time_of_day_is_flagged() -> None:
    writer, client, first = hand_made(slots=8, count=3)
    mark = client.mark()
    write(writer, 4, first + 3 * STEP, wall=3_600_000_000_000)

    window = client.window(mark, mark.monotonic_ns, first + 3 * STEP)

    assert "clock_step" in window.flags
    writer.close()


def test_a_mark_from_the_future_of_another_run_is_not_used() -> None:
    writer, client, first = hand_made(slots=8, count=3)
    other, later, _ = hand_made(slots=8, count=3)
    mark = later.mark()
    assert reason(lambda: client.window(mark._replace(sequence=9), first, first)) == (
        "restarted"
    )
    writer.close()
    other.close()


# --- troubles -----------------------------------------------------------------------


def test_nothing_there(short: str) -> None:
    assert reason(GovernorClient(f"{short}/none").mark) == "no_socket"
    assert reason(GovernorClient(f"{short}/none/below").mark) == "no_socket"
    assert reason(GovernorClient(f"{short}/{'x' * 200}").mark) == "no_socket"


def test_nobody_listening(short: str) -> None:
    path = f"{short}/s"
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(path)
    assert reason(GovernorClient(path).mark) == "refused"


def test_not_in_the_group(short: str) -> None:
    path = f"{short}/s"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        os.chmod(path, 0)
        os.chmod(short, 0o711)
        client = GovernorClient(path)
        if os.geteuid() != 0:
            assert reason(client.mark) == "permission_denied"
            return
        # Root may do anything; a child that is somebody else may not.
        done = subprocess.run(
            [sys.executable, "-c", STRANGER, path],
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.stdout, done.stderr) == ("permission_denied\n", "")


STRANGER = """
import os, sys
from carbon_ops.errors import GovernorUnavailableError
from carbon_ops.governor.client import GovernorClient
os.setresuid(65534, 65534, 65534)
try:
    GovernorClient(sys.argv[1]).mark()
except GovernorUnavailableError as error:
    print(error.reason)
"""


def served_by(path: str, answer: Callable[[socket.socket], None]) -> threading.Thread:
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()

    def serve() -> None:
        with server:
            connection, _ = server.accept()
            with connection:
                answer(connection)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"HTTP/1.0 400 Bad Request\r\n\r\n", "protocol"),
        (b"{}\n", "protocol"),
        (b'{"v":2,"op":"map","ok":true}\n', "protocol"),
        (b"\xff" * 100_000, "stale"),  # a line without an end
        (b"", "stale"),
    ],
)
def test_somebody_else_listening(short: str, line: bytes, expected: str) -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(line)
        connection.recv(100)
        connection.sendall(line)

    def quiet(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            answer(connection)

    thread = served_by(f"{short}/s", quiet)
    assert reason(GovernorClient(f"{short}/s", timeout_s=0.5).mark) == expected
    thread.join()


def test_a_governor_that_says_nothing_is_asked_once(short: str) -> None:
    over = threading.Event()

    def wait(connection: socket.socket) -> None:
        over.wait(20)

    thread = served_by(f"{short}/s", wait)
    client = GovernorClient(f"{short}/s", timeout_s=0.05)

    assert reason(client.mark) == "stale"
    assert reason(client.mark) == "stale"  # without asking again: nobody accepts

    over.set()
    thread.join()


def test_a_governor_that_lets_nobody_in_is_not_waited_for_again(short: str) -> None:
    path = f"{short}/s"
    with socket.socket(socket.AF_UNIX) as server, contextlib.ExitStack() as queue:
        server.bind(path)
        server.listen(0)
        for _ in range(8):  # more than there are places
            waiting = queue.enter_context(socket.socket(socket.AF_UNIX))
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(path)
        client = GovernorClient(path, timeout_s=0.05)

        assert reason(client.mark) == "stale"
        with pytest.raises(GovernorUnavailableError, match="a moment ago"):
            client.mark()


@pytest.mark.parametrize(
    ("line", "number"),
    [(protocol.encode_reply(protocol.MapReply("ab" * 16, 4_096)), 2), (b"{", 1)],
    ids=["two with a line", "one with half a line"],
)
def test_a_descriptor_that_is_no_ring_is_not_kept(
    short: str, line: bytes, number: int
) -> None:
    def give(connection: socket.socket) -> None:
        connection.recv(100)
        with open("/dev/null", "rb") as null:
            socket.send_fds(connection, [line], [null.fileno()] * number)

    before = os.listdir("/proc/self/fd")
    thread = served_by(f"{short}/s", give)
    client = GovernorClient(f"{short}/s", timeout_s=5)
    assert reason(client.mark) == "refused"
    thread.join()

    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_silent_governor_is_asked_ever_less_until_one_answers(short: str) -> None:
    path = f"{short}/s"
    pauses = []
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        client = GovernorClient(path, timeout_s=0.01)
        for _ in range(6):
            client._hung_ns = 0  # the pause is over
            assert reason(client.mark) == "stale"
            pauses.append(client._hung_ns - time.monotonic_ns())
    assert [round(ns, -9) // 10**9 for ns in pauses] == [5, 10, 20, 40, 60, 60]

    with GovernorProcess() as governor:
        governor.wait_ready().close()
        os.rename(governor.path, path)
        client._timeout_s = 20
        client.mark()
    assert (client._hung_ns, client._pause_ns) == (0, 5 * 10**9)


def test_a_window_that_ended_before_the_governor_stopped_is_still_told() -> None:
    writer, client, first = hand_made(slots=8, count=5, age_ns=60 * 10**9)
    assert isinstance(client._link, links.RingLink)
    mark = client._link.latest()

    window = client.window(mark, first + STEP, first + 3 * STEP)

    assert window.zones[0].point_uj == 2_000_000
    writer.close()


def test_a_slow_governor_is_not_a_stale_one() -> None:
    slow = 5 * 10**9
    writer, client, _ = hand_made(8, 2, age_ns=slow, interval_ns=slow)

    assert client.latest().sequence == 2
    writer.close()


def test_a_mark_of_other_zones_is_not_used() -> None:
    writer, client, first = hand_made(slots=8, count=3)
    mark = client.mark()
    more = Sample._make(mark)._replace(totals=mark.totals * 2)

    assert reason(lambda: client.window(more, first, first + STEP)) == "restarted"
    writer.close()


def test_a_signal_handler_may_measure_while_its_thread_waits(short: str) -> None:
    program = f"""
import signal, socket
from carbon_ops.errors import GovernorUnavailableError
from carbon_ops.governor.client import GovernorClient

server = socket.socket(socket.AF_UNIX)
server.bind("{short}/s")
server.listen()
client = GovernorClient("{short}/s", timeout_s=1.0)
def ask(*_):
    try:
        client.mark()
    except GovernorUnavailableError as error:
        print(error.reason)
signal.signal(signal.SIGALRM, ask)
signal.setitimer(signal.ITIMER_REAL, 0.1)
ask()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert not done.stderr
    assert done.stdout.split() == ["stale", "stale"]


def test_a_signal_handler_asks_nothing_amid_its_threads_own_question(
    short: str,
) -> None:
    thread = served_by(f"{short}/s", speaking(hello))
    link = links.SocketLink(connected(short, 5), 0)
    inner: list[Exception] = []

    def ask(*_: object) -> None:
        try:
            link.latest()
        except links.GoneError as error:
            inner.append(error)
        link.close()  # ends the wait outside

    before = signal.signal(signal.SIGALRM, ask)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(links.GoneError):
            link.latest()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert "another question" in str(inner[0])
    thread.join()


def connected(folder: str, timeout_s: float) -> _socket.socket:
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    connection.settimeout(timeout_s)
    connection.connect(f"{folder}/s")
    return connection


def hello(**change: object) -> bytes:
    layout = Layout("ab" * 16, "b", "simulated", STEP, (ZONE,), None, 0)
    reply = protocol.HelloReply(layout, "1", time.monotonic_ns(), 60, False)
    document = json.loads(protocol.encode_reply(reply))
    document.update(change)
    return json.dumps(document).encode() + b"\n"


def heard(connection: socket.socket) -> str:
    line = b""
    while not line.endswith(b"\n"):
        data = connection.recv(4_096)
        if not data:
            return ""
        line += data
    return str(json.loads(line)["op"])


def speaking(reply: Callable[[], bytes]) -> Callable[[socket.socket], None]:
    """A governor without a ring which answers ``reply()`` to hello, then is silent."""

    def answer(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while op := heard(connection):
                if op == "hello":
                    connection.sendall(reply())
                elif op == "map":
                    refusal = protocol.ErrorReply("map", "unavailable", "no ring")
                    connection.sendall(protocol.encode_reply(refusal))

    return answer


def lying(
    make: Callable[[int], protocol.Reply],
) -> Callable[[socket.socket], None]:
    """A governor which greets, then answers whatever it is asked with ``make(n)``."""

    def answer(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            for number in itertools.count():
                op = heard(connection)
                if not op:
                    return
                reply = protocol.encode_reply(make(number))
                connection.sendall(hello() if op == "hello" else reply)

    return answer


def told(sequence: int) -> Sample:
    totals = ZoneTotals(sequence, 0, 0, 0, 0, 0, True)
    return Sample(sequence, sequence * STEP, 1, 0, 0, 0, 0, 0, (totals,))


def test_a_snapshot_of_another_instance_is_not_used(short: str) -> None:
    other = protocol.SnapshotReply("cd" * 16, told(1))
    thread = served_by(f"{short}/s", lying(lambda _: other))
    link = links.SocketLink(connected(short, 5), 0)

    with pytest.raises(links.GoneError, match="another instance"):
        link.latest()
    link.close()
    thread.join()


def test_a_series_that_tells_the_same_for_ever_is_read_once(short: str) -> None:
    same = protocol.SeriesReply("ab" * 16, (told(1), told(2)), True)
    thread = served_by(f"{short}/s", lying(lambda _: same))
    link = links.SocketLink(connected(short, 5), 0)

    assert link.since(told(1)) == (told(1), told(2))
    link.close()
    thread.join()


def test_a_series_that_never_ends_is_given_up(short: str) -> None:
    def next_one(number: int) -> protocol.Reply:
        return protocol.SeriesReply("ab" * 16, (told(number),), True)

    thread = served_by(f"{short}/s", lying(next_one))
    link = links.SocketLink(connected(short, 5), 0)

    with pytest.raises(links.GoneError, match="without an end"):
        link.since(told(1))
    link.close()
    thread.join()


@pytest.mark.parametrize("interval", [0, -1, 10_000_000_001, 2**62])
def test_an_interval_no_governor_keeps_is_refused(short: str, interval: int) -> None:
    thread = served_by(f"{short}/s", speaking(lambda: hello(interval_ns=interval)))
    assert reason(GovernorClient(f"{short}/s", timeout_s=5).mark) == "protocol"
    thread.join()


def test_after_an_answer_that_did_not_come_the_connection_is_not_used_again(
    short: str,
) -> None:
    thread = served_by(f"{short}/s", speaking(hello))
    connection = connected(short, 5)
    link = links.SocketLink(connection, 0)
    connection.settimeout(0.05)
    with pytest.raises(GovernorUnavailableError, match="does not answer"):
        link.latest()
    with pytest.raises(links.GoneError):
        link.latest()
    thread.join()


def test_a_line_longer_than_one_read_arrives_whole() -> None:
    ours, theirs = socket.socketpair()
    line = b"x" * 300_000 + b"\n"
    thread = threading.Thread(target=theirs.sendall, args=(line,))
    thread.start()
    ours.settimeout(20)
    with ours, theirs:
        assert links.read_line(ours) == line
        thread.join()


def test_a_line_that_is_too_long_is_not_read_to_its_end() -> None:
    ours, theirs = socket.socketpair()

    def flood() -> None:
        with contextlib.suppress(OSError):
            while True:
                theirs.sendall(b"x" * 65_536)

    thread = threading.Thread(target=flood)
    thread.start()
    ours.settimeout(20)
    with theirs:
        with ours:
            assert reason(lambda: links.read_line(ours)) == "protocol"
        thread.join()


def test_a_line_has_one_deadline_however_it_drips() -> None:
    ours, theirs = socket.socketpair()
    over = threading.Event()

    def drip() -> None:
        with contextlib.suppress(OSError):
            while not over.wait(0.01):
                theirs.send(b"x")

    thread = threading.Thread(target=drip)
    thread.start()
    ours.settimeout(0.2)
    with ours, theirs:
        with pytest.raises(TimeoutError):
            links.read_line(ours)
        over.set()
        thread.join()


def test_a_socket_put_in_a_silent_ones_place_is_asked_at_once(short: str) -> None:
    over = threading.Event()

    def wait(_: socket.socket) -> None:
        over.wait(20)

    thread = served_by(f"{short}/s", wait)
    client = GovernorClient(f"{short}/s", timeout_s=0.05)
    assert reason(client.mark) == "stale"
    with GovernorProcess() as governor:
        governor.wait_ready().close()
        os.rename(governor.path, f"{short}/s")
        client._timeout_s = 20
        assert client.mark().sequence >= 1
    over.set()
    thread.join()


def test_two_samples_of_one_instant_are_not_a_governors() -> None:
    writer, client, first = hand_made(slots=8, count=1)
    write(writer, 2, first)
    mark = client.mark()
    assert reason(lambda: client.window(mark, first, first + 1_000)) == "protocol"
    writer.close()


def test_a_restart_in_mid_span_is_noticed(tmp_path: object) -> None:
    with GovernorProcess() as governor:
        client = governor.wait_ready()
        mark = client.mark()
        t0 = time.monotonic_ns()
        governor.stop()
        assert reason(client.mark) == "no_socket"
        governor.start()
        governor.wait_ready()
        t1 = time.monotonic_ns()

        assert reason(lambda: client.window(mark, t0, t1)) == "restarted"
        assert client.mark().sequence >= 1


def test_another_governor_in_the_same_place_is_noticed() -> None:
    with GovernorProcess() as governor, GovernorProcess() as other:
        client = governor.wait_ready()
        other.wait_ready()
        mark = client.mark()
        first = client.origin.instance_id
        os.rename(other.path, governor.path)

        def moved() -> bool:
            client.latest()
            return client.origin.instance_id != first

        until(moved)
        now = time.monotonic_ns()
        assert reason(lambda: client.window(mark, now, now)) == "restarted"


def test_the_environment_names_the_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARBON_OPS_SOCKET", "/elsewhere")
    assert GovernorClient().path == default_socket_path() == "/elsewhere"
    monkeypatch.delenv("CARBON_OPS_SOCKET")
    assert default_socket_path() == "/var/run/carbon-ops.sock"


def test_a_stopped_governor_is_waited_for_one_interval_and_no_more() -> None:
    with GovernorProcess() as stopped:
        client = stopped.wait_ready()
        mark = client.mark()
        t1 = mark.monotonic_ns + 1
        stopped.running.send_signal(signal.SIGSTOP)
        last = client.latest()
        t1 = max(t1, last.monotonic_ns + 1_000)

        window = client.window(mark, mark.monotonic_ns, t1, settle=True)

    assert window.t1_ns == t1


def test_without_sealed_memory_the_socket_tells_everything(tmp_path: Path) -> None:
    """On a kernel without ``memfd_create`` no ring is on offer."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os\n"
        "def refuse(*_):\n"
        "    raise OSError(38, 'Function not implemented')\n"
        "os.memfd_create = refuse\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    with GovernorProcess(env={"PYTHONPATH": path}) as ringless:
        client = ringless.wait_ready()
        mark = client.mark()
        while client.latest().sequence < mark.sequence + 3:
            time.sleep(0.01)
        last = client.latest()
        window = client.window(mark, mark.monotonic_ns, last.monotonic_ns)

        assert isinstance(client._link, links.SocketLink)
        assert window.samples == last.sequence - mark.sequence
        assert all(zone.point_uj > 0 for zone in window.zones if zone.zone.counted)
