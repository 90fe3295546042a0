"""What holds of every span that is cut at the intervals of a grid signal."""

from __future__ import annotations

import json
from itertools import pairwise
from math import fsum, ulp

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbon_ops.estimate.estimator import CarbonEstimator
from carbon_ops.estimate.recompute import recompute
from carbon_ops.estimate.span import factor, split
from carbon_ops.intensity.base import Intensity, Interval, Series, Signal

MANY = settings(max_examples=200, deadline=None)
energies = st.one_of(st.just(0.0), st.floats(1e-90, 1e6))
spreads = st.one_of(st.just(0.0), st.floats(1e-6, 0.6))
MINUTE = 60_000_000_000


def made(grams: float, cv: float, residual: float, *, forecast: bool) -> Intensity:
    return Intensity(
        grams, cv, residual, "marginal", "direct", "production", "CO2",
        "XX", "law", "1", "none", "2026", is_forecast=forecast,
    )  # fmt: skip


@st.composite
def grids(draw: st.DrawFn) -> list[Interval]:
    """Consecutive intervals of uneven length, in minutes."""
    forecast = draw(st.booleans())
    found, at = [], 0
    for length in draw(st.lists(st.integers(1, 180), min_size=1, max_size=12)):
        one = made(
            draw(st.one_of(st.just(0.0), st.floats(1e-6, 1200.0))),
            draw(spreads),
            0.5 * draw(spreads),
            forecast=forecast,
        )
        found.append(Interval(at * MINUTE, (at + length) * MINUTE, one))
        at += length
    return found


@MANY
@given(st.floats(0.0, 1e9), st.lists(st.integers(1, 10**12), min_size=1, max_size=50))
def test_the_parts_of_an_energy_add_up_to_it(wh: float, durations: list[int]) -> None:
    parts = split(wh, durations)
    assert abs(fsum(parts) - wh) <= ulp(wh)
    assert all(part >= 0.0 for part in parts)


def cut(grid: list[Interval], at: int, pieces: int) -> list[Interval]:
    """Cut one interval into equal pieces that say the same."""
    one = grid[at % len(grid)]
    edges = [
        one.start_ns + (one.end_ns - one.start_ns) * n // pieces
        for n in range(pieces + 1)
    ]
    parts = [one._replace(start_ns=a, end_ns=b) for a, b in pairwise(edges)]
    at %= len(grid)
    return [*grid[:at], *parts, *grid[at + 1 :]]


@MANY
@given(grids(), st.integers(0, 11), st.integers(2, 12), energies)
def test_cutting_an_interval_changes_nothing(
    grid: list[Interval], at: int, pieces: int, wh: float
) -> None:
    end = grid[-1].end_ns
    plain, finer = (
        factor([(i, None) for i in g], 0, end, wh)
        for g in (grid, cut(grid, at, pieces))
    )
    assert not isinstance(plain, str)
    assert not isinstance(finer, str)
    assert finer.g_per_kwh == pytest.approx(plain.g_per_kwh, rel=1e-9)
    if wh > 1e-9 and plain.g_per_kwh > 1e-9:
        assert finer.common_cv == pytest.approx(plain.common_cv, rel=1e-9)
        assert finer.residual_cv == pytest.approx(plain.residual_cv, rel=1e-7)


@MANY
@given(grids(), st.floats(1e-3, 1e6))
def test_the_factor_lies_between_those_of_its_intervals(
    grid: list[Interval], wh: float
) -> None:
    found = factor([(i, None) for i in grid], 0, grid[-1].end_ns, wh)
    assert not isinstance(found, str)
    values = [i.intensity for i in grid if i.intensity is not None]
    low, high = (f(v.g_per_kwh for v in values) for f in (min, max))
    assert low * (1 - 1e-12) <= found.g_per_kwh <= high * (1 + 1e-12)
    assert found.residual_cv <= max(v.residual_cv for v in values) * (1 + 1e-9)
    assert (
        min(v.cv for v in values) * (1 - 1e-9)
        <= found.common_cv
        <= max(v.cv for v in values) * (1 + 1e-9)
    )


class Fixed:
    """A provider with one list of intervals, for both signals."""

    name = "law"

    def __init__(self, grid: list[Interval]) -> None:
        self.grid = grid

    def series(
        self, region: str | None, signal: Signal, start_ns: int, end_ns: int
    ) -> Series:
        return Series(
            signal,
            tuple(
                i._replace(intensity=i.intensity._replace(signal=signal))
                for i in self.grid
                if i.intensity is not None
            ),
        )


@settings(max_examples=60, deadline=None)
@given(
    grids(),
    energies,
    st.sampled_from([0.0, 0.001, 0.3, 2.0]),
    st.sampled_from([None, 1.0, 1.2, "unknown"]),
)
def test_every_record_is_recomputed_to_the_last_digit(
    grid: list[Interval], wh: float, u: float, pue: float | str | None
) -> None:
    record = CarbonEstimator("XX", Fixed(grid), pue=pue).estimate_over_span(
        0, grid[-1].end_ns / 1e9, wh, energy_u_wh=u * wh
    )
    text = json.dumps(record.to_dict(), allow_nan=False)
    assert recompute(json.loads(text)) == json.loads(text)


@settings(max_examples=60, deadline=None)
@given(grids(), st.floats(1e-3, 1e6), st.integers(1, 11))
def test_two_halves_of_a_span_hold_what_the_whole_holds(
    grid: list[Interval], wh: float, at: int
) -> None:
    """Cut in time with the energy of each part: the means add up."""
    end = grid[-1].end_ns
    middle = end * at // 12 // 1000 * 1000
    estimator = CarbonEstimator("XX", Fixed(grid))
    spans = ((0, middle), (middle, end))
    parts = []
    for start, stop in spans:
        inside = [i for i in grid if i.end_ns > start and i.start_ns < stop]
        one = CarbonEstimator("XX", Fixed(inside))
        record = one.estimate_over_span(
            start / 1e9, stop / 1e9, wh * (stop - start) / end
        )
        parts.append(record.carbon_gco2e)
    whole = estimator.estimate_over_span(0, end / 1e9, wh).carbon_gco2e
    assert sum(p for p in parts if p is not None) == pytest.approx(whole, rel=1e-9)
