"""``carbon_ops.span``: a measured stretch that also tells the OpenTelemetry span around it.

The attributes have to be set before that span ends: OpenTelemetry's SDK for Python lets
no span processor add any at its end. Nothing of OpenTelemetry is imported here; where
the program has not imported it either, there is no span to tell.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from carbon_ops import config
from carbon_ops.estimate.estimator import CarbonEstimator
from carbon_ops.meter import writer  # noqa: F401 - before a fork may fall into it
from carbon_ops.meter.logger import EnergyLogger
from carbon_ops.meter.span import Span

if TYPE_CHECKING:
    from types import TracebackType

    from carbon_ops.estimate.record import CarbonRecord
    from carbon_ops.model import Metric

_shared: list[EnergyLogger] = []  # the first one is it


def span(operation: str, /, *, settle: bool = False, **info: Any) -> TracedSpan:
    """Measure a block, and set energy and carbon on the current OpenTelemetry span.

    >>> with span("load") as measured:
    ...     rows = list(range(1000))
    >>> measured.metric["operation"]
    'load'

    Measured by a logger that the whole program shares, with the settings of
    :mod:`carbon_ops.config`, its region and its ledger.

    Args:
        operation: What the work is called.
        settle: As :meth:`carbon_ops.EnergyLogger.span`.
        info: Anything to keep with the record.
    """
    return TracedSpan(_logger().span(operation, settle=settle, **info))


class TracedSpan:
    """What :func:`span` returns, for ``with`` and ``async with``."""

    def __init__(self, inner: Span) -> None:
        self._inner = inner
        self._around: Any = None

    def __enter__(self) -> Span:
        trace = sys.modules.get("opentelemetry.trace")
        look = getattr(trace, "get_current_span", None)  # None while that loads
        if look is not None:
            self._around = look()
            context = self._around.get_span_context()
            if context.is_valid:  # so that a record in a ledger leads to its trace
                self._inner.info.setdefault("otel_trace_id", f"{context.trace_id:032x}")
                self._inner.info.setdefault("otel_span_id", f"{context.span_id:016x}")
        return self._inner.begin()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        inner, around = self._inner, self._around
        inner.__exit__(kind, error, trace)
        if around is not None and inner.metric is not None and around.is_recording():
            around.set_attributes(attributes(inner.metric, inner.estimate))

    async def __aenter__(self) -> Span:
        return self.__enter__()

    async def __aexit__(self, *raised: Any) -> None:
        self.__exit__(*raised)


def attributes(metric: Metric, record: CarbonRecord | None) -> dict[str, float | str]:
    """Return the attributes of a span: joules, grams of CO2e, how they were found.

    What is unknown is left out. Bounds are of the counters for energy, and of the
    estimate's interval for emissions.
    """
    energy = metric["energy"]
    found: dict[str, float | str | None] = {
        "carbon_ops.operation": metric["operation"],
        "carbon_ops.attribution_mode": energy["attribution_mode"],
        "carbon_ops.fallback_reason": energy["reason"],
        "carbon_ops.source": energy["components"]["cpu"]["source"],
        "carbon_ops.energy": energy["energy_j_total"],
        "carbon_ops.energy.uncertainty": energy["uncertainty_j"],
    }
    if energy["bounds_j"] is not None:
        low, high = energy["bounds_j"]
        found |= {"carbon_ops.energy.lower": low, "carbon_ops.energy.upper": high}
    if record is not None:
        figure = getattr(record, record.signal)
        found["carbon_ops.signal"] = record.signal
        if figure.outcome is not None:
            found |= {
                "carbon_ops.emissions": figure.outcome.mean,
                "carbon_ops.emissions.lower": figure.outcome.low,
                "carbon_ops.emissions.upper": figure.outcome.high,
                "carbon_ops.method": figure.outcome.method,
            }
        if figure.factor is not None:
            pieces = figure.factor.pieces
            found["carbon_ops.grid.zone"] = pieces[0].intensity.zone
    return {name: value for name, value in found.items() if value is not None}


def _logger() -> EnergyLogger:
    """Return the logger of every :func:`span`; made on first use.

    Without a lock, which a process forked meanwhile would find locked for ever.
    """
    if not _shared:
        region = config.load()["region"].value
        estimator = CarbonEstimator(region=None if region is None else str(region))
        made = EnergyLogger(estimator=estimator)
        _shared.append(made)
        if made is not _shared[0]:  # another thread was faster
            made.close()
    return _shared[0]
