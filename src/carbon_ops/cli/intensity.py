"""``carbon-ops intensity``: what a kilowatt-hour causes somewhere, now or by the hour."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

from carbon_ops import clock
from carbon_ops.cli import options
from carbon_ops.cli.output import is_terminal
from carbon_ops.data.tables import load
from carbon_ops.errors import ProviderError
from carbon_ops.intensity.base import (
    Intensity,
    IntensityProvider,
    Interval,
    Series,
    Signal,
)
from carbon_ops.intensity.region import FUEL, WORLD, resolve
from carbon_ops.intensity.static import factor_of
from carbon_ops.units import HOUR_NS

SIGNALS: tuple[Signal, Signal] = ("marginal", "average")
MOST_HOURS = 24 * 31
BAR = 40  # characters of the longest bar
EIGHTHS = " ▏▎▍▌▋▊▉"


@click.command(
    "intensity",
    epilog="""\b
examples:
  carbon-ops intensity DE
  carbon-ops intensity GB --provider uk-carbon-intensity --history 12 --forecast 12
  carbon-ops intensity CAISO_NORTH --provider watttime --json

\b
exit status:
  0 when there is a value; 1 when the region or the hours asked for have none;
  2 for an unknown region, a provider that gives no answer, or wrong usage.""",
)
@click.argument("region", required=False)
@click.option("--list", "list_all", is_flag=True, help="All regions with both factors.")
@click.option(
    "--provider",
    "spec",
    help="Ask a live provider, a file:PATH, or several with commas between.",
)
@click.option("--signal", type=click.Choice(SIGNALS), help="Only this one.")
@click.option(
    "--history", type=click.IntRange(1, MOST_HOURS), help="Hours before now to show."
)
@click.option(
    "--forecast", type=click.IntRange(1, MOST_HOURS), help="Hours after now to show."
)
@click.option("--offline", is_flag=True, help="Only what the cache holds.")
@options.as_json()
def command(
    region: str | None,
    list_all: bool,
    spec: str | None,
    signal: Signal | None,
    history: int | None,
    forecast: int | None,
    offline: bool,
    as_json: bool,
) -> int:
    """Print what a kilowatt-hour causes in REGION, marginal and average, in g/kWh.

    REGION is an ISO 3166 code (DE, DEU), a state (US-CA), a cloud region
    (aws:eu-central-1), a plant of your own (fuel:wind_onshore) or WORLD; without one it
    is that of the settings, or WORLD. A live provider may have names of its own. The
    marginal factor is what one more kilowatt-hour causes, the average one a share of all
    emissions; they answer different questions and are never added. The +- is the
    standard uncertainty (k=1).

    Without --provider these are shipped yearly values, no network is used, and nothing
    is said about single hours.
    """
    from carbon_ops import config

    if not (spec or "").startswith("file:"):  # which has a zone of its own
        region = config.chosen("region", region)
    if spec is None:
        if history or forecast or offline:
            raise click.UsageError("yearly values have no hours: name a --provider")
        if list_all:
            if signal:
                raise click.UsageError("--list shows both signals, without --signal")
            _list(as_json=as_json)
            return 0
        return _yearly(region, [signal] if signal else SIGNALS, as_json=as_json)
    if list_all:
        raise click.UsageError("--list shows the shipped tables, without --provider")
    return _live(spec, region, signal, history, forecast, offline, as_json=as_json)


def _yearly(region: str | None, signals: Sequence[Signal], *, as_json: bool) -> int:
    place = resolve(region)
    factors = {signal: factor_of(place, signal) for signal in signals}
    if as_json:
        document = {"region": place.code, "name": place.name} | {
            signal: _document(factor, f"no_{signal}_factor")
            for signal, factor in factors.items()
        }
        click.echo(json.dumps(document, indent=2))
    else:
        click.echo(f"{place.code}  {place.name}")
        for signal, factor in factors.items():
            click.echo(f"  {signal:<9} {_line(factor)}")
    return 0 if any(factors.values()) else 1


def _live(
    spec: str,
    region: str | None,
    signal: Signal | None,
    history: int | None,
    forecast: int | None,
    offline: bool,
    *,
    as_json: bool,
) -> int:
    from carbon_ops.intensity.cache import Cache
    from carbon_ops.intensity.providers import open_provider

    provider = open_provider(spec, cache=Cache(offline=offline))
    now = clock.wall_ns()
    start = now - (history or 0) * HOUR_NS
    end = now + (forecast or 0) * HOUR_NS
    try:
        found = [
            provider.series(region, one, start, end)
            for one in ([signal] if signal else _signals(provider))
        ]
    finally:
        close = getattr(provider, "close", None)
        if callable(close):
            close()
    if as_json:
        click.echo(json.dumps(_hours(region, provider.name, found), indent=2))
    else:
        for series in found:
            _show(series, now)
    known = any(i.intensity for series in found for i in series.intervals)
    return 0 if known else 1


def _signals(provider: IntensityProvider) -> list[Signal]:
    """Return the signals a provider declares; all of them where it declares none."""
    kind = getattr(provider, "kind", None)
    if not callable(kind):
        return list(SIGNALS)
    found = [signal for signal in SIGNALS if kind(signal) is not None]
    if not found:
        raise ProviderError(f"{provider.name} has no signal")
    return found


def _show(series: Series, now: int) -> None:
    first = next((i.intensity for i in series.intervals if i.intensity), None)
    if first is None:
        reasons = sorted({i.reason or "" for i in series.intervals})
        click.echo(f"  {series.signal:<9} no value: {', '.join(reasons)}")
        return
    if len(series.intervals) == 1:
        click.echo(f"{first.zone}  {first.provider}")
        click.echo(f"  {series.signal:<9} {_line(first)}")
        return
    click.echo(
        f"{first.zone}  {first.provider}  {series.signal}, g{first.gas}/kWh, "
        f"{first.factor_basis}, {first.accounting}; +- {first.cv:.0%} (k=1); times UTC"
    )
    for line in chart(hourly(series.intervals), now, bars=is_terminal(sys.stdout)):
        click.echo(line)


def hourly(
    intervals: Iterable[Interval],
) -> list[tuple[int, float | None, bool, str | None]]:
    """Return start, time-weighted mean [g/kWh], forecast and reason of each hour."""
    sums: dict[int, list[float]] = {}
    marks: dict[int, tuple[bool, str | None]] = {}
    for interval in intervals:
        at = interval.start_ns
        while at < interval.end_ns:
            hour = at - at % HOUR_NS
            until = min(hour + HOUR_NS, interval.end_ns)
            total = sums.setdefault(hour, [0.0, 0.0])
            forecast, reason = marks.get(hour, (False, None))
            factor = interval.intensity
            if factor is None:
                marks[hour] = (forecast, interval.reason)
            else:
                total[0] += factor.g_per_kwh * (until - at)
                total[1] += until - at
                marks[hour] = (forecast or factor.is_forecast, reason)
            at = until
    return [
        (hour, weighted / length if length else None, *marks[hour])
        for hour, (weighted, length) in sorted(sums.items())
    ]


def chart(
    hours: Sequence[tuple[int, float | None, bool, str | None]],
    now: int,
    *,
    bars: bool,
) -> list[str]:
    """Return one line per hour, with a bar where that helps a reader."""
    top = max((value for _, value, _, _ in hours if value is not None), default=0.0)
    lines = []
    for hour, value, forecast, reason in hours:
        time = clock.rfc3339(hour)[5:16].replace("T", " ")
        if value is None:
            lines.append(f"  {time}  {'-':>7}  {reason}")
            continue
        present = hour <= now < hour + HOUR_NS
        mark = " ".join(["forecast"] * forecast + ["now"] * present)
        bar = ""
        if bars and top > 0:
            whole, part = divmod(round(value / top * BAR * 8), 8)
            bar = f"{'█' * whole}{EIGHTHS[part].strip()}".ljust(BAR + 1)
        lines.append(f"  {time}  {value:7.1f}  {bar}{mark}".rstrip())
    return lines


def _hours(
    region: str | None, provider: str, found: Sequence[Series]
) -> dict[str, object]:
    document: dict[str, object] = {"region": region, "provider": provider}
    for series in found:
        intervals = [
            {"start": clock.rfc3339(i.start_ns), "end": clock.rfc3339(i.end_ns)}
            | _document(i.intensity, i.reason)
            for i in series.intervals
        ]
        document[series.signal] = {
            "raw_sha256": series.raw_sha256,
            "intervals": intervals,
        }
    return document


def _line(factor: Intensity | None) -> str:
    if factor is None:
        return "no value in the shipped tables"
    when = f"year {factor.data_time}" if factor.annual else factor.data_time
    notes = [f"{factor.factor_basis}, {factor.accounting}", when]
    notes += ["forecast"] * factor.is_forecast + ["estimated"] * factor.is_estimated
    notes += [flag.replace("_", " ") for flag in factor.flags]
    value, u = factor.g_per_kwh, factor.u_g_per_kwh
    return f"{value:7.1f} +- {u:5.1f} g{factor.gas}/kWh  ({'; '.join(notes)})"


def _document(factor: Intensity | None, reason: str | None) -> dict[str, Any]:
    if factor is None:
        return {"g_per_kwh": None, "reason": reason}
    return {"u_g_per_kwh": factor.u_g_per_kwh, **factor._asdict()}


def _list(*, as_json: bool) -> None:
    tables = ("countries", "us_states", "cloud_regions")
    codes = [WORLD, *(code for name in tables for code in load(name).rows)]
    codes += [FUEL + name for name in load("fuels").rows]
    rows: list[dict[str, Any]] = []
    for code in codes:
        place = resolve(code)
        both = {signal: factor_of(place, signal) for signal in SIGNALS}
        if any(both.values()):
            values = {f"{s}_g_per_kwh": f and f.g_per_kwh for s, f in both.items()}
            rows.append({"region": code, "name": place.name} | values)
    if as_json:
        click.echo(json.dumps({"regions": rows}, indent=2))
        return
    click.echo(f"{'region':<30}{'marginal':>10}{'average':>10}  name   (g/kWh)")
    for row in rows:
        pair = (row[f"{signal}_g_per_kwh"] for signal in SIGNALS)
        cells = "".join(f"{'-':>10}" if x is None else f"{x:10.1f}" for x in pair)
        click.echo(f"{row['region']:<30}{cells}  {row['name']}")
