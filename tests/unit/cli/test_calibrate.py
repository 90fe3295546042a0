"""When a host counts as idle, and what its idle power is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from carbon_ops.cli.calibrate import IDLE_PERCENT, Slice, rest
from carbon_ops.meter.baseline import Idle, save, stored

SECOND = 1_000_000_000


def slices(*watts: float, busy: float, dram_w: float | None = None) -> list[Slice]:
    """Return seconds of a host with 4 CPUs."""
    dram = None if dram_w is None else round(dram_w * 1e6)
    return [
        Slice(SECOND, round(w * 1e6), dram, round(4 * SECOND * busy)) for w in watts
    ]


def test_a_quiet_host_is_idle_and_its_scatter_is_the_uncertainty() -> None:
    found = rest(slices(*[11.0, 13.0] * 5, busy=0.01, dram_w=2.5), 4)
    assert found.idle
    assert found.busy_percent == pytest.approx(1.0)
    assert found.cpu_w == pytest.approx(12.0)
    assert found.dram_w == pytest.approx(2.5)
    assert found.cpu_u_w == pytest.approx(1.0541 / 10**0.5, rel=1e-4)


@pytest.mark.parametrize(("busy", "idle"), [(0.0299, True), (0.0301, False)])
def test_the_limit_is_what_the_command_says(busy: float, idle: bool) -> None:
    assert IDLE_PERCENT == 3.0
    assert rest(slices(12.0, 12.0, busy=busy), 4).idle is idle


def test_memory_that_was_not_counted_all_the_time_is_unknown() -> None:
    some = [*slices(12.0, busy=0.0, dram_w=2.0), *slices(12.0, busy=0.0)]
    assert rest(some, 4).dram_w is None


def test_a_baseline_holds_for_its_host_and_kernel_alone(tmp_path: Path) -> None:
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    here = os.uname()
    idle = Idle(
        *(here.nodename, here.release, "rapl_sysfs", "2026-01-01T00:00:00Z"),
        *(30.0, 12.0, 2.0, 0.1, 1.0),
    )
    save(idle._replace(kernel="another"), environ)
    assert stored(environ) == []
    save(idle._replace(host=f"not-{here.nodename}"), environ)
    save(idle, environ)
    assert stored(environ) == [idle]
