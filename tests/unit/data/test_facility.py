"""PUE and embodied figures come from the tables, or not at all."""

from __future__ import annotations

import pytest

from carbon_ops.data.facility import embodied_in, pue_of
from carbon_ops.data.tables import load
from carbon_ops.errors import InvalidInputError
from carbon_ops.intensity.region import resolve


def test_a_region_s_own_pue_wins_over_the_operator_s_mean() -> None:
    own, mean = pue_of("aws:eu-central-1"), pue_of("aws:eu-west-3")

    assert own is not None
    assert mean is not None
    assert (own.value, own.u) == (1.35, 0.02)
    assert (mean.value, mean.u) == (1.225, 0.114)


@pytest.mark.parametrize("name", ["", "DE", "aws:nowhere-1", "ibm", "aws-eu-west-1"])
def test_no_pue_is_invented(name: str) -> None:
    assert pue_of(name) is None


def test_the_mean_of_the_disclosed_regions_is_the_operator_s_figure() -> None:
    for operator in ("aws", "gcp"):
        values = [
            float(row[2])
            for code, row in load("cloud_regions").rows.items()
            if code.startswith(operator) and row[2]
        ]
        mean = float(load("cloud_operators").rows[operator][0])
        assert sum(values) / len(values) == pytest.approx(mean, abs=5e-4)


def test_every_cloud_region_lies_in_a_country_and_state_we_know() -> None:
    for code in load("cloud_regions").rows:
        place = resolve(code)
        assert place.code == code
        assert place.country in load("countries").rows
        assert place.state is None or place.state in load("us_states").rows
        assert pue_of(code) is not None


def test_unknown_hardware_is_refused_with_what_is_known() -> None:
    assert embodied_in("server").total_g == 1_300_000
    with pytest.raises(InvalidInputError) as error:
        embodied_in("toaster")
    assert "server" in error.value.hint
