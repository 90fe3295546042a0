"""Embodied carbon and the score keep the standard's formula and never invent."""

from __future__ import annotations

import math
from typing import Any

import pytest

from carbon_ops.errors import InvalidInputError
from carbon_ops.estimate.estimator import CarbonEstimator
from carbon_ops.estimate.sci import embodied, score, with_score


def record(gas: str = "CO2e", basis: str = "lifecycle") -> dict[str, Any]:
    labels = {"gas": gas, "factor_basis": basis}
    return {
        "average": {"g": 10.0, "sd": 1.0, "intensity": labels, "reason": None},
        "marginal": {
            "g": 20.0,
            "sd": 6.0,
            "intensity": {"gas": "CO2", "factor_basis": "direct"},
            "reason": None,
        },
    }


def scored(estimate: dict[str, Any], made: Any, **more: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "units": 4.0,
        "functional_unit": "request",
        "boundary": "one server",
    }
    return score(estimate, made, **(arguments | more))


def test_the_example_of_the_standard() -> None:
    # ISO/IEC 21031:2024: 1000 kg over four years, one hour, all resources.
    made = embodied(total_kg=1000, lifetime_years=4)

    assert made.over(3600.0) == pytest.approx(1_000_000 / 35_040, rel=1e-12)


def test_embodied_carbon_is_proportional_to_time_and_share() -> None:
    whole, half = embodied("server"), embodied("server", share=0.5)

    assert half.over(7200.0) == pytest.approx(whole.over(3600.0))
    assert whole.over(0.0) == 0.0


def test_defaults_say_so_and_are_wide() -> None:
    shipped, given = embodied("server"), embodied(total_kg=1300, lifetime_years=4)

    assert (shipped.default, given.default) == (True, False)
    assert shipped.cv == pytest.approx(math.sqrt(1.36 * 1.0625 - 1))
    assert given.cv == pytest.approx(0.30)


def test_the_score_is_operational_plus_embodied_per_unit() -> None:
    made = embodied(total_kg=1000, cv=0.0, lifetime_years=4).to_dict(3600.0)

    result = scored(record(), made)

    assert result["value"] == pytest.approx((10.0 + made["g"]) / 4)
    assert result["u"] == pytest.approx(1.0 / 4)
    assert result["unit"] == "gCO2e per request"
    assert result["boundary"] == "one server"


@pytest.mark.parametrize(
    ("estimate", "hardware", "reason"),
    [
        (record(), None, "embodied_unknown"),
        (record("CO2"), "server", "gas_mismatch"),
        (record(basis="direct"), "server", "basis_mismatch"),
    ],
)
def test_what_cannot_be_added_has_no_score(
    estimate: dict[str, Any], hardware: str | None, reason: str
) -> None:
    made = embodied(hardware).to_dict(1.0) if hardware else None

    result = scored(estimate, made)

    assert (result["value"], result["reason"]) == (None, reason)


def test_no_operational_carbon_has_no_score() -> None:
    estimate = record()
    estimate["average"].update(g=None, sd=None, reason="no_energy")

    assert scored(estimate, None)["reason"] == "no_energy"


def test_a_record_carries_its_score_and_stays_the_same_otherwise() -> None:
    estimator = CarbonEstimator("DE", embodied=embodied("server"))
    plain = estimator.estimate_over_span(0, 3600, 120.0)

    full = with_score(plain, units=10, functional_unit="epoch", boundary="one server")

    before, after = plain.to_dict(), full.to_dict()
    score_, none = after.pop("sci"), before.pop("sci")
    assert (none, after) == (None, before)
    grams = before["average"]["g"] + before["embodied"]["g"]
    assert score_["value"] == pytest.approx(grams / 10)
    assert score_["unit"] == "gCO2e per epoch"


@pytest.mark.parametrize("units", [0, -1, math.nan, math.inf, "3", True, None])
def test_units_have_to_be_a_positive_number(units: Any) -> None:
    with pytest.raises(InvalidInputError):
        scored(record(), None, units=units)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"hardware": "server", "total_kg": 1},
        {"total_kg": -1},
        {"total_kg": math.nan},
        {"hardware": "server", "share": 1.5},
        {"hardware": "server", "share": 0},
        {"hardware": "server", "lifetime_years": 0},
    ],
)
def test_nonsense_about_hardware_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        embodied(**arguments)


def test_a_score_that_no_quantity_has_is_refused() -> None:
    worn = embodied(total_kg=1e97, lifetime_years=1e-90)
    with pytest.raises(InvalidInputError, match="embodied carbon"):
        worn.to_dict(1e9)
    made = embodied(total_kg=1e97).to_dict(1e8)
    with pytest.raises(InvalidInputError, match="the score"):
        scored(record(), made, units=1e-99)


def test_a_boundary_has_to_be_stated() -> None:
    with pytest.raises(InvalidInputError):
        scored(record(), None, boundary=" ")
    with pytest.raises(InvalidInputError):
        scored(record(), None, signal="both")
