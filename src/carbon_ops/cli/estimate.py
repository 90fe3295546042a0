"""``carbon-ops estimate``: grams for a span of energy use, or for metrics."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import IO, Any

import click

from carbon_ops.cli import options
from carbon_ops.errors import InvalidInputError

MAX_LINE = 10_000_000  # characters of one metric


@click.command(
    name="estimate",
    epilog="""\b
examples:
  carbon-ops estimate --energy-wh 120 --start 2026-01-05T08:00:00Z \\
      --end 2026-01-05T10:00:00Z --region DE
  carbon-ops estimate --region US-CA --json < metrics.jsonl

\b
exit status:
  0 when every figure of the chosen signal was computed; 1 when one is unknown (its
  reason is shown); 2 for wrong usage or input that cannot be used.""",
)
@click.argument("metrics", type=click.File("r"), required=False)
@options.energy_wh(required=False)
@click.option("--energy-j", type=float, help="The same in joules, instead.")
@options.energy_u_wh
@options.span()
@click.option(
    "--region",
    help="Country, state or cloud region: DE, US-CA, aws:...  [default: the settings']",
)
@click.option(
    "--signal",
    type=click.Choice(["marginal", "average"]),
    default="marginal",
    show_default=True,
    help="Whose figure comes first and sets the exit status.",
)
@click.option(
    "--pue",
    help="Facility overhead: a number, VALUE,U, a cloud (gcp, aws:eu-central-1) or "
    "'unknown'.  [default: none]",
)
@click.option(
    "--provider",
    default="static",
    show_default=True,
    help="Where grid factors come from: watttime, file:PATH, ...; A,B is a chain.",
)
@click.option(
    "--missing",
    default="fail",
    show_default=True,
    help="Intervals without a factor: fail, static or hold:N.",
)
@click.option(
    "--coverage", type=float, default=0.95, show_default=True, help="Of the interval."
)
@click.option("--budget", is_flag=True, help="Show the uncertainty budget.")
@click.option("--validate", is_flag=True, help="Check the interval by Monte Carlo.")
@options.as_json("One JSON object per estimate.")
def command(
    metrics: IO[str] | None,
    energy_wh: float | None,
    energy_j: float | None,
    energy_u_wh: float | None,
    start: str | None,
    end: str | None,
    region: str | None,
    signal: str,
    pue: str | None,
    provider: str,
    missing: str,
    coverage: float,
    budget: bool,
    validate: bool,
    as_json: bool,
) -> int:
    """Estimate the carbon of a span of energy use.

    Give energy and times as options; or METRICS, a file of metric JSON (one object, or
    one per line; - or a pipe reads standard input).

    Grams are of the gas shown: CO2 at the plant for the marginal figure, CO2e over the
    life cycle for the average one. They stand side by side and are never added. The
    interval holds the true value with the probability --coverage if the stated
    uncertainties of the inputs are right.
    """
    from typing import cast

    from carbon_ops import config
    from carbon_ops.estimate.estimator import CarbonEstimator
    from carbon_ops.intensity.base import Signal
    from carbon_ops.units import watt_hours

    if not provider.startswith("file:"):  # which has a zone of its own
        region = config.chosen("region", region)
    estimator = CarbonEstimator(
        region,
        provider,
        signal=cast(Signal, signal),
        pue=facility(pue),
        coverage=coverage,
        missing=missing,
    )
    if energy_j is not None:
        if energy_wh is not None:
            raise click.UsageError("give --energy-wh or --energy-j, not both")
        energy_wh = watt_hours(energy_j)
    if energy_wh is not None:
        if metrics is not None or start is None or end is None:
            raise click.UsageError("energy needs --start and --end, and no METRICS")
        records = iter(
            [
                estimator.estimate_over_span(
                    _time(start),
                    _time(end),
                    energy_wh,
                    energy_u_wh=energy_u_wh,
                    validate=validate,
                )
            ]
        )
    else:
        if metrics is None and (sys.stdin is None or sys.stdin.isatty()):
            raise click.UsageError("give --energy-wh, --start and --end, or METRICS")
        if start or end or energy_u_wh is not None:
            raise click.UsageError("--start, --end and --energy-u-wh need an energy")
        records = (
            estimator.estimate_metric(metric, validate=validate)
            for metric in _metrics(metrics or sys.stdin)
        )
    unknown = count = 0
    for record in records:
        count += 1
        unknown += record.carbon_gco2e is None
        if as_json:
            click.echo(json.dumps(record.to_dict(), ensure_ascii=False))
            continue
        click.echo(("\n" if count > 1 else "") + _shown(record.to_dict()))
        if budget:
            click.echo("\n" + record.budget())
    if not count:
        raise InvalidInputError(
            "there was no metric to read",
            hint="Give --energy-wh, --start and --end, or a file of metrics.",
        )
    return 1 if unknown else 0


def facility(text: str | None) -> Any:
    """Return what ``--pue`` says: a number, a pair of them, or a name."""
    if text is None:
        return None
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        return text
    return numbers if len(numbers) > 1 else numbers[0]


def _time(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


def span(start: str | None, end: str | None, length_s: float) -> tuple[float, float]:
    """Return both ends [s since the epoch]: now, and ``length_s`` before, by default."""
    from carbon_ops import clock
    from carbon_ops.estimate.inputs import number
    from carbon_ops.estimate.instant import instant

    length_ns = round(number(length_s, "length of the span in seconds") * 1e9)
    last = instant(_time(end), "--end") if end else clock.wall_ns()
    first = instant(_time(start), "--start") if start else last - length_ns
    return first / 1e9, last / 1e9


def _metrics(file: IO[str]) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file: one that spans it, or one per line."""
    text, number = file.readline(MAX_LINE), 1
    if not text:
        return
    try:
        first = json.loads(text)
    except ValueError:
        text += file.read(MAX_LINE)
        try:
            first = json.loads(text)
        except ValueError as error:
            raise InvalidInputError(f"not JSON: {error}") from error
    while True:
        for metric in first if isinstance(first, list) else [first]:
            if not isinstance(metric, dict):
                raise InvalidInputError(
                    f"line {number} is not a metric: {metric!r:.80}"
                )
            yield metric
        text, number = file.readline(MAX_LINE), number + 1
        while text and not text.strip():
            text, number = file.readline(MAX_LINE), number + 1
        if not text:
            return
        try:
            first = json.loads(text)
        except ValueError as error:
            raise InvalidInputError(f"line {number} is not JSON: {error}") from error


def _shown(record: dict[str, Any]) -> str:
    """Return a table for people."""
    lines = [f"span      {record['start']} to {record['end']}"]
    energy = record["energy_wh"]
    if energy is not None:
        lines.append(
            f"energy    {energy:.6g} Wh, u = {record['energy_u_wh']:.3g} Wh (k=1), "
            f"{record['energy_basis']}"
        )
    pue = record["pue"]
    lines.append(f"PUE       {pue['value']:.4g}, {pue['reason'] or 'given'}")
    lines.append(
        f"{'':10}{'mean g':>12}{'median g':>12}{'low g':>12}{'high g':>12}  gas"
    )
    names = ("marginal", "average")
    for name in names if record["signal"] == "marginal" else reversed(names):
        figure = record[name]
        if figure["g"] is None:
            lines.append(f"{name:10}{'unknown':>12}  {figure['reason']}")
            continue
        cells = (figure[k] for k in ("g", "median", "ci_low", "ci_high"))
        lines.append(
            f"{name:10}"
            + "".join(f"{cell:12.5g}" for cell in cells)
            + f"  {figure['intensity']['gas']}"
        )
    for name in names:
        figure = record[name]
        grid = figure["intensity"]
        if grid is not None:
            flags = f" [{', '.join(grid['flags'])}]" if grid["flags"] else ""
            lines.append(
                f"{name}: {figure['label']}; {grid['zone']} "
                f"{grid['g_per_kwh']:.4g} ± {grid['u']:.2g} g/kWh, "
                f"{grid['factor_basis']} {grid['gas']}, {grid['provider']} "
                f"{grid['data_time']}{flags}"
            )
    lines.append(
        f"interval  {record['coverage']:.4g}, {record['method'] or 'none'}"
        f" ({record['method_detail'] or record['reason']})"
    )
    checked = record[record["signal"]]["validation"]
    if checked is not None:
        lines.append(
            f"validated {'yes' if checked['valid'] else 'NO'}: Monte Carlo's ends differ "
            f"by {checked['d_low']:.2g} and {checked['d_high']:.2g} g, tolerance "
            f"{checked['delta']:.2g} g"
        )
    return "\n".join([*lines, *(f"warning: {text}" for text in record["warnings"])])
