"""A task under a CPU limit is billed no more than its part, and that no more than the host."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from carbon_ops.meter import metric
from carbon_ops.meter.metric import Baseline, Domain, Host, Pinned, Task
from carbon_ops.model import Metric, Policy
from carbon_ops.sources.modelled import CpuModel

TIME = st.integers(0, 10**14)  # ns
WATTS = st.tuples(st.floats(0, 1e4), st.floats(0, 1e4)).map(sorted)
CPUS = st.integers(1, 1024)


def micro(joules: float | None) -> int:
    assert joules is not None
    return round(joules * 1e6)


@st.composite
def spans(draw: st.DrawFn) -> tuple[Metric, int]:
    idle_w, load_w = draw(WATTS)
    model = CpuModel("x", idle_w, load_w, 0.4, True, "a table, 2026")
    cpus, duration = draw(CPUS), draw(st.integers(1, 10**13))
    allowed = draw(st.floats(0.001, cpus, exclude_max=True))
    limit = draw(st.one_of(st.none(), st.tuples(st.just(allowed), TIME)))
    busy = draw(TIME)
    busy, total, part = model.energy(duration, busy, cpus, limit)
    cpu = Domain(total, total, total)
    host = Host(
        *("monitor_only", "no_socket", "model_cpu_load", cpu, None, busy, duration),
        pinned=limit and Pinned(Domain(part, part, part), limit[1], allowed / cpus),
        model_cv=model.cv,
    )
    nothing = {"rss_bytes": None, "peak_rss_bytes": None, "host_percent": None}
    task = Task(
        *("x", "ok", "a" * 16, None, "b" * 32, 0, duration, draw(TIME), cpus),
        nothing,  # type: ignore[arg-type]
        None,
        {},
    )
    policy: Policy = draw(st.sampled_from(("proportional", "excluded")))
    baseline = Baseline(draw(st.floats(0, 1e4)))
    built = metric.build(task, host, policy=policy, baseline=baseline)
    return built.metric, part


@given(spans())
def test_task_part_and_host_are_nested(span: tuple[Metric, int]) -> None:
    record, part_uj = span
    energy = record["energy"]
    host = energy["host"]

    task_uj, total_uj = micro(energy["energy_j_total"]), micro(host["total_j"])
    assert 0 <= task_uj <= part_uj <= total_uj
    assert task_uj + micro(host["rest_j"]) == total_uj
    assert micro(host["idle_j"]) + micro(host["dynamic_j"]) == total_uj
    assert micro(host["idle_j"]) >= 0
    ratio = energy["allocation_ratio"]
    assert ratio is not None
    assert 0 <= ratio <= 1


@given(WATTS, CPUS, st.integers(1, 10**13), TIME, TIME)
def test_above_rest_a_cpu_second_costs_the_same_with_and_without_a_limit(
    watts: list[float], cpus: int, duration: int, busy: int, used: int
) -> None:
    model = CpuModel("x", watts[0], watts[1], 0.4, True, "a table, 2026")
    used = min(used, cpus * duration)
    _, rest, _ = model.energy(duration, 0, cpus)
    _, whole, _ = model.energy(duration, used, cpus)
    *_, at_rest = model.energy(duration, busy, cpus, (0.5 * cpus, 0))
    *_, limited = model.energy(duration, busy, cpus, (0.5 * cpus, used))

    tolerance = 2 + 1e-12 * whole  # rounding, and the floats before it
    assert abs((limited - at_rest) - (whole - rest)) <= tolerance
    assert abs(at_rest - rest / 2) <= tolerance
