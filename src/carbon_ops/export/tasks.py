"""The spans of this program as metrics: joules, CPU time and grams of each task.

What was modelled has no energy here, and so no carbon: its spans show CPU time only.
"""

from __future__ import annotations

from _thread import allocate_lock
from bisect import bisect_left
from collections.abc import Iterator
from typing import TYPE_CHECKING

import carbon_ops
from carbon_ops import clock
from carbon_ops.export import table
from carbon_ops.export.table import BUCKETS, Family, Histogram, Point, family

if TYPE_CHECKING:
    from carbon_ops.estimate.record import CarbonRecord
    from carbon_ops.model import Metric

LIMIT = 200  # tasks with series of their own; those that come later are in the rest
COUNTED = ("rapl_sysfs", "rapl_msr", "simulated")
# Which question a figure answers, in the words of the greenhouse gas protocol.
ACCOUNTING = {"marginal": "marginal", "average": "location"}


class _Task:
    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.exemplars: list[tuple[str, float, float] | None] = [None] * len(
            self.counts
        )
        self.joules = 0.0
        self.by_mode: dict[str, float] = {}
        self.cpu_s = 0.0
        self.ratio: float | None = None
        self.grams: dict[str, float] = {}


class Tasks:
    """Adds up what :data:`carbon_ops.EnergyLogger.observers` tells. Any thread may."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._tasks: dict[str, _Task] = {}
        self._bounds: dict[tuple[str, str, str], float] = {}
        self._how: tuple[str, str, str] | None = None

    def __call__(self, metric: Metric, record: CarbonRecord | None) -> None:
        self.add(metric, record)

    def add(self, metric: Metric, record: CarbonRecord | None) -> str:
        """Add one span; return the name of the task that it counts for."""
        energy = metric["energy"]
        sensor = energy["components"]["cpu"]["source"]
        joules = energy["energy_j_total"] if sensor in COUNTED else None
        with self._lock:
            name = metric["operation"]
            if name not in self._tasks and len(self._tasks) >= LIMIT:
                name = table.REST
            task = self._tasks.setdefault(name, _Task())
            task.cpu_s += metric["cpu"]["process_s"]
            task.ratio = energy["allocation_ratio"]
            mode = energy["attribution_mode"]
            self._how = mode, sensor, energy["reason"] or ""
            if joules is None:
                return name
            at = bisect_left(BUCKETS, joules)
            task.counts[at] += 1
            task.exemplars[at] = metric["trace_id"], joules, clock.wall_ns() / 1e9
            task.joules += joules
            task.by_mode[mode] = task.by_mode.get(mode, 0.0) + joules
            if record is not None:
                self._add_carbon(task, record)
            return name

    def _add_carbon(self, task: _Task, record: CarbonRecord) -> None:
        level = f"{record.coverage:g}"
        for figure, accounting in (
            (record.marginal, ACCOUNTING["marginal"]),
            (record.average, ACCOUNTING["average"]),
        ):
            outcome = figure.outcome
            if outcome is None:
                continue
            task.grams[accounting] = task.grams.get(accounting, 0.0) + outcome.mean
            for bound, grams in (("lower", outcome.low), ("upper", outcome.high)):
                key = bound, level, accounting
                self._bounds[key] = self._bounds.get(key, 0.0) + grams

    def families(self) -> Iterator[Family]:
        """Yield every metric as of now."""
        with self._lock:
            tasks = list(self._tasks.items())
            energy = [
                Point((name, "", mode), joules)
                for name, task in tasks
                for mode, joules in task.by_mode.items()
            ]
            spread = [
                Point(
                    (name,),
                    Histogram(tuple(task.counts), task.joules, tuple(task.exemplars)),
                )
                for name, task in tasks
                if task.by_mode
            ]
            grams = [
                Point((name, "operational", accounting), total)
                for name, task in tasks
                for accounting, total in task.grams.items()
            ]
            bounds = [Point(key, total) for key, total in self._bounds.items()]
            ratios = [
                Point((name,), task.ratio)
                for name, task in tasks
                if task.ratio is not None
            ]
            cpu = [Point((name,), task.cpu_s) for name, task in tasks]
            how = self._how
        info = []
        if how is not None:
            info = [Point((how[0], how[1], carbon_ops.__version__, how[2]), 1.0)]
        return iter(
            [
                *family(table.PROCESS_ENERGY, energy),
                *family(table.TASK_ENERGY, spread),
                *family(table.EMISSIONS, grams),
                *family(table.BOUND, bounds),
                *family(table.RATIO, ratios),
                *family(table.CPU_TIME, cpu),
                *family(table.INFO, info),
            ]
        )


_lock = allocate_lock()
_of_this_program: Tasks | None = None


def tasks() -> Tasks:
    """Return the totals of this program's spans; the first call begins to count."""
    global _of_this_program  # noqa: PLW0603 - one per process
    from carbon_ops.meter.logger import EnergyLogger

    with _lock:
        if _of_this_program is None:
            _of_this_program = Tasks()
            EnergyLogger.observers.append(_of_this_program)
        return _of_this_program
