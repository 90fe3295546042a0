"""What goes to the task and to the rest is the counter, to the microjoule."""

from __future__ import annotations

import time
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_ops.meter import attribution, metric
from carbon_ops.meter.metric import Baseline, Domain, Host, Pinned, Task
from carbon_ops.model import Energy, Policy

ENERGY = st.integers(0, 10**13)  # µJ; 10 MJ
CPU = st.integers(0, 10**14)  # ns
NAMES: tuple[Literal["cpu", "dram", "gpu"], ...] = ("cpu", "dram", "gpu")
WATTS = st.one_of(st.none(), st.floats(0, 5_000, allow_nan=False))


def micro(joules: float | None) -> int:
    assert joules is not None
    return round(joules * 1e6)


@st.composite
def domain(draw: st.DrawFn) -> Domain:
    low, total, high = sorted(draw(st.tuples(ENERGY, ENERGY, ENERGY)))
    return Domain(total, low, high)


@st.composite
def energies(draw: st.DrawFn) -> Energy:
    duration = draw(st.integers(0, 10**13))
    mode: Literal["governor", "monitor_only"] = draw(
        st.sampled_from(("governor", "monitor_only"))
    )
    modelled = draw(st.booleans()) and mode == "monitor_only"
    cpu = draw(domain())
    pinned = None
    if draw(st.booleans()) and not modelled:
        part = draw(st.integers(0, cpu.total))
        pinned = Pinned(Domain(part, part, part), draw(CPU), 0.5)
    dram = draw(st.one_of(st.none(), domain())) if not modelled else None
    host = Host(
        mode,
        None if mode == "governor" else "no_socket",
        "simulated",
        cpu,
        dram,
        draw(CPU),
        duration,
        dram_reason=None if dram else "no_dram_zone",
        pinned=pinned,
        model_cv=0.4 if modelled else None,
        interval_ns=100_000_000,
        flags=draw(st.sampled_from(((), ("extrapolated",)))),
    )
    used = draw(st.one_of(st.none(), st.integers(1, 10**12)))
    task = Task(
        *("x", "ok", "a" * 16, None, "b" * 32, time.time_ns(), duration),
        draw(CPU),
        4,
        {
            "rss_bytes": draw(st.one_of(st.none(), st.integers(0, 10**12))),
            "peak_rss_bytes": None,
            "host_percent": None,
        },
        used,
        {},
    )
    policy: Policy = draw(st.sampled_from(("proportional", "excluded")))
    built = metric.build(
        task, host, policy=policy, baseline=Baseline(draw(WATTS), draw(WATTS))
    )
    return built.metric["energy"]


@given(energies())
def test_the_hosts_energy_is_this_task_and_the_rest(energy: Energy) -> None:
    host = energy["host"]
    if host["this_task_j"] is not None:
        assert micro(host["total_j"]) == micro(host["this_task_j"]) + micro(
            host["rest_j"]
        )
        assert micro(host["this_task_j"]) >= 0
        assert micro(host["rest_j"]) >= 0


@given(energies())
def test_the_hosts_energy_is_idle_and_dynamic(energy: Energy) -> None:
    host = energy["host"]
    assert (host["idle_j"] is None) == (host["dynamic_j"] is None)
    if host["idle_j"] is not None:
        assert micro(host["total_j"]) == micro(host["idle_j"]) + micro(
            host["dynamic_j"]
        )
        assert micro(host["idle_j"]) >= 0


@given(energies())
def test_the_tasks_energy_is_its_components_and_lies_in_its_bounds(
    energy: Energy,
) -> None:
    total = energy["energy_j_total"]
    components = energy["components"]
    parts = [components[name]["j"] for name in NAMES]
    if total is None:
        assert energy["energy_wh_total"] is None
        assert energy["uncertainty_j"] is None
        return
    assert micro(total) == sum(micro(j) for j in parts if j is not None)
    if energy["host"]["this_task_j"] is not None:
        assert micro(total) == micro(energy["host"]["this_task_j"])
    assert energy["uncertainty_j"] is not None
    assert energy["uncertainty_j"] >= 0
    bounds = energy["bounds_j"]
    if bounds is not None and energy["policy"] == "proportional":
        assert bounds[0] - 2e-6 <= total <= bounds[1] + 2e-6
    ratio = energy["allocation_ratio"]
    assert ratio is not None
    assert 0 <= ratio <= 1


@given(energies())
def test_a_component_without_a_number_is_listed_and_has_a_reason(
    energy: Energy,
) -> None:
    for name in NAMES:
        part = energy["components"][name]
        missing = part["j"] is None
        assert (name in energy["components_missing"]) == missing
        assert (part["reason"] is not None) == missing
        assert (part["source"] == "none") == missing


@given(ENERGY, st.lists(CPU, max_size=20), CPU)
def test_the_shares_of_all_tasks_never_exceed_the_counter(
    total: int, tasks: list[int], others: int
) -> None:
    busy = sum(tasks) + others
    given_out = sum(attribution.share(total, used, busy) for used in tasks)

    assert given_out <= total
    if not others and busy:
        assert total - given_out <= len(tasks)  # rounding down loses under 1 µJ each


@given(ENERGY, CPU, CPU, ENERGY)
def test_without_idle_energy_nobody_pays_more_than_with_it(
    total: int, part: int, busy: int, idle: int
) -> None:
    shared = attribution.split(total, part, busy)
    excluded = attribution.split(total, part, busy, excluded=True, idle_uj=idle)

    assert shared is not None
    assert excluded is not None
    assert excluded.task <= shared.task


@pytest.mark.parametrize(
    ("task_ns", "busy_ns", "expected"),
    [
        (0, 0, (0.0, False)),  # nothing was busy
        (1, 0, (1.0, True)),  # the host's coarse clock has not moved yet
        (2, 2, (1.0, False)),
        (3, 2, (1.0, True)),
        (-1, 2, (0.0, False)),
    ],
)
def test_the_ratio_is_a_part_of_one_and_says_where_it_was_cut(
    task_ns: int, busy_ns: int, expected: tuple[float, bool]
) -> None:
    assert attribution.ratio(task_ns, busy_ns) == expected


@given(ENERGY, st.integers(-5, 5), st.integers(-5, 5), st.one_of(st.none(), ENERGY))
def test_a_share_of_anything_is_between_nothing_and_all(
    total: int, part: int, whole: int, idle: int | None
) -> None:
    split = attribution.split(total, part, whole, idle_uj=idle)

    assert split is not None
    assert 0 <= split.task <= total
    assert split.task == (total if part >= whole > 0 else split.task)
    if split.task_dynamic is not None and split.idle is not None:
        assert 0 <= split.task_dynamic <= total - split.idle <= total


@pytest.mark.parametrize(
    ("intervals", "p95"),  # as benchmarks/short_spans.py finds them
    [
        *((0.001, 1.56), (0.05, 1.56), (0.2, 1.26), (0.5, 0.86), (1.0, 0.45)),
        *((3.0, 0.12), (10.0, 0.035), (50.0, 0.007), (300.0, 0.001), (3_000.0, 0.0001)),
        (3**0.5, (0.45 * 0.12) ** 0.5),  # in between: straight on logarithmic axes
    ],
)
def test_a_span_is_as_unsure_as_the_simulation_found(
    intervals: float, p95: float
) -> None:
    cv = attribution.short_cv(round(intervals * 1e8), 100_000_000)
    assert cv == pytest.approx(p95 / 1.96, rel=1e-6)


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_is_surer(a: float, b: float) -> None:
    low, high = sorted((a, b))

    assert attribution.share_cv(high) <= attribution.share_cv(low)
    assert attribution.share_cv(1.0) == 0.0


@given(st.integers(1, 10**12), st.integers(1, 10**12))
def test_a_longer_span_is_surer(a: int, b: int) -> None:
    low, high = sorted((a, b))

    assert attribution.short_cv(high, 10**8) <= attribution.short_cv(low, 10**8) * (
        1 + 1e-12
    )


SEGMENT = st.tuples(
    ENERGY,  # of the host
    CPU,  # of others
    st.lists(CPU, min_size=3, max_size=3),  # of three tasks of one process
)


@given(st.lists(SEGMENT, min_size=1, max_size=6), st.data())
def test_spans_that_overlap_are_never_given_more_than_the_dearest_window_costs(
    segments: list[tuple[int, int, list[int]]], data: st.DataObject
) -> None:
    """Three concurrent spans of one process, each over a window of its own.

    Each is billed ``E(W) * c / b(W)`` with its own window's mean price ``E/b``. Over
    one window the sum is never above the process's own bill, to the microjoule. Over
    different windows no such sum exists: prices differ (an idle second is paid by
    whoever works beside it), and even spans that follow each other add up to another
    figure than one span over all. What holds is that all together pay at most the
    process's CPU time at the dearest window's price, and each at most what the host
    used in its own window.
    """
    bills: list[int] = []
    prices: list[float] = []
    used = 0
    for task in range(3):
        first = data.draw(st.integers(0, len(segments) - 1))
        last = data.draw(st.integers(first, len(segments) - 1))
        window = segments[first : last + 1]
        energy = sum(uj for uj, _, _ in window)
        busy = sum(others + sum(own) for _, others, own in window)
        mine = sum(own[task] for _, _, own in window)
        bills.append(attribution.share(energy, mine, busy))
        assert bills[-1] <= energy
        if busy:
            prices.append(energy / busy)
        used += mine
    process = sum(sum(own) for _, _, own in segments)

    assert used <= process
    assert sum(bills) <= process * max(prices, default=0.0) * (1 + 1e-9)


@given(ENERGY, st.lists(CPU, min_size=1, max_size=20), CPU)
def test_spans_over_one_window_never_sum_to_more_than_their_process(
    total: int, spans: list[int], others: int
) -> None:
    busy = sum(spans) + others
    bills = [attribution.share(total, used, busy) for used in spans]

    assert sum(bills) <= attribution.share(total, sum(spans), busy)
