"""What ``carbon-ops monitor`` records of a host whose parts fail, over a real governor."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

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


def test_a_zone_that_cannot_be_read_has_no_energy_and_a_reason(tmp_path: Path) -> None:
    tree = FakePowercap(str(tmp_path))
    tree.add(FIRST, "package-0")
    tree.add(SECOND, "package-1")
    with GovernorProcess(f"--powercap-root={tree.root}") as governor:
        client = governor.wait_ready()
        host = Telemetry(governor.path, str(tmp_path / "nothing"))

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
        host.close()
        client.close()
