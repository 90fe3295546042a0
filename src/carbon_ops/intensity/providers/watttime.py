"""WattTime: the marginal operating emission rate (MOER) of a grid, every five minutes.

Direct CO2 of the plants that answer one more kilowatt-hour, imports and transmission
losses included. Its ``signal-index`` is a percentile, a rank among the hours of a month;
nothing here ever asks for it, and a reply in that unit is refused.

Source: docs.watttime.org (API v3). Tokens live for 30 minutes.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from threading import Lock
from typing import Any

from carbon_ops.errors import ProviderError, UnknownRegionError
from carbon_ops.http import Reply, Secret
from carbon_ops.intensity import series
from carbon_ops.intensity.cache import Cache
from carbon_ops.intensity.providers import credentials, live
from carbon_ops.intensity.providers.live import Answer, Labels, Question
from carbon_ops.intensity.series import LB_PER_MWH, NS, Point
from carbon_ops.units import HOUR_NS

USER, PASSWORD = "CARBON_OPS_WATTTIME_USER", "CARBON_OPS_WATTTIME_PASSWORD"  # nosec
_ZONE = re.compile(r"[A-Z][A-Z0-9_]{1,39}")
_PERIODS_S = (300, 900, 1800, 3600)
_BEARER = "Bearer "
_UNIT = "lbs_co2_per_mwh"
_SIGNAL = "co2_moer"
_DAYS = 30
_LATE_NS = 600 * NS  # the newest values are not in the history yet
_MOST_HOURS = 72


class WattTime(live.LiveProvider):
    """WattTime, API v3.

    Args:
        user: Account; else from ``CARBON_OPS_WATTTIME_USER``.
        password: Its password; else from ``CARBON_OPS_WATTTIME_PASSWORD``.
    """

    name = "watttime"
    base_url = "https://api.watttime.org"
    labels = Labels("marginal", "direct", "consumption", "CO2")
    licence = "WattTime's terms, proprietary"
    version = "v3"
    publish_s = 300.0

    def __init__(
        self,
        *,
        user: str | None = None,
        password: str | None = None,
        base_url: str | None = None,
        cache: Cache | None = None,
    ) -> None:
        super().__init__(base_url=base_url, cache=cache)
        self._user = Secret(user) if user else None
        self._password = Secret(password) if password else None
        self._token: Secret | None = None
        self._lock = Lock()

    def zone_of(self, region: str) -> str:
        zone = region.strip().upper()
        if not _ZONE.fullmatch(zone) or zone == "WORLD":
            raise UnknownRegionError(
                f"{region[:80]!r} is no region of WattTime",
                hint="Use WattTime's own names, like CAISO_NORTH or DE.",
            )
        return zone

    def questions(
        self, zone: str, start_ns: int, end_ns: int, now_ns: int
    ) -> Iterator[Question]:
        common = {"region": zone, "signal_type": _SIGNAL}
        tick_ns = now_ns - now_ns % (300 * NS)
        if start_ns < tick_ns:
            for low, high in live.days(start_ns, min(end_ns, tick_ns), _DAYS):
                end = min(high, tick_ns)
                span = {
                    "start": series.text_of(low),
                    "end": series.text_of(end),
                    "include_imputed_marker": "true",
                }
                yield Question("/v3/historical", common | span, zone, end)
        if end_ns > now_ns - _LATE_NS:
            ahead = max(0, -(-(end_ns - now_ns) // HOUR_NS))
            params = common | {"horizon_hours": str(min(ahead, _MOST_HOURS))}
            yield Question("/v3/forecast", params, zone, None)

    def read(self, question: Question, document: Any) -> Answer:
        where = question.path
        meta = live.table(live.table(document, where).get("meta"), where)
        if meta.get("units") != _UNIT:
            raise ProviderError(
                f"{where} answers in {str(meta.get('units'))[:40]!r}, not in {_UNIT}",
                hint="A percentile ranks hours; it is not an intensity.",
            )
        if meta.get("signal_type") != _SIGNAL:
            raise ProviderError(f"{where} answers with another signal than {_SIGNAL}")
        live.same_zone(meta.get("region"), question.zone, where)
        period = meta.get("data_point_period_seconds")
        if period not in _PERIODS_S:
            raise ProviderError(f"{where} has points of {str(period)[:40]!r} seconds")
        forecast = where.endswith("forecast")
        issued = meta.get("generated_at")
        issued_ns = series.instant(issued) if issued else None
        points = []
        for row in live.rows(document, "data", where):
            start = series.instant(row.get("point_time"))
            value = series.grams(row.get("value"), factor=LB_PER_MWH)
            imputed = bool(row.get("imputed_data_used", False))
            end = start + int(period) * NS
            points.append(Point(start, end, value, forecast, imputed, issued_ns))
        model = meta.get("model")
        made = str(model.get("date", ""))[:20] if isinstance(model, dict) else ""
        flags = ("provider_warning",) if meta.get("warnings") else ()
        return Answer(points, f"model {made}" if made else "", flags)

    def secrets(self) -> Iterable[Secret]:
        known = [key for key in (self._user, self._password) if key is not None]
        if self._token is not None:
            known.append(Secret(self._token.reveal().removeprefix(_BEARER)))
        return known

    def ask(self, question: Question) -> Reply:
        """Ask with the token; when it has expired, log in once more and ask again."""
        token = self._token or self._login(None)
        reply = self._get(question, token)
        if reply.status == 401:
            reply = self._get(question, self._login(token))
        if reply.status != 200:
            raise self.refusal(reply)
        return reply

    def _get(self, question: Question, token: Secret) -> Reply:
        return self._http.get(question.path, question.params, {"authorization": token})

    def _login(self, expired: Secret | None) -> Secret:
        with self._lock:
            if self._token is not None and self._token is not expired:
                return self._token  # another thread was faster
            self._user = self._user or credentials.secret(USER)
            self._password = self._password or credentials.secret(PASSWORD)
            pair = f"{self._user.reveal()}:{self._password.reveal()}".encode()
            basic = Secret("Basic " + b64encode(pair).decode("ascii"))
            reply = self._http.get("/login", {}, {"authorization": basic})
            if reply.status != 200:
                raise ProviderError(
                    f"{reply.where} refuses to log in (status {reply.status})",
                    hint=f"Check {USER} and {PASSWORD}.",
                )
            token = live.table(reply.json(), reply.where).get("token")
            if not isinstance(token, str) or not token.isascii() or not token:
                raise ProviderError(f"{reply.where} sent no token")
            self._token = Secret(_BEARER + token)
            return self._token
