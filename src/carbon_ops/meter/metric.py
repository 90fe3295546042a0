"""From readings to the metric: arithmetic and names, no I/O and no clock."""

from __future__ import annotations

from math import hypot, sqrt
from typing import Any, Literal, NamedTuple

from carbon_ops.clock import rfc3339
from carbon_ops.meter import attribution
from carbon_ops.model import (
    METRIC_SCHEMA,
    AttributionMode,
    Component,
    Components,
    ComponentSource,
    CpuModelUsed,
    Gpu,
    HostEnergy,
    Memory,
    Metric,
    Origin,
    Policy,
    Reason,
)
from carbon_ops.units import joules, seconds, watt_hours

# Relative standard uncertainties of RAPL's own gain (k=1), common to a whole run.
# Packages: Khan et al. 2018, "RAPL in Action"; DRAM: Desrochers et al. 2016.
PACKAGE_CV = 0.03
DRAM_CV = 0.10
SHORT_NS = 300_000_000  # below three samples a single span says little by itself


class Domain(NamedTuple):
    """Energy of one component of the host during a span [µJ]."""

    total: int
    low: int
    high: int


class Pinned(NamedTuple):
    """The part of the host a task may use, when that is not all of it.

    The packages it is pinned to, or what the CPU limit of its cgroup leaves it.
    """

    domain: Domain
    busy_ns: int  # busy CPU time of that part
    part: float  # how much of the host's packages it is, as a fraction
    lag_ns: int = 0  # by which the busy time may be behind the task's


class Host(NamedTuple):
    """What is known about the host's energy during one span."""

    mode: AttributionMode
    reason: Reason | None
    source: ComponentSource
    cpu: Domain | None
    dram: Domain | None
    busy_ns: int | None
    duration_ns: int
    origin: Origin | None = None
    pinned: Pinned | None = None
    model_cv: float | None = None  # set when `cpu` is a model of load
    model: CpuModelUsed | None = None  # what that is made from
    cpu_reason: str | None = None
    dram_reason: str | None = None
    interval_ns: int = 0  # distance of the counter's samples; 0: read at the edges
    samples: int = 0
    wraps: int = 0
    gaps: int = 0
    resets: int = 0
    failures: int = 0
    flags: tuple[str, ...] = ()


class Baseline(NamedTuple):
    """Power of the idle host, as measured [W]. None: that part was not measured."""

    cpu_w: float | None = None
    dram_w: float | None = None


UNMEASURED = Baseline()


class Task(NamedTuple):
    """What the measured task did during the span."""

    operation: str
    status: Literal["ok", "error"]
    span_id: str
    parent_id: str | None
    trace_id: str
    start_wall_ns: int
    duration_ns: int
    cpu_ns: int
    cpus: int
    memory: Memory
    memory_used_bytes: int | None  # of the whole host, for the share of DRAM
    info: dict[str, Any]
    flags: tuple[str, ...] = ()
    part: tuple[int, int] = (1, 1)  # of its processes, beside other spans of theirs


class Built(NamedTuple):
    """A metric, and its uncertainty in the two parts that add up differently."""

    metric: Metric
    common_j: float  # the same error in every span: adds linearly
    single_j: float  # a new error in each span: adds in squares


def missing(reason: str | None) -> Component:
    """Return the component nobody measured."""
    return Component(j=None, source="none", uncertainty_j=None, reason=reason)


class _Part(NamedTuple):
    """One component of the host, divided."""

    component: Component
    split: attribution.Split | None = None
    common_j: float = 0.0
    single_j: float = 0.0
    low: int = 0
    high: int = 0


def _divide(
    host: Host,
    domain: Domain,
    part: int,
    whole: int,
    gain_cv: float,
    excluded: bool,
    idle_w: float | None,
) -> _Part:
    """Give the task its ``part`` of ``whole`` of one component, with its uncertainty.

    What is the same in every span of a run (the counter's gain, the unequal worth of
    CPU seconds, the model) is kept apart from what is new in each (the edges).
    """
    duration_ns = host.duration_ns
    idle_uj = None if idle_w is None else round(idle_w * duration_ns / 1_000)
    split = attribution.split(
        domain.total, part, whole, excluded=excluded, idle_uj=idle_uj
    )
    if split is None:
        return _Part(missing("no_idle_baseline"))
    j = joules(split.task)
    ratio = part / whole if whole else 0.0
    if host.model_cv is not None:
        common, single, low, high = host.model_cv * j, 0.0, 0, 0
    else:
        total, low, high = domain
        half_uj = (high - low) / 2
        if host.interval_ns and duration_ns and "extrapolated" in host.flags and total:
            # The bounds past the last sample assume the most a zone can ever draw,
            # which guarantees them but says nothing about what is likely: there the
            # power is taken to be off by as much as twice the span's own mean. Without
            # any mean, right after a governor's first sample, nothing else is known.
            half_uj = min(half_uj, 2 * total * host.interval_ns / duration_ns)
        single = half_uj / 1e6 * ratio / sqrt(3)  # rectangular: JCGM 100:2008, 4.3.7
        if host.interval_ns:
            few = attribution.short_cv(duration_ns, host.interval_ns)
            single = hypot(single, j * few)
        common = j * hypot(gain_cv, attribution.share_cv(ratio))
        others = (idle_uj or 0) if excluded else 0
        low = attribution.share(max(0, low - others), part, whole)
        high = attribution.share(max(0, high - others), part, whole)
    component: Component = {
        "j": j,
        "source": host.source,
        "uncertainty_j": hypot(common, single),
        "reason": None,
    }
    return _Part(component, split, common, single, low, high)


def _cpu(
    task: Task, host: Host, baseline: Baseline, excluded: bool, flags: list[str]
) -> tuple[float | None, _Part]:
    """Return the task's share of the busy CPU time, and of the packages' energy."""
    own = host.pinned
    busy_ns, domain, idle_w = host.busy_ns, host.cpu, baseline.cpu_w
    if own is not None:
        busy_ns, domain = own.busy_ns, own.domain if domain is not None else None
        idle_w = None if idle_w is None else idle_w * own.part
    if busy_ns is None:
        return None, _Part(missing(host.cpu_reason))
    cpu_ns = task.cpu_ns
    ratio, clamped = attribution.ratio(cpu_ns, busy_ns)
    if clamped and cpu_ns > busy_ns + (0 if own is None else own.lag_ns):
        flags.append("ratio_clamped")
    if domain is None:
        return ratio, _Part(missing(host.cpu_reason))
    if host.model_cv is not None:
        flags.append("modelled")
    elif host.interval_ns and host.duration_ns < SHORT_NS:
        flags.append("short_span")
    whole = busy_ns if busy_ns > 0 else cpu_ns
    part = max(0, min(cpu_ns, whole))
    return ratio, _divide(host, domain, part, whole, PACKAGE_CV, excluded, idle_w)


def _dram(
    task: Task, host: Host, baseline: Baseline, excluded: bool, flags: list[str]
) -> _Part:
    """Return the task's share of the memory's energy: as much as it holds of memory."""
    if host.dram is None:
        return _Part(missing(host.dram_reason))
    resident, used = task.memory["rss_bytes"], task.memory_used_bytes
    if resident is None or not used:
        return _Part(missing("resident_set_unknown"))
    flags.append("dram_by_resident_set")
    mine, whole = task.part
    part, whole = min(resident, used) * mine, used * whole
    return _divide(host, host.dram, part, whole, DRAM_CV, excluded, baseline.dram_w)


def build(
    task: Task,
    host: Host,
    *,
    policy: Policy = "proportional",
    baseline: Baseline = UNMEASURED,
    gpus: tuple[Component, list[Gpu]] | None = None,
) -> Built:
    """Return the metric of ``task`` on ``host``.

    Args:
        task: What ran, and for how long.
        host: The host's energy in the same time, or why it is not known.
        policy: Who carries the idle energy.
        baseline: Measured idle power; without it ``excluded`` gives no energy.
        gpus: Energy of the task on GPUs and the devices; None: nobody looked.
    """
    flags = [*host.flags, *task.flags]
    excluded = policy == "excluded"
    duration = task.duration_ns
    ratio, (cpu, cpu_split, cpu_common, cpu_single, cpu_low, cpu_high) = _cpu(
        task, host, baseline, excluded, flags
    )
    dram, dram_split, dram_common, dram_single, dram_low, dram_high = _dram(
        task, host, baseline, excluded, flags
    )
    gpu, devices = gpus if gpus is not None else (missing("not_measured"), [])
    common = cpu_common + dram_common + (gpu["uncertainty_j"] or 0.0)
    single = hypot(cpu_single, dram_single)
    cpu_j, dram_j, gpu_j = cpu["j"], dram["j"], gpu["j"]
    total_j = None if cpu_j is None else cpu_j + (dram_j or 0.0) + (gpu_j or 0.0)
    governed = host.mode == "governor"
    origin = host.origin if governed else None
    host_energy, dynamic_j = _host_energy(host, cpu_split, dram_split, baseline)
    components: Components = {"cpu": cpu, "dram": dram, "gpu": gpu}
    metric: Metric = {
        "schema": METRIC_SCHEMA,
        "operation": task.operation,
        "status": task.status,
        "span_id": task.span_id,
        "parent_id": task.parent_id,
        "trace_id": task.trace_id,
        "timestamp_start": rfc3339(task.start_wall_ns),
        "timestamp_end": rfc3339(task.start_wall_ns + duration),
        "duration_s": seconds(duration),
        "energy": {
            "attribution_mode": host.mode,
            "reason": host.reason,
            "policy": policy,
            "allocation_ratio": ratio,
            "energy_wh_total": None if total_j is None else watt_hours(total_j),
            "energy_j_total": total_j,
            "uncertainty_j": None if total_j is None else hypot(common, single),
            "dynamic_j": dynamic_j,
            "components": components,
            "components_missing": [
                name
                for name, j in (("cpu", cpu_j), ("dram", dram_j), ("gpu", gpu_j))
                if j is None
            ],
            "bounds_j": (
                [joules(cpu_low + dram_low), joules(cpu_high + dram_high)]
                if governed and cpu_split is not None
                else None
            ),
            "host": host_energy,
            "governor": (
                None
                if origin is None
                else {
                    "instance_id": origin.instance_id,
                    "boot_id": origin.boot_id,
                    "uid": origin.uid,
                    "mode": origin.source,
                }
            ),
            "model": host.model,
            "quality": {
                "samples": host.samples,
                "wraps": host.wraps,
                "gaps": host.gaps,
                "resets": host.resets,
                "failures": host.failures,
                "flags": list(dict.fromkeys(flags)),
            },
        },
        "cpu": {
            "process_s": seconds(task.cpu_ns),
            "host_busy_s": None if host.busy_ns is None else seconds(host.busy_ns),
            "percent": 100.0 * task.cpu_ns / duration if duration > 0 else None,
            "count": task.cpus,
        },
        "memory": task.memory,
        "gpu": devices,
        "additional_info": task.info,
    }
    return Built(metric, common, single)


_HOST_KEYS = tuple(HostEnergy.__annotations__)


def _host_energy(
    host: Host,
    cpu: attribution.Split | None,
    dram: attribution.Split | None,
    baseline: Baseline,
) -> tuple[HostEnergy, float | None]:
    """Return the host's side, and the task's part above idle [J].

    ``total = this_task + rest``, and ``= idle + dynamic`` where idle was measured for
    every component that is in the total; to the microjoule, as ``rest`` and ``dynamic``
    are what is left.
    """
    if host.cpu is None:
        return dict.fromkeys(_HOST_KEYS), None  # type: ignore[return-value]
    total, low, high = host.cpu
    task = idle = above = None
    if cpu is not None:
        task, idle, above = cpu.task, cpu.idle, cpu.task_dynamic
    if idle is not None and host.pinned is not None:  # of the other packages too
        others = total - host.pinned.domain.total
        more = (1 - host.pinned.part) * (baseline.cpu_w or 0.0)
        idle += min(others, round(more * host.duration_ns / 1_000))
    if host.dram is not None:
        total += host.dram.total
        low += host.dram.low
        high += host.dram.high
        task = None if task is None or dram is None else task + dram.task
        if idle is None or dram is None or dram.idle is None:
            idle = None
        else:
            idle += dram.idle
        if above is None or dram is None or dram.task_dynamic is None:
            above = None
        else:
            above += dram.task_dynamic
    energy: HostEnergy = {
        "total_j": joules(total),
        "idle_j": None if idle is None else joules(idle),
        "dynamic_j": None if idle is None else joules(total - idle),
        "this_task_j": None if task is None else joules(task),
        "rest_j": None if task is None else joules(total - task),
        "counter_bounds_j": (
            [joules(low), joules(high)] if host.model_cv is None else None
        ),
    }
    return energy, None if above is None else joules(above)
