"""A median is given with an interval that covers what it says."""

from __future__ import annotations

import random

from carbon_ops.cli.repeats import middle


def test_no_values_have_no_median() -> None:
    assert middle([]) is None


def test_few_values_give_their_range_and_its_honest_coverage() -> None:
    one = middle([2.0])
    assert one is not None
    assert (one.median, one.low, one.high, one.coverage) == (2.0, 2.0, 2.0, 0.0)
    five = middle([5.0, 1.0, 4.0, 2.0, 3.0])
    assert five is not None
    assert (five.median, five.low, five.high) == (3.0, 1.0, 5.0)
    assert five.coverage == 1 - 2 * 0.5**5  # 0.9375, and says so


def test_many_values_leave_out_the_extremes() -> None:
    # The published table for n = 20: the 6th and 15th value, 95.86 %.
    found = middle([float(value) for value in range(1, 21)])
    assert found is not None
    assert (found.low, found.high) == (6.0, 15.0)
    assert round(found.coverage, 4) == 0.9586


def test_the_interval_covers_the_true_median_as_often_as_it_says() -> None:
    draw = random.Random(7)
    hits, said = 0, 0.0
    for _ in range(2_000):
        found = middle([draw.lognormvariate(0.0, 1.0) for _ in range(11)])
        assert found is not None
        hits += found.low <= 1.0 <= found.high
        said = found.coverage
    assert round(said, 4) == 0.9883
    assert abs(hits / 2_000 - said) < 0.01  # four standard deviations
