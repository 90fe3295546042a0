"""Electricity Maps: flow-traced average intensity, by the hour, with a forecast.

Life-cycle CO2e of consumption, hourly. ``disableCallerLookup`` is always sent: without
it the service falls back to the zone of the caller's address. A recent span is asked from
``history`` (24 h, part of the free plan), an older one from ``past-range``.

Source: portal.electricitymaps.com/docs (v3 and v4).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from carbon_ops.errors import ProviderError
from carbon_ops.http import Secret
from carbon_ops.intensity import series
from carbon_ops.intensity.cache import Cache
from carbon_ops.intensity.providers import credentials, live
from carbon_ops.intensity.providers.live import Answer, Labels, Question
from carbon_ops.intensity.series import Point
from carbon_ops.units import HOUR_NS

KEY = "CARBON_OPS_ELECTRICITYMAPS_KEY"
_ZONE = re.compile(r"[A-Z]{2}(-[A-Z0-9]{1,8}){0,3}")
_RECENT_NS = 23 * HOUR_NS  # history reaches back 24 h; its first hour may be cut
_DAYS = 10  # the longest past-range by the hour
_HORIZONS = (6, 24, 48, 72)


class ElectricityMaps(live.LiveProvider):
    """Electricity Maps, API v4.

    Args:
        key: The ``auth-token``; else from ``CARBON_OPS_ELECTRICITYMAPS_KEY``.
    """

    name = "electricitymaps"
    base_url = "https://api.electricitymaps.com"
    labels = Labels("average", "lifecycle", "consumption", "CO2e")
    licence = "Electricity Maps' terms; free plan: non-commercial"
    version = "v4"
    publish_s = 900.0

    def __init__(
        self,
        *,
        key: str | None = None,
        base_url: str | None = None,
        cache: Cache | None = None,
    ) -> None:
        super().__init__(base_url=base_url, cache=cache)
        self._key = Secret(key) if key else None

    def headers(self) -> Mapping[str, Secret]:
        self._key = self._key or credentials.secret(KEY)
        return {"auth-token": self._key}

    def zone_of(self, region: str) -> str:
        zone = region.strip().upper()
        if _ZONE.fullmatch(zone) and "-" in zone:
            return zone  # US-CAL-CISO, DK-DK1: theirs, finer than a country
        return super().zone_of(region)

    def questions(
        self, zone: str, start_ns: int, end_ns: int, now_ns: int
    ) -> Iterator[Question]:
        hour_ns = now_ns - now_ns % HOUR_NS
        root = f"/{self.version}/carbon-intensity"
        common = {
            "zone": zone,
            "emissionFactorType": "lifecycle",
            "temporalGranularity": "hourly",
            "disableCallerLookup": "true",
        }
        old = start_ns < now_ns - _RECENT_NS
        if old:
            for low, high in live.days(start_ns, min(end_ns, hour_ns), _DAYS):
                end = min(high, hour_ns)
                span = {"start": series.text_of(low), "end": series.text_of(end)}
                yield Question(f"{root}/past-range", common | span, zone, end)
        if start_ns < hour_ns + HOUR_NS and (not old or end_ns > hour_ns):
            yield Question(f"{root}/history", common, zone, None)
        if end_ns > hour_ns + HOUR_NS:
            ahead = (end_ns - hour_ns) / HOUR_NS
            horizon = next((h for h in _HORIZONS if h >= ahead), _HORIZONS[-1])
            params = common | {"horizonHours": str(horizon)}
            yield Question(f"{root}/forecast", params, zone, None)

    def read(self, question: Question, document: Any) -> Answer:
        where = question.path
        body = live.table(document, where)
        live.same_zone(body.get("zone"), question.zone, where)
        if body.get("temporalGranularity", "hourly") != "hourly":
            raise ProviderError(f"{where} did not answer by the hour")
        forecast = where.endswith("forecast")
        key = next((k for k in ("data", "history", "forecast") if k in body), "data")
        issued = series.instant(body["updatedAt"]) if "updatedAt" in body else None
        points = []
        for row in live.rows(body, key, where):
            live.same_zone(row.get("zone"), question.zone, where)
            if row.get("emissionFactorType", "lifecycle") != "lifecycle":
                raise ProviderError(f"{where} did not answer with life-cycle factors")
            start = series.instant(row.get("datetime"))
            value = series.grams(row.get("carbonIntensity"))
            estimated = bool(row.get("isEstimated", False))
            points.append(
                Point(start, start + HOUR_NS, value, forecast, estimated, issued)
            )
        return Answer(points)


class ElectricityMapsV3(ElectricityMaps):
    """The older version of the same service."""

    version = "v3"
