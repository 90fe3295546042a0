"""What ``carbon-ops monitor`` records of a host whose parts fail, over a real governor."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest

from carbon_ops import clock
from carbon_ops.meter.counter import HostCounter
from carbon_ops.meter.telemetry import Telemetry
from carbon_ops.testing.governor import GovernorProcess
from carbon_ops.testing.powercap import FakePowercap

DEADLINE_S = 60.0
FIRST, SECOND = "intel-rapl:0", "intel-rapl:1"


def until(condition: Callable[[], bool]) -> None:
    """Wait until ``condition`` holds."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def host_at(socket: str, folder: Path) -> Telemetry:
    """Return the host over a governor alone, without counters of its own."""
    return Telemetry(
        HostCounter(None, socket, powercap_root=str(folder / "nothing")), socket
    )


def test_a_zone_that_cannot_be_read_has_no_energy_and_a_reason(tmp_path: Path) -> None:
    tree = FakePowercap(str(tmp_path))
    tree.add(FIRST, "package-0")
    tree.add(SECOND, "package-1")
    with GovernorProcess(f"--powercap-root={tree.root}") as governor:
        client = governor.wait_ready()
        host = host_at(governor.path, tmp_path)

        def zones() -> list[tuple[float | None, float | None, str | None]]:
            rows = host.look()["zones"]
            return [(row["energy_j"], row["power_w"], row["reason"]) for row in rows]

        tree.advance(FIRST, 1_000_000)
        tree.tear(SECOND, "garbage!!!!\n")
        until(lambda: client.latest().totals[0].total_uj > 0)
        until(lambda: not client.latest().totals[1].fresh)
        first, second = zones()
        assert first[0] == pytest.approx(61.035, abs=1e-3)
        assert second == (None, None, "read_failed")
        tree.advance(SECOND, 1_000_000)
        until(lambda: client.latest().totals[1].fresh)
        # What came meanwhile is of no interval in particular.
        assert zones()[1] == (None, None, "read_failed")
        before = client.latest().sequence
        until(lambda: client.latest().sequence > before)
        assert zones()[1] == (0.0, 0.0, None)
        tree.advance(FIRST, -500_000)  # too much for a wrap
        until(lambda: client.latest().totals[0].resets > 0)
        assert zones() == [(None, None, "reset"), (0.0, 0.0, None)]
        host.close()
        client.close()


def test_rows_join_while_the_governor_hangs_and_after_it(tmp_path: Path) -> None:
    with GovernorProcess() as governor:
        governor.wait_ready().close()
        host = host_at(governor.path, tmp_path)
        rows = [host.look()]
        governor.running.send_signal(signal.SIGSTOP)
        rows += [host.look() for _ in range(3)]
        governor.running.send_signal(signal.SIGCONT)
        rows.append(host.look())
        host.close()
    for before, after in pairwise(rows):
        assert after["timestamp_start"] == before["timestamp_end"]
    for row in rows:
        start, end = (
            datetime.fromisoformat(row[f"timestamp_{edge}"].replace("Z", "+00:00"))
            for edge in ("start", "end")
        )
        passed = (end - start).total_seconds()
        assert passed == pytest.approx(row["duration_s"], abs=0.05)


def test_a_time_of_day_that_was_set_is_taken_from_the_next_row_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = host_at(str(tmp_path / "nobody"), tmp_path)
    now = clock.wall_ns
    monkeypatch.setattr(clock, "wall_ns", lambda: now() - 3600 * 10**9)
    rows = [host.look() for _ in range(3)]
    host.close()
    assert rows[0]["timestamp_start"] <= rows[0]["timestamp_end"]
    assert rows[1]["timestamp_start"] < rows[0]["timestamp_start"]
    assert rows[2]["timestamp_start"] == rows[1]["timestamp_end"]
