"""The engine against distributions that were computed independently, to 50 digits."""

from __future__ import annotations

import json
from math import inf, isclose
from pathlib import Path
from typing import Any

import pytest

from carbon_ops.errors import InvalidInputError
from carbon_ops.estimate.analytical import analytical
from carbon_ops.estimate.engine import evaluate
from carbon_ops.estimate.inputs import (
    Distribution,
    Exact,
    Input,
    Lognormal,
    TruncatedNormal,
    checked,
)
from carbon_ops.estimate.moments import Model, Term, total
from carbon_ops.estimate.montecarlo import sample

CASES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "cases.json").read_text()
)["cases"]
IDS = [case["id"] for case in CASES]
EXACT = {"degenerate", "exact_lognormal", "exact_truncnorm"}


def distribution(given: dict[str, Any]) -> Distribution:
    if given["dist"] == "lognormal":
        return Lognormal(given["mean"], given["cv"])
    low = given["lower"]
    high = inf if given["upper"] is None else given["upper"]
    if given["sigma"] == 0:
        return Exact(min(max(given["mu"], low), high))
    return TruncatedNormal(given["mu"], given["sigma"], low, high)


def one(name: str, given: dict[str, Any]) -> Input:
    return Input(name, distribution(given), "vector")


def model_of(case: dict[str, Any]) -> Model:
    """Translate a case: common factors, a sum of terms, an offset."""
    given = case["inputs"]
    factors = [one(k, given[k]) for k in ("A", "G", "K", "PUE", "x") if k in given]
    offset = one("M", given["M"]) if "M" in given else None
    energy, grid = given.get("E"), given.get("I")
    if isinstance(grid, list):
        if isinstance(energy, list):
            terms = tuple(
                Term(1.0, (one("E", e), one("I", i)))
                for e, i in zip(energy, grid, strict=True)
            )
        else:
            factors += [one("E", energy)] if energy else []
            weights = given["f"] if "f" in given else given["e"]
            terms = tuple(
                Term(w, (one("I", i),)) for w, i in zip(weights, grid, strict=True)
            )
        return Model(1.0, tuple(factors), terms, offset, rho=given.get("rho", 0.0))
    factors += [one(k, given[k]) for k in ("E", "I") if k in given]
    scale = given.get("g", 1.0)
    return Model(scale, tuple(factors), (), offset, copula=given.get("rho", 0.0))


def near(found: float, expected: float, rel: float) -> bool:
    return isclose(found, expected, rel_tol=rel, abs_tol=1e-12 if not expected else 0.0)


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_the_moments_are_exact(case: dict[str, Any]) -> None:
    expected = case["expected"]
    model = model_of(case)
    if model.copula:
        assert analytical(model, 0.95) is None, "a copula has no closed form"
        return
    found = total(model)
    assert near(found.mean, expected["mean"], 1e-9)
    assert near(found.sd, expected["sd"], 1e-9)
    assert found.skewness == pytest.approx(expected["skewness"], abs=1e-6)
    assert found.excess_kurtosis == pytest.approx(
        expected["excess_kurtosis"], abs=1e-6, rel=1e-6
    )


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_the_analytical_interval_holds_where_a_rule_allows_it(
    case: dict[str, Any],
) -> None:
    expected = case["expected"]
    for coverage, low, high in ((0.95, "p2_5", "p97_5"), (0.90, "p5", "p95")):
        found = analytical(model_of(case), coverage)
        if found is None:
            continue
        ends = (found.low, expected[low]), (found.median, expected["p50"])
        for value, truth in (*ends, (found.high, expected[high])):
            if found.detail in EXACT:
                assert near(value, truth, 1e-9)
            elif found.detail == "lognormal_mixture":
                assert near(value, truth, 1e-6)
            else:
                assert abs(value - truth) <= 0.03 * expected["sd"]


def test_the_exact_rules_serve_every_single_input() -> None:
    singles = [case for case in CASES if case["model"] == "x"]
    details = {analytical(model_of(case), 0.95).detail for case in singles}  # type: ignore[union-attr]
    assert details <= EXACT


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_a_million_trials_agree(case: dict[str, Any]) -> None:
    import numpy as np

    expected = case["expected"]
    sd = expected["sd"]
    values = np.concatenate(
        [sample(model_of(case), 20261123, block, 250_000) for block in range(4)]
    )
    ends = np.quantile(values, [0.025, 0.5, 0.975])
    slack = 1e-9 * abs(expected["mean"])  # of sums, where there is no spread
    assert abs(values.mean() - expected["mean"]) <= 0.005 * sd + slack
    assert abs(ends[1] - expected["p50"]) <= 0.005 * sd + slack
    assert abs(ends[0] - expected["p2_5"]) <= 0.02 * sd + slack
    assert abs(ends[2] - expected["p97_5"]) <= 0.02 * sd + slack


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_every_case_gets_an_answer(case: dict[str, Any]) -> None:
    expected = case["expected"]
    found = evaluate(model_of(case), digits=1)
    slack = 1e-9 * abs(expected["mean"])
    for value, truth in ((found.low, "p2_5"), (found.high, "p97_5")):
        assert abs(value - expected[truth]) <= 0.1 * expected["sd"] + slack
    assert abs(found.mean - expected["mean"]) <= 0.03 * expected["sd"] + slack


def test_a_point_mass_outside_its_bounds_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"-5\.0"):
        checked(TruncatedNormal(-5.0, 0.0, 0.0), "x")
