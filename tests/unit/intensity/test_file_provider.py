"""A file of one's own says what it counts, or is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from carbon_ops.errors import InvalidInputError, ProviderError, UnknownRegionError
from carbon_ops.intensity.providers.file import FileProvider

NS = 1_000_000_000
START = 1_743_292_800 * NS
HOUR = 3600 * NS
DOCUMENT: dict[str, Any] = {
    "signal": "marginal",
    "factor_basis": "direct",
    "accounting": "production",
    "gas": "CO2",
    "zone": "my-campus",
    "u_rel": 0.12,
    "licence": "CC0",
    "data": [
        {
            "start": "2025-03-30T00:00:00Z",
            "end": "2025-03-30T01:00:00Z",
            "g_per_kwh": 5,
        },
        {
            "start": "2025-03-30T01:00:00Z",
            "end": "2025-03-30T02:00:00Z",
            "g_per_kwh": None,
        },
        {
            "start": "2025-03-30T02:00:00Z",
            "end": "2025-03-30T03:00:00Z",
            "g_per_kwh": 0,
            "is_forecast": True,
        },
    ],
}


def written(folder: Path, document: object) -> str:
    path = folder / "factors.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return str(path)


def test_a_json_file_gives_values_gaps_and_labels(tmp_path: Path) -> None:
    provider = FileProvider(written(tmp_path, DOCUMENT))

    series = provider.series("MY-CAMPUS", "marginal", START, START + 3 * HOUR)

    first, gap, zero = series.intervals
    assert first.intensity is not None
    assert (first.intensity.g_per_kwh, first.intensity.cv) == (5.0, 0.12)
    assert first.intensity.licence == "CC0"
    assert (gap.intensity, gap.reason) == (None, "no_data")
    assert zero.intensity is not None
    assert zero.intensity.is_forecast
    assert zero.intensity.flags == ("zero_factor",)
    assert series.raw_sha256 is not None
    assert series.raw_sha256 in first.intensity.version
    assert provider.series(None, "marginal", START, START).intervals[0].intensity


def test_without_a_stated_uncertainty_the_default_is_named(tmp_path: Path) -> None:
    document = {key: value for key, value in DOCUMENT.items() if key != "u_rel"}

    (one,) = (
        FileProvider(written(tmp_path, document))
        .series(None, "marginal", START, START + 1)
        .intervals
    )

    assert one.intensity is not None
    assert one.intensity.cv == 0.30
    assert "by default" in one.intensity.uncertainty_source


@pytest.mark.parametrize(
    "change",
    [
        {"signal": "both"},
        {"signal": None},
        {"factor_basis": "unknown"},
        {"accounting": ""},
        {"gas": "SF6"},
        {"zone": " "},
        {"zone": "DE\x1b[2J"},
        {"unit": "percentile"},
        {"unit": "lbs/MWh"},
        {"u_rel": "NaN"},
        {"u_rel": -1},
        {"data": None},
        {"data": [3]},
    ],
)
def test_a_file_that_does_not_say_what_it_counts_is_refused(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInputError):
        FileProvider(written(tmp_path, DOCUMENT | change))


@pytest.mark.parametrize(
    "row",
    [
        {"g_per_kwh": -1},
        {"g_per_kwh": "ND"},
        {"start": "2025-03-30T00:00:00"},
        {"end": "2025-03-30T00:00:00Z"},
        {"is_forecast": "perhaps"},
    ],
)
def test_a_row_that_makes_no_sense_is_refused(
    tmp_path: Path, row: dict[str, Any]
) -> None:
    good = DOCUMENT["data"][0]
    data = [good, good | row]

    with pytest.raises(ProviderError, match=r"factors.json, row 2: "):
        FileProvider(written(tmp_path, DOCUMENT | {"data": data}))


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", "a,b\n1,2\n", "{}", "\x00", "[" * 10**5]
)
def test_what_is_no_such_file_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidInputError):
        FileProvider(written(tmp_path, text))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.csv"):
        with pytest.raises(InvalidInputError):
            FileProvider(str(path))


def test_another_zone_is_refused_and_another_signal_is_a_gap(tmp_path: Path) -> None:
    provider = FileProvider(written(tmp_path, DOCUMENT))

    with pytest.raises(UnknownRegionError):
        provider.series("DE", "marginal", 0, 1)
    with pytest.raises(InvalidInputError):
        provider.series(None, "marginal", 1, 0)
    (gap,) = provider.series(None, "average", 0, 1).intervals
    assert gap.reason == "no_average_signal"
