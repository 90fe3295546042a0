"""The Carbon Intensity API of Great Britain's system operator, by the half-hour.

Direct CO2 of consumption, imports included. Nationally a measured value is published for
at least a day as provisional, and forecasts reach 48 h ahead; the 17 regions
(``GB-1`` to ``GB-17``) have forecasts only, for the past too. Ranges include both ends.

Source: carbon-intensity.github.io/api-definitions. CC BY 4.0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from carbon_ops.errors import ProviderError, UnknownRegionError
from carbon_ops.intensity import series
from carbon_ops.intensity.providers import live
from carbon_ops.intensity.providers.live import Answer, Labels, Question
from carbon_ops.intensity.region import resolve
from carbon_ops.intensity.series import NS, Point
from carbon_ops.units import DAY_NS

_DAYS = 13  # 14 are refused, and the range has an extra slot
_AHEAD_NS = 2 * DAY_NS
_FORM = "%Y-%m-%dT%H:%MZ"
_REGIONS = 17
_SLOT_NS = 1_800 * NS


class UkCarbonIntensity(live.LiveProvider):
    """Great Britain and its 17 regions; no key."""

    name = "uk-carbon-intensity"
    base_url = "https://api.carbonintensity.org.uk"
    labels = Labels("average", "direct", "consumption", "CO2")
    licence = "CC-BY-4.0 (National Energy System Operator)"
    version = "v2"
    publish_s = 900.0
    gap_s = 1.0

    def zone_of(self, region: str) -> str:
        name, _, number = region.strip().upper().partition("-")
        if name in ("GB", "UK") and number:
            if number.isdecimal() and 1 <= int(number) <= _REGIONS:
                return f"GB-{int(number)}"
        elif resolve(region).country == "GB":
            return "GB"
        raise UnknownRegionError(
            f"{self.name} knows Great Britain, not {region[:80]!r}",
            hint=f"Regions: GB, or GB-1 to GB-{_REGIONS}.",
        )

    def questions(
        self, zone: str, start_ns: int, end_ns: int, now_ns: int
    ) -> Iterator[Question]:
        for low, high in live.days(start_ns, end_ns, _DAYS, now_ns + _AHEAD_NS):
            span = f"{series.text_of(low, _FORM)}/{series.text_of(high, _FORM)}"
            path = f"/intensity/{span}"
            if zone != "GB":
                path = f"/regional{path}/regionid/{zone.partition('-')[2]}"
            yield Question(path, {}, zone, high)

    def read(self, question: Question, document: Any) -> Answer:
        where = question.path
        body = live.table(document, where)
        if question.zone != "GB":
            body = self._region(body.get("data"), question)
        points = []
        for row in live.rows(body, "data", where):
            value = live.table(row.get("intensity"), where)
            start, end = (series.instant(row.get(key)) for key in ("from", "to"))
            if end - start != _SLOT_NS:
                raise ProviderError(f"{where} has a slot of {(end - start) / NS:g} s")
            actual = value.get("actual")
            forecast = actual is None
            chosen = value.get("forecast") if forecast else actual
            points.append(Point(start, end, series.grams(chosen), forecast))
        return Answer(points)

    def _region(self, data: Any, question: Question) -> dict[str, Any]:
        """Return the one region's object; the service wraps it in a list or not."""
        if isinstance(data, list) and len(data) == 1:
            (data,) = data
        body = live.table(data, question.path)
        live.same_zone(f"GB-{body.get('regionid')}", question.zone, question.path)
        return body
