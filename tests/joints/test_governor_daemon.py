"""The governor as a process: what it prints, serves, and leaves behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from carbon_ops.testing.governor import GovernorProcess
from carbon_ops.testing.powercap import FakePowercap, server

DAEMON = [sys.executable, "-m", "carbon_ops.governor.daemon"]


@pytest.fixture
def governor() -> Iterator[GovernorProcess]:
    with GovernorProcess() as process:
        process.wait_ready()
        yield process


class Talk:
    """A raw client: lines out, lines in."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(20)
        self.socket.connect(path)
        self._file = self.socket.makefile("rb")

    def say(self, body: object) -> dict[str, Any]:
        self.socket.sendall(json.dumps(body).encode() + b"\n")
        return self.hear()

    def hear(self) -> dict[str, Any]:
        found = json.loads(self._file.readline())
        assert isinstance(found, dict)
        return found

    def close(self) -> None:
        self._file.close()
        self.socket.close()


@pytest.fixture
def talk(governor: GovernorProcess) -> Iterator[Talk]:
    client = Talk(governor.path)
    yield client
    client.close()


def run(*args: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*DAEMON, *args],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **more,
    )


def until(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


# --- what it serves -----------------------------------------------------------------


def test_every_op_answers_over_one_connection(talk: Talk) -> None:
    hello = talk.say({"v": 1, "op": "hello"})
    shot = talk.say({"v": 1, "op": "snapshot"})
    now = shot["sample"]["monotonic_ns"]
    energy = talk.say({"v": 1, "op": "energy", "t0_ns": now, "t1_ns": now})
    series = talk.say({"v": 1, "op": "series", "t0_ns": now, "t1_ns": now})
    ring = talk.say({"v": 1, "op": "map"})

    assert all(r["ok"] for r in (hello, shot, energy, series, ring))
    assert hello["source"] == "simulated"
    assert hello["map"] is True
    assert len({r["instance_id"] for r in (hello, shot, energy, series, ring)}) == 1
    assert len(shot["sample"]["totals"]) == len(hello["zones"])
    assert energy["zones"][0]["point_uj"] == "0"
    assert series["samples"][0]["sequence"] == shot["sample"]["sequence"]


def test_pipelined_requests_are_answered_in_order(talk: Talk) -> None:
    talk.socket.sendall(b'{"v":1,"op":"hello"}\n{"v":1,"op":"nope"}\n' * 50)

    assert [talk.hear()["ok"] for _ in range(100)] == [True, False] * 50


def test_a_request_may_come_in_pieces(talk: Talk) -> None:
    for byte in b'{"v":1,"op":"snapshot"}':
        talk.socket.sendall(bytes([byte]))
    assert talk.say({"v": 1, "op": "hello"})["error"]["code"] == "invalid_json"
    assert talk.say({"v": 1, "op": "hello"})["ok"]


def test_time_that_is_not_covered_is_refused(talk: Talk) -> None:
    future = time.monotonic_ns() + 3_600_000_000_000
    for t0, t1 in ((0, 1), (0, future), (future, future)):
        reply = talk.say({"v": 1, "op": "energy", "t0_ns": t0, "t1_ns": t1})
        assert reply["error"]["code"] == "out_of_window"


def test_the_energy_of_adjoining_windows_adds_up(
    governor: GovernorProcess, talk: Talk
) -> None:
    def newest() -> dict[str, Any]:
        sample: dict[str, Any] = talk.say({"v": 1, "op": "snapshot"})["sample"]
        return sample

    first = newest()
    until(lambda: newest()["sequence"] >= first["sequence"] + 4)
    a, c = int(first["monotonic_ns"]), int(newest()["monotonic_ns"])
    b = (2 * a + c) // 3

    def point(t0: int, t1: int) -> int:
        reply = talk.say({"v": 1, "op": "energy", "t0_ns": str(t0), "t1_ns": str(t1)})
        zone = reply["zones"][0]
        assert int(zone["low_uj"]) <= int(zone["point_uj"]) <= int(zone["high_uj"])
        return int(zone["point_uj"])

    assert point(a, b) + point(b, c) == point(a, c) > 0


# --- how it starts and ends ---------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(governor: GovernorProcess, number: int) -> None:
    governor.running.send_signal(number)

    assert governor.running.wait(20) == 0
    assert not os.path.exists(governor.path)


def test_only_owner_and_group_may_connect(governor: GovernorProcess) -> None:
    found = os.stat(governor.path)

    assert stat.S_IMODE(found.st_mode) == 0o660
    assert found.st_gid == os.getegid()


def test_it_serves_without_any_capability(governor: GovernorProcess) -> None:
    with open(f"/proc/{governor.running.pid}/status") as file:
        status = dict(line.split(":\t", 1) for line in file if ":\t" in line)

    for kind in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
        assert int(status[kind], 16) == 0, kind
    assert status["NoNewPrivs"].strip() == "1"


def test_it_opens_no_port(governor: GovernorProcess) -> None:
    proc = f"/proc/{governor.running.pid}"
    links = {os.readlink(f"{proc}/fd/{fd}") for fd in os.listdir(f"{proc}/fd")}
    held = {name for name in links if name.startswith("socket:[")}
    found = {}
    for kind in ("unix", "tcp", "tcp6", "udp", "udp6", "raw", "raw6", "packet"):
        if os.path.exists(f"{proc}/net/{kind}"):  # a kernel may lack one
            with open(f"{proc}/net/{kind}") as file:
                words = {word for line in file for word in line.split()}
            found[kind] = {name for name in held if name[8:-1] in words}
    assert {kind: some for kind, some in found.items() if some} == {"unix": held}


def test_it_serves_counters_of_any_root(tmp_path: Any) -> None:
    fake = server(str(tmp_path))
    with GovernorProcess("--powercap-root", fake.root) as governor:
        client = governor.wait_ready()
        layout = client.layout
        first = client.latest()
        fake.advance("intel-rapl:0", 5_000)  # over the top of the register
        until(lambda: client.latest().totals != first.totals)
        totals = dict(zip(layout.zones, client.latest().totals, strict=True))

    assert layout.source == "rapl_sysfs"
    moved = {zone.key: t for zone, t in totals.items() if t.total_uj}
    (key,) = moved
    assert key == "intel-rapl/package-0"
    assert moved[key].total_uj == 5_000 * 61_035 // 1_000
    assert moved[key].wraps == 1


@pytest.mark.parametrize("top", ["", "0\n", f"{2**64 - 1}\n", "9" * 200])
def test_a_zone_without_a_known_top_is_served(tmp_path: Any, top: str) -> None:
    fake = server(str(tmp_path))
    fake.write("intel-rapl:0", "max_energy_range_uj", top)
    with GovernorProcess("--powercap-root", fake.root) as governor:
        assert governor.wait_ready().latest().totals[0].fresh


def test_without_counters_it_says_what_to_do(tmp_path: Any) -> None:
    done = run(f"--powercap-root={tmp_path}", f"--socket={tmp_path}/s")

    assert done.returncode == 2
    assert "no RAPL package counter" in done.stderr
    assert "modprobe" in done.stderr
    assert "Traceback" not in done.stderr
    assert os.listdir(tmp_path) == []


def test_a_missing_group_is_named_with_the_cure(tmp_path: Any) -> None:
    done = run(
        "--rapl-mode=simulated",
        f"--socket={tmp_path}/s",
        "--socket-group=no-such-group",
    )

    assert done.returncode == 2
    assert "groupadd --system no-such-group" in done.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("interval", ["0", "-1", "nan", "inf", "1e-9", "3600", "fast"])
def test_senseless_intervals_are_refused(interval: str, tmp_path: Any) -> None:
    done = run(
        "--rapl-mode=simulated", f"--socket={tmp_path}/s", f"--poll-interval={interval}"
    )

    assert done.returncode == 2
    assert "between 0.02 and 10.0" in done.stderr


# --- the service manager ------------------------------------------------------------


@pytest.fixture
def manager(tmp_path: Any) -> Iterator[tuple[socket.socket, str]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        # An abstract name: no path to be too long.
        name = f"\0carbon-ops-test-{os.getpid()}-{time.monotonic_ns()}"
        channel.bind(name)
        channel.settimeout(20)
        yield channel, "@" + name[1:]


def test_the_manager_hears_ready_alive_and_stopping(
    manager: tuple[socket.socket, str],
) -> None:
    channel, name = manager
    env = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "400000"}
    with GovernorProcess(env=env) as governor:
        assert channel.recv(4_096).startswith(b"READY=1")
        assert governor.wait_ready().latest().sequence >= 1
        assert channel.recv(4_096) == b"WATCHDOG=1"
        assert channel.recv(4_096) == b"WATCHDOG=1"
        assert governor.stop() == 0
        rest = b""
        while b"STOPPING=1" not in rest:
            rest += channel.recv(4_096)


LAUNCHER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=sys.argv[2])
os.execv(sys.argv[3], sys.argv[3:])
"""


def manager_passing(
    passed: socket.socket, count: str, where: str
) -> subprocess.CompletedProcess[str]:
    number = str(passed.fileno())
    return subprocess.run(
        [
            *(sys.executable, "-c", LAUNCHER, number, count, *DAEMON),
            *("--rapl-mode=simulated", f"--socket={where}/s"),
        ],
        pass_fds=[int(number)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("count", "said"), [("1", "something else than"), ("2", "2 sockets instead of one")]
)
def test_what_else_a_manager_passes_is_refused(
    count: str, said: str, tmp_path: Any
) -> None:
    """A port would let in everybody, whatever their group."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        done = manager_passing(listening, count, tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert os.listdir(tmp_path) == []


def test_a_connection_from_the_manager_is_no_listening_socket(tmp_path: Any) -> None:
    one, other = socket.socketpair()  # Accept=yes in the socket unit
    with one, other:
        done = manager_passing(one, "1", tmp_path)
    assert (done.returncode, os.listdir(tmp_path)) == (2, [])
    assert "something else than a listening" in done.stderr


def test_a_socket_from_the_manager_is_used_and_left(tmp_path: Any) -> None:
    with GovernorProcess() as other:  # only for its short directory
        other.wait_ready()
        path = os.path.join(other.directory, "activated")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
            listening.bind(path)
            listening.listen(8)
            number = listening.fileno()
            process = subprocess.Popen(
                [
                    *(sys.executable, "-c", LAUNCHER, str(number), "1", *DAEMON),
                    *("--rapl-mode=simulated", f"--socket={other.directory}/unused"),
                ],
                pass_fds=[number],
                stderr=subprocess.DEVNULL,
            )
            try:
                client = Talk(path)
                assert client.say({"v": 1, "op": "hello"})["ok"]
                client.close()
                assert not os.path.exists(f"{other.directory}/unused")
            finally:
                process.terminate()
                assert process.wait(20) == 0
            assert os.path.exists(path)


def test_changed_zones_are_served_as_another_instance(tmp_path: Any) -> None:
    fake = server(str(tmp_path))
    with GovernorProcess("--powercap-root", fake.root) as governor:
        client = governor.wait_ready()
        before = client.origin.instance_id
        _unplug(fake)

        def renewed() -> bool:
            client.latest()
            return client.origin.instance_id != before

        until(renewed)
        assert not any(zone.package == 1 for zone in client.layout.zones)
        assert "have changed" in governor.said()


@pytest.mark.parametrize("back", [True, False], ids=["loaded anew", "stopped"])
def test_counters_that_are_all_gone_are_waited_for(tmp_path: Any, back: bool) -> None:
    fake = FakePowercap(str(tmp_path))
    fake.add("intel-rapl:0", "package-0")
    with GovernorProcess("--powercap-root", fake.root) as governor:
        client = governor.wait_ready()
        before = client.origin.instance_id
        fake.tear("intel-rapl:0")
        fake.remove("intel-rapl:0")
        until(lambda: "waiting for them" in governor.said())
        if not back:
            assert governor.stop() == 0
            return
        fake.add("intel-rapl:0", "package-0")
        until(lambda: governor.said().count("serving") == 2)
        client.latest()
        assert client.origin.instance_id != before


def test_under_a_manager_changed_zones_ask_for_a_restart(
    tmp_path: Any, manager: tuple[socket.socket, str]
) -> None:
    fake = server(str(tmp_path))
    env = {"NOTIFY_SOCKET": manager[1]}
    with GovernorProcess("--powercap-root", fake.root, env=env) as governor:
        governor.wait_ready()
        _unplug(fake)
        assert governor.running.wait(30) == 75
        assert not os.path.exists(governor.path)


def _unplug(fake: FakePowercap) -> None:
    """Take package 1 away; reads through kept descriptors fail from then on."""
    fake.tear("intel-rapl:1")
    for ident in ("intel-rapl:1:0", "intel-rapl:1:1", "intel-rapl:1"):
        fake.remove(ident)


def test_a_zone_that_appears_is_served_within_seconds(tmp_path: Any) -> None:
    fake = server(str(tmp_path))
    with GovernorProcess("--powercap-root", fake.root) as governor:
        client = governor.wait_ready()
        before = client.origin.instance_id
        fake.add("intel-rapl:9", "package-9")

        until(lambda: client.latest() and client.origin.instance_id != before)

        assert any(zone.package == 9 for zone in client.layout.zones)
        # Not a look every half a minute: the governor would have sampled on and on.
        assert governor.said().count("serving") == 2


def test_an_option_of_another_mode_is_named_not_obeyed() -> None:
    with GovernorProcess("--rapl-mode=simulated", "--msr-cpus=0,1") as governor:
        assert governor.wait_ready().layout.source == "simulated"
        assert "--msr-cpus has no effect" in governor.said()
