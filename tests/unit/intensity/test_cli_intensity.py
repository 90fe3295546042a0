"""What the commands about intensity print, and how they end."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from carbon_ops.cli.intensity import chart, command, hourly
from carbon_ops.cli.sci import command as sci
from carbon_ops.cli.what_if import command as what_if
from carbon_ops.errors import UnknownRegionError
from carbon_ops.intensity.base import Interval

HOUR = 3_600 * 1_000_000_000


def run(*args: str) -> Result:
    return CliRunner().invoke(command, args, standalone_mode=False)


def test_a_region_is_shown_with_both_figures() -> None:
    result = run("DE")

    assert result.return_value == 0
    assert re.search(r"marginal +740\.1 \+- 222\.0 gCO2/kWh", result.output)
    assert "gCO2e/kWh" in result.output


def test_a_region_without_any_figure_ends_with_1() -> None:
    assert run("VA").return_value == 1


def test_an_unknown_region_is_an_error_with_a_hint() -> None:
    result = run("Germny")

    assert isinstance(result.exception, UnknownRegionError)
    assert "DE (Germany)" in result.exception.hint


def test_json_has_units_in_its_keys() -> None:
    document = json.loads(run("US-CA", "--json").output)

    assert document["average"]["g_per_kwh"] == pytest.approx(179.06)
    assert document["average"]["u_g_per_kwh"] > 0


def test_the_list_names_countries_states_and_cloud_regions() -> None:
    names = [
        row["region"] for row in json.loads(run("--list", "--json").output)["regions"]
    ]

    assert {"WORLD", "DE", "US-CA", "aws:eu-central-1"} <= set(names)
    assert len(names) > 300
    assert len(run("--list").output.splitlines()) == len(names) + 1


def test_what_would_be_ignored_is_refused() -> None:
    for words in (("DE", "--history", "3"), ("--list", "--signal", "average")):
        assert isinstance(run(*words).exception, click.UsageError), words


@pytest.fixture
def factors(tmp_path: Path) -> str:
    now = int(time.time()) // 3600 * 3600
    form = "%Y-%m-%dT%H:%M:%SZ"
    rows = [
        {
            "start": time.strftime(form, time.gmtime(at)),
            "end": time.strftime(form, time.gmtime(at + 3600)),
            "g_per_kwh": 100 + (at // 3600) % 7,
            "is_forecast": at > now,
        }
        for at in range(now - 5 * 3600, now + 3 * 3600, 3600)
    ]
    path = tmp_path / "own.json"
    labels = {
        "signal": "average",
        "factor_basis": "direct",
        "accounting": "production",
        "gas": "CO2",
        "zone": "DE",
    }
    path.write_text(json.dumps(labels | {"data": rows}))
    return f"file:{path}"


def test_hours_before_and_after_now_from_a_provider(factors: str) -> None:
    shown = run("DE", "--provider", factors, "--history", "3", "--forecast", "5")
    told = json.loads(
        run("DE", "--provider", factors, "--forecast", "5", "--json").output
    )

    assert shown.return_value == 0
    assert "now" in shown.output
    assert "forecast" in shown.output
    assert "no_data" in shown.output
    assert told["average"]["intervals"][-1]["reason"] == "no_data"
    assert told["average"]["raw_sha256"]


def test_the_value_of_now(factors: str) -> None:
    result = run("DE", "--provider", factors)

    assert result.return_value == 0
    assert "direct, production" in result.output


def test_an_hour_is_the_time_weighted_mean_of_its_parts() -> None:
    from carbon_ops.intensity.region import resolve
    from carbon_ops.intensity.static import factor_of

    factor = factor_of(resolve("DE"), "average")
    assert factor is not None
    low, high = factor._replace(g_per_kwh=100.0), factor._replace(g_per_kwh=300.0)
    hours = hourly(
        [
            Interval(0, HOUR // 4, low),
            Interval(HOUR // 4, HOUR, high),
            Interval(HOUR, 2 * HOUR, None, "no_data"),
        ]
    )

    assert [value for _, value, _, _ in hours] == [250.0, None]
    assert len(chart(hours, 0, bars=True)) == 2
    assert "█" in chart(hours, 0, bars=True)[0]
    assert "no_data" in chart(hours, 0, bars=True)[1]


def test_what_if_shows_both_figures_side_by_side() -> None:
    result = CliRunner().invoke(
        what_if, ["--energy-wh", "100", "DE", "IS", "--json"], standalone_mode=False
    )
    found = json.loads(result.output)["regions"]

    assert found["DE"]["marginal"]["g"] == pytest.approx(74.01, rel=1e-3)
    assert found["IS"]["marginal"]["reason"] == "no_marginal_factor"
    assert found["IS"]["average"]["g"] > 0


def test_the_score_is_printed_or_the_reason_why_there_is_none() -> None:
    common = ["--energy-wh", "120", "--units", "10", "--per", "request"]
    common += ["--boundary", "one server", "--region", "DE", "--json"]
    hardware = ["--hardware", "server", "--reserved-s", "3600"]
    with_m = CliRunner().invoke(sci, common + hardware, standalone_mode=False)
    without = CliRunner().invoke(sci, common, standalone_mode=False)

    assert with_m.return_value == 0
    assert json.loads(with_m.output)["value"] > 0
    assert without.return_value == 1
    assert json.loads(without.output)["reason"] == "embodied_unknown"


def test_a_span_that_ended_long_ago_begins_before_its_end() -> None:
    common = ["--energy-wh", "100", "--end", "2026-01-05T10:00:00Z"]
    table = CliRunner().invoke(what_if, [*common, "DE", "aws:ap-south-1"]).output
    assert len({len(line) for line in table.splitlines()}) == 1, "columns are aligned"
    score = ["--region", "DE", "--units", "1", "--per", "run", "--boundary", "b"]
    plain, cloud = (
        json.loads(
            CliRunner()
            .invoke(
                sci,
                [
                    *common,
                    *score,
                    "--reserved-s",
                    "60",
                    "--total-kg",
                    "9",
                    "--json",
                    *pue,
                ],
                standalone_mode=False,
            )
            .output
        )
        for pue in ([], ["--pue", "1.5,0"])
    )
    assert cloud["operational_g"] == pytest.approx(1.5 * plain["operational_g"])
