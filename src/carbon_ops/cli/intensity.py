"""``carbon-ops intensity``: what a kilowatt-hour causes somewhere."""

from __future__ import annotations

import json

import click

from carbon_ops.data.tables import load
from carbon_ops.intensity.base import Intensity, Signal
from carbon_ops.intensity.region import WORLD, resolve
from carbon_ops.intensity.static import factor_of

SIGNALS: tuple[Signal, Signal] = ("marginal", "average")


@click.command("intensity")
@click.argument("region", required=False)
@click.option("--list", "list_all", is_flag=True, help="All regions with both factors.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(region: str | None, list_all: bool, as_json: bool) -> None:
    """Print the yearly factors of REGION, marginal and average, in g/kWh.

    REGION is an ISO 3166 code (DE, DEU), a state (US-CA), a cloud region
    (aws:eu-central-1) or WORLD, which is also what is used when none is given. The marginal factor is what one more kilowatt-hour causes
    (fossil operating margin, direct CO2); the average one is a share of all emissions
    (life cycle, CO2e). They answer different questions and are never added. The +- is the
    standard uncertainty (k=1). Yearly values cannot tell a good hour from a bad one.

    \b
    Exit status: 0 fine, 2 unknown region or wrong usage.
    """
    if list_all:
        _list(as_json=as_json)
        return
    place = resolve(region)
    factors = {signal: factor_of(place, signal) for signal in SIGNALS}
    if as_json:
        document = {"region": place.code, "name": place.name} | {
            signal: _document(factor, signal) for signal, factor in factors.items()
        }
        click.echo(json.dumps(document, indent=2))
        return
    click.echo(f"{place.code}  {place.name}")
    for signal, factor in factors.items():
        click.echo(f"  {signal:<9} {_line(factor)}")


def _line(factor: Intensity | None) -> str:
    if factor is None:
        return "no value in the shipped tables"
    notes = "; ".join(
        (
            f"{factor.factor_basis}, {factor.accounting}",
            f"year {factor.data_time}",
            *(flag.replace("_", " ") for flag in factor.flags),
        )
    )
    sd = factor.g_per_kwh * factor.cv
    return f"{factor.g_per_kwh:7.1f} +- {sd:5.1f} g{factor.gas}/kWh  ({notes})"


def _document(factor: Intensity | None, signal: Signal) -> dict[str, object]:
    if factor is None:
        return {"g_per_kwh": None, "reason": f"no_{signal}_factor"}
    return {"u_g_per_kwh": factor.g_per_kwh * factor.cv, **factor._asdict()}


def _list(*, as_json: bool) -> None:
    tables = ("countries", "us_states", "cloud_regions")
    codes = [WORLD, *(code for name in tables for code in load(name).rows)]
    found = {}
    for code in codes:
        place = resolve(code)
        pair = {signal: factor_of(place, signal) for signal in SIGNALS}
        if any(pair.values()):
            found[code] = (place.name, pair)
    if as_json:
        regions = [
            {
                "region": code,
                "name": name,
                **{f"{s}_g_per_kwh": f and f.g_per_kwh for s, f in pair.items()},
            }
            for code, (name, pair) in found.items()
        ]
        click.echo(json.dumps({"regions": regions}, indent=2))
        return
    click.echo(f"{'region':<30}{'marginal':>10}{'average':>10}  name   (g/kWh)")
    for code, (name, pair) in found.items():
        cells = "".join(
            f"{factor.g_per_kwh:10.1f}" if factor else f"{'-':>10}"
            for factor in pair.values()
        )
        click.echo(f"{code:<30}{cells}  {name}")
