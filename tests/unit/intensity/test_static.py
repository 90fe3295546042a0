"""The shipped factors carry their labels and an honest width."""

from __future__ import annotations

import math
from hashlib import sha256
from itertools import pairwise

import pytest

from carbon_ops.data.tables import load
from carbon_ops.errors import InvalidInputError, UnknownRegionError
from carbon_ops.intensity.base import Intensity, Signal
from carbon_ops.intensity.region import resolve
from carbon_ops.intensity.static import RULES, StaticProvider, average_cv, factor_of
from carbon_ops.units import DAY_NS

SIGNALS: tuple[Signal, Signal] = ("marginal", "average")
START = 1_700_000_000 * 1_000_000_000


def factor(region: str | None, signal: Signal, span_ns: int = DAY_NS) -> Intensity:
    (interval,) = (
        StaticProvider().series(region, signal, START, START + span_ns).intervals
    )
    assert interval.intensity is not None
    return interval.intensity


def test_one_interval_covers_the_span() -> None:
    series = StaticProvider().series("DE", "marginal", START, START + 5)

    assert [(i.start_ns, i.end_ns) for i in series.intervals] == [(START, START + 5)]


def test_marginal_and_average_keep_their_own_labels() -> None:
    marginal, average = factor("DE", "marginal"), factor("DE", "average")

    assert (marginal.factor_basis, marginal.gas) == ("direct", "CO2")
    assert (average.factor_basis, average.gas) == ("lifecycle", "CO2e")
    assert marginal.accounting == average.accounting == "production"
    assert marginal.annual
    assert average.annual


def test_the_version_names_the_data_set_by_its_hash() -> None:
    assert load("grid_marginal").sha256 in factor("DE", "marginal").version


def test_who_changes_a_default_uncertainty_names_new_rules() -> None:
    cvs = [
        f"{factor(region, signal, span).cv:.12g}"
        for region in (None, "DE", "FR", "SE", "US-CA", "fuel:solar_pv_rooftop")
        for signal in SIGNALS
        if (region, signal) != ("fuel:solar_pv_rooftop", "marginal")
        for span in (1, DAY_NS)
    ]
    cvs += [f"{average_cv(g):.12g}" for g in (1.0, 20.0, 60.0, 120.0, 180.0, 400.0)]
    assert {RULES: sha256("".join(cvs).encode()).hexdigest()[:16]} == {
        "rules-1": "800a6a086ce6d2ac"
    }, "records made under the old values must name the old rules"


def test_a_country_without_fossil_generation_has_no_marginal_factor() -> None:
    (interval,) = StaticProvider().series("IS", "marginal", 0, 1).intervals

    assert interval.intensity is None
    assert interval.reason == "no_marginal_factor"
    assert factor("IS", "average").g_per_kwh > 0


def test_a_country_without_any_data_says_so_for_both() -> None:
    for signal in ("marginal", "average"):
        (interval,) = StaticProvider().series("VA", signal, 0, 1).intervals
        assert interval.reason == f"no_{signal}_factor"


def test_a_span_without_length_has_the_factor_of_a_short_one() -> None:
    assert factor("DE", "marginal", 0) == factor("DE", "marginal", 1)


def test_a_factor_of_no_span_is_that_of_the_year() -> None:
    assert factor_of(resolve("DE"), "marginal") == factor("DE", "marginal", DAY_NS)


def test_yearly_values_are_wider_for_less_than_a_day() -> None:
    day, hour = factor("DE", "marginal"), factor("DE", "marginal", DAY_NS - 1)

    assert day.cv == 0.30
    assert hour.cv == pytest.approx(math.hypot(0.30, 0.25))


def test_small_averages_are_less_certain_and_have_a_floor() -> None:
    assert average_cv(400.0) == 0.15
    assert average_cv(50.0) == 0.30
    assert average_cv(10.0) == 0.50  # 5 g/kWh


def test_an_average_grows_in_uncertainty_without_a_step() -> None:
    grams = [g / 10 for g in range(1, 6_000)]
    widths = [g * average_cv(g) for g in grams]
    assert all(-1e-9 < after - before < 0.031 for before, after in pairwise(widths))


def test_the_margin_of_a_hydro_country_is_flagged() -> None:
    assert "low_fossil_share" in factor("SE", "marginal").flags
    assert "low_fossil_share" not in factor("IN", "marginal").flags


def test_a_state_has_its_own_average_and_its_country_s_margin() -> None:
    average, marginal = factor("US-CA", "average"), factor("US-CA", "marginal")

    assert (average.zone, average.factor_basis) == ("US-CA", "output")
    assert average.g_per_kwh == pytest.approx(179, abs=1)
    assert (marginal.zone, marginal.flags) == ("US", ("country_factor",))


def test_no_region_is_the_world_by_default_and_wide() -> None:
    chosen, unchosen = factor("WORLD", "marginal"), factor(None, "marginal")

    assert unchosen.default
    assert not chosen.default
    assert unchosen.zone == "WORLD"
    assert unchosen.cv > factor("DE", "marginal").cv
    assert unchosen.cv < 1
    assert load("world").sha256 in unchosen.version


def test_every_country_of_the_tables_has_a_usable_factor() -> None:
    for signal in ("marginal", "average"):
        for code in load(f"grid_{signal}").rows:
            found = factor(code, signal)
            assert found.zone == code
            assert 0 < found.cv < 0.5


def test_a_plant_of_one_s_own_has_the_range_of_the_literature() -> None:
    solar = factor("fuel:solar_pv_rooftop", "average")

    assert (solar.factor_basis, solar.gas, solar.flags) == (
        "lifecycle",
        "CO2e",
        ("own_plant",),
    )
    # IPCC AR5: 26, 41 and 60 g/kWh; the median of the lognormal is that of the table.
    median = solar.g_per_kwh / math.sqrt(1 + solar.cv**2)
    assert median == pytest.approx(41)
    spread = math.exp(2 * math.sqrt(math.log1p(solar.cv**2)))
    assert spread**2 == pytest.approx(60 / 26)
    (gap,) = StaticProvider().series("FUEL:Gas_CC", "marginal", 0, 1).intervals
    assert gap.reason == "no_marginal_factor"


def test_wrong_usage_raises() -> None:
    with pytest.raises(UnknownRegionError):
        StaticProvider().series("ZZZ", "average", 0, 1)
    with pytest.raises(InvalidInputError):
        StaticProvider().series("DE", "averag", 0, 1)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError):
        StaticProvider().series("DE", "average", 1, 0)
