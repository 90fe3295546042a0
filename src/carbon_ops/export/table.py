"""The metrics: their names for Prometheus and for OpenTelemetry, units, labels. Pure.

One table serves both ways, so that one dashboard does. Counters are cumulative and never
wrap; units are base units; what cannot be measured has no series, which is not 0.

Sources
    OpenTelemetry semantic conventions, "Hardware metrics" (``hw.*``): energy of the whole
    host is ``hw.host.energy`` alone, so that ``hw.energy`` can be summed.
    Prometheus, "Metric and label naming".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

Kind = Literal["counter", "gauge", "histogram"]

REST = "(rest)"  # the label value of all that is not shown by name
# Upper edges for joules, a task from a request to a training run [J].
BUCKETS = (0.1, 0.5, 1.0, 5.0, 10.0, 50.0, 1e2, 5e2, 1e3, 5e3, 1e4, 1e5, 1e6, 1e7)


class Instrument(NamedTuple):
    """One row of the table."""

    native: str  # Prometheus and OpenMetrics
    otel: str
    unit: str  # UCUM, for OpenTelemetry
    kind: Kind
    labels: tuple[str, ...]
    help: str


class Histogram(NamedTuple):
    """How many values were at most each of :data:`BUCKETS`, and above."""

    counts: tuple[int, ...]  # one more than BUCKETS; not cumulative
    total: float
    exemplars: tuple[tuple[str, float, float] | None, ...]  # trace, value, time [s]


class Point(NamedTuple):
    """One series now; a label that is empty is not there."""

    labels: tuple[str, ...]
    value: float | Histogram


class Family(NamedTuple):
    """All series of one metric."""

    instrument: Instrument
    points: tuple[Point, ...]


def family(instrument: Instrument, points: Sequence[Point]) -> list[Family]:
    """Return the family, or none where there is nothing to show."""
    return [Family(instrument, tuple(points))] if points else []


def merged(families: Iterable[Family]) -> list[Family]:
    """Return one family for each metric; of series with the same labels the first.

    Labels come from names that anybody may choose: what is no Unicode text, as a cgroup's
    name need not be, is written out, or one such name would end every answer.
    """
    points: dict[Instrument, dict[tuple[str, ...], Point]] = {}
    for instrument, some in families:
        known = points.setdefault(instrument, {})
        for point in some:
            labels = tuple(
                text.encode("utf-8", "backslashreplace").decode()
                for text in point.labels
            )
            known.setdefault(labels, Point(labels, point.value))
    return [Family(row, tuple(known.values())) for row, known in points.items()]


_HW = ("hw_id", "hw_type", "zone", "hw_parent", "carbon_ops_source")

ENERGY = Instrument(
    "hw_energy_joules_total",
    "hw.energy",
    "J",
    "counter",
    _HW,
    "Energy of one component since its counter began. Series without hw_parent "
    "may be summed; those with it are parts of the one they name.",
)
POWER = Instrument(
    "hw_power_watts",
    "hw.power",
    "W",
    "gauge",
    _HW,
    "Mean power since the last collection, for display; account with the energy.",
)
HOST_ENERGY = Instrument(
    "hw_host_energy_joules_total",
    "hw.host.energy",
    "J",
    "counter",
    ("source",),
    "Energy of the whole platform where it has a counter (psys). Contains hw_energy.",
)
PROCESS_ENERGY = Instrument(
    "carbon_ops_process_energy_joules_total",
    "carbon_ops.process.energy",
    "J",
    "counter",
    ("task", "comm", "attribution_mode"),
    "Share of the host's counted energy by CPU time. By comm: all processes of that "
    "name, and (rest). By task: spans of this program, which may contain one another.",
)
CONTAINER_ENERGY = Instrument(
    "carbon_ops_container_energy_joules_total",
    "carbon_ops.container.energy",
    "J",
    "counter",
    ("container_id", "pod", "namespace"),
    "Share of the host's counted energy by CPU time, by container or else by cgroup.",
)
TASK_ENERGY = Instrument(
    "carbon_ops_task_energy_joules",
    "carbon_ops.task.energy",
    "J",
    "histogram",
    ("task",),
    "Energy of each measured span.",
)
EMISSIONS = Instrument(
    "carbon_ops_emissions_grams_total",
    "carbon_ops.emissions",
    "g",
    "counter",
    ("task", "scope", "accounting"),
    "CO2e of spans [g]. Marginal and location are two answers, never to be summed.",
)
BOUND = Instrument(
    "carbon_ops_emissions_bound_grams",
    "carbon_ops.emissions.bound",
    "g",
    "gauge",
    ("bound", "level", "accounting"),
    "Sum of the spans' interval ends, as if all their errors went together [g CO2e].",
)
INTENSITY = Instrument(
    "carbon_ops_grid_intensity_grams_per_kWh",
    "carbon_ops.grid.intensity",
    "g/kWh",
    "gauge",
    ("zone", "provider", "kind"),
    "Carbon intensity of the grid [g CO2e/kWh] as used now.",
)
RATIO = Instrument(
    "carbon_ops_allocation_ratio",
    "carbon_ops.allocation.ratio",
    "1",
    "gauge",
    ("task",),
    "Share of the host's busy CPU time that the task's last span had.",
)
CPU_TIME = Instrument(
    "carbon_ops_process_cpu_seconds_total",
    "process.cpu.time",
    "s",
    "counter",
    ("task",),
    "CPU time of spans.",
)
SAMPLES = Instrument(
    "carbon_ops_samples_total",
    "carbon_ops.sampler.samples",
    "{sample}",
    "counter",
    ("result",),
    "Deadlines of the governor's sampler: met (ok), met late, missed; and failed reads "
    "of a counter (error).",
)
SAMPLE_GAP = Instrument(
    "carbon_ops_sample_gap_seconds_max",
    "carbon_ops.sampler.gap.max",
    "s",
    "gauge",
    (),
    "Longest time between two samples since the last collection, as far as kept.",
)
WRAPS = Instrument(
    "carbon_ops_counter_wraps_total",
    "carbon_ops.sampler.wraps",
    "{wrap}",
    "counter",
    ("hw_id",),
    "Times a hardware counter turned over; its energy was kept.",
)
RESETS = Instrument(
    "carbon_ops_counter_resets_total",
    "carbon_ops.sampler.resets",
    "{reset}",
    "counter",
    ("hw_id",),
    "Times a hardware counter began anew; energy around it is unknown.",
)
LEDGER_RECORDS = Instrument(
    "carbon_ops_ledger_records_total",
    "carbon_ops.ledger.records",
    "{record}",
    "counter",
    ("result",),
    "Records of the ledger.",
)
LEDGER_FAILURES = Instrument(
    "carbon_ops_ledger_verify_failures_total",
    "carbon_ops.ledger.verify_failures",
    "{failure}",
    "counter",
    ("result",),
    "Verifications of the ledger that did not say OK, by verdict.",
)
INFO = Instrument(
    "carbon_ops_measurement_info",
    "carbon_ops.measurement",
    "{info}",
    "gauge",
    ("attribution_mode", "sensor", "version", "fallback_reason"),
    "1. How energy is measured here, and why not with the governor's counters.",
)

TABLE = (
    *(ENERGY, POWER, HOST_ENERGY, PROCESS_ENERGY, CONTAINER_ENERGY, TASK_ENERGY),
    *(EMISSIONS, BOUND, INTENSITY, RATIO, CPU_TIME, SAMPLES, SAMPLE_GAP, WRAPS),
    *(RESETS, LEDGER_RECORDS, LEDGER_FAILURES, INFO),
)

_ATTRIBUTES = {
    "hw_id": "hw.id",
    "hw_type": "hw.type",
    "hw_parent": "hw.parent",
    "carbon_ops_source": "carbon_ops.source",
}


def attribute(label: str) -> str:
    """Return the OpenTelemetry attribute for a label of the table.

    >>> attribute("hw_id"), attribute("zone")
    ('hw.id', 'zone')
    """
    return _ATTRIBUTES.get(label, label)
