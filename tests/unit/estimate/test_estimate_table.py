"""Many spans at once give what each gives alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from carbon_ops.errors import InvalidInputError
from carbon_ops.estimate.estimator import CarbonEstimator

HOUR = 3600.0


def same(estimator: CarbonEstimator, rows: list[tuple[Any, Any, Any]]) -> None:
    """Compare the table with one estimate for each row, to 1e-9."""
    starts, ends, energies = zip(*rows, strict=True)
    table = estimator.estimate_many(starts, ends, energies)
    for number, (start, end, energy) in enumerate(rows):
        record = estimator.estimate_over_span(start, end, energy)
        for columns, figure in (
            (table.marginal, record.marginal.to_dict()),
            (table.average, record.average.to_dict()),
        ):
            assert columns.reason[number] == figure["reason"]
            if figure["g"] is None:
                assert np.isnan(columns.g[number])
                continue
            found = [column[number] for column in columns[:5]]
            alone = [figure[k] for k in ("g", "median", "sd", "ci_low", "ci_high")]
            assert found == pytest.approx(alone, rel=1e-9, abs=1e-12)


ROWS: list[tuple[Any, Any, Any]] = [
    (0.0, HOUR, 100.0),
    (1800.0, 5 * HOUR + 7.0, 50.0),
    (10.0, 10.0, 1.0),
    (0.0, 48 * HOUR, 1e6),
    ("1970-01-01T03:00:00Z", 4 * HOUR, 0.0),
    (2 * HOUR, 3 * HOUR, None),
]


def test_shipped_factors_for_short_and_long_spans() -> None:
    same(CarbonEstimator("DE"), ROWS)
    same(CarbonEstimator("DE", pue="unknown"), ROWS)
    same(CarbonEstimator("IS"), ROWS)


def test_hourly_factors(
    provider: Callable[..., Any], factor: Callable[..., Any]
) -> None:
    hours = [factor(100.0 + 20 * h, cv=0.1 + 0.01 * h) for h in range(7)]
    same(CarbonEstimator("XX", provider(hours)), ROWS)


def test_hourly_factors_with_errors_of_their_own(
    provider: Callable[..., Any], factor: Callable[..., Any]
) -> None:
    hours = [factor(100.0 + 20 * h, residual=0.1, forecast=True) for h in range(7)]
    same(CarbonEstimator("XX", provider(hours)), ROWS)


def test_the_provider_is_asked_a_few_times_whatever_the_rows(
    provider: Callable[..., Any], factor: Callable[..., Any]
) -> None:
    grid = provider([factor(100.0), factor(200.0)])
    starts = np.arange(500) * 60.0
    CarbonEstimator("XX", grid).estimate_many(starts, starts + HOUR, np.ones(500))
    assert grid.calls <= 4


def test_arrays_of_numbers_mean_what_lists_of_them_mean(
    provider: Callable[..., Any], factor: Callable[..., Any]
) -> None:
    estimator = CarbonEstimator("XX", provider([factor(100.0), factor(900.0)], 10**9))
    starts, ends = [0.75, 2.0, -1.25], [1.5, 2.25, 3.0]
    lists = estimator.estimate_many(starts, ends, [1.0, 2.0, 3.0])
    arrays = estimator.estimate_many(
        np.array(starts), np.array(ends), np.array([1, 2, 3])
    )
    assert arrays.marginal.g.tolist() == lists.marginal.g.tolist()
    assert arrays.marginal.g[0] == pytest.approx((0.25 * 0.1 + 0.5 * 0.9) / 0.75)


def test_given_uncertainties_hold_for_their_rows() -> None:
    estimator = CarbonEstimator("DE")
    table = estimator.estimate_many(
        [0.0, 0.0], [HOUR, HOUR], [100.0, 100.0], energy_u_wh=[1.0, 60.0]
    )
    for row, u in enumerate((1.0, 60.0)):
        alone = estimator.estimate_over_span(0.0, HOUR, 100.0, energy_u_wh=u)
        assert table.marginal.ci_high[row] == pytest.approx(
            alone.ci_high_gco2e, rel=1e-9
        )


@pytest.mark.parametrize(
    ("starts", "ends", "energies", "named"),
    [
        ([0.0], [1.0, 2.0], [1.0], "differ in length"),
        ([0.0, 5.0], [1.0, 2.0], [1.0, 1.0], "row 1"),
        ([0.0], [1.0], [-1.0], "row 0"),
        ([0.0], [1.0], ["1"], "row 0"),
        (["x"], [1.0], [1.0], "row 0"),
        (np.array([np.nan]), [1.0], [1.0], "row 0"),
        (np.array([1e12]), [1.0], [1.0], "row 0"),
        ([0.0], [1.0], np.array([-1.0]), "row 0"),
    ],
)
def test_what_cannot_be_is_refused_with_its_row(
    starts: Any, ends: Any, energies: Any, named: str
) -> None:
    with pytest.raises(InvalidInputError, match=named):
        CarbonEstimator("DE").estimate_many(starts, ends, energies)
