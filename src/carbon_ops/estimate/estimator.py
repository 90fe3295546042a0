"""From watt-hours and a span of time to grams with an interval.

``C = energy x factor x PUE``: the factor is the energy-weighted mean of the grid signal
over the span, its source's bias common to the whole span. Marginal and average figures
stand side by side and are never added. Nothing here opens a network connection: that is
up to the provider, which is the shipped tables unless the caller chose another.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, get_args

from carbon_ops.errors import InvalidInputError, ProviderError, UnknownRegionError
from carbon_ops.estimate import given, span
from carbon_ops.estimate.engine import Method
from carbon_ops.estimate.figure import factor_inputs, figure, label_of, warnings
from carbon_ops.estimate.inputs import Distribution, Input, number
from carbon_ops.estimate.instant import Instant, instant
from carbon_ops.estimate.record import CarbonRecord, EnergyBasis, Figure
from carbon_ops.estimate.sci import Embodied
from carbon_ops.intensity.base import IntensityProvider, Interval, Series, Signal
from carbon_ops.intensity.static import StaticProvider
from carbon_ops.units import NS_PER_S

if TYPE_CHECKING:
    from carbon_ops.estimate.table import CarbonTable, Column

LEAST_COVERAGE, MOST_COVERAGE = 0.01, 0.999  # what Monte Carlo settles in 10**7 trials

_hinted = False


P = ParamSpec("P")
R = TypeVar("R")


def _in_thread(method: Callable[P, R]) -> Callable[P, Coroutine[Any, Any, R]]:
    @wraps(method)
    async def twin(*args: P.args, **kwargs: P.kwargs) -> R:
        import asyncio

        return await asyncio.to_thread(method, *args, **kwargs)

    twin.__doc__ = f"Do :meth:`{method.__name__}` in a thread, for providers that wait."
    twin.__name__ += "_async"
    return twin


class CarbonEstimator:
    """Estimates carbon for spans of energy use.

    Args:
        region: Country (``"DE"``), state (``"US-CA"``) or cloud region; ``None`` is the
            world's distribution, wide and marked ``default``.
        intensity: Where grid factors come from: a provider or its name (``"watttime"``,
            ``"file:grid.csv"``); the shipped yearly tables by default.
        signal: Whose figure is the headline, ``"marginal"`` or ``"average"``.
        pue: Facility overhead: ``None`` (1.0, not included), ``"unknown"``
            (1.56 +- 0.30), a number, ``(value, u)``, a cloud region or operator
            (``"aws:eu-central-1"``, ``"gcp"``) or a distribution.
        embodied: Hardware whose making is shown beside, never added (its whole share
            is reserved for the span).
        method: ``"auto"``, ``"analytical_truncated"`` or ``"monte_carlo"``.
        coverage: Probability of the interval, 0.01 to 0.999.
        missing: What to do about intervals without a factor: ``"fail"`` (no figure, and
            the reason), ``"static"`` (the shipped factor of the same gas and basis,
            flagged) or ``"hold:N"`` (the last factor for at most N intervals, flagged).

    Raises:
        InvalidInputError: an argument cannot be used.
        UnknownRegionError: the region means nothing to the shipped tables.
        ConfigError: the named provider's key is missing or readable by others; some
            providers look for it at the first estimate only.
    """

    def __init__(
        self,
        region: str | None = None,
        intensity: IntensityProvider | str | None = None,
        signal: Signal = "marginal",
        pue: given.Pue = None,
        embodied: Embodied | None = None,
        method: Method = "auto",
        coverage: float = 0.95,
        *,
        missing: str = "fail",
    ) -> None:
        choices = (("signal", signal, Signal), ("method", method, Method))
        for name, value, known in choices:
            if value not in get_args(known):
                raise InvalidInputError(
                    f"unknown {name} {value!r}",
                    hint=f"Known: {', '.join(get_args(known))}.",
                )
        self.coverage = number(coverage, "coverage")
        if not LEAST_COVERAGE <= self.coverage <= MOST_COVERAGE:
            raise InvalidInputError(
                f"coverage must lie between {LEAST_COVERAGE:g} and {MOST_COVERAGE:g}, "
                f"got {coverage!r}"
            )
        policy, _, limit = str(missing).partition(":")
        if not (
            missing in ("fail", "static") or (policy == "hold" and limit.isdecimal())
        ):
            raise InvalidInputError(
                f"unknown policy for missing intervals: {missing!r}",
                hint="Policies: fail, static, hold:N (N intervals).",
            )
        self._policy, self._limit = policy, int(limit or 0)
        self._static = StaticProvider()
        self.intensity: IntensityProvider = self._static
        if isinstance(intensity, str):
            from carbon_ops.intensity.providers import open_provider

            self.intensity = open_provider(intensity)
        elif intensity is not None:
            self.intensity = intensity
        self.region = region
        self.signal: Signal = signal
        self.method: Method = method
        self.embodied = embodied
        self.pue_input, self.pue = given.pue(pue)
        if region is not None and isinstance(self.intensity, StaticProvider):
            self._static.series(region, signal, 0, 0)  # a typo shows here, not later

    def estimate_over_span(
        self,
        start_ts: Instant,
        end_ts: Instant,
        energy_wh: float | Distribution | None,
        *,
        energy_u_wh: float | None = None,
        region: str | None = None,
        validate: bool = False,
        digits: int = 1,
    ) -> CarbonRecord:
        """Return the carbon of ``energy_wh`` used between two times.

        Args:
            start_ts: RFC 3339 text, aware datetime or epoch seconds.
            end_ts: The same, not before ``start_ts``; equal is valid.
            energy_wh: Energy [Wh]; ``None`` where it is not known.
            energy_u_wh: Its standard uncertainty (k=1) [Wh]; by default 25 %, lognormal.
            region: Instead of the estimator's own.
            validate: Run Monte Carlo too and record how far the intervals are apart.
            digits: Significant digits Monte Carlo has to settle (1, or 2 for an audit).

        Raises:
            InvalidInputError: a value cannot be used; the message names it.
            UnknownRegionError: the provider does not know the region.
            ProviderError: the provider gave no usable answer.
        """
        ends = instant(start_ts, "start_ts"), instant(end_ts, "end_ts")
        energy = given.energy(energy_wh, energy_u_wh)
        return self._estimate(ends, energy, "given", region, validate, digits)

    def estimate_metric(
        self,
        metric: Mapping[str, Any],
        *,
        region: str | None = None,
        validate: bool = False,
        digits: int = 1,
    ) -> CarbonRecord:
        """Return the carbon of a metric, with its own uncertainty and basis.

        The rectangular part that the counter's bounds leave is kept apart where it
        weighs more than one percent of the variance.

        Raises:
            InvalidInputError: not a metric, or a value in it cannot be used.
        """
        try:
            energy = metric["energy"]
            start, end = metric["timestamp_start"], metric["timestamp_end"]
            joules, u_j = energy["energy_j_total"], energy.get("uncertainty_j")
            bounds, policy = energy.get("bounds_j"), energy.get("policy")
            source = energy["components"]["cpu"]["source"]
        except (KeyError, TypeError, AttributeError) as error:
            lacks = f"it has no {error}" if isinstance(error, KeyError) else str(error)
            raise InvalidInputError(
                f"not a metric: {lacks}",
                hint="Give what EnergyLogger.log_metrics() or span.metric gave.",
            ) from error
        ends = instant(start, "timestamp_start"), instant(end, "timestamp_end")
        basis: EnergyBasis = "dynamic" if policy == "excluded" else "attributed"
        used = given.measured(joules, u_j, bounds, f"metric, source {source}")
        return self._estimate(ends, used, basis, region, validate, digits)

    estimate_over_span_async = _in_thread(estimate_over_span)
    estimate_metric_async = _in_thread(estimate_metric)

    def estimate_many(
        self,
        start_ts: Sequence[Instant] | Column,
        end_ts: Sequence[Instant] | Column,
        energy_wh: Sequence[float | None] | Column,
        *,
        energy_u_wh: Sequence[float] | Column | None = None,
        region: str | None = None,
    ) -> CarbonTable:
        """Return the carbon of many spans at once, as columns of numpy arrays.

        The same numbers as :meth:`estimate_over_span` for each row, without the record.
        The provider is asked once for the time from the first start to the last end.

        Args:
            start_ts, end_ts: Times as there; numbers are epoch seconds. Length n.
            energy_wh: Energy [Wh]; ``None`` or NaN where it is not known.
            energy_u_wh: Standard uncertainties (k=1) [Wh]; 25 % each by default.
            region: Instead of the estimator's own.

        Raises:
            InvalidInputError: columns differ in length, or a value cannot be used; the
                message names the row.
        """
        from carbon_ops.estimate.table import many

        place = self._place(region)
        return many(self, place, start_ts, end_ts, energy_wh, energy_u_wh)

    def _estimate(
        self,
        ends: tuple[int, int],
        energy: tuple[float | None, tuple[Input, ...]],
        basis: EnergyBasis,
        region: str | None,
        validate: bool,
        digits: int,
    ) -> CarbonRecord:
        start_ns, end_ns = ends
        if end_ns < start_ns:
            raise InvalidInputError(
                f"the span ends {(start_ns - end_ns) / NS_PER_S:g} s before it starts"
            )
        if digits not in (1, 2):
            raise InvalidInputError(f"digits must be 1 or 2, got {digits!r}")
        place = self._place(region)
        energy_wh, parts = energy
        shared = parts if self.pue_input is None else (*parts, self.pue_input)
        figures: dict[str, Figure] = {}
        raw: dict[str, str | None] = {}
        inputs = list(shared)
        for signal in get_args(Signal):
            label = label_of(signal, basis)
            found: span.Factor | str = "no_energy"
            if energy_wh is not None:
                found, raw[signal] = self._factor(
                    place, signal, start_ns, end_ns, energy_wh
                )
            if isinstance(found, str):
                figures[signal] = Figure(None, None, found, label, (), {}, {})
                continue
            own = factor_inputs(signal, found)
            inputs += own
            figures[signal] = figure(
                (*shared, *own),
                found,
                label,
                self.coverage,
                method=self.method,
                validate=validate,
                digits=digits,
            )
        head = figures[self.signal]
        return CarbonRecord(
            start_ns=start_ns,
            end_ns=end_ns,
            region=place,
            signal=self.signal,
            energy_wh=energy_wh,
            energy_u_wh=given.spread(parts) if energy_wh is not None else None,
            energy_basis=basis,
            coverage=self.coverage,
            marginal=figures["marginal"],
            average=figures["average"],
            inputs=tuple(inputs),
            pue=dict(self.pue),
            embodied=self.embodied
            and self.embodied.to_dict((end_ns - start_ns) / NS_PER_S),
            sci=None,
            warnings=tuple(warnings(head)),
            raw_sha256=raw,
        )

    def _place(self, region: str | None) -> str | None:
        """Return the region that is meant; say once per process that nobody named one."""
        global _hinted  # noqa: PLW0603 - once per process is the point
        place = self.region if region is None else region
        # A file has a zone of its own.
        if place is None and self.intensity.name != "file" and not _hinted:
            _hinted = True
            sys.stderr.write(
                "carbon-ops: no region given, using the world's distribution of grids, "
                'which is wide; name yours: region="DE", or --region DE for a command\n'
            )
        return place

    def _factor(
        self, region: str | None, signal: Signal, start: int, end: int, energy_wh: float
    ) -> tuple[span.Factor | str, str | None]:
        """Return the factor of the span, or why there is none, and the reply's hash."""
        intervals, reason, raw = self.intervals(region, signal, start, end)
        if reason is not None:
            return reason, raw
        return span.factor(intervals, start, end, energy_wh), raw

    def intervals(
        self, region: str | None, signal: Signal, start_ns: int, end_ns: int
    ) -> tuple[list[tuple[Interval, str | None]], str | None, str | None]:
        """Return what the provider says of a span, gaps treated by policy.

        Returns:
            Intervals, each with the flag of how it was filled; the reason why there are
            none; the hash of the provider's reply.

        Raises:
            ProviderError: no usable answer for the estimator's own signal.
        """
        stop = max(end_ns, start_ns + 1)  # a span without length still lies somewhere
        try:
            series = self.intensity.series(region, signal, start_ns, stop)
            span.check(series, signal, start_ns, stop)
        except ProviderError:
            if self._policy != "static":
                if signal != self.signal:
                    return [], "provider_error", None
                raise
            whole = Interval(start_ns, stop, None, "provider_error")
            series = Series(signal, (whole,))
        spare: list[Interval] = []
        if self._policy == "static":
            for gap in span.gaps(series):
                limits = max(gap.start_ns, start_ns), min(gap.end_ns, stop)
                try:
                    spare += self._static.series(region, signal, *limits).intervals
                except UnknownRegionError:  # a zone of the provider's own
                    spare.append(gap)
        intervals, reason = span.filled(series, self._policy, self._limit, spare)
        return intervals, reason, series.raw_sha256
