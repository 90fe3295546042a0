"""Processors are found under the names that /proc/cpuinfo gives them."""

from __future__ import annotations

import pytest

from carbon_ops.data.cpu import generic, watts


@pytest.mark.parametrize(
    ("model_name", "tdp_w"),
    [
        ("Intel(R) Core(TM) i7-8700K CPU @ 3.70GHz", 95.0),
        ("11th Gen Intel(R) Core(TM) i7-1165G7 @ 2.80GHz", 28.0),
        ("AMD Ryzen 9 5950X 16-Core Processor", 105.0),
        ("AMD EPYC 7R13 48-Core Processor", 225.0),
        ("Apple M1", 10.0),
    ],
)
def test_thermal_design_power_of_known_processors(
    model_name: str, tdp_w: float
) -> None:
    found = watts(model_name)

    assert found is not None
    assert found.match == "tdp"
    assert found.max_w == tdp_w
    assert 0 < found.idle_w < 0.2 * found.max_w
    assert found.threads is None


def test_a_measured_server_wins_over_its_design_power() -> None:
    found = watts("Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz")

    assert found is not None
    assert (found.match, found.threads) == ("measured", 128)
    assert found.max_w == pytest.approx(611, abs=1)  # two sockets of 300 W


@pytest.mark.parametrize("model_name", ["", "Intel(R) Xeon(R) Processor", "tdp_w", "#"])
def test_an_unknown_processor_is_not_guessed(model_name: str) -> None:
    assert watts(model_name) is None


def test_the_generic_figures_scale_with_threads() -> None:
    one, many = generic(1), generic(64)

    assert many.max_w == pytest.approx(64 * one.max_w)
    assert 0 < one.idle_w < one.max_w < 15
    assert many.match == "generic"
