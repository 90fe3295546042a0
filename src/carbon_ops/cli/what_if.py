"""``carbon-ops what-if``: the same energy in other regions."""

from __future__ import annotations

import json
from typing import Any

import click

from carbon_ops.cli import options


@click.command(
    "what-if",
    epilog="""\b
examples:
  carbon-ops what-if --energy-wh 120 DE FR SE US-CA aws:ap-south-1

\b
exit status:
  0 fine; 2 for an unknown region or wrong usage.""",
)
@click.argument("regions", nargs=-1, required=True)
@options.energy_wh(required=True)
@options.energy_u_wh
@options.span("  [default: a day before]", "  [default: now]")
@options.as_json()
def command(
    regions: tuple[str, ...],
    energy_wh: float,
    energy_u_wh: float | None,
    start: str | float | None,
    end: str | float | None,
    as_json: bool,
) -> None:
    """Show what the same energy would have caused in REGIONS.

    Both figures come with their 95 % interval: marginal (direct CO2 of one more
    kilowatt-hour) and average (a share of all emissions, life-cycle CO2e). Where
    intervals overlap widely the data do not say which region is better. The factors are
    yearly, so this compares places, not hours.
    """
    from carbon_ops.estimate.estimator import CarbonEstimator

    ends, estimator = options.limits(start, end, 86_400.0), CarbonEstimator()
    found = {
        region: estimator.estimate_over_span(
            *ends, energy_wh, energy_u_wh=energy_u_wh, region=region
        ).to_dict()
        for region in regions
    }
    if as_json:
        click.echo(json.dumps({"energy_wh": energy_wh, "regions": found}))
        return
    width = max(12, *map(len, found))
    head = f"{'marginal (gCO2)':>32}{'average (gCO2e)':>32}"
    click.echo(f"{energy_wh:g} Wh".ljust(width) + head)
    for region, record in found.items():
        cells = "".join(
            f"{_cell(record[side]):>32}" for side in ("marginal", "average")
        )
        click.echo(f"{region:<{width}}{cells}")


def _cell(side: dict[str, Any]) -> str:
    if side["g"] is None:
        return str(side["reason"])
    return f"{side['g']:.4g}  [{side['ci_low']:.4g}, {side['ci_high']:.4g}]"
