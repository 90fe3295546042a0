"""The shipped tables are complete, labelled and plausible."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import carbon_ops.data
from carbon_ops.data.tables import load

FOLDER = Path(carbon_ops.data.__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob("*.csv"))


@pytest.mark.parametrize("name", NAMES)
def test_every_table_says_unit_year_source_and_licence(name: str) -> None:
    table = load(name)

    for key in ("unit", "year", "source", "licence"):
        assert table.meta[key], key
    if table.meta["year"] == "per row":
        assert {"year", "years"} & set(table.columns)


@pytest.mark.parametrize("name", NAMES)
def test_every_row_has_every_cell_and_its_key_only_once(name: str) -> None:
    lines = (FOLDER / f"{name}.csv").read_text(encoding="utf-8").splitlines()
    table = load(name)

    assert len(table.rows) == sum(not line.startswith("# ") for line in lines) - 1
    assert all(len(row) == len(table.columns) for row in table.rows.values())
    assert all(cell == cell.strip() for row in table.rows.values() for cell in row)


def test_the_hash_is_that_of_the_file() -> None:
    raw = (FOLDER / "grid_marginal.csv").read_bytes()

    assert load("grid_marginal").sha256 == hashlib.sha256(raw).hexdigest()


@pytest.mark.parametrize(
    ("country", "grams"),
    # Published examples of the method: WattTime's annual rates lie within 30 % of them.
    [
        ("US", 559),
        ("DE", 740),
        ("FR", 516),
        ("SE", 718),
        ("GB", 472),
        ("IN", 903),
        ("CN", 893),
        ("NO", 544),
    ],
)
def test_fossil_operating_margins_are_those_of_the_method(
    country: str, grams: int
) -> None:
    assert round(float(load("grid_marginal").rows[country][1])) == grams


def test_a_margin_lies_between_the_cleanest_and_the_dirtiest_fuel() -> None:
    gas, coal = 56.1 * 3.6 / 0.48, 94.6 * 3.6 / 0.37
    rows = load("grid_marginal").rows

    assert len(rows) == 157
    assert sum(row[2] == "1" for row in rows.values()) == 56
    for _, grams, _ in rows.values():
        assert gas - 0.1 <= float(grams) <= coal + 0.1


def test_averages_cover_the_world() -> None:
    rows = load("grid_average").rows

    assert len(rows) == 213
    assert all(0 < float(grams) < 1500 for _, grams in rows.values())
    assert set(rows) <= set(load("countries").rows)
    assert len(load("us_states").rows) == 51
