"""The governor when paths are taken, counters fail and processes die."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from carbon_ops.errors import GovernorUnavailableError
from carbon_ops.governor.client import GovernorClient
from carbon_ops.testing.governor import GovernorProcess
from carbon_ops.testing.powercap import FakePowercap

UNIT_NJ = 61_035


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def start(path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-m", "carbon_ops.governor.daemon"),
            *("--rapl-mode=simulated", f"--socket={path}"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


# --- the path -----------------------------------------------------------------------


@pytest.fixture
def governor() -> Iterator[GovernorProcess]:
    with GovernorProcess() as process:
        process.wait_ready()
        yield process


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    file, folder, link = tmp_path / "file", tmp_path / "folder", tmp_path / "link"
    file.write_text("precious")
    folder.mkdir()
    link.symlink_to(file)
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "nowhere")

    for path in (file, folder, link, dangling):
        done = start(os.path.relpath(path))
        assert done.returncode == 2, path
        assert "was left alone" in done.stderr
        assert "Traceback" not in done.stderr
    assert file.read_text() == "precious"
    assert link.is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["dangling", "file", "folder", "link"]


def test_a_link_to_a_socket_is_left_alone(governor: GovernorProcess) -> None:
    link = f"{governor.directory}/link"
    os.symlink(governor.path, link)

    assert start(link).returncode == 2
    assert os.path.islink(link)
    assert GovernorClient(governor.path).latest()


def test_a_living_socket_is_left_alone(governor: GovernorProcess) -> None:
    client = GovernorClient(governor.path)
    before = client.origin

    done = start(governor.path)

    assert done.returncode == 2
    assert "another process is listening" in done.stderr
    assert GovernorClient(governor.path).origin == before


def test_a_stale_socket_is_replaced(governor: GovernorProcess) -> None:
    governor.kill()
    assert os.path.exists(governor.path)

    governor.start()

    assert governor.wait_ready().latest().sequence >= 1


def test_a_socket_that_was_replaced_is_not_removed(governor: GovernorProcess) -> None:
    os.unlink(governor.path)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(governor.path)

        assert governor.stop() == 0

        assert os.path.exists(governor.path)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none" / "s", tmp_path / ("x" * 200)):
        done = start(str(path))
        assert done.returncode == 2
        assert "--socket" in done.stderr
        assert "Traceback" not in done.stderr


# --- counters -----------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> FakePowercap:
    fake = FakePowercap(str(tmp_path))
    fake.add("intel-rapl:0", "package-0", unit_nj=UNIT_NJ, ticks=1_000)
    return fake


def uj(ticks: int) -> int:
    return ticks * UNIT_NJ // 1_000


def advanced(client: GovernorClient, count: int) -> None:
    target = client.latest().sequence + count
    until(lambda: client.latest().sequence >= target)


@pytest.mark.parametrize("polls", [1, 10])
def test_failed_reads_lose_nothing(tree: FakePowercap, polls: int) -> None:
    with GovernorProcess("--powercap-root", tree.root) as governor:
        client = governor.wait_ready()
        mark = client.mark()
        t0 = mark.monotonic_ns
        tree.tear("intel-rapl:0")
        advanced(client, polls + 1)
        tree.advance("intel-rapl:0", 100_000)
        until(lambda: client.latest().totals[0].total_uj > 0)
        advanced(client, 1)
        window = client.window(mark, t0, client.latest().monotonic_ns)
        assert governor.answer_s() < 1

    (zone,) = window.zones
    assert zone.point_uj == uj(101_000) - uj(1_000)
    assert zone.low_uj <= zone.point_uj <= zone.high_uj
    assert window.failures >= polls
    assert "read_failed" in window.flags
    assert window.resets == window.gaps == 0


def test_a_counter_that_fails_for_ever_is_not_zero(tree: FakePowercap) -> None:
    with GovernorProcess("--powercap-root", tree.root) as governor:
        client = governor.wait_ready()
        tree.tear("intel-rapl:0", "torn\n")
        until(lambda: not client.latest().totals[0].fresh)
        mark = client.mark()
        t0 = time.monotonic_ns()
        advanced(client, 3)
        window = client.window(mark, t0, client.latest().monotonic_ns)
        assert governor.answer_s() < 1

    assert "unread" in window.flags
    assert window.zones[0].high_uj > 0


# --- processes ----------------------------------------------------------------------


def test_stopped_for_longer_than_a_wrap(tmp_path: Path) -> None:
    fake = FakePowercap(str(tmp_path))
    # Wraps after 500 J: at the bound of 1,000 W within half a second.
    fake.add(
        "intel-rapl:0", "package-0", unit_nj=UNIT_NJ, ticks=1_000, range_uj=500_000_000
    )
    with GovernorProcess("--powercap-root", fake.root) as governor:
        client = governor.wait_ready()
        advanced(client, 2)
        mark = client.mark()
        t0 = time.monotonic_ns()
        governor.running.send_signal(signal.SIGSTOP)
        stopped = time.monotonic()
        until(lambda: time.monotonic() - stopped > 1.2)
        with pytest.raises(GovernorUnavailableError) as caught:
            client.latest()
        assert caught.value.reason == "stale"
        fake.advance("intel-rapl:0", 500)
        governor.running.send_signal(signal.SIGCONT)
        assert governor.answer_s() < 1
        until(lambda: _gaps(client) > 0)
        window = client.window(mark, t0, client.latest().monotonic_ns)

    (zone,) = window.zones
    assert window.gaps == 1
    assert "gap" in window.flags
    # What moved, and what moved and a whole turn more, are both possible.
    assert zone.low_uj <= uj(1_500) - uj(1_000)
    assert zone.high_uj >= 500_000_000


def _gaps(client: GovernorClient) -> int:
    try:
        return client.latest().totals[0].gaps
    except GovernorUnavailableError:
        return 0


def test_a_stop_shorter_than_a_wrap_loses_nothing(tree: FakePowercap) -> None:
    with GovernorProcess("--powercap-root", tree.root) as governor:
        client = governor.wait_ready()
        mark = client.mark()
        t0 = mark.monotonic_ns
        governor.running.send_signal(signal.SIGSTOP)
        tree.advance("intel-rapl:0", 50_000)
        stopped = time.monotonic()
        until(lambda: time.monotonic() - stopped > 0.3)
        governor.running.send_signal(signal.SIGCONT)
        assert governor.answer_s() < 1
        until(lambda: client.latest().totals[0].total_uj > 0)
        last = client.latest()
        window = client.window(mark, t0, last.monotonic_ns)

    assert window.zones[0].point_uj == uj(51_000) - uj(1_000)
    assert last.missed_ticks >= 2
    assert window.gaps == 0


def test_killed_and_started_again_in_mid_span(governor: GovernorProcess) -> None:
    client = governor.wait_ready()
    mark = client.mark()
    t0 = time.monotonic_ns()
    governor.kill()
    governor.start()
    governor.wait_ready()
    assert governor.answer_s() < 1
    reasons = set()

    def told() -> bool:
        try:
            window = client.window(mark, t0, time.monotonic_ns())
        except GovernorUnavailableError as error:
            reasons.add(error.reason)
            return error.reason == "restarted"
        assert "extrapolated" in window.flags  # until the silence is noticed
        return False

    until(told)
    assert reasons == {"restarted"}
    assert client.mark().sequence >= 1


def test_killed_for_good(governor: GovernorProcess) -> None:
    client = governor.wait_ready()
    client.mark()
    governor.kill()

    def refused() -> bool:
        try:
            client.latest()
        except GovernorUnavailableError as error:
            return error.reason == "refused"
        return False

    until(refused)
