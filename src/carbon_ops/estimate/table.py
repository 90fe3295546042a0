"""Estimates for a table of spans, as columns.

An estimate scales with energy and factor: spans with the same relative uncertainties
share one distribution. It is computed once for each of them and multiplied out.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from carbon_ops.errors import InvalidInputError
from carbon_ops.estimate import given, span
from carbon_ops.estimate.engine import evaluate
from carbon_ops.estimate.inputs import LEAST, MOST, MOST_CV, Input, Lognormal, number
from carbon_ops.estimate.instant import instant
from carbon_ops.estimate.moments import Model
from carbon_ops.intensity.base import Interval, Signal
from carbon_ops.units import DAY_NS, NS_PER_S, WH_PER_KWH

if TYPE_CHECKING:
    from carbon_ops.estimate.estimator import CarbonEstimator

Array = NDArray[np.float64]
Column = NDArray[Any]  # of any kind of number
_MOST_S = 9_000_000_000  # int64 nanoseconds end in the year 2262


class Columns(NamedTuple):
    """One signal's figures [g], length n; NaN where ``reason`` is not ``None``."""

    g: Array
    median: Array
    sd: Array
    ci_low: Array
    ci_high: Array
    reason: list[str | None]


class CarbonTable(NamedTuple):
    """Marginal and average figures of n spans, side by side."""

    marginal: Columns
    average: Columns


def many(
    estimator: CarbonEstimator,
    region: str | None,
    start_ts: Sequence[Any] | Column,
    end_ts: Sequence[Any] | Column,
    energy_wh: Sequence[Any] | Column,
    energy_u_wh: Sequence[Any] | Column | None,
) -> CarbonTable:
    """Return the figures of many spans; see :meth:`CarbonEstimator.estimate_many`."""
    starts, ends = _times(start_ts, "start_ts"), _times(end_ts, "end_ts")
    count = len(starts)
    energy = _numbers(energy_wh, "energy_wh")
    known = ~np.isnan(energy)
    cv = np.full(count, given.DEFAULT_ENERGY_CV)
    if len({count, len(ends), energy.size}) > 1:
        raise InvalidInputError(
            f"columns differ in length: {count}, {len(ends)}, {energy.size}"
        )
    if energy_u_wh is not None:
        u = _numbers(energy_u_wh, "energy_u_wh")
        if u.size != count:
            raise InvalidInputError(f"columns differ in length: {count}, {u.size}")
        for row in np.flatnonzero(known & (u >= energy * MOST_CV) & (u > 0.0))[:1]:
            raise InvalidInputError(
                f"energy_u_wh, row {row}: {u[row]!r} on {energy[row]!r} Wh",
                hint="Estimate a reading that may as well be 0 alone.",
            )
        cv = np.divide(u, energy, out=np.zeros(count), where=energy > 0.0)
    for row in np.flatnonzero(ends < starts)[:1]:
        raise InvalidInputError(f"row {row}: the span ends before it starts")
    spans = (starts, ends, energy, cv, known)
    return CarbonTable(
        _columns(estimator, region, "marginal", *spans),
        _columns(estimator, region, "average", *spans),
    )


def _columns(
    estimator: CarbonEstimator,
    region: str | None,
    signal: Signal,
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    energy: Array,
    cv: Array,
    known: NDArray[np.bool_],
) -> Columns:
    count = energy.size
    reasons: list[str | None] = [None if k else "no_energy" for k in known.tolist()]
    grams = np.full((5, count), np.nan)
    # A yearly factor is less sure for less than a day: the two kinds are asked apart.
    short = ends - starts < DAY_NS
    for rows in (np.flatnonzero(known & short), np.flatnonzero(known & ~short)):
        if not rows.size:
            continue
        limits = int(starts[rows].min()), int(ends[rows].max())
        row = int(rows[0])
        intervals, reason, _ = estimator.intervals(
            region, signal, int(starts[row]), int(ends[row])
        )
        factor = intervals[0][0].intensity if len(intervals) == 1 else None
        if factor is not None and factor.annual:
            intervals = [(Interval(*limits, factor), intervals[0][1])]
        elif reason != f"no_{signal}_factor":
            intervals, reason, _ = estimator.intervals(region, signal, *limits)
        if reason is not None:
            for row in rows.tolist():
                reasons[row] = reason
            continue
        means, common, residual, trouble = _factors(
            intervals, starts[rows], ends[rows], energy[rows]
        )
        for row, why in zip(rows.tolist(), trouble, strict=True):
            reasons[row] = why
        units = _units(estimator, cv[rows], common, residual)
        grams[:, rows] = units * (energy[rows] * means / WH_PER_KWH)
    g, median, sd, low, high = grams
    return Columns(g, median, sd, low, high, reasons)


def _factors(
    intervals: list[tuple[Interval, str | None]],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    energy: Array,
) -> tuple[Array, Array, Array, list[str | None]]:
    """Return mean factor, common and residual cv of each span, and why there is none."""
    count = starts.size
    factors = [i.intensity for i, _ in intervals if i.intensity is not None]
    labels = {(f.factor_basis, f.gas) for f in factors}
    none: list[str | None] = [None] * count
    if len(factors) == 1:
        one = factors[0]
        full = [np.full(count, x) for x in (one.g_per_kwh, one.cv, one.residual_cv)]
        return full[0], full[1], full[2], none
    if len(labels) > 1 or any(f.residual_cv for f in factors):
        return _one_by_one(intervals, starts, ends, energy)
    # Integrals of the factor over time [g/kWh s] at the edges of the intervals.
    g = np.array([f.g_per_kwh for f in factors])
    mass = g * np.array([f.cv for f in factors])
    origin = intervals[0][0].start_ns
    edges = np.array([i.start_ns - origin for i, _ in intervals])
    edges = np.append(edges, intervals[-1][0].end_ns - origin) / NS_PER_S
    left, right = (starts - origin) / NS_PER_S, (ends - origin) / NS_PER_S
    steps = np.diff(edges)
    at = np.clip(np.searchsorted(edges, left, side="right") - 1, 0, g.size - 1)
    found: list[Array] = []
    for values in (g, mass):
        integral = np.concatenate([[0.0], np.cumsum(values * steps)])
        area = np.interp(right, edges, integral) - np.interp(left, edges, integral)
        found.append(np.divide(area, right - left, out=values[at], where=right > left))
    common = np.divide(found[1], found[0], out=np.zeros(count), where=found[0] > 0.0)
    return found[0], common, np.zeros(count), none


def _one_by_one(
    intervals: list[tuple[Interval, str | None]],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    energy: Array,
) -> tuple[Array, Array, Array, list[str | None]]:
    """Do :func:`_factors` where intervals have errors of their own, or mixed bases."""
    begins = [i.start_ns for i, _ in intervals]
    reasons: list[str | None] = []
    rows: list[tuple[float, float, float]] = []
    for start, end, wh in zip(
        starts.tolist(), ends.tolist(), energy.tolist(), strict=True
    ):
        first = max(bisect_right(begins, start) - 1, 0)
        last = max(bisect_right(begins, max(end - 1, start)), first + 1)
        found = span.factor(intervals[first:last], start, end, wh)
        if isinstance(found, str):
            reasons.append(found)
            rows.append((np.nan, 0.0, 0.0))
        else:
            reasons.append(None)
            rows.append((found.g_per_kwh, found.common_cv, found.residual_cv))
    means, common, residual = np.array(rows).T
    return means, common, residual, reasons


def _units(
    estimator: CarbonEstimator, cv: Array, common: Array, residual: Array
) -> Array:
    """Return mean, median, sd and ends for a span of mean 1, shape (5, n)."""
    keys = np.round(np.stack([cv, common, residual], axis=1), 12)  # cv to 1e-12
    unique, back = np.unique(keys, axis=0, return_inverse=True)
    columns = np.empty((5, len(unique)))
    for at, (energy_cv, factor_cv, residual_cv) in enumerate(unique.tolist()):
        cvs = {"energy": energy_cv, "factor": factor_cv, "residual": residual_cv}
        inputs = [Input(n, Lognormal(1.0, x), "") for n, x in cvs.items() if x > 0.0]
        if estimator.pue_input is not None:
            inputs.append(estimator.pue_input)
        model = Model(1.0, tuple(inputs))
        of = evaluate(model, estimator.coverage, method=estimator.method)
        columns[:, at] = of.mean, of.median, of.sd, of.low, of.high
    return columns[:, back.reshape(-1)]


def _times(values: Sequence[Any] | Column, name: str) -> NDArray[np.int64]:
    """Return ns since the Unix epoch."""
    array = np.asarray(values) if isinstance(values, np.ndarray) else None
    if array is not None and array.dtype.kind in "iuf" and array.ndim == 1:
        whole = np.floor(array.astype(np.float64))
        good = np.isfinite(whole) & (np.abs(whole) < _MOST_S)
        for row in np.flatnonzero(~good)[:1]:
            raise InvalidInputError(
                f"{name}, row {row}: no time near today: {array[row]!r}"
            )
        parts = np.rint((array - whole) * NS_PER_S).astype(np.int64)
        ns: NDArray[np.int64] = whole.astype(np.int64) * NS_PER_S + parts
        return ns
    times = [instant(value, f"{name}, row {row}") for row, value in enumerate(values)]
    return np.array(times, dtype=np.int64)


def _numbers(values: Sequence[Any] | Column, name: str) -> Array:
    """Return a column of numbers at least 0, NaN for those that are not known."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "iuf":
        array = values.astype(np.float64)
        for row in np.flatnonzero(
            (array != 0.0) & ~((array >= LEAST) & (array <= MOST)) & ~np.isnan(array)
        )[:1]:
            number(array[row], f"{name}, row {row}")
        return array
    found = []
    for row, value in enumerate(values):
        missing = value is None or value != value  # noqa: PLR0124 - NaN
        found.append(np.nan if missing else number(value, f"{name}, row {row}"))
    return np.array(found, dtype=np.float64)
