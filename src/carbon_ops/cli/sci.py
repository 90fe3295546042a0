"""``carbon-ops sci``: the Software Carbon Intensity of a unit of work."""

from __future__ import annotations

import json
from typing import Any

import click

from carbon_ops.cli import options


@click.command(
    "sci",
    epilog="""\b
examples:
  carbon-ops sci --region DE --energy-wh 120 --reserved-s 3600 --hardware server \\
      --units 5000 --per request --boundary "one web server, without network"

\b
exit status:
  0 when there is a score; 1 when there is none (its reason is shown); 2 for wrong
  usage.""",
)
@options.energy_wh(required=True)
@options.energy_u_wh
@click.option("--units", type=float, required=True, help="Functional units served.")
@click.option(
    "--per", "unit", required=True, help="What one is: request, token, epoch."
)
@click.option("--boundary", required=True, help="What is counted, in words.")
@options.region
@options.pue
@click.option("--hardware", help="Kind of machine in the shipped table: server.")
@click.option(
    "--total-kg", type=float, help="Embodied kg CO2e of one machine, instead."
)
@click.option("--lifetime-years", type=float, help="Expected lifespan.  [default: 4]")
@click.option(
    "--share", type=float, default=1.0, show_default=True, help="Of it reserved."
)
@click.option("--reserved-s", type=float, help="Seconds it was reserved.")
@click.option(
    "--signal",
    type=click.Choice(["average", "marginal"]),
    default="average",
    show_default=True,
    help="Which intensity.",
)
@options.span("  [default: --reserved-s before end]", "  [default: now]")
@options.as_json()
def command(
    energy_wh: float,
    energy_u_wh: float | None,
    units: float,
    unit: str,
    boundary: str,
    region: str | None,
    pue: Any,
    hardware: str | None,
    total_kg: float | None,
    lifetime_years: float | None,
    share: float,
    reserved_s: float | None,
    signal: str,
    start: str | float | None,
    end: str | float | None,
    as_json: bool,
) -> int:
    """Print the Software Carbon Intensity (ISO/IEC 21031): (O + M) per unit.

    O is the carbon of the energy, which has to be that of all hardware reserved, with
    the facility's overhead (--pue); M the share of what making the hardware caused.
    Without a figure for M, or where it counts another gas or basis than O, there is no
    score. The +- is the standard uncertainty (k=1).
    """
    from carbon_ops import config
    from carbon_ops.estimate.estimator import CarbonEstimator
    from carbon_ops.estimate.sci import embodied, score

    made = None
    if hardware is not None or total_kg is not None:
        if reserved_s is None:
            raise click.UsageError("embodied carbon needs --reserved-s")
        machine = embodied(
            hardware, total_kg=total_kg, lifetime_years=lifetime_years, share=share
        )
        made = machine.to_dict(reserved_s)
    place = config.chosen("region", region)
    ends = options.limits(start, end, reserved_s or 0.0)
    record = CarbonEstimator(place, pue=pue).estimate_over_span(
        *ends, energy_wh, energy_u_wh=energy_u_wh
    )
    what = {"functional_unit": unit, "boundary": boundary, "signal": signal}
    result = score(record.to_dict(), made, units=units, **what)
    if as_json:
        click.echo(json.dumps(result | {"embodied": made}, indent=2))
    elif result["value"] is None:
        click.echo(f"no score: {str(result['reason']).replace('_', ' ')}")
    else:
        click.echo(f"{result['value']:.4g} +- {result['u']:.2g} {result['unit']}")
        click.echo(f"  operational {result['operational_g']:.4g} g, {result['I_type']}")
        click.echo(f"  embodied    {result['embodied_g']:.4g} g")
        click.echo(f"  R           {units:g} x {unit}")
        click.echo(f"  boundary    {boundary}")
    return 0 if result["value"] is not None else 1
