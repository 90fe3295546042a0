"""How sure a share of a counter is."""

from __future__ import annotations

import pytest

from carbon_ops.meter.metric import (
    DRAM_CV,
    PACKAGE_CV,
    Baseline,
    Domain,
    Host,
    Task,
    build,
)
from carbon_ops.model import Energy, Memory

GIB = 1 << 30


def energy(
    cpu_s: float,
    *,
    seconds: float = 1000.0,
    width_uj: int = 0,
    flags: tuple[str, ...] = (),
) -> Energy:
    """Measure a task on a host that was busy for 100 s and used 10 kJ in the time."""
    total = 10_000_000_000
    host = Host(
        "governor",
        None,
        "rapl_sysfs",
        Domain(total, total - width_uj, total + width_uj),
        None,
        100_000_000_000,
        round(seconds * 1e9),
        interval_ns=100_000_000,
        dram_reason="no_dram_zone",
        flags=flags,
    )
    task = Task(
        *("x", "ok", "a" * 16, None, "b" * 32, 0, host.duration_ns),
        round(cpu_s * 1e9),
        8,
        {"rss_bytes": GIB, "peak_rss_bytes": GIB, "host_percent": 1.0},
        None,
        {},
    )
    return build(task, host).metric["energy"]


def relative(measured: Energy) -> float:
    total, u = measured["energy_j_total"], measured["uncertainty_j"]
    assert total is not None
    assert u is not None
    return u / total


def test_alone_on_the_host_only_the_counter_is_unsure() -> None:
    assert relative(energy(100.0)) == pytest.approx(PACKAGE_CV, rel=0.01)


def test_a_small_part_of_a_busy_host_is_unsure_by_a_third() -> None:
    assert relative(energy(1.0)) == pytest.approx(0.35, rel=0.02)


def test_bounds_enter_as_a_rectangle() -> None:
    half = 0.2 * 10_000
    u = energy(100.0, width_uj=2_000_000_000)["uncertainty_j"]

    assert u == pytest.approx(((half / 3**0.5) ** 2 + 300**2) ** 0.5, rel=0.001)


def test_past_the_last_sample_the_bound_is_kept_but_is_not_the_likely_error() -> None:
    wide = energy(100.0, width_uj=2_000_000_000, flags=("extrapolated",))

    assert wide["bounds_j"] == [8_000.0, 12_000.0]
    assert relative(wide) == pytest.approx(PACKAGE_CV, rel=0.01)


def test_a_span_before_the_counters_second_sample_is_not_surely_zero() -> None:
    host = Host(
        *("governor", None, "rapl_sysfs", Domain(0, 0, 20_000_000)),
        *(None, 10_000_000, 10_000_000),
        interval_ns=100_000_000,
        flags=("extrapolated",),
    )
    memory: Memory = {"rss_bytes": None, "peak_rss_bytes": None, "host_percent": None}
    task = Task(
        *("x", "ok", "a" * 16, None, "b" * 32, 0, host.duration_ns),
        *(10_000_000, 2, memory, None, {}),
    )
    measured = build(task, host).metric["energy"]

    assert measured["energy_j_total"] == 0.0
    assert measured["uncertainty_j"] == pytest.approx(10.0 / 3**0.5)


def test_a_span_shorter_than_three_samples_says_how_little_that_tells() -> None:
    short = energy(100.0, seconds=0.1)
    shorter = energy(100.0, seconds=0.02)

    assert "short_span" in short["quality"]["flags"]
    assert 0.2 < relative(short) < relative(shorter)
    assert "short_span" not in energy(100.0, seconds=1.0)["quality"]["flags"]


def test_the_memorys_share_is_by_resident_set_and_less_sure() -> None:
    host = Host(
        *("governor", None, "rapl_sysfs", Domain(10**9, 10**9, 10**9)),
        *(Domain(10**8, 10**8, 10**8), 10**9, 10**12),
    )
    task = Task(
        *("x", "ok", "a" * 16, None, "b" * 32, 0, 10**12, 10**9, 8),
        {"rss_bytes": GIB, "peak_rss_bytes": GIB, "host_percent": 1.0},
        4 * GIB,
        {},
    )
    dram = build(task, host).metric["energy"]["components"]["dram"]

    assert dram["j"] == 25.0
    assert dram["uncertainty_j"] == pytest.approx(
        25 * (DRAM_CV**2 + (0.75 * 0.35) ** 2) ** 0.5
    )


def test_the_bounds_hold_the_energy_under_either_policy() -> None:
    total, width = 100_000_000, 10_000_000
    host = Host(
        *("governor", None, "rapl_sysfs", Domain(total, total - width, total + width)),
        *(None, 2_000_000_000, 1_000_000_000),
        interval_ns=100_000_000,
    )
    memory: Memory = {"rss_bytes": None, "peak_rss_bytes": None, "host_percent": None}
    task = Task(
        *("x", "ok", "a" * 16, None, "b" * 32, 0, host.duration_ns),
        *(500_000_000, 2, memory, None, {}),
    )
    shared = build(task, host).metric["energy"]
    excluded = build(task, host, policy="excluded", baseline=Baseline(cpu_w=60.0))
    alone = excluded.metric["energy"]

    assert shared["energy_j_total"] == 25.0
    assert shared["bounds_j"] == [22.5, 27.5]
    assert alone["energy_j_total"] == 10.0  # a quarter of what is above 60 J
    assert alone["bounds_j"] == [7.5, 12.5]
    asleep = build(task, host, policy="excluded", baseline=Baseline(cpu_w=105.0))
    assert asleep.metric["energy"]["energy_j_total"] == 0.0
    assert asleep.metric["energy"]["bounds_j"] == [0.0, 1.25]
