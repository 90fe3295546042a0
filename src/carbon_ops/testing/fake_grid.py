"""Local servers that answer like the providers of grid intensity, faults included.

They keep the awkward parts of the real services: keys and tokens that expire, ranges
that include both ends, null tails, numbers sent as text, a zone guessed from the caller's
address, limits on ranges and rates, and a clock of their own that may be wrong. The value
of every zone at every instant is :func:`truth`, so that a client can be checked against
what it should have understood.

    with FakeWattTime() as server:
        provider = WattTime(base_url=server.url, user="u", password="p")
"""

from __future__ import annotations

import json
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from carbon_ops.errors import ProviderError
from carbon_ops.intensity.series import NS, instant, text_of

DAY_S, HOUR_S = 86_400, 3_600
LB_PER_MWH_OF_G_PER_KWH = 1 / 0.45359237


def truth(zone: str, at_s: int) -> float:
    """Return the intensity [g/kWh] of ``zone`` at ``at_s`` [s since the Unix epoch].

    A whole number between 100 and 500, another one in every five minutes.
    """
    tick = at_s // 300
    return float(100 + (tick * 7919 + sum(zone.encode()) * 31) % 401)


class Seen(NamedTuple):
    """One request as the server saw it."""

    path: str
    params: dict[str, str]
    headers: dict[str, str]


class Answer(NamedTuple):
    """What a server sends."""

    status: int
    body: object  # bytes are sent as they are, anything else as JSON
    headers: Mapping[str, str] = {}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say what went wrong here; that a client hung up is its own affair."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class FakeServer:
    """A server on the loopback interface with a list of what it was asked.

    Attributes:
        seen: All requests so far.
        faults: Answers that are sent, one per request, before any true one.
        skew_s: How far this server's clock is ahead [s].
        as_text: Send numbers as text, as some services do.
    """

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.faults: list[Answer] = []
        self.skew_s = 0
        self.as_text = False
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                headers = {k.lower(): v for k, v in self.headers.items()}
                seen = Seen(parts.path, dict(parse_qsl(parts.query)), headers)
                fake.seen.append(seen)
                answer = fake.faults.pop(0) if fake.faults else fake.answer(seen)
                body = answer.body
                raw = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(answer.status)
                sent = {"content-type": "application/json"} | dict(answer.headers)
                for name, value in sent.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_: object) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}
        )
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def now_s(self) -> int:
        return int(time.time()) + self.skew_s

    def answer(self, seen: Seen) -> Answer:
        """Return the true answer to a request."""
        raise NotImplementedError

    def number(self, value: float | None) -> object:
        return str(value) if self.as_text and value is not None else value

    def close(self) -> None:
        """Stop answering; a second call does nothing."""
        if not self._thread.is_alive():
            return
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> FakeServer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _seconds(text: str) -> int:
    return instant(text) // NS


def _iso(at_s: int, form: str = "%Y-%m-%dT%H:%M:%S+00:00") -> str:
    return text_of(at_s * NS, form)


class FakeElectricityMaps(FakeServer):
    """``auth-token``, hourly values, 24 h of history, past ranges of at most 10 days.

    A zone that it does not know becomes the zone of the caller's address (``FR``) unless
    ``disableCallerLookup`` is sent; ``lies`` makes it do so in any case. The newest two
    hours are estimated. A key for another zone gets 401, as it does on the free plan.
    """

    zones: ClassVar[tuple[str, ...]] = ("DE", "FR", "US-CAL-CISO")
    form: ClassVar[str] = "%Y-%m-%dT%H:%M:%S.000Z"

    def __init__(self, key: str = "k3y") -> None:
        self.key = key
        self.lies = False
        super().__init__()

    def answer(self, seen: Seen) -> Answer:
        if seen.headers.get("auth-token") != self.key:
            return Answer(401, {"error": "Invalid auth-token"})
        _, version, signal, what = seen.path.split("/")
        if version not in ("v3", "v4") or signal != "carbon-intensity":
            return Answer(404, {"error": "Not found"})
        zone = seen.params.get("zone", "")
        if self.lies or (
            zone not in self.zones and seen.params.get("disableCallerLookup") != "true"
        ):
            zone = "FR"
        if zone not in self.zones:
            return Answer(404, {"error": f'No recent data for zone "{zone}"'})
        hour = self.now_s() // HOUR_S * HOUR_S
        if what == "history":
            rows = self._rows(zone, hour - 23 * HOUR_S, hour + HOUR_S)
            return Answer(200, {"zone": zone, "history": rows})
        if what == "past-range":
            low, high = _seconds(seen.params["start"]), _seconds(seen.params["end"])
            if high - low > 10 * DAY_S:
                text = "Range too long: at most 10 days by the hour"
                return Answer(400, {"status": "error", "message": text})
            return Answer(200, {"data": self._rows(zone, low, min(high, hour))})
        if what == "forecast":
            ahead = int(seen.params["horizonHours"])
            times = range(hour, hour + ahead * HOUR_S, HOUR_S)
            rows = [self._value(zone, at) for at in times]
            made = _iso(self.now_s(), self.form)
            return Answer(200, {"zone": zone, "forecast": rows, "updatedAt": made})
        return Answer(404, {"error": "Not found"})

    def _value(self, zone: str, at: int) -> dict[str, object]:
        value = self.number(truth(zone, at))
        return {"carbonIntensity": value, "datetime": _iso(at, self.form)}

    def _rows(self, zone: str, low: int, high: int) -> list[dict[str, object]]:
        late = self.now_s() - 2 * HOUR_S
        return [
            self._value(zone, at)
            | {
                "zone": zone,
                "updatedAt": _iso(at + HOUR_S, self.form),
                "emissionFactorType": "lifecycle",
                "isEstimated": at > late,
                "estimationMethod": "TIME_SLICER_AVERAGE" if at > late else None,
            }
            for at in range(low - low % HOUR_S, high, HOUR_S)
        ]


class FakeWattTime(FakeServer):
    """Login with user and password, tokens that expire, lb/MWh every five minutes.

    A token dies after ``token_life`` requests, so that it expires in the middle of a run
    without anybody waiting 30 minutes. ``end`` is included. History lags by ten minutes;
    a forecast begins at this server's now. ``units``, ``region_told`` and
    ``signal_told`` make it answer something else than was asked.
    """

    regions: ClassVar[tuple[str, ...]] = ("CAISO_NORTH", "DE")

    def __init__(self, user: str = "ann", password: str = "pa55") -> None:  # nosec
        pair = f"{user}:{password}".encode()
        self._basic = "Basic " + b64encode(pair).decode()
        self._left: dict[str, int] = {}
        self.logins = 0
        self.token_life = 1_000_000
        self.units = "lbs_co2_per_mwh"
        self.region_told: str | None = None
        self.signal_told = "co2_moer"
        super().__init__()

    def answer(self, seen: Seen) -> Answer:
        given = seen.headers.get("authorization", "")
        if seen.path == "/login":
            if given != self._basic:
                return Answer(403, {"error": "FORBIDDEN", "message": "Bad login"})
            self.logins += 1
            token = f"t0ken{self.logins}"
            self._left[f"Bearer {token}"] = self.token_life
            return Answer(200, {"token": token})
        left = self._left.get(given, 0)
        if left <= 0:
            return Answer(401, {"error": "UNAUTHORIZED", "message": "Token expired"})
        self._left[given] = left - 1
        region = seen.params.get("region", "")
        if region not in self.regions:
            text = f"No access to region {region}"
            return Answer(403, {"error": "INVALID_SCOPE", "message": text})
        if seen.params.get("signal_type") != "co2_moer":
            return Answer(400, {"error": "BAD_SIGNAL", "message": "Unknown signal"})
        return self._data(seen, region)

    def _data(self, seen: Seen, region: str) -> Answer:
        now = self.now_s()
        meta: dict[str, Any] = {
            "data_point_period_seconds": 300,
            "region": self.region_told or region,
            "warnings": [],
            "signal_type": self.signal_told,
            "model": {"date": "2023-03-01"},
            "units": self.units,
        }
        if seen.path == "/v3/signal-index":
            rows = [{"point_time": _iso(now), "value": 96.0}]
            return Answer(200, {"data": rows, "meta": meta | {"units": "percentile"}})
        if seen.path == "/v3/forecast":
            first = now - now % 300
            last = first + int(seen.params["horizon_hours"]) * HOUR_S
            meta |= {"generated_at": _iso(now), "generated_at_period_seconds": 300}
        elif seen.path == "/v3/historical":
            first, last = (_seconds(seen.params[key]) for key in ("start", "end"))
            if last - first > 32 * DAY_S:
                return Answer(400, {"error": "BAD_RANGE", "message": "Over 32 days"})
            last = min(last, now - 600)
        else:
            return Answer(404, {"error": "NOT_FOUND", "message": "No such path"})
        rows = [
            {
                "point_time": _iso(at),
                "value": self.number(truth(region, at) * LB_PER_MWH_OF_G_PER_KWH),
                "imputed_data_used": False,
            }
            for at in range(first - first % 300, last + 1, 300)
        ]
        return Answer(200, {"data": rows, "meta": meta})


class FakeUk(FakeServer):
    """Half-hours of Great Britain; ranges of at most 14 days that include both ends.

    The slot that ends where a range begins comes too. ``actual`` is null for the newest
    hour and the future, where ``forecast`` stands; regions have forecasts only, wrapped
    in a list or not as ``wrapped`` says.
    """

    wrapped = True
    region_told: int | None = None

    def answer(self, seen: Seen) -> Answer:
        parts = seen.path.strip("/").split("/")
        regional = parts[0] == "regional"
        times = parts[2:4] if regional else parts[1:3]
        try:
            low, high = (_seconds(text) for text in times)
        except (ProviderError, ValueError):
            return self._bad("Please enter a valid date in ISO8601 format")
        if high - low > 14 * DAY_S:
            return self._bad("Please enter a date range of up to 14 days")
        number = int(parts[5]) if regional else 0
        zone = f"GB-{number}" if regional else "GB"
        rows = [self._slot(zone, at) for at in range(low - 1800, high + 1, 1800)]
        if not regional:
            return Answer(200, {"data": rows})
        told = self.region_told or number
        data = {"regionid": told, "shortname": "a region", "data": rows}
        return Answer(200, {"data": [data] if self.wrapped else data})

    def _slot(self, zone: str, at: int) -> dict[str, object]:
        form = "%Y-%m-%dT%H:%MZ"
        value: dict[str, object] = {
            "forecast": self.number(truth(zone, at)),
            "index": "moderate",
        }
        if zone == "GB":
            done = at + HOUR_S <= self.now_s()
            value["actual"] = self.number(truth(zone, at)) if done else None
        return {"from": _iso(at, form), "to": _iso(at + 1800, form), "intensity": value}

    def _bad(self, text: str) -> Answer:
        return Answer(400, {"error": {"code": "400 Bad Request", "message": text}})


class FakeEnergyCharts(FakeServer):
    """Quarter-hours of a country in columns, ``end`` included, measured ends in nulls."""

    countries: ClassVar[tuple[str, ...]] = ("de", "fr")

    def answer(self, seen: Seen) -> Answer:
        country = seen.params.get("country", "")
        if seen.path != "/co2eq" or country not in self.countries:
            detail = [{"loc": ["query", "country"], "msg": "unknown", "type": "value"}]
            return Answer(422, {"detail": detail})
        low, high = int(seen.params["start"]), int(seen.params["end"])
        now = self.now_s()
        times = range(-(-low // 900) * 900, min(high, now + 2 * DAY_S) + 1, 900)
        values = [self.number(truth(country.upper(), at)) for at in times]
        ahead = sum(at >= now - HOUR_S for at in times)  # of these the newest
        done = len(values) - ahead
        body = {
            "unix_seconds": list(times),
            "co2eq": values[:done] + [None] * ahead,
            "co2eq_forecast": [None] * done + values[done:],
            "deprecated": False,
        }
        return Answer(200, body)
