"""The page about data names every table, and its counts are those of the tables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import carbon_ops.data
from carbon_ops.data.tables import load
from carbon_ops.intensity.providers.file import FileProvider
from carbon_ops.intensity.series import NS, instant

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


def test_the_examples_of_the_page_run(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)

    for block in blocks:
        exec(compile(block, PAGE.name, "exec"), {})

    assert len(blocks) == 2
    assert "gCO2e per request" in capsys.readouterr().out


def test_the_example_file_of_the_page_is_read(tmp_path: Path) -> None:
    (text,) = re.findall(r"```csv\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    path = tmp_path / "own.csv"
    path.write_text(text)
    start = instant("2026-01-05T08:00:00Z")

    series = FileProvider(str(path)).series("DE", "average", start, start + 7200 * NS)

    assert [i.intensity and i.intensity.g_per_kwh for i in series.intervals] == [
        312.5,
        298.0,
    ]
