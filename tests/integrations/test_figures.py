"""A metric as flat numbers for trackers."""

from __future__ import annotations

from carbon_ops import CarbonEstimator, EnergyLogger
from carbon_ops.integrations.figures import figures, origin, spoken


def test_numbers_that_are_unknown_are_left_out() -> None:
    with EnergyLogger(socket="/nowhere", model="off") as log:
        metric = log.log_metrics("work")
    assert set(figures(metric, samples=4)) == {"energy_seconds", "energy_cpu_s"}
    assert origin(metric) == "no energy (model_off)"


def test_names_carry_units_and_the_numbers_are_the_metrics(governor: str) -> None:
    with EnergyLogger(socket=governor) as log:
        metric = log.log_metrics("work")
    joules = metric["energy"]["energy_j_total"]
    assert joules is not None
    found = figures(metric, CarbonEstimator("FR").estimate_metric(metric), samples=4)
    assert found["energy_j"] == joules
    assert found["energy_j_per_sample"] == joules / 4
    assert found["energy_power_w"] == joules / metric["duration_s"]
    assert found["energy_gco2e_low"] <= found["energy_gco2e"]
    assert found["energy_gco2e"] <= found["energy_gco2e_high"]
    assert origin(metric) == "counter simulated"


def test_joules_for_people_say_how_sure_they_are() -> None:
    assert spoken(12.345, 4.1) == "12.3 ± 4.1 J"
    assert spoken(12_345.6, None) == "12346 J"
    assert spoken(None, None) == "unknown"
