"""Points become intervals that cover a span: no hole, no overlap, nothing invented."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_ops.errors import ProviderError
from carbon_ops.intensity.base import Intensity, Interval, Series
from carbon_ops.intensity.series import (
    NO_DATA,
    Kind,
    Point,
    cover,
    fill,
    grams,
    instant,
    kind_of,
    text_of,
)

TEMPLATE = Intensity(
    0.0,
    0.1,
    0.0,
    "average",
    "direct",
    "production",
    "CO2",
    "DE",
    "test",
    "1",
    "none",
    "2026",
)


def make(_: Point, value: float) -> Intensity:
    return TEMPLATE._replace(g_per_kwh=value)


points = st.lists(
    st.builds(
        lambda start, length, value, forecast: Point(
            start, start + length, value, forecast
        ),
        st.integers(0, 200),
        st.integers(1, 50),
        st.none() | st.floats(0, 5000),
        st.booleans(),
    ),
    max_size=12,
)


@given(points, st.integers(0, 200), st.integers(1, 100))
def test_a_span_is_covered_exactly_and_only_with_what_was_published(
    published: list[Point], start: int, length: int
) -> None:
    end = start + length

    intervals = cover(published, start, end, make)

    assert (intervals[0].start_ns, intervals[-1].end_ns) == (start, end)
    assert all(a.end_ns == b.start_ns for a, b in itertools.pairwise(intervals))
    for interval in intervals:
        assert interval.start_ns < interval.end_ns
        holding = [
            p
            for p in published
            if p.start_ns <= interval.start_ns and interval.end_ns <= p.end_ns
        ]
        if interval.intensity is None:
            assert interval.reason == NO_DATA
        else:
            values = {p.g_per_kwh for p in holding}
            assert interval.intensity.g_per_kwh in values


@given(points, st.integers(0, 250))
def test_an_empty_span_asks_for_one_instant(published: list[Point], at: int) -> None:
    (interval,) = cover(published, at, at, make)

    assert (interval.start_ns, interval.end_ns) == (at, at)


@given(points, st.integers(0, 200), st.integers(2, 100), st.data())
def test_cutting_a_span_changes_no_value(
    published: list[Point], start: int, length: int, data: st.DataObject
) -> None:
    cut = data.draw(st.integers(start + 1, start + length - 1))
    whole = cover(published, start, start + length, make)
    parts = (
        *cover(published, start, cut, make),
        *cover(published, cut, start + length, make),
    )

    def at(intervals: tuple[Interval, ...], t: int) -> Intensity | None:
        return next(i.intensity for i in intervals if i.start_ns <= t < i.end_ns)

    for t in range(start, start + length):
        assert at(whole, t) == at(parts, t)


def test_measured_wins_over_forecast_and_a_value_over_none() -> None:
    forecast, measured = Point(0, 10, 1.0, True), Point(0, 10, 2.0)
    missing, revised = Point(0, 10, None), Point(0, 10, 3.0)

    for order in itertools.permutations([forecast, measured, missing]):
        (interval,) = cover(order, 0, 10, make)
        assert interval.intensity is not None
        assert interval.intensity.g_per_kwh == 2.0
    (interval,) = cover([measured, revised], 0, 10, make)
    assert interval.intensity is not None
    assert interval.intensity.g_per_kwh == 3.0  # the later one is the revision


def test_a_value_ends_where_the_next_one_begins() -> None:
    intervals = cover([Point(0, 100, 1.0), Point(40, 60, 2.0)], 0, 100, make)

    assert [
        (i.start_ns, i.end_ns, i.intensity and i.intensity.g_per_kwh) for i in intervals
    ] == [(0, 40, 1.0), (40, 60, 2.0), (60, 100, None)]


@pytest.mark.parametrize("good", [0, 0.0, "0", 5000, "263", 12.5, " 7 "])
def test_what_is_an_intensity(good: object) -> None:
    assert grams(good) == float(str(good))


def test_a_negative_zero_is_zero() -> None:
    assert str(grams("-0.0")) == str(grams(-0.0)) == "0.0"


@pytest.mark.parametrize(
    "bad",
    [
        -0.1,
        float("nan"),
        float("inf"),
        5000.1,
        "ND",
        "",
        True,
        [],
        {},
        b"1",
        10**400,
        "1_000",
        "\u0661\u0662",
        "nan",
        "inf",
    ],
)
def test_what_is_none(bad: object) -> None:
    with pytest.raises(ProviderError):
        grams(bad)


@pytest.mark.parametrize(
    "text",
    [
        "2025-03-30T01:30:00Z",
        "2025-03-30T01:30Z",
        "2025-03-30T03:30:00+02:00",
        "2025-03-30T01:30:00.000Z",
        "2025-03-29T20:30:00-05:00",
    ],
)
def test_times_with_a_zone_are_one_instant(text: str) -> None:
    assert instant(text) == 1_743_298_200 * 1_000_000_000
    assert instant(text_of(instant(text))) == instant(text)


@pytest.mark.parametrize(
    "bad", ["2025-03-30T01:30:00", "2025-03-30", "", "now", None, 5, "2025-13-01T00Z"]
)
def test_times_without_zone_or_sense_are_refused(bad: object) -> None:
    with pytest.raises(ProviderError):
        instant(bad)


def test_gaps_are_filled_only_with_the_same_kind() -> None:
    kind = kind_of(TEMPLATE)
    gappy = Series("average", cover([Point(0, 5, 1.0)], 0, 20, make))
    spare = Series("average", cover([Point(3, 10, 9.0)], 0, 20, make))

    filled = fill(gappy, spare, kind, "fallback:x")
    refused = fill(gappy, spare, Kind("average", "lifecycle", "CO2e"), "fallback:x")

    assert [
        (i.start_ns, i.end_ns, i.intensity and i.intensity.g_per_kwh, i.reason)
        for i in filled.intervals
    ] == [(0, 5, 1.0, None), (5, 10, 9.0, None), (10, 20, None, NO_DATA)]
    assert filled.intervals[1].intensity is not None
    assert filled.intervals[1].intensity.flags == ("fallback:x",)
    assert [i.reason for i in refused.intervals] == [None, "basis_mismatch", NO_DATA]
