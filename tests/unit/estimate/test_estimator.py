"""From watt-hours to grams: what is filled in, what is refused, what says so."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from math import fsum, isclose, sqrt
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from carbon_ops.errors import InvalidInputError, ProviderError, UnknownRegionError
from carbon_ops.estimate.estimator import CarbonEstimator
from carbon_ops.estimate.inputs import Lognormal, TruncatedNormal, Uniform
from carbon_ops.estimate.recompute import made_elsewhere, recompute
from carbon_ops.estimate.record import CarbonRecord
from carbon_ops.estimate.sci import embodied
from carbon_ops.intensity.base import Series
from carbon_ops.intensity.static import RULES, StaticProvider
from carbon_ops.ledger.recompute import difference

START, END = "2026-03-01T10:00:00Z", "2026-03-01T11:00:00Z"
DAY = ("2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z")
SCHEMA = json.loads(
    (Path(__file__).parents[3] / "docs/reference/estimate.schema.json").read_text()
)


def checked(record: CarbonRecord) -> dict[str, Any]:
    """Return the record as JSON, after its schema and its own inputs confirmed it."""
    made: dict[str, Any] = json.loads(json.dumps(record.to_dict(), allow_nan=False))
    Draft202012Validator(SCHEMA).validate(made)
    assert recompute(made) == made
    return made


def test_the_schema_is_itself_valid() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_the_everyday_estimate_is_exact_and_names_every_input() -> None:
    made = checked(CarbonEstimator("DE").estimate_over_span(START, END, 100.0))
    marginal = made["marginal"]
    grid = marginal["intensity"]
    assert isclose(made["carbon_gco2e"], 100.0 / 1000.0 * grid["g_per_kwh"])
    assert made["carbon_gco2e"] == marginal["g"]
    assert made["ci_low_gco2e"] < made["median_gco2e"] < made["carbon_gco2e"]
    assert made["carbon_gco2e"] < made["ci_high_gco2e"]
    assert made["energy_u_wh"] == pytest.approx(25.0)
    assert (made["method"], made["method_detail"]) == (
        "analytical_truncated",
        "exact_lognormal",
    )
    assert [i["name"] for i in made["inputs"]] == [
        "energy",
        "marginal.factor",
        "average.factor",
    ]
    assert made["inputs"][0]["default"] is True
    assert fsum(made["variance_share"].values()) == pytest.approx(1.0)
    assert (grid["signal"], grid["gas"], grid["factor_basis"]) == (
        "marginal",
        "CO2",
        "direct",
    )
    assert made["average"]["intensity"]["gas"] == "CO2e"
    assert made["average"]["g"] != made["marginal"]["g"]


def test_the_signal_chooses_the_headline_and_both_figures_stay() -> None:
    marginal = CarbonEstimator("DE").estimate_over_span(START, END, 100.0).to_dict()
    average = CarbonEstimator("DE", signal="average").estimate_over_span(
        START, END, 100.0
    )
    assert average.carbon_gco2e == marginal["average"]["g"]
    assert average.to_dict()["marginal"] == marginal["marginal"]


def test_the_everyday_estimate_loads_no_numpy() -> None:
    code = (
        "import sys\n"
        "from carbon_ops.estimate.estimator import CarbonEstimator as C\n"
        "args = ('2026-03-01T10:00:00Z', '2026-03-01T11:00:00Z', 100.0)\n"
        "C().estimate_over_span(*args).to_dict()\n"
        "C('DE', pue='unknown').estimate_over_span(*args).budget()\n"
        "C('DE', pue=1.2).estimate_over_span(*args, energy_u_wh=3.0)\n"
        "print('numpy' in sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "False"


def test_no_region_is_the_world_and_one_hint_per_process() -> None:
    code = (
        "from carbon_ops.estimate.estimator import CarbonEstimator as C\n"
        "args = ('2026-03-01T10:00:00Z', '2026-03-01T11:00:00Z', 100.0)\n"
        "for _ in range(3):\n"
        "    grid = C().estimate_over_span(*args).to_dict()['marginal']['intensity']\n"
        "print(grid['zone'], grid['default'])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == ["WORLD", "True"]
    assert found.stderr.count("no region given") == 1


def test_the_world_is_less_sure_than_a_country() -> None:
    world = CarbonEstimator().estimate_over_span(START, END, 100.0).to_dict()
    country = CarbonEstimator("DE").estimate_over_span(START, END, 100.0).to_dict()
    for name in ("marginal", "average"):
        spread = [r[name]["sd"] / r[name]["g"] for r in (world, country)]
        assert spread[0] > 1.1 * spread[1]


def test_a_misspelt_region_is_refused_at_once_with_the_nearest() -> None:
    with pytest.raises(UnknownRegionError) as caught:
        CarbonEstimator("Germny")
    assert "DE" in caught.value.hint


def test_unknown_energy_is_null_with_a_reason() -> None:
    made = checked(CarbonEstimator("DE").estimate_over_span(START, END, None))
    assert made["energy_wh"] is None
    for figure in (made["marginal"], made["average"]):
        assert figure["g"] is None
        assert figure["reason"] == "no_energy"
    assert made["carbon_gco2e"] is None
    assert made["reason"] == "no_energy"


def test_a_region_without_a_marginal_factor_still_has_an_average() -> None:
    made = checked(CarbonEstimator("IS").estimate_over_span(START, END, 100.0))
    assert made["carbon_gco2e"] is None
    assert made["reason"] == "no_marginal_factor"
    assert made["average"]["g"] > 0


def test_no_energy_used_is_zero_and_a_span_without_length_is_valid() -> None:
    made = checked(CarbonEstimator("DE").estimate_over_span(START, START, 0.0))
    assert made["carbon_gco2e"] == made["ci_high_gco2e"] == 0.0
    assert made["method_detail"] == "degenerate"
    assert checked(CarbonEstimator("DE").estimate_over_span(START, START, 1.0))[
        "carbon_gco2e"
    ]


def test_zero_give_or_take_is_what_a_normal_leaves_above_zero() -> None:
    made = checked(
        CarbonEstimator("DE").estimate_over_span(START, END, 0.0, energy_u_wh=1.0)
    )
    assert made["energy_wh"] == pytest.approx(sqrt(2.0 / 3.141592653589793))
    assert made["truncated_mass"]["energy"] == pytest.approx(0.5)
    assert made["warnings"]


def test_a_century_is_only_a_long_span() -> None:
    made = checked(
        CarbonEstimator("DE").estimate_over_span(
            "1950-01-01T00:00:00Z", "2050-01-01T00:00:00Z", 1e9
        )
    )
    assert made["carbon_gco2e"] > 0


@pytest.mark.parametrize(
    ("energy", "named"),
    [
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (-1.0, "-1.0"),
        ("100", "'100'"),
        (True, "True"),
        (1e300, "1e\\+300"),
        (5e-324, "5e-324"),
        (10**400, "must be a number"),
        (Lognormal(1.0, 1e9), "1000000000.0"),
        (Uniform("1", 2.0), "'1'"),  # type: ignore[arg-type]
        ([1.0, 2.0], r"\[1.0, 2.0\]"),
        (TruncatedNormal(1.0, -1.0), "-1.0"),
        (Lognormal(1.0, float("nan")), "nan"),
        (Uniform(2.0, 1.0), "2.0"),
        (TruncatedNormal(-5.0, 0.0), "-5.0"),
    ],
)
def test_energy_that_cannot_be_is_refused_by_value(energy: Any, named: str) -> None:
    with pytest.raises(InvalidInputError, match=named):
        CarbonEstimator("DE").estimate_over_span(START, END, energy)


@pytest.mark.parametrize("u", [float("nan"), -1.0, "3"])
def test_an_uncertainty_that_cannot_be_is_refused(u: Any) -> None:
    with pytest.raises(InvalidInputError, match="energy_u_wh"):
        CarbonEstimator("DE").estimate_over_span(START, END, 1.0, energy_u_wh=u)


def test_a_reversed_span_is_refused_with_its_length() -> None:
    with pytest.raises(InvalidInputError, match="3600 s before it starts"):
        CarbonEstimator("DE").estimate_over_span(END, START, 1.0)


@pytest.mark.parametrize(
    "arguments",
    [
        {"signal": "both"},
        {"method": "guess"},
        {"coverage": 1.0},
        {"coverage": 0.0},
        {"coverage": 1.0 - 1e-12},
        {"coverage": "0.95"},
        {"pue": 120.0},
        {"coverage": float("nan")},
        {"pue": 0.9},
        {"pue": float("nan")},
        {"pue": "good"},
        {"pue": (1.2,)},
        {"pue": (0.8, 0.1)},
        {"pue": (1.2, -0.1)},
        {"pue": Uniform(0.5, 2.0)},
        {"intensity": "oracle"},
        {"missing": "ignore"},
        {"missing": "hold:-1"},
        {"missing": "hold"},
    ],
)
def test_wrong_settings_are_refused_when_they_are_made(
    arguments: dict[str, Any],
) -> None:
    with pytest.raises(InvalidInputError):
        CarbonEstimator("DE", **arguments)


@pytest.mark.parametrize(
    ("pue", "value", "u", "default"),
    [
        (None, 1.0, None, True),
        ("unknown", 1.56, 0.30, True),
        (1.0, 1.0, 0.0, False),
        (1.2, 1.2, 0.02, False),
        ((1.4, 0.1), 1.4, 0.1, False),
        (Lognormal(1.5, 0.1), 1.5, 0.15, False),
    ],
)
def test_facility_overhead_is_what_was_said_of_it(
    pue: Any, value: float, u: float | None, default: bool
) -> None:
    plain = CarbonEstimator("DE").estimate_over_span(START, END, 100.0)
    made = checked(CarbonEstimator("DE", pue=pue).estimate_over_span(START, END, 100.0))
    assert made["pue"]["value"] == pytest.approx(value)
    assert made["pue"]["u"] == pytest.approx(u)
    assert made["pue"]["default"] is default
    assert made["carbon_gco2e"] >= plain.carbon_gco2e * 0.999 * value  # type: ignore[operator]
    assert made["method"] == "analytical_truncated"
    if pue is None:
        assert made["pue"]["reason"] == "facility overhead not included"


def test_a_cloud_region_brings_its_own_overhead() -> None:
    made = checked(
        CarbonEstimator("DE", pue="aws").estimate_over_span(START, END, 100.0)
    )
    assert 1.0 < made["pue"]["value"] < 1.6
    assert "Amazon Web Services" in made["pue"]["reason"]


def test_a_cut_normal_warns() -> None:
    record = CarbonEstimator("DE").estimate_over_span(
        START, END, TruncatedNormal(1.0, 1.0)
    )
    made = checked(record)
    assert made["truncated_mass"]["energy"] == pytest.approx(0.1587, abs=1e-4)
    assert "energy: 15.9%" in made["warnings"][0]


def test_hardware_is_shown_beside_and_never_added() -> None:
    plain = CarbonEstimator("DE").estimate_over_span(START, END, 100.0)
    with_server = CarbonEstimator("DE", embodied=embodied(total_kg=1000.0))
    made = checked(with_server.estimate_over_span(START, END, 100.0))
    assert made["carbon_gco2e"] == plain.carbon_gco2e
    # 1000 kg over 4 years of 8,760 h, one hour: the example of ISO/IEC 21031:2024
    assert made["embodied"]["g"] == pytest.approx(28.54, abs=0.005)


def test_marginal_emissions_is_said_of_dynamic_energy_only() -> None:
    labels = {}
    for policy in ("proportional", "excluded"):
        made = checked(CarbonEstimator("DE").estimate_metric(metric(policy=policy)))
        labels[policy] = (made["marginal"]["label"], made["average"]["label"])
    assert labels["excluded"][0] == "marginal emissions"
    assert labels["proportional"][0] == "attributed energy x marginal factor"
    assert all("marginal" not in average for _, average in labels.values())


def metric(
    joules: float | None = 3600.0,
    u: float | None = 360.0,
    bounds: list[float] | None = None,
    policy: str = "proportional",
) -> dict[str, Any]:
    return {
        "timestamp_start": START,
        "timestamp_end": END,
        "energy": {
            "energy_j_total": joules,
            "energy_wh_total": None if joules is None else joules / 3600.0,
            "uncertainty_j": u,
            "bounds_j": bounds,
            "policy": policy,
            "components": {"cpu": {"source": "simulated"}},
        },
    }


def test_a_metric_brings_its_energy_uncertainty_and_basis() -> None:
    made = checked(CarbonEstimator("DE").estimate_metric(metric()))
    assert made["energy_wh"] == 1.0
    assert made["energy_u_wh"] == pytest.approx(0.1)
    assert made["energy_basis"] == "attributed"
    assert "simulated" in made["inputs"][0]["source"]
    assert made["inputs"][0]["default"] is False


def test_a_metric_without_uncertainty_gets_the_default_and_says_so() -> None:
    made = checked(CarbonEstimator("DE").estimate_metric(metric(u=None)))
    assert made["energy_u_wh"] == pytest.approx(0.25)
    assert made["inputs"][0]["default"] is True


def test_reversed_counter_bounds_are_refused_by_name() -> None:
    with pytest.raises(InvalidInputError, match="bounds_j are reversed"):
        CarbonEstimator("DE").estimate_metric(metric(u=2000.0, bounds=[6000.0, 1200.0]))


def test_counter_bounds_enter_as_rectangular_without_counting_twice() -> None:
    half = 500.0
    u = sqrt(360.0**2 + half**2 / 3.0)
    made = checked(
        CarbonEstimator("DE").estimate_metric(
            metric(u=u, bounds=[3600.0 - half, 3600.0 + half])
        )
    )
    kinds = {i["name"]: i["distribution"] for i in made["inputs"]}
    assert kinds["energy_bounds"] == "uniform"
    assert made["energy_wh"] == 1.0
    assert made["energy_u_wh"] == pytest.approx(u / 3600.0, rel=1e-9)
    assert made["method_detail"] == "lognormal_mixture"


def test_bounds_wider_than_the_energy_stay_in_one_positive_factor() -> None:
    made = checked(
        CarbonEstimator("DE").estimate_metric(metric(10.0, 9.0, [0.0, 30.0]))
    )
    assert [i["name"] for i in made["inputs"]][:2] == ["energy", "marginal.factor"]
    assert made["ci_low_gco2e"] > 0


@pytest.mark.parametrize("broken", [{}, {"energy": None}, {"energy": {}}, 7, None])
def test_what_is_no_metric_is_refused(broken: Any) -> None:
    with pytest.raises(InvalidInputError, match="not a metric"):
        CarbonEstimator("DE").estimate_metric(broken)


def test_a_span_is_cut_at_the_intervals_and_keeps_its_energy(
    provider: Callable[..., Any], factor: Callable[..., Any]
) -> None:
    grid = provider([factor(100.0), factor(300.0), factor(200.0)])
    made = checked(
        CarbonEstimator("XX", grid).estimate_over_span(
            "1970-01-01T00:30:00Z", "1970-01-01T03:30:00Z", 0.3
        )
    )
    pieces = made["marginal"]["intensity"]["intervals"]
    assert [p["g_per_kwh"] for p in pieces] == [100.0, 300.0, 200.0, 100.0]
    assert fsum(p["energy_wh"] for p in pieces) == 0.3
    mean = (100 * 0.5 + 300 + 200 + 100 * 0.5) / 3
    assert made["marginal"]["intensity"]["g_per_kwh"] == pytest.approx(mean)
    assert pieces[0]["start"] == "1970-01-01T00:30:00.000000Z"
    assert pieces[-1]["end"] == "1970-01-01T03:30:00.000000Z"
    assert made["raw_sha256"]["marginal"] == "ab" * 32


@pytest.mark.parametrize(
    ("day", "hours"), [("2025-10-26", 25), ("2025-03-30", 23), ("2024-02-29", 24)]
)
def test_nights_that_change_the_clock_have_their_own_number_of_hours(
    provider: Callable[..., Any], factor: Callable[..., Any], day: str, hours: int
) -> None:
    from datetime import datetime, timedelta
    from zoneinfo import ZoneInfo

    start = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo("Europe/Berlin"))
    end = start + timedelta(days=1)  # wall clock arithmetic, on purpose
    grid = provider([factor(float(g)) for g in range(100, 124)])
    made = checked(CarbonEstimator("XX", grid).estimate_over_span(start, end, 24.0))
    pieces = made["marginal"]["intensity"]["intervals"]
    assert len(pieces) == hours
    assert abs(fsum(p["energy_wh"] for p in pieces) - 24.0) <= 4e-15


def test_a_hole_fails_with_a_reason_unless_a_policy_fills_it(
    provider: Callable[..., Any], factor: Callable[..., Any]
) -> None:
    span = ("1970-01-01T00:00:00Z", "1970-01-01T03:00:00Z", 3.0)
    grid = provider([factor(100.0), None, factor(200.0)])
    made = checked(CarbonEstimator("DE", grid).estimate_over_span(*span))
    assert made["carbon_gco2e"] is None
    assert made["reason"] == "missing_intervals"

    made = checked(
        CarbonEstimator("DE", grid, missing="hold:1").estimate_over_span(*span)
    )
    grid_used = made["marginal"]["intensity"]
    assert [p["g_per_kwh"] for p in grid_used["intervals"]] == [100.0, 100.0, 200.0]
    assert grid_used["intervals"][1]["flag"] == "hold_fallback"
    assert grid_used["is_estimated"] is True

    made = checked(
        CarbonEstimator("DE", grid, missing="static").estimate_over_span(*span)
    )
    grid_used = made["marginal"]["intensity"]
    assert grid_used["intervals"][1]["flag"] == "static_fallback"
    assert "static" in grid_used["provider"]
    # the average factors of this provider are CO2, the shipped ones CO2e
    assert made["average"]["reason"] == "basis_mismatch"


def test_a_zone_the_tables_do_not_know_has_nothing_to_fall_back_to(
    provider: Callable[..., Any], factor: Callable[..., Any]
) -> None:
    grid = provider([factor(100.0), None])
    made = checked(
        CarbonEstimator("CAISO_NORTH", grid, missing="static").estimate_over_span(
            *DAY, 1.0
        )
    )
    assert made["carbon_gco2e"] is None
    assert made["reason"] == "not_published"


def test_holding_ends_after_the_limit(
    provider: Callable[..., Any], factor: Callable[..., Any]
) -> None:
    span = ("1970-01-01T00:00:00Z", "1970-01-01T04:00:00Z", 3.0)
    grid = provider([factor(100.0), None, None, factor(200.0)])
    held = CarbonEstimator("DE", grid, missing="hold:1").estimate_over_span(*span)
    assert held.reason == "missing_intervals"
    longer = CarbonEstimator("DE", grid, missing="hold:2").estimate_over_span(*span)
    assert longer.carbon_gco2e is not None
    first = provider([None, factor(100.0)])
    nothing = CarbonEstimator("DE", first, missing="hold:9").estimate_over_span(*span)
    assert nothing.reason == "missing_intervals", "there is nothing to hold yet"


def test_a_provider_that_fails_is_an_error_or_a_flagged_policy(
    provider: Callable[..., Any], factor: Callable[..., Any]
) -> None:
    grid = provider([factor(100.0)])
    grid.fail = True
    with pytest.raises(ProviderError, match="no answer"):
        CarbonEstimator("DE", grid).estimate_over_span(START, END, 1.0)
    made = checked(
        CarbonEstimator("DE", grid, missing="static").estimate_over_span(
            START, END, 1.0
        )
    )
    assert made["marginal"]["intensity"]["flags"] == [
        *CarbonEstimator("DE")
        .estimate_over_span(START, END, 1.0)
        .to_dict()["marginal"]["intensity"]["flags"],
        "static_fallback",
    ]


@pytest.mark.parametrize("grams", [float("nan"), -1.0, 1e6])
def test_factors_that_cannot_be_are_refused(
    provider: Callable[..., Any], factor: Callable[..., Any], grams: float
) -> None:
    with pytest.raises(ProviderError, match="cannot be a factor"):
        CarbonEstimator("XX", provider([factor(grams)])).estimate_over_span(
            START, END, 1.0
        )


def test_a_provider_can_be_named() -> None:
    with pytest.raises(InvalidInputError, match="oracle"):
        CarbonEstimator("DE", "oracle")
    named = CarbonEstimator("DE", "static").estimate_over_span(START, END, 1.0)
    assert named == CarbonEstimator("DE").estimate_over_span(START, END, 1.0)


def test_a_series_with_a_hole_or_another_signal_is_refused(
    provider: Callable[..., Any], factor: Callable[..., Any]
) -> None:
    class Liar(type(provider([factor(1.0)]))):  # type: ignore[misc]
        def series(self, region: Any, signal: Any, start: int, end: int) -> Any:
            found = super().series(region, signal, start, end)
            if self.length_ns < 1_000_000_000_000:
                return found._replace(signal="average")
            return found._replace(intervals=found.intervals[:1] + found.intervals[2:])

    for length in (3_600_000_000_000, 600_000_000_000):
        grid = Liar([factor(100.0)], length)
        with pytest.raises(ProviderError):
            CarbonEstimator("XX", grid).estimate_over_span(*DAY, 1.0)


def test_zero_grams_per_kilowatt_hour_is_legal_and_noted(
    provider: Callable[..., Any], factor: Callable[..., Any]
) -> None:
    made = checked(
        CarbonEstimator("XX", provider([factor(0.0)])).estimate_over_span(
            START, END, 1.0
        )
    )
    assert made["carbon_gco2e"] == 0.0
    assert any("0 g/kWh" in text for text in made["warnings"])


def test_a_finer_cut_by_the_caller_is_no_more_precise(
    provider: Callable[..., Any], factor: Callable[..., Any]
) -> None:
    day = ("1970-01-01T00:00:00Z", "1970-01-02T00:00:00Z", 24.0)
    for forecast in (False, True):
        one = factor(400.0, residual=0.1, forecast=forecast)
        hourly = CarbonEstimator("XX", provider([one])).estimate_over_span(*day)
        fine = CarbonEstimator("XX", provider([one], 900_000_000_000))
        assert fine.estimate_over_span(*day).to_dict()["sd_gco2e"] == pytest.approx(
            hourly.to_dict()["sd_gco2e"], rel=1e-12
        )


def test_errors_of_a_forecast_average_out_slower_than_measured_ones(
    provider: Callable[..., Any], factor: Callable[..., Any]
) -> None:
    day = ("1970-01-01T00:00:00Z", "1970-01-02T00:00:00Z", 24.0)

    def spread(forecast: bool) -> float:
        hours = [
            factor(400.0 + h, residual=0.15, cv=0.0, forecast=forecast)
            for h in range(24)
        ]
        made = checked(
            CarbonEstimator("XX", provider(hours)).estimate_over_span(
                *day, energy_u_wh=0.0
            )
        )
        return float(made["sd_gco2e"] / made["carbon_gco2e"])

    assert spread(False) == pytest.approx(0.15 / sqrt(24), rel=1e-3)
    # the mean of the correlations 0.9**|i - j| of 24 hours
    shared = (24 + 2 * fsum((24 - k) * 0.9**k for k in range(1, 24))) / 24**2
    assert spread(True) == pytest.approx(0.15 * sqrt(shared), rel=5e-3)


def test_monte_carlo_is_the_same_to_the_bit_and_says_how_it_ran() -> None:
    estimator = CarbonEstimator("DE", method="monte_carlo")
    made = [
        checked(estimator.estimate_over_span(START, END, TruncatedNormal(1.0, 2.0)))
        for _ in range(2)
    ]
    assert made[0] == made[1]
    assert made[0]["method"] == "monte_carlo"
    assert made[0]["converged"] is True
    assert 0 <= made[0]["seed"] < 2**53
    assert made[0]["trials"] >= 20_000


def test_validation_runs_both_and_stores_how_far_they_are_apart() -> None:
    made = checked(
        CarbonEstimator("DE", pue="unknown").estimate_over_span(
            START, END, 100.0, validate=True
        )
    )
    for name in ("marginal", "average"):
        check = made[name]["validation"]
        assert check["valid"] is True
        assert max(check["d_low"], check["d_high"]) <= check["delta"]


def test_forcing_a_formula_where_none_holds_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="no analytical rule"):
        CarbonEstimator("DE", method="analytical_truncated").estimate_over_span(
            START, END, TruncatedNormal(1.0, 3.0), digits=1
        )


def test_a_changed_record_does_not_come_out_the_same() -> None:
    made = CarbonEstimator("DE").estimate_over_span(*DAY, 100.0).to_dict()
    for path, value in (
        (("carbon_gco2e",), 1.0),
        (("marginal", "sd"), 1.0),
        (("marginal", "intensity", "g_per_kwh"), 1.0),
        (("marginal", "intensity", "intervals", 0, "g_per_kwh"), 1.0),
        (("inputs", 0, "parameters", "cv"), 0.01),
        (("inputs", 1, "parameters", "cv"), 0.01),
        (("inputs", 1, "parameters", "mean"), 1.0),
        (("energy_wh",), None),
        (("average", "g"), None),
        (("label",), "marginal emissions"),
    ):
        changed = json.loads(json.dumps(made))
        at = changed
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value
        assert recompute(changed) != changed, path


def test_a_factor_of_an_older_table_or_rule_is_said_to_be_one_not_tampering() -> None:
    made = CarbonEstimator("DE").estimate_over_span(*DAY, 100.0).to_dict()
    assert made_elsewhere(made) is None
    assert difference(made) == ""
    assert RULES in made["marginal"]["intensity"]["version"]

    older = (
        CarbonEstimator("DE", OlderRules()).estimate_over_span(*DAY, 100.0).to_dict()
    )
    assert older["marginal"]["sd"] != made["marginal"]["sd"]
    assert recompute(older) == older
    assert "rules-0" in str(made_elsewhere(older))
    assert difference(older) is None  # counted as not repeated

    older["marginal"]["sd"] *= 2
    assert difference(older) == difference(older) != ""


class OlderRules(StaticProvider):
    """The shipped factors as a release with another default would have given them."""

    def series(self, *args: Any) -> Series:
        found = super().series(*args)
        (interval,) = found.intervals
        assert interval.intensity is not None
        version = interval.intensity.version.replace(RULES, "rules-0")
        factor = interval.intensity._replace(cv=0.5, version=version)
        return found._replace(intervals=(interval._replace(intensity=factor),))


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "other"},
        {"inputs": None},
        {"inputs": [{}]},
        {"marginal": {}},
        {"energy_wh": 200.0},
        {"coverage": "x"},
    ],
)
def test_what_is_no_estimate_is_refused(change: dict[str, Any]) -> None:
    made = CarbonEstimator("DE").estimate_over_span(START, END, 100.0).to_dict()
    with pytest.raises(InvalidInputError):
        recompute({**made, **change})


@pytest.mark.parametrize("method", ["auto", "monte_carlo"])
@pytest.mark.parametrize("coverage", [0, 1, -1, 1 - 1e-12, 5e-324, 1e308, float("nan")])
def test_no_record_asks_for_any_effort(method: Any, coverage: float) -> None:
    """An interval of 1 - 1e-12 would take 10**14 trials."""
    estimator = CarbonEstimator("DE", method=method)
    made = estimator.estimate_over_span(START, END, 100.0).to_dict()
    with pytest.raises(InvalidInputError, match="coverage"):
        recompute({**made, "coverage": coverage})


def test_the_async_twins_give_the_same_record() -> None:
    estimator = CarbonEstimator("DE")

    async def both() -> tuple[CarbonRecord, CarbonRecord]:
        return (
            await estimator.estimate_over_span_async(START, END, 100.0),
            await estimator.estimate_metric_async(metric()),
        )

    span, measured = asyncio.run(both())
    assert span == estimator.estimate_over_span(START, END, 100.0)
    assert measured == estimator.estimate_metric(metric())


@pytest.mark.parametrize("energy", [100.0, None])
def test_the_attributes_are_those_of_the_json(energy: float | None) -> None:
    record = CarbonEstimator("DE").estimate_over_span(START, END, energy)
    made = checked(record)
    for name in ("carbon_gco2e", "ci_low_gco2e", "ci_high_gco2e", "reason"):
        assert getattr(record, name) == made[name]


@pytest.mark.parametrize(("cv", "coverage"), [(5_000.0, 0.95), (0.3, 0.02)])
def test_a_mean_outside_its_interval_is_pointed_out(cv: float, coverage: float) -> None:
    estimator = CarbonEstimator("DE", coverage=coverage)
    record = estimator.estimate_over_span(START, END, Lognormal(100.0, cv))
    made = checked(record)
    assert not made["ci_low_gco2e"] <= made["carbon_gco2e"] <= made["ci_high_gco2e"]
    assert made["ci_low_gco2e"] < made["median_gco2e"] < made["ci_high_gco2e"]
    assert any("mean lies outside" in text for text in made["warnings"])


def test_the_text_says_mass_gas_interval_label_and_zone() -> None:
    record = CarbonEstimator("DE").estimate_over_span(START, END, 100.0)
    first, second = str(record).splitlines()
    for part in (" g CO2 ", "95 %", "attributed energy x marginal factor", "DE"):
        assert part in first
    assert "CO2e" in second
    assert "no energy is known" in str(
        CarbonEstimator("DE").estimate_over_span(START, END, None)
    )


def test_the_budget_lists_every_input_of_the_figure() -> None:
    record = CarbonEstimator("DE", pue="unknown").estimate_over_span(START, END, 100.0)
    lines = record.budget().splitlines()
    assert lines[0].split()[:3] == ["input", "distribution", "estimate"]
    names = {line.split()[0] for line in lines[2:6]}
    assert names == {"energy", "pue", "marginal.factor", "joint"}
    assert fsum(record.figure.variance_share.values()) == pytest.approx(1.0)
    assert any("u = " in line and "(k=1)" in line for line in lines)
