"""Times as callers give them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from carbon_ops.clock import rfc3339
from carbon_ops.errors import InvalidInputError
from carbon_ops.estimate.instant import instant

BERLIN = ZoneInfo("Europe/Berlin")
S = 1_000_000_000


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01t00:00:00z", 0),
        ("1970-01-01 00:00:00-01:30", 5400),
        ("2024-02-29T12:00:00+00:00", 1709208000),
        ("2016-12-31T23:59:60Z", 1483228800),  # a leap second
        ("1969-12-31T23:59:59Z", -1),
        (1709208000, 1709208000),
        (datetime(2024, 2, 29, 12, tzinfo=timezone.utc), 1709208000),
        (datetime(2024, 2, 29, 14, tzinfo=timezone(timedelta(hours=2))), 1709208000),
    ],
)
def test_every_accepted_form_means_the_same_instant(given: Any, seconds: int) -> None:
    assert instant(given, "t") == seconds * S


def test_fractions_are_kept_to_the_nanosecond_and_then_cut() -> None:
    assert instant("1970-01-01T00:00:00.5Z", "t") == S // 2
    assert instant("1970-01-01T00:00:00.1234567899Z", "t") == 123_456_789
    assert instant(0.25, "t") == S // 4
    assert instant(-0.25, "t") == -S // 4
    assert instant(datetime(1970, 1, 1, 0, 0, 0, 7, tzinfo=timezone.utc), "t") == 7_000


def test_the_hour_that_happens_twice_is_two_hours() -> None:
    """On 2025-10-26 clocks in Berlin go from 03:00 back to 02:00."""
    first = datetime(2025, 10, 26, 2, 30, tzinfo=BERLIN, fold=0)
    second = datetime(2025, 10, 26, 2, 30, tzinfo=BERLIN, fold=1)
    assert instant(second, "t") - instant(first, "t") == 3600 * S
    day = datetime(2025, 10, 26, tzinfo=BERLIN), datetime(2025, 10, 27, tzinfo=BERLIN)
    assert instant(day[1], "t") - instant(day[0], "t") == 25 * 3600 * S


def test_text_of_the_clock_comes_back() -> None:
    for ns in (0, 1_700_000_000_123_456_000, -86_400 * S):
        assert instant(rfc3339(ns), "t") == ns


@pytest.mark.parametrize(
    "given",
    [
        "2026-01-01",
        "2026-01-01T00:00Z",
        "2026-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-01-01T24:00:00Z",
        "2026-01-01T00:00:61Z",
        "2026-01-01T00:00:00+24:00",
        "2026-01-01T00:00:00.Z",
        "2026-01-01T00:00:00Z ",
        "٢٠٢٦-01-01T00:00:00Z",
        "now",
        "",
        float("nan"),
        float("inf"),
        1e12,
        10**400,
        True,
        None,
        b"2026-01-01T00:00:00Z",
        [2026],
    ],
)
def test_what_is_no_time_is_refused_by_name_and_value(given: object) -> None:
    with pytest.raises(InvalidInputError, match="start_ts"):
        instant(given, "start_ts")


@pytest.mark.parametrize("given", ["2026-01-01T00:00:00", datetime(2026, 1, 1)])
def test_a_naive_time_is_refused_with_what_to_do(given: object) -> None:
    with pytest.raises(InvalidInputError, match="has no time zone") as caught:
        instant(given, "end_ts")
    assert "Z for UTC" in caught.value.hint or "aware" in caught.value.hint
