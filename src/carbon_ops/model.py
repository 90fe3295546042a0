"""What the stages hand to one another. Plain values, standard library only, no I/O.

Named tuples and typed dictionaries rather than data classes: they import in a third of
the time, and this module is part of every measured program's start-up.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Protocol, TypedDict

# --- what a counter domain is -------------------------------------------------------

ZoneKind = Literal["package", "dram", "core", "uncore", "psys", "other"]


class Zone(NamedTuple):
    """One RAPL domain, as found; its identity outlives index changes (hot-plug)."""

    key: str  # unique and stable: control type, then names, e.g. intel-rapl/package-0/dram
    name: str  # the kernel's own name, e.g. "package-0-die-1", "dram"
    kind: ZoneKind
    package: int | None  # socket number, None where the name has none (psys)
    counted: bool  # part of the host total
    why: str  # why it is counted, or why not, for people
    unit: tuple[int, int]  # µJ per hardware tick as a fraction (numerator, denominator)
    wrap_ticks: int  # the counter counts modulo this many ticks
    bound_w: float  # no honest step exceeds this power [W]


class ZoneTotals(NamedTuple):
    """The running total of one zone since its accumulator began."""

    total_uj: int  # energy certainly seen [µJ]; never decreases
    slack_uj: int  # energy that gaps and resets may hide on top [µJ]; never decreases
    wraps: int
    gaps: int
    resets: int
    failures: int  # reads that failed
    fresh: bool  # the read of this sample succeeded; else total_uj is an older one


class Sample(NamedTuple):
    """All zones read once, at (nearly) one instant."""

    sequence: int  # counts every sample of one instance from 1
    monotonic_ns: int  # CLOCK_MONOTONIC before the first read
    read_ns: int  # time from before the first read until after the last
    boottime_ns: int
    wall_ns: int
    host_busy_ns: int  # user+nice+system+irq+softirq CPU time of the host since boot
    late_ticks: int  # samples of this instance taken later than half an interval
    missed_ticks: int  # deadlines of this instance at which no sample was taken
    totals: tuple[ZoneTotals, ...]  # in the order of Layout.zones


SourceName = Literal["rapl_sysfs", "rapl_msr", "simulated"]


class Layout(NamedTuple):
    """What stays the same during one run of a sampler."""

    instance_id: str  # 32 hex digits, new at every start
    boot_id: str
    source: SourceName
    interval_ns: int
    zones: tuple[Zone, ...]
    filtered: bool | None  # RAPL energy filtering (MSR 0xBC); None: cannot be known
    started_wall_ns: int


class Edge(NamedTuple):
    """The counters at one instant, between or beyond samples."""

    at_ns: int
    point_uj: tuple[int, ...]  # interpolated, per zone
    low_uj: tuple[int, ...]
    high_uj: tuple[int, ...]
    busy_ns: int  # host busy CPU time, interpolated
    sample: Sample  # the newest sample at or before the instant (for counts)
    extrapolated: bool  # past the last good reading of a counted zone
    blind: tuple[
        int, ...
    ] = ()  # positions of zones without a good reading from here on
    after: Sample | None = (
        None  # the first sample past the instant; None: there is none
    )


class ZoneEnergy(NamedTuple):
    """Energy of one zone between two instants."""

    zone: Zone
    point_uj: int
    low_uj: int
    high_uj: int


class Window(NamedTuple):
    """What the counters say about the time between two instants."""

    t0_ns: int
    t1_ns: int
    zones: tuple[ZoneEnergy, ...]
    host_busy_ns: int
    samples: int
    wraps: int
    gaps: int
    resets: int
    failures: int
    flags: tuple[str, ...]


class Origin(NamedTuple):
    """Who made a reading."""

    instance_id: str
    boot_id: str
    uid: int  # who created the socket (SO_PEERCRED)
    source: SourceName


class EnergySource(Protocol):
    """Counters as the meter sees them: the governor's, or ones this process may read.

    Both raise :class:`carbon_ops.errors.GovernorUnavailableError` with a reason.
    """

    @property
    def origin(self) -> Origin: ...

    def mark(self) -> Sample:
        """Return the newest sample: what a later :meth:`window` starts from."""

    def window(
        self, mark: Sample, t0_ns: int, t1_ns: int, *, settle: bool = False
    ) -> Window:
        """Return the energy between two instants of CLOCK_MONOTONIC.

        ``mark`` was taken at ``t0_ns``. With ``settle`` the call waits at most one
        interval for the sample after ``t1_ns``.
        """

    def close(self) -> None: ...


# --- the metric ---------------------------------------------------------------------

AttributionMode = Literal["governor", "monitor_only"]
Reason = Literal[
    "no_socket",
    "permission_denied",
    "refused",
    "stale",
    "restarted",
    "no_zones",
    "gap",
    "protocol",
]
Policy = Literal["proportional", "excluded"]
ComponentSource = Literal[
    "rapl_sysfs",
    "rapl_msr",
    "simulated",
    "model_cpu_load",
    "nvml_energy",
    "nvml_power",
    "amd_hwmon",
    "amdsmi",
    "none",
]


class Component(TypedDict):
    j: float | None
    source: ComponentSource
    uncertainty_j: float | None
    reason: str | None


class Components(TypedDict):
    cpu: Component
    dram: Component
    gpu: Component


class HostEnergy(TypedDict):
    total_j: float | None
    idle_j: float | None
    dynamic_j: float | None
    this_task_j: float | None
    rest_j: float | None
    counter_bounds_j: list[float] | None


class GovernorOrigin(TypedDict):
    instance_id: str
    boot_id: str
    uid: int
    mode: SourceName


class Quality(TypedDict):
    samples: int
    wraps: int
    gaps: int
    resets: int
    failures: int
    flags: list[str]


class CpuModelUsed(TypedDict):
    cpu: str
    idle_w: float  # of all CPUs of the host at rest
    load_w: float  # at full load
    cpus: int
    cpu_limit: float | None  # what the task's cgroup may use of them [CPUs]
    source: str  # of the watts, with its year


class Energy(TypedDict):
    attribution_mode: AttributionMode
    reason: Reason | None
    policy: Policy
    allocation_ratio: float | None
    energy_wh_total: float | None
    energy_j_total: float | None
    uncertainty_j: float | None
    dynamic_j: float | None
    components: Components
    components_missing: list[str]
    bounds_j: list[float] | None
    host: HostEnergy
    governor: GovernorOrigin | None
    model: CpuModelUsed | None  # where no counter was read
    quality: Quality


class Cpu(TypedDict):
    process_s: float
    host_busy_s: float | None
    percent: float | None
    count: int


class Memory(TypedDict):
    rss_bytes: int | None
    peak_rss_bytes: int | None
    host_percent: float | None


class Gpu(TypedDict):
    index: int
    uuid: str | None
    utilization_percent: float | None
    memory_used_bytes: int | None
    power_w: float | None
    energy_j: float | None
    synchronised: bool
    source: ComponentSource
    reason: str | None


class Metric(TypedDict):
    """One measured span. Plain JSON; every unit is in its key."""

    schema: str
    operation: str
    status: Literal["ok", "error"]
    span_id: str
    parent_id: str | None
    trace_id: str
    timestamp_start: str
    timestamp_end: str
    duration_s: float
    energy: Energy
    cpu: Cpu
    memory: Memory
    gpu: list[Gpu]
    additional_info: dict[str, Any]


DEFAULT_SOCKET = "/var/run/carbon-ops.sock"  # of the governor
METRIC_SCHEMA = "carbon-ops/metric/1"
ESTIMATE_SCHEMA = "carbon-ops/estimate/1"
