"""``carbon-ops estimate``: grams for a span of energy use, or for metrics."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

import click

from carbon_ops.cli import options
from carbon_ops.cli.measurement import number as rounded
from carbon_ops.cli.output import fit, visible
from carbon_ops.errors import InvalidInputError

if TYPE_CHECKING:
    from carbon_ops.intensity.base import Signal

MOST_BYTES = 10_000_000  # of one line, or of one object over many lines


@click.command(
    name="estimate",
    epilog="""\b
examples:
  carbon-ops estimate --energy-wh 120 --start 2026-01-05T08:00:00Z \\
      --end 2026-01-05T10:00:00Z --region DE
  carbon-ops estimate --region US-CA --json < metrics.jsonl

\b
exit status:
  0  every figure of the chosen signal was computed
  1  one is unknown; its reason is shown
  2  wrong usage, or input that cannot be used""",
)
@click.argument("metrics", type=click.File("rb"), required=False)
@options.energy_wh(required=False)
@click.option("--energy-j", type=float, help="The same in joules, instead.")
@options.energy_u_wh
@options.span()
@options.region
@click.option(
    "--signal",
    type=click.Choice(["marginal", "average"]),
    default="marginal",
    show_default=True,
    help="Whose figure comes first and sets the exit status.",
)
@options.pue
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
    metrics: IO[bytes] | None,
    energy_wh: float | None,
    energy_j: float | None,
    energy_u_wh: float | None,
    start: str | float | None,
    end: str | float | None,
    region: str | None,
    signal: Signal,
    pue: Any,
    provider: str,
    missing: str,
    coverage: float,
    budget: bool,
    validate: bool,
    as_json: bool,
) -> int:
    """Estimate the carbon of a span of energy use.

    Give energy and times as options; or METRICS, a file of metric JSON (one object, or
    one per line; - or a pipe reads standard input), such as "carbon-ops run --json"
    makes.

    Grams are of the gas shown: CO2 at the plant for the marginal figure, CO2e over the
    life cycle for the average one. They stand side by side and are never added. The
    interval holds the true value with the probability --coverage if the stated
    uncertainties of the inputs are right.
    """
    from carbon_ops import config
    from carbon_ops.estimate.estimator import CarbonEstimator
    from carbon_ops.estimate.inputs import number
    from carbon_ops.units import watt_hours

    if not provider.startswith("file:"):  # which has a zone of its own
        region = config.chosen("region", region)
    estimator = CarbonEstimator(
        region, provider, signal=signal, pue=pue, coverage=coverage, missing=missing
    )
    if energy_j is not None:
        if energy_wh is not None:
            raise click.UsageError("give --energy-wh or --energy-j, not both")
        energy_wh = watt_hours(number(energy_j, "--energy-j"))
    if energy_wh is not None:
        if metrics is not None or start is None or end is None:
            raise click.UsageError("energy needs --start and --end, and no METRICS")
        one = estimator.estimate_over_span(
            start, end, energy_wh, energy_u_wh=energy_u_wh, validate=validate
        )
        records = iter([one])
    else:
        if start or end or energy_u_wh is not None:
            raise click.UsageError("--start, --end and --energy-u-wh need an energy")
        metrics = metrics or (sys.stdin.buffer if sys.stdin else None)
        if metrics is None or metrics.isatty():
            raise click.UsageError("give --energy-wh, --start and --end, or METRICS")
        records = (
            estimator.estimate_metric(metric, validate=validate)
            for metric in _metrics(metrics)
        )
    unknown = count = 0
    for record in records:
        count += 1
        unknown += record.carbon_gco2e is None
        if as_json:
            click.echo(json.dumps(record.to_dict(), ensure_ascii=False))
            continue
        click.echo(("\n" if count > 1 else "") + fit(_shown(record.to_dict()), 1, 10))
        if budget:
            click.echo("\n" + "\n".join(map(visible, record.budget().splitlines())))
    if not count:
        raise InvalidInputError(
            "there was no metric to read",
            hint="Give --energy-wh, --start and --end, or a file of metrics.",
        )
    return 1 if unknown else 0


def _metrics(file: IO[bytes]) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file: one that spans it, or one or a list per line."""
    number, parsed = 0, False
    while line := file.readline(MOST_BYTES):
        number += 1
        if not line.strip():
            continue
        try:
            try:
                found = json.loads(line)
            except ValueError:
                if parsed:
                    raise
                line += file.read(MOST_BYTES)
                found = json.loads(line)
        except (ValueError, RecursionError) as error:
            large = f" (over {MOST_BYTES:,} bytes)" * (len(line) >= MOST_BYTES)
            raise InvalidInputError(
                f"line {number}{large} is not JSON: {error}",
                hint="A metric is what EnergyLogger.log_metrics() gave, as one object.",
            ) from error
        parsed = True
        for one in found if isinstance(found, list) else [found]:
            # `run --json` has the metric in a larger object.
            metric = one.get("metric", one) if isinstance(one, dict) else one
            if not isinstance(metric, dict):
                raise InvalidInputError(
                    f"line {number} is not a metric: {metric!r:.80}"
                )
            yield metric


def _shown(record: dict[str, Any]) -> str:
    """Return a table for people."""
    lines = [f"span      {record['start']} to {record['end']}"]
    energy = record["energy_wh"]
    if energy is not None:
        default = any(x["default"] for x in record["inputs"] if x["name"] == "energy")
        lines.append(
            f"energy    {energy:.6g} Wh, u = {record['energy_u_wh']:.3g} Wh (k=1"
            f"{', by default' if default else ''}), {record['energy_basis']}"
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
        keys = ("g", "median", "ci_low", "ci_high")
        cells = "".join(f"{figure[key]:12.5g}" for key in keys)
        lines.append(f"{name:10}{cells}  {figure['intensity']['gas']}")
    for name in names:
        figure = record[name]
        grid = figure["intensity"]
        if grid is not None:
            flags = f" [{', '.join(grid['flags'])}]" if grid["flags"] else ""
            lines.append(
                f"{name}: {figure['label']}; {grid['zone']} "
                f"{grid['g_per_kwh']:.4g} ± {rounded(grid['u'])} g/kWh, "
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
