"""Energy-Charts of Fraunhofer ISE: average intensity of European countries.

CO2e, by the quarter-hour, with a forecast of a day; the newest measured values are null.
The service does not state whether imports and upstream emissions are counted, so its
factors carry the flag ``basis_not_stated``; they are labelled life-cycle production.

Source: api.energy-charts.info. CC BY 4.0; two requests per second.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from carbon_ops.errors import ProviderError
from carbon_ops.intensity import series
from carbon_ops.intensity.providers import live
from carbon_ops.intensity.providers.live import Answer, Labels, Question
from carbon_ops.intensity.series import NS, Point
from carbon_ops.units import DAY_NS

_DAYS = 30
_AHEAD_NS = 2 * DAY_NS
_STEPS_S = (900, 1800, 3600)


class EnergyCharts(live.LiveProvider):
    """European countries; no key."""

    name = "energy-charts"
    base_url = "https://api.energy-charts.info"
    labels = Labels("average", "lifecycle", "production", "CO2e")
    licence = "CC-BY-4.0 (Fraunhofer ISE, Energy-Charts)"
    version = "v1"
    publish_s = 900.0
    gap_s = 0.5

    def questions(
        self, zone: str, start_ns: int, end_ns: int, now_ns: int
    ) -> Iterator[Question]:
        for low, high in live.days(start_ns, end_ns, _DAYS, now_ns + _AHEAD_NS):
            # Unix seconds: a date alone would mean the country's own midnight.
            params = {
                "country": zone.lower(),
                "start": str(low // NS),
                "end": str(high // NS - 1),  # the end is included
            }
            yield Question("/co2eq", params, zone, high)

    def read(self, question: Question, document: Any) -> Answer:
        where = question.path
        body = live.table(document, where)
        times = _column(body, "unix_seconds", where)
        measured = _column(body, "co2eq", where, len(times))
        forecast = _column(body, "co2eq_forecast", where, len(times))
        if not all(type(t) is int for t in times) or times != sorted(set(times)):
            raise ProviderError(f"{where} sent times that do not rise")
        steps = [b - a for a, b in pairwise(times)]
        step = min(steps, default=_STEPS_S[0])
        if step not in _STEPS_S:
            raise ProviderError(f"{where} has points of {step} s")
        points = []
        for at, seen, foretold in zip(times, measured, forecast, strict=True):
            value = foretold if seen is None else seen
            start, end = at * NS, (at + step) * NS
            points.append(Point(start, end, series.grams(value), seen is None))
        flags = ("basis_not_stated",) + ("deprecated",) * bool(body.get("deprecated"))
        return Answer(points, "", flags)


def _column(
    body: dict[str, Any], name: str, where: str, length: int | None = None
) -> list[Any]:
    column = body.get(name)
    if column is None and length is not None:
        return [None] * length
    if not isinstance(column, list) or (length is not None and len(column) != length):
        raise ProviderError(f"{where} sent no column {name!r} of the right length")
    return column
