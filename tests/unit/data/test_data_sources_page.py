"""The page about data names every table, and its counts are those of the tables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import carbon_ops.data
from carbon_ops.data.tables import load

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "data-sources.md"
NAMES = [path.stem for path in Path(carbon_ops.data.__file__).parent.glob("*.csv")]


@pytest.mark.parametrize("name", sorted(NAMES))
def test_the_page_has_a_row_with_the_right_count(name: str) -> None:
    (row,) = re.findall(rf"^\| `{name}` \|.*$", PAGE.read_text("utf-8"), re.MULTILINE)
    rows = load(name).rows
    cell = row.split("|")[3].replace(",", "")

    count = int(re.findall(r"\d+", cell)[0])

    # "50 states and DC" is the one count in words
    assert count + (name == "us_states") == len(rows)
