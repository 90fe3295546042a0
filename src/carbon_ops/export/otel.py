"""Metrics for OpenTelemetry, on the program's own meter provider.

With ``opentelemetry-instrument python app.py`` nothing needs to be written: this is found
through entry points. By hand::

    from carbon_ops.export.otel import CarbonOpsInstrumentor
    CarbonOpsInstrumentor().instrument()

Needs ``opentelemetry-api`` (extra ``otel``); the SDK is the program's affair.
"""

from __future__ import annotations

import os
import sys
from _thread import allocate_lock
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar

import carbon_ops
from carbon_ops import clock, config
from carbon_ops.errors import GovernorUnavailableError, MissingDependencyError
from carbon_ops.export import table
from carbon_ops.export.otel_environment import OTEL_PYTHON_CARBON_OPS_HOST
from carbon_ops.export.table import Family, Histogram, Instrument, Point, family
from carbon_ops.export.tasks import COUNTED, Tasks
from carbon_ops.meter.logger import EnergyLogger
from carbon_ops.sources.modelled import processor

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation

    from carbon_ops.estimate.record import CarbonRecord
    from carbon_ops.model import Metric

_SAME_NS = 50_000_000  # callbacks closer together than this see one look
_SYSTEM_METRICS = "opentelemetry.instrumentation.system_metrics"


class CarbonOpsInstrumentor:
    """Puts the metric table on a meter provider; once in a process.

    It has the interface of ``opentelemetry.instrumentation.BaseInstrumentor`` without
    needing that package.
    """

    _lock = allocate_lock()
    _active: ClassVar[Instruments | None] = None

    def instrument(
        self,
        *,
        meter_provider: MeterProvider | None = None,
        host: bool | None = None,
        **_: Any,
    ) -> None:
        """Begin.

        Args:
            meter_provider: Default: the global one.
            host: Show the whole host too; default: ``OTEL_PYTHON_CARBON_OPS_HOST``.

        Raises:
            MissingDependencyError: ``opentelemetry-api`` is not installed.
        """
        if host is None:
            host = os.environ.get(OTEL_PYTHON_CARBON_OPS_HOST, "").lower() == "true"
        with self._lock:
            if CarbonOpsInstrumentor._active is None:
                CarbonOpsInstrumentor._active = Instruments(meter_provider, host=host)

    def uninstrument(self, **_: Any) -> None:
        """End: the instruments stay registered and show nothing more."""
        with self._lock:
            active, CarbonOpsInstrumentor._active = CarbonOpsInstrumentor._active, None
            if active is not None:
                active.close()


class Instruments:
    """The observable instruments of the table, and a histogram for spans.

    Args:
        provider: Default: the global one.
        host: Show the whole host too.
    """

    def __init__(self, provider: MeterProvider | None = None, *, host: bool) -> None:
        try:
            from opentelemetry import metrics
        except ImportError as error:
            raise MissingDependencyError(
                "opentelemetry-api is not installed",
                hint="Install carbon-ops with its extra `otel`.",
            ) from error
        settings = config.load()
        self._lock = allocate_lock()
        self._seen: dict[Instrument, tuple[Point, ...]] = {}
        self._seen_ns: int | None = None
        self._tasks = Tasks()
        self._views: list[Callable[[], Iterator[Family]]] = [self._tasks.families]
        self._closing: list[Callable[[], None]] = []
        if not host:
            program = Program()
            self._views.append(program.families)
            self._closing.append(program.close)
        else:  # which has this program among all the others, by name
            from carbon_ops.export.host import HostView

            zone = settings["region"].value
            whole = HostView(
                str(settings["socket"].value),
                region=None if zone is None else str(zone),
            )
            self._views.append(whole.families)
            self._closing.append(whole.close)
        meter = metrics.get_meter(
            "carbon_ops", carbon_ops.__version__, meter_provider=provider
        )
        for row in table.TABLE:
            words = (row.otel, [self._callback(row)], row.unit, row.help)
            if row.kind == "counter":
                meter.create_observable_counter(*words)
            elif (
                row.kind == "gauge" and row is not table.INFO
            ):  # that is the resource's
                meter.create_observable_gauge(*words)
        spread = table.TASK_ENERGY
        self._spread = meter.create_histogram(
            spread.otel,
            spread.unit,
            spread.help,
            explicit_bucket_boundaries_advisory=table.BUCKETS,
        )
        EnergyLogger.observers.append(self._observe)

    def close(self) -> None:
        """Show nothing more and let go of the counters."""
        EnergyLogger.observers.remove(self._observe)
        with self._lock:
            self._views = []
            self._seen_ns = None
        for close in self._closing:
            close()

    def _observe(self, metric: Metric, record: CarbonRecord | None) -> None:
        task = self._tasks.add(metric, record)
        energy = metric["energy"]
        joules = energy["energy_j_total"]
        if joules is not None and energy["components"]["cpu"]["source"] in COUNTED:
            # In the context of the OpenTelemetry span, which becomes the exemplar.
            self._spread.record(joules, {"task": task})

    def _callback(
        self, row: Instrument
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        from opentelemetry.metrics import Observation

        names = [table.attribute(label) for label in row.labels]

        def observe(_: CallbackOptions) -> list[Observation]:
            if row is table.CPU_TIME and _SYSTEM_METRICS in sys.modules:
                return []  # it has this metric already
            return [
                Observation(
                    point.value,
                    {n: v for n, v in zip(names, point.labels, strict=True) if v},
                )
                for point in self._points(row)
                if not isinstance(point.value, Histogram)
            ]

        return observe

    def _points(self, row: Instrument) -> tuple[Point, ...]:
        with self._lock:
            now = clock.monotonic_ns()
            if self._seen_ns is None or now - self._seen_ns > _SAME_NS:
                found = chain.from_iterable(view() for view in self._views)
                self._seen = dict(table.merged(found))
                self._seen_ns = clock.monotonic_ns()
            return self._seen.get(row, ())


class _Own(EnergyLogger):
    """Measures the whole program, and is no span of it."""

    observers: ClassVar[list[Callable[[Metric, CarbonRecord | None], None]]] = []


class Program:
    """The energy of this program and its children, whether it has spans or not."""

    def __init__(self) -> None:
        self._logger = _Own(ledger=False, model="off", history=0)
        self._joules: dict[str, float] = {}

    def families(self) -> Iterator[Family]:
        """Yield the energy counted so far."""
        energy = self._logger.log_metrics("program")["energy"]
        joules = energy["energy_j_total"]
        if joules is not None and energy["components"]["cpu"]["source"] in COUNTED:
            mode = energy["attribution_mode"]
            self._joules[mode] = self._joules.get(mode, 0.0) + joules
        name = os.path.basename(sys.argv[0]) if sys.argv else ""
        points = [
            Point(("", name or "python", mode), total)
            for mode, total in self._joules.items()
        ]
        yield from family(table.PROCESS_ENERGY, points)

    def close(self) -> None:
        """Let go of the counters."""
        self._logger.close()


class CarbonOpsResourceDetector:
    """Adds the grid's zone, the sensor and the CPU's model to the resource.

    It has the interface of the SDK's ``ResourceDetector``.
    """

    def __init__(self, raise_on_error: bool = False) -> None:
        self.raise_on_error = raise_on_error

    def detect(self) -> Any:
        """Return an SDK ``Resource``; what is unknown is not in it."""
        from opentelemetry.sdk.resources import (  # type: ignore[import-not-found,unused-ignore]
            Resource,
        )

        from carbon_ops.governor.client import GovernorClient

        settings = config.load()
        found = {"carbon_ops.version": carbon_ops.__version__}
        zone = settings["region"].value
        if zone is not None:
            found["carbon_ops.grid.zone"] = str(zone)
        model, _, _ = processor()
        if model != "unknown":
            found["host.cpu.model.name"] = model
        client = GovernorClient(str(settings["socket"].value))
        try:
            found["carbon_ops.sensor"] = client.layout.source
        except GovernorUnavailableError as error:
            found["carbon_ops.sensor"] = "none"
            found["carbon_ops.fallback_reason"] = error.reason
        finally:
            client.close()
        return Resource(found)
