"""One table for both ways out: names derive from one another by OpenTelemetry's rules."""

from __future__ import annotations

import re

import pytest

from carbon_ops.export import table
from carbon_ops.export.table import Instrument

SUFFIX = {
    "J": "joules",
    "W": "watts",
    "g": "grams",
    "s": "seconds",
    "1": "",
    "g/kWh": "grams_per_kWh",
}
# Named for what they are here; their OpenTelemetry names group them.
OWN = {
    "process.cpu.time",
    "carbon_ops.sampler.samples",
    "carbon_ops.sampler.gap.max",
    "carbon_ops.sampler.wraps",
    "carbon_ops.sampler.resets",
    "carbon_ops.measurement",
}


@pytest.mark.parametrize("row", table.TABLE, ids=lambda row: row.native)
def test_a_row_follows_the_rules(row: Instrument) -> None:
    assert re.fullmatch(r"(hw|carbon_ops)_[a-z_]+(kWh)?", row.native)
    assert (row.kind == "counter") == row.native.endswith("_total")
    assert row.unit in SUFFIX or re.fullmatch(r"\{[a-z]+\}", row.unit)
    assert "pid" not in row.labels
    assert "cmdline" not in row.labels


@pytest.mark.parametrize(
    "row",
    [row for row in table.TABLE if row.otel not in OWN],
    ids=lambda row: row.native,
)
def test_the_native_name_is_what_the_otel_exporter_makes_of_the_other(
    row: Instrument,
) -> None:
    unit = SUFFIX.get(row.unit, "")
    derived = row.otel.replace(".", "_") + (f"_{unit}" if unit else "")
    assert row.native == derived + ("_total" if row.kind == "counter" else "")


def test_names_are_unique() -> None:
    for names in (
        [row.native for row in table.TABLE],
        [row.otel for row in table.TABLE],
    ):
        assert len(set(names)) == len(names)
