"""From readings to the metric: arithmetic and names, no I/O and no clock."""

from __future__ import annotations

from math import isfinite, sqrt
from typing import Any, Literal, NamedTuple

from carbon_ops.clock import rfc3339
from carbon_ops.meter import attribution
from carbon_ops.model import (
    METRIC_SCHEMA,
    AttributionMode,
    Component,
    ComponentSource,
    Energy,
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


class Host(NamedTuple):
    """What is known about the host's energy during one span."""

    mode: AttributionMode
    reason: Reason | None
    source: ComponentSource
    cpu: Domain | None
    dram: Domain | None
    busy_ns: int | None
    origin: Origin | None = None
    model_cv: float | None = None  # set when `cpu` is a model of load
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


class Built(NamedTuple):
    """A metric, and its uncertainty in the two parts that add up differently."""

    metric: Metric
    common_j: float  # the same error in every span: adds linearly
    single_j: float  # a new error in each span: adds in squares


def missing(reason: str | None) -> Component:
    """Return the component nobody measured."""
    return Component(j=None, source="none", uncertainty_j=None, reason=reason)


def _bounded(domain: Domain, part: int, whole: int) -> list[float]:
    low = attribution.share(domain.low, part, whole)
    high = attribution.share(domain.high, part, whole)
    return [joules(low), joules(high)]


def build(
    task: Task,
    host: Host,
    *,
    policy: Policy = "proportional",
    baseline: Baseline | None = None,
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
    baseline = baseline or Baseline()
    duration = task.duration_ns

    def idle(watts: float | None) -> int | None:
        return None if watts is None else round(watts * duration / 1_000)

    ratio: float | None = None
    whole = 0
    if host.busy_ns is not None:
        ratio, clamped = attribution.ratio(task.cpu_ns, host.busy_ns)
        whole = max(host.busy_ns, task.cpu_ns)
        if clamped:
            flags.append("ratio_clamped")

    common = single = 0.0
    bounds: list[list[float]] = []

    # --- packages, by CPU time
    cpu = missing(host.cpu_reason)
    cpu_split = None
    if host.cpu is not None and ratio is not None:
        cpu_split = attribution.split(
            host.cpu.total,
            task.cpu_ns,
            whole,
            excluded=excluded,
            idle_uj=idle(baseline.cpu_w),
        )
        if cpu_split is None:
            cpu = missing("no_idle_baseline")
        else:
            j = joules(cpu_split.task)
            if host.model_cv is not None:
                cpu_common, cpu_single = host.model_cv * j, 0.0
                flags.append("modelled")
            else:
                half = sqrt(1 / 12) * (host.cpu.high - host.cpu.low) / 1e6 * ratio
                short = 0.0
                if host.interval_ns:
                    short = attribution.short_cv(duration, host.interval_ns) * j
                cpu_common = j * attribution.root_sum_squares(
                    PACKAGE_CV, attribution.share_cv(ratio)
                )
                cpu_single = attribution.root_sum_squares(half, short)
                bounds.append(_bounded(host.cpu, task.cpu_ns, whole))
                if host.interval_ns and duration < SHORT_NS:
                    flags.append("short_span")
            common += cpu_common
            single = attribution.root_sum_squares(single, cpu_single)
            u = attribution.root_sum_squares(cpu_common, cpu_single)
            cpu = Component(j=j, source=host.source, uncertainty_j=u, reason=None)

    # --- memory, by resident set
    dram = missing(host.dram_reason)
    dram_split = None
    if host.dram is not None:
        resident, used = task.memory["rss_bytes"], task.memory_used_bytes
        if resident is None or not used:
            dram = missing("resident_set_unknown")
        else:
            dram_split = attribution.split(
                host.dram.total,
                resident,
                max(used, resident),
                excluded=excluded,
                idle_uj=idle(baseline.dram_w),
            )
            if dram_split is None:
                dram = missing("no_idle_baseline")
            else:
                flags.append("dram_by_resident_set")
                j = joules(dram_split.task)
                share = resident / max(used, resident)
                half = sqrt(1 / 12) * (host.dram.high - host.dram.low) / 1e6 * share
                dram_common = j * attribution.root_sum_squares(
                    DRAM_CV, attribution.share_cv(share)
                )
                common += dram_common
                single = attribution.root_sum_squares(single, half)
                u = attribution.root_sum_squares(dram_common, half)
                dram = Component(j=j, source=host.source, uncertainty_j=u, reason=None)
                bounds.append(_bounded(host.dram, resident, max(used, resident)))

    gpu, devices = gpus if gpus is not None else (missing("not_measured"), [])
    parts = {"cpu": cpu, "dram": dram, "gpu": gpu}
    if gpu["uncertainty_j"] is not None:
        common += gpu["uncertainty_j"]

    known = [part["j"] for part in parts.values() if part["j"] is not None]
    total_j = sum(known) if known and cpu["j"] is not None else None
    splits = [s for s in (cpu_split, dram_split) if s is not None]
    dynamic = None
    if splits and all(s.task_dynamic is not None for s in splits):
        dynamic = joules(sum(s.task_dynamic or 0 for s in splits))
    origin = host.origin
    energy = Energy(
        attribution_mode=host.mode,
        reason=host.reason,
        policy=policy,
        allocation_ratio=ratio,
        energy_wh_total=None if total_j is None else watt_hours(total_j),
        energy_j_total=total_j,
        uncertainty_j=(
            None if total_j is None else attribution.root_sum_squares(common, single)
        ),
        dynamic_j=dynamic,
        components={"cpu": cpu, "dram": dram, "gpu": gpu},
        components_missing=[name for name, part in parts.items() if part["j"] is None],
        bounds_j=(
            [sum(b[0] for b in bounds), sum(b[1] for b in bounds)]
            if bounds and host.mode == "governor" and cpu["j"] is not None
            else None
        ),
        host=_host_energy(host, splits),
        governor=(
            None
            if origin is None or host.mode != "governor"
            else {
                "instance_id": origin.instance_id,
                "boot_id": origin.boot_id,
                "uid": origin.uid,
                "mode": origin.source,
            }
        ),
        quality={
            "samples": host.samples,
            "wraps": host.wraps,
            "gaps": host.gaps,
            "resets": host.resets,
            "failures": host.failures,
            "flags": list(dict.fromkeys(flags)),
        },
    )
    busy_s = None if host.busy_ns is None else seconds(host.busy_ns)
    metric = Metric(
        schema=METRIC_SCHEMA,
        operation=task.operation,
        status=task.status,
        span_id=task.span_id,
        parent_id=task.parent_id,
        trace_id=task.trace_id,
        timestamp_start=rfc3339(task.start_wall_ns),
        timestamp_end=rfc3339(task.start_wall_ns + duration),
        duration_s=seconds(duration),
        energy=energy,
        cpu={
            "process_s": seconds(task.cpu_ns),
            "host_busy_s": busy_s,
            "percent": 100.0 * task.cpu_ns / duration if duration > 0 else None,
            "count": task.cpus,
        },
        memory=task.memory,
        gpu=devices,
        additional_info=task.info,
    )
    return Built(metric, common, single)


def _host_energy(host: Host, splits: list[attribution.Split]) -> HostEnergy:
    """Return the host's side. Only components that could be divided are in it."""
    measured = [d for d in (host.cpu, host.dram) if d is not None]
    limits: list[float] | None = None
    if measured and host.model_cv is None:
        limits = [
            joules(sum(d.low for d in measured)),
            joules(sum(d.high for d in measured)),
        ]
    if not splits or len(splits) != len(measured):
        total = joules(sum(d.total for d in measured)) if measured else None
        return HostEnergy(
            total_j=total,
            idle_j=None,
            dynamic_j=None,
            this_task_j=None,
            rest_j=None,
            counter_bounds_j=limits,
        )
    idle_known = all(s.idle is not None for s in splits)
    return HostEnergy(
        total_j=joules(sum(s.total for s in splits)),
        idle_j=joules(sum(s.idle or 0 for s in splits)) if idle_known else None,
        dynamic_j=joules(sum(s.dynamic or 0 for s in splits)) if idle_known else None,
        this_task_j=joules(sum(s.task for s in splits)),
        rest_j=joules(sum(s.rest for s in splits)),
        counter_bounds_j=limits,
    )


def plain(value: object, depth: int = 8) -> Any:
    """Return ``value`` as plain JSON: what isn't, becomes text.

    NaN and the infinities become text too, because JSON has no word for them and null
    would say that nothing was given. Scalars of numpy and torch give their number.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if isfinite(value) else str(value)
    if depth > 0 and isinstance(value, dict):
        return {str(key): plain(item, depth - 1) for key, item in value.items()}
    if depth > 0 and isinstance(value, (list, tuple)):
        return [plain(item, depth - 1) for item in value]
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "ndim", None) == 0:
        return plain(item(), 0)
    return str(value)
