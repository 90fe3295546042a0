"""The energy of a span, cut at the intervals of a grid signal, and the span's factor.

Arithmetic only. Intervals are half-open, ``[start, end)``, in ns since the Unix epoch, so
that nights with a change of clock and leap days need no rule of their own.
"""

from __future__ import annotations

from itertools import pairwise
from math import fsum, sqrt
from typing import NamedTuple

from carbon_ops.errors import ProviderError
from carbon_ops.estimate.inputs import LEAST, MOST_CV
from carbon_ops.estimate.moments import correlated
from carbon_ops.intensity.base import Intensity, Interval, Series, Signal
from carbon_ops.units import HOUR_NS

# A grid factor above this is a slip of units: brown coal at its worst is about 1,500.
MAX_G_PER_KWH = 5_000.0
# Correlation of a forecast's errors from one hour to the next: they fade over about half
# a day, because weather and outages do. An assumption, not a measurement.
FORECAST_RHO = 0.9


class Piece(NamedTuple):
    """The part of a span that lies in one interval."""

    start_ns: int
    end_ns: int
    energy_wh: float
    intensity: Intensity
    flag: str | None = None  # how the factor was filled in


class Factor(NamedTuple):
    """The grid factor of a whole span: weighted by energy, with its two errors."""

    g_per_kwh: float
    common_cv: float  # bias of the source, common to all intervals
    residual_cv: float  # what is left of the intervals' own errors in the sum
    pieces: tuple[Piece, ...]
    flags: tuple[str, ...]


def split(energy_wh: float, durations: list[int]) -> list[float]:
    """Return ``energy_wh`` shared out by duration; the parts add up to it to 1 ulp."""
    if len(durations) == 1:
        return [energy_wh]
    whole = sum(durations)
    parts = [energy_wh * (duration / whole) for duration in durations]
    largest = durations.index(max(durations))
    parts[largest] += energy_wh - fsum(parts)
    return parts


def filled(
    series: Series, policy: str, limit: int, statics: list[Interval]
) -> tuple[list[tuple[Interval, str | None]], str | None]:
    """Return intervals with their gaps treated by policy, or the reason why not.

    Args:
        series: What the provider said.
        policy: ``fail``, ``static`` or ``hold``.
        limit: Longest run of intervals that ``hold`` bridges.
        statics: For ``static``: shipped factors, one for each gap, in order.
    """
    done: list[tuple[Interval, str | None]] = []
    held, spare = 0, iter(statics)
    last: Intensity | None = None
    gap = next((i for i in series.intervals if i.intensity is None), None)
    if gap is not None and policy != "static":
        if all(i.intensity is None for i in series.intervals):
            return [], gap.reason or "missing_intervals"
        if policy == "fail":
            return [], "missing_intervals"
    for interval in series.intervals:
        if interval.intensity is not None:
            last, held = interval.intensity, 0
            done.append((interval, None))
            continue
        held += 1
        if policy == "hold":
            if last is None or held > limit:
                return [], "missing_intervals"
            value: Intensity | None = last._replace(is_estimated=True)
        else:
            value = next(spare).intensity
            if value is None:
                return [], interval.reason or "missing_intervals"
        done.append(
            (interval._replace(intensity=value, reason=None), f"{policy}_fallback")
        )
    return done, None


def gaps(series: Series) -> list[Interval]:
    """Return the intervals without a factor."""
    return [i for i in series.intervals if i.intensity is None]


def check(series: Series, signal: Signal, start_ns: int, end_ns: int) -> None:
    """Refuse a series that does not cover the span, or whose factors cannot be.

    Raises:
        ProviderError: another signal, a hole, an overlap, a factor out of range.
    """
    at = start_ns
    if series.signal != signal or not series.intervals:
        raise ProviderError(f"provider answered {series.signal!r} for {signal!r}")
    for interval in series.intervals:
        overlap = interval.start_ns < at and at != start_ns
        if interval.start_ns > at or overlap or interval.end_ns < interval.start_ns:
            raise ProviderError(f"intervals have a hole or overlap near {at} ns")
        at = max(at, interval.end_ns)
        factor = interval.intensity
        if factor is None:
            continue
        g = factor.g_per_kwh
        spreads = factor.cv, factor.residual_cv
        if not (g == 0.0 or LEAST <= g <= MAX_G_PER_KWH) or not all(
            cv == 0.0 or LEAST <= cv <= MOST_CV for cv in spreads
        ):
            raise ProviderError(
                f"{factor.provider}: {g!r} g/kWh (relative u {spreads!r}) cannot be a "
                "factor"
            )
        if factor.signal != signal:
            raise ProviderError(
                f"{factor.provider} gave a factor of signal {factor.signal!r} "
                f"where {signal!r} was asked for"
            )
    if at < end_ns:
        raise ProviderError(f"intervals end at {at} ns, before the span does")


def factor(
    intervals: list[tuple[Interval, str | None]],
    start_ns: int,
    end_ns: int,
    energy_wh: float,
) -> Factor | str:
    """Return the factor of a span, or the reason why its intervals have none together.

    Energy is split by duration, the power within a span being unknown. The common error
    of different sources is taken as fully correlated, the residual of an interval as
    correlated in time for forecasts and as its own for measured factors; neighbours
    with the same factor count as one interval. So a finer cut never narrows the result.
    """
    kept: list[tuple[int, int, Intensity, str | None]] = []
    for interval, flag in intervals:
        left, right = max(interval.start_ns, start_ns), min(interval.end_ns, end_ns)
        if interval.intensity is not None and (right > left or start_ns == end_ns):
            kept.append((left, max(left, right), interval.intensity, flag))
            if start_ns == end_ns:
                break
    if not kept:
        return "missing_intervals"
    durations = [right - left for left, right, _, _ in kept]
    if len(kept) == 1:
        left, right, one, flag = kept[0]
        flags = (*one.flags, flag) if flag else one.flags
        piece = Piece(left, right, energy_wh, one, flag)
        return Factor(one.g_per_kwh, one.cv, one.residual_cv, (piece,), flags)
    first = kept[0][2]
    if any(
        (i.factor_basis, i.gas) != (first.factor_basis, first.gas)
        for _, _, i, _ in kept
    ):
        return "basis_mismatch"
    parts = split(energy_wh, durations)
    pieces = tuple(
        Piece(left, right, part, one, flag)
        for (left, right, one, flag), part in zip(kept, parts, strict=True)
    )
    weights = parts if energy_wh > 0.0 else [float(d) for d in durations]
    mean, common, residual = weighted(pieces, weights)
    found = [f for p in pieces for f in (*p.intensity.flags, p.flag) if f]
    return Factor(mean, common, residual, pieces, tuple(dict.fromkeys(found)))


def weighted(
    pieces: tuple[Piece, ...], weights: list[float]
) -> tuple[float, float, float]:
    """Return mean factor, its common and its residual relative uncertainty."""
    whole = fsum(weights)
    masses = [p.intensity.g_per_kwh * w for p, w in zip(pieces, weights, strict=True)]
    mass = fsum(masses)
    if mass <= 0.0:
        return 0.0, max(p.intensity.cv for p in pieces), 0.0
    common = fsum(m * p.intensity.cv for m, p in zip(masses, pieces, strict=True))
    spreads: list[float] = []
    middles: list[float] = []
    forecast = False
    before: Intensity | None = None
    begin = 0
    for m, p in zip(masses, pieces, strict=True):
        one = p.intensity
        forecast = forecast or one.is_forecast
        if before is not None and _same(before, one):
            spreads[-1] += m * one.residual_cv
        else:
            begin = p.start_ns
            spreads.append(m * one.residual_cv)
            middles.append(0.0)
        middles[-1] = 0.5 * (begin + p.end_ns) / HOUR_NS
        before = one
    variance = fsum(s * s for s in spreads)
    if forecast:
        steps = [0.0] + [b - a for a, b in pairwise(middles)]
        variance = correlated(spreads, steps, FORECAST_RHO)
    return mass / whole, common / mass, sqrt(variance) / mass


def _same(a: Intensity, b: Intensity) -> bool:
    return a.g_per_kwh == b.g_per_kwh and a.is_forecast == b.is_forecast
