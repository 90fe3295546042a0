"""The command line of an estimate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from carbon_ops.cli.main import cli
from carbon_ops.errors import CarbonOpsError

SPAN = ["--start", "2026-03-01T10:00:00Z", "--end", "2026-03-01T11:00:00Z"]


def run(*arguments: str, given: str | bytes | None = None) -> Result:
    return CliRunner().invoke(
        cli, ["estimate", *arguments], input=given, standalone_mode=False
    )


def metric(joules: float | None = 3600.0) -> dict[str, Any]:
    return {
        "timestamp_start": "2026-03-01T10:00:00Z",
        "timestamp_end": "2026-03-01T11:00:00Z",
        "energy": {
            "energy_j_total": joules,
            "uncertainty_j": 100.0,
            "policy": "proportional",
            "components": {"cpu": {"source": "simulated"}},
        },
    }


def test_a_span_is_shown_with_both_figures_their_gases_and_the_interval() -> None:
    found = run("--energy-wh", "100", *SPAN, "--region", "DE", "--budget")
    assert found.exit_code == 0
    for part in (
        "marginal",
        "average",
        "CO2e",
        "g/kWh",
        "static",
        "interval",
        "sensitivity",
    ):
        assert part in found.stdout


def test_joules_and_watt_hours_mean_the_same() -> None:
    one = run("--energy-wh", "1", *SPAN, "--region", "DE", "--json")
    two = run("--energy-j", "3600", *SPAN, "--region", "DE", "--json")
    assert json.loads(one.stdout) == json.loads(two.stdout)


def test_an_uncertainty_that_nobody_gave_is_not_called_given() -> None:
    energy = ("--energy-wh", "100", *SPAN, "--region", "DE")
    assert "u = 25 Wh (k=1, by default)" in run(*energy).stdout
    assert "u = 3 Wh (k=1)" in run(*energy, "--energy-u-wh", "3").stdout


def test_what_run_wrote_is_read_as_its_metric() -> None:
    one = run("--region", "DE", "--json", given=json.dumps(metric()))
    two = run("--region", "DE", "--json", given=json.dumps({"metric": metric()}))
    assert one.stdout == two.stdout


@pytest.mark.parametrize("form", ["one", "lines", "list", "pretty"])
def test_metrics_come_from_a_file_or_a_pipe(form: str, tmp_path: Path) -> None:
    text = {
        "one": json.dumps(metric()),
        "lines": "\n".join(json.dumps(metric()) for _ in range(3)) + "\n\n",
        "list": json.dumps([metric(), metric()]),
        "pretty": json.dumps(metric(), indent=2),
    }[form]
    count = {"one": 1, "lines": 3, "list": 2, "pretty": 1}[form]
    file = tmp_path / "metrics.json"
    file.write_text(text)
    for found in (
        run("--region", "DE", "--json", given=text),
        run("--region", "DE", "--json", str(file)),
    ):
        assert found.exit_code == 0
        made = [json.loads(line) for line in found.stdout.splitlines()]
        assert [m["energy_basis"] for m in made] == ["attributed"] * count


def test_an_unknown_figure_is_said_and_sets_the_status() -> None:
    found = run("--region", "DE", given=json.dumps(metric(None)))
    assert found.return_value == 1
    assert "no_energy" in found.stdout
    found = run("--energy-wh", "1", *SPAN, "--region", "IS")
    assert found.return_value == 1
    assert "no_marginal_factor" in found.stdout
    found = run("--energy-wh", "1", *SPAN, "--region", "IS", "--signal", "average")
    assert found.return_value == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["--energy-wh", "nan", *SPAN],
        ["--energy-wh", "-1", *SPAN],
        ["--energy-wh", "1", "--start", "2026-03-01", "--end", "2026-03-02"],
        ["--energy-wh", "1", *SPAN, "--region", "Atlantis"],
        ["--energy-wh", "1", *SPAN, "--pue", "0.5"],
        ["--energy-wh", "1", *SPAN, "--pue", "x,y"],
        ["--energy-wh", "1", *SPAN, "--coverage", "95"],
        ["--energy-wh", "1", *SPAN, "--provider", "oracle"],
        ["--energy-wh", "1", *SPAN, "--missing", "guess"],
    ],
)
def test_input_that_cannot_be_used_is_a_typed_error(arguments: list[str]) -> None:
    found = run(*arguments)
    assert isinstance(found.exception, CarbonOpsError)
    assert found.exception.exit_code == 2


@pytest.mark.parametrize("given", ["", "{", "[1]", "7", '{"energy": {}}', "{}\n{"])
def test_what_is_no_metric_is_a_typed_error(given: str) -> None:
    assert isinstance(run("--region", "DE", given=given).exception, CarbonOpsError)


@pytest.mark.parametrize("given", [b"\xfb\x00\x01", b"[" * 100_000, b"9" * 5_000])
def test_what_is_no_json_at_all_is_refused_with_its_line(given: bytes) -> None:
    found = run("--region", "DE", given=given)
    assert isinstance(found.exception, CarbonOpsError)
    assert str(found.exception).startswith("line 1 is not JSON")


def test_a_file_from_another_system_is_read(tmp_path: Path) -> None:
    file = tmp_path / "metrics.json"
    lines = f"\r\n{json.dumps(metric())}\r\n" * 2
    file.write_bytes(b"\xef\xbb\xbf" + lines.strip().encode() + b"\r\n")
    assert run("--region", "DE", str(file)).exit_code == 0


def test_joules_that_cannot_be_are_refused_by_their_own_name() -> None:
    found = run("--energy-j", "-3600", *SPAN, "--region", "DE")
    assert str(found.exception) == "--energy-j must be at least 0, got -3600.0"


def test_a_budget_shows_nothing_that_moves_the_cursor() -> None:
    forged = metric()
    forged["energy"]["components"]["cpu"]["source"] = "\x1b[2J"
    found = run("--region", "DE", "--budget", given=json.dumps(forged))
    assert found.exit_code == 0
    assert "source ?[2J" in found.stdout
    assert "\x1b" not in found.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["--energy-wh", "1"],
        ["--energy-wh", "1", "--energy-j", "1", *SPAN],
        ["--start", "2026-03-01T10:00:00Z"],
    ],
)
def test_half_a_question_is_wrong_usage(arguments: list[str]) -> None:
    found = run(*arguments, given=json.dumps(metric()))
    assert type(found.exception).__name__ == "UsageError"
