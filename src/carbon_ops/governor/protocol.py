"""The governor's messages: one JSON object a line, versioned, nothing unknown let in.

Pure: bytes to values and back. ``docs/reference/protocol.md`` is the same thing for
people, ``protocol.schema.json`` for programs. Totals and nanoseconds travel as decimal
strings, because a double cannot hold them beyond 2**53; a request may also give its
times as JSON integers.

Every decoder raises :class:`ProtocolError` and nothing else, whatever the bytes are.
"""

from __future__ import annotations

import json
from typing import NamedTuple, NoReturn, cast

from carbon_ops.model import Layout, Sample, SourceName, Zone, ZoneKind, ZoneTotals

VERSION = 1
OPS = ("hello", "snapshot", "energy", "series", "map")
TIMED_OPS = ("energy", "series")
MAX_REQUEST_BYTES = 1_024  # the longest honest request has under 120
MAX_SERIES = 100  # samples in one reply to ``series``; ask again from the last one
_MAX_NS = 2**63 - 1  # a CLOCK_MONOTONIC in struct timespec never passes this

ERROR_CODES = (
    "invalid_json",
    "invalid_request",
    "unsupported_version",
    "unknown_op",
    "too_large",
    "out_of_window",
    "unsupported",
)


class ProtocolError(Exception):
    """A message that is not of this protocol; ``code`` is one of ERROR_CODES."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Request(NamedTuple):
    """One question; the times [ns of CLOCK_MONOTONIC] belong to energy and series."""

    op: str
    t0_ns: int | None = None
    t1_ns: int | None = None


class HelloReply(NamedTuple):
    layout: Layout
    version: str  # of the package that serves
    monotonic_ns: int  # the governor's clock while it answered
    samples_kept: int
    map: bool  # whether the ring can be handed out


class SnapshotReply(NamedTuple):
    instance_id: str
    sample: Sample


class KeyedEnergy(NamedTuple):
    key: str
    point_uj: int
    low_uj: int
    high_uj: int


class EnergyReply(NamedTuple):
    instance_id: str
    t0_ns: int
    t1_ns: int
    zones: tuple[KeyedEnergy, ...]
    host_busy_ns: int
    samples: int
    wraps: int
    gaps: int
    resets: int
    failures: int
    flags: tuple[str, ...]


class SeriesReply(NamedTuple):
    instance_id: str
    samples: tuple[Sample, ...]  # oldest first
    more: bool  # cut at MAX_SERIES: ask again from the last one


class MapReply(NamedTuple):
    instance_id: str
    size: int  # bytes of the memory that comes along as a descriptor


class ErrorReply(NamedTuple):
    op: str | None
    code: str
    message: str


Reply = HelloReply | SnapshotReply | EnergyReply | SeriesReply | MapReply | ErrorReply


# --- requests -----------------------------------------------------------------------


def encode_request(request: Request) -> bytes:
    """Return ``request`` as one line, newline included."""
    body: dict[str, object] = {"v": VERSION, "op": request.op}
    if request.t0_ns is not None:
        body["t0_ns"] = str(request.t0_ns)
    if request.t1_ns is not None:
        body["t1_ns"] = str(request.t1_ns)
    return _line(body)


def decode_request(line: bytes) -> Request:
    """Return the request in ``line``.

    Raises:
        ProtocolError: not this protocol; the code says which way.
    """
    fields = _Fields(_parse(line), "request")
    fields.version()
    op = fields.text("op")
    if op not in OPS:
        raise ProtocolError("unknown_op", f"unknown op; this governor has {OPS}")
    if op not in TIMED_OPS:
        fields.end()
        return Request(op)
    t0, t1 = fields.time("t0_ns"), fields.time("t1_ns")
    fields.end()
    if t1 < t0:
        raise ProtocolError("invalid_request", "t1_ns lies before t0_ns")
    return Request(op, t0, t1)


# --- replies ------------------------------------------------------------------------


def encode_reply(reply: Reply) -> bytes:
    """Return ``reply`` as one line, newline included."""
    if isinstance(reply, ErrorReply):
        problem = {"code": reply.code, "message": reply.message}
        return _line({"v": VERSION, "op": reply.op, "ok": False, "error": problem})
    if isinstance(reply, HelloReply):
        return _ok(
            "hello",
            {
                **_layout_out(reply.layout),
                "version": reply.version,
                "monotonic_ns": str(reply.monotonic_ns),
                "samples_kept": reply.samples_kept,
                "map": reply.map,
            },
        )
    if isinstance(reply, SnapshotReply):
        sample = _sample_out(reply.sample)
        return _ok("snapshot", {"instance_id": reply.instance_id, "sample": sample})
    if isinstance(reply, SeriesReply):
        return _ok(
            "series",
            {
                "instance_id": reply.instance_id,
                "samples": [_sample_out(sample) for sample in reply.samples],
                "more": reply.more,
            },
        )
    if isinstance(reply, MapReply):
        return _ok("map", {"instance_id": reply.instance_id, "size": reply.size})
    zones = [
        {"key": zone.key, **{name: str(getattr(zone, name)) for name in _ENERGY_UJ}}
        for zone in reply.zones
    ]
    return _ok(
        "energy",
        {
            "instance_id": reply.instance_id,
            "t0_ns": str(reply.t0_ns),
            "t1_ns": str(reply.t1_ns),
            "zones": zones,
            "host_busy_ns": str(reply.host_busy_ns),
            **{name: getattr(reply, name) for name in _COUNTS},
            "flags": list(reply.flags),
        },
    )


def decode_reply(line: bytes) -> Reply:
    """Return the reply in ``line``.

    Raises:
        ProtocolError: not a reply of this version.
    """
    fields = _Fields(_parse(line), "reply")
    fields.version()
    op = fields.pop("op")
    if fields.flag("ok"):
        if not isinstance(op, str) or op not in _DECODERS:
            raise ProtocolError("unknown_op", "a reply to an unknown op")
        reply = _DECODERS[op](fields)
        fields.end()
        return reply
    problem = _Fields(fields.pop("error"), "error")
    fields.end()
    if op is not None and not isinstance(op, str):
        raise ProtocolError("invalid_request", "op is neither text nor null")
    error = ErrorReply(op, problem.text("code"), problem.text("message"))
    problem.end()
    return error


_ENERGY_UJ = ("point_uj", "low_uj", "high_uj")
_COUNTS = ("samples", "wraps", "gaps", "resets", "failures")
_SAMPLE_NS = ("monotonic_ns", "read_ns", "boottime_ns", "wall_ns", "host_busy_ns")


def _ok(op: str, body: dict[str, object]) -> bytes:
    return _line({"v": VERSION, "op": op, "ok": True, **body})


def _line(body: dict[str, object]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode() + b"\n"


def _sample_out(sample: Sample) -> dict[str, object]:
    body: dict[str, object] = {"sequence": sample.sequence}
    for name in _SAMPLE_NS:
        body[name] = str(getattr(sample, name))
    body["late_ticks"] = sample.late_ticks
    body["missed_ticks"] = sample.missed_ticks
    body["totals"] = [
        {
            "total_uj": str(zone.total_uj),
            "slack_uj": str(zone.slack_uj),
            "wraps": zone.wraps,
            "gaps": zone.gaps,
            "resets": zone.resets,
            "failures": zone.failures,
            "fresh": zone.fresh,
        }
        for zone in sample.totals
    ]
    return body


def _layout_out(layout: Layout) -> dict[str, object]:
    return {
        "instance_id": layout.instance_id,
        "boot_id": layout.boot_id,
        "source": layout.source,
        "interval_ns": str(layout.interval_ns),
        "started_wall_ns": str(layout.started_wall_ns),
        "filtered": layout.filtered,
        "zones": [
            {
                "key": zone.key,
                "name": zone.name,
                "kind": zone.kind,
                "package": zone.package,
                "counted": zone.counted,
                "why": zone.why,
                "unit_uj": [str(part) for part in zone.unit],
                "wrap_ticks": str(zone.wrap_ticks),
                "bound_w": zone.bound_w,
            }
            for zone in layout.zones
        ],
    }


# --- strict reading -----------------------------------------------------------------


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    body = dict(pairs)
    if len(body) != len(pairs):
        raise ValueError("a name occurs twice")
    return body


def _parse(line: bytes) -> object:
    try:
        return json.loads(
            line.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
        )
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise ProtocolError("invalid_json", f"not one JSON object: {error}") from None


def _bad(where: str, name: str, wanted: str) -> ProtocolError:
    return ProtocolError("invalid_request", f"{where}: {name} is not {wanted}")


class _Fields:
    """An object whose members are taken out one by one; what is left over is an error."""

    __slots__ = ("left", "where")

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise ProtocolError("invalid_request", f"{where} is not an object")
        self.left = cast("dict[str, object]", value)
        self.where = where

    def pop(self, name: str) -> object:
        try:
            return self.left.pop(name)
        except KeyError:
            raise ProtocolError(
                "invalid_request", f"{self.where}: {name} is missing"
            ) from None

    def end(self) -> None:
        if self.left:
            name = min(self.left)[:40]
            raise ProtocolError(
                "invalid_request", f"{self.where}: unknown field {name!r}"
            )

    def version(self) -> None:
        value = self.pop("v")
        if type(value) is not int or value != VERSION:
            raise ProtocolError("unsupported_version", f"v has to be {VERSION}")

    def text(self, name: str) -> str:
        value = self.pop(name)
        if not isinstance(value, str):
            raise _bad(self.where, name, "text")
        return value

    def flag(self, name: str) -> bool:
        value = self.pop(name)
        if not isinstance(value, bool):
            raise _bad(self.where, name, "true or false")
        return value

    def whole(self, name: str) -> int:
        value = self.pop(name)
        if type(value) is not int:
            raise _bad(self.where, name, "an integer")
        return value

    def big(self, name: str) -> int:
        return _decimal(self.pop(name), self.where, name)

    def time(self, name: str) -> int:
        value = self.pop(name)
        if type(value) is not int:
            value = _decimal(value, self.where, name)
        if not 0 <= value <= _MAX_NS:
            raise _bad(self.where, name, "a CLOCK_MONOTONIC in nanoseconds")
        return value

    def list(self, name: str) -> list[object]:
        value = self.pop(name)
        if not isinstance(value, list):
            raise _bad(self.where, name, "a list")
        return value


def _decimal(value: object, where: str, name: str) -> int:
    """Return the integer that ``value`` spells in the one way it may be spelt."""
    if isinstance(value, str) and len(value) <= 40:  # 128 bits and a sign
        digits = value[1:] if value.startswith("-") else value
        if digits.isascii() and digits.isdigit() and str(int(value)) == value:
            return int(value)
    raise _bad(where, name, "an integer as a decimal string")


def _hello_in(fields: _Fields) -> Reply:
    filtered = fields.pop("filtered")
    if filtered is not None and not isinstance(filtered, bool):
        raise _bad("hello", "filtered", "true, false or null")
    layout = Layout(
        instance_id=fields.text("instance_id"),
        boot_id=fields.text("boot_id"),
        source=cast("SourceName", fields.text("source")),
        interval_ns=fields.big("interval_ns"),
        zones=tuple(_zone_in(zone) for zone in fields.list("zones")),
        filtered=filtered,
        started_wall_ns=fields.big("started_wall_ns"),
    )
    return HelloReply(
        layout,
        fields.text("version"),
        fields.big("monotonic_ns"),
        fields.whole("samples_kept"),
        fields.flag("map"),
    )


def _zone_in(value: object) -> Zone:
    fields = _Fields(value, "zone")
    package, bound = fields.pop("package"), fields.pop("bound_w")
    if package is not None and type(package) is not int:
        raise _bad("zone", "package", "an integer or null")
    if isinstance(bound, bool) or not isinstance(bound, int | float):
        raise _bad("zone", "bound_w", "a number")
    unit = [_decimal(part, "zone", "unit_uj") for part in fields.list("unit_uj")]
    if len(unit) != 2 or unit[1] <= 0:
        raise _bad("zone", "unit_uj", "a fraction")
    zone = Zone(
        key=fields.text("key"),
        name=fields.text("name"),
        kind=cast("ZoneKind", fields.text("kind")),
        package=package,
        counted=fields.flag("counted"),
        why=fields.text("why"),
        unit=(unit[0], unit[1]),
        wrap_ticks=fields.big("wrap_ticks"),
        bound_w=float(bound),
    )
    fields.end()
    return zone


def _sample_in(value: object) -> Sample:
    fields = _Fields(value, "sample")
    sample = Sample(
        sequence=fields.whole("sequence"),
        monotonic_ns=fields.big("monotonic_ns"),
        read_ns=fields.big("read_ns"),
        boottime_ns=fields.big("boottime_ns"),
        wall_ns=fields.big("wall_ns"),
        host_busy_ns=fields.big("host_busy_ns"),
        late_ticks=fields.whole("late_ticks"),
        missed_ticks=fields.whole("missed_ticks"),
        totals=tuple(_totals_in(total) for total in fields.list("totals")),
    )
    fields.end()
    return sample


def _totals_in(value: object) -> ZoneTotals:
    fields = _Fields(value, "totals")
    totals = ZoneTotals(
        total_uj=fields.big("total_uj"),
        slack_uj=fields.big("slack_uj"),
        wraps=fields.whole("wraps"),
        gaps=fields.whole("gaps"),
        resets=fields.whole("resets"),
        failures=fields.whole("failures"),
        fresh=fields.flag("fresh"),
    )
    fields.end()
    return totals


def _snapshot_in(fields: _Fields) -> Reply:
    return SnapshotReply(fields.text("instance_id"), _sample_in(fields.pop("sample")))


def _series_in(fields: _Fields) -> Reply:
    return SeriesReply(
        fields.text("instance_id"),
        tuple(_sample_in(sample) for sample in fields.list("samples")),
        fields.flag("more"),
    )


def _map_in(fields: _Fields) -> Reply:
    return MapReply(fields.text("instance_id"), fields.whole("size"))


def _energy_in(fields: _Fields) -> Reply:
    zones = []
    for value in fields.list("zones"):
        zone = _Fields(value, "zone")
        zones.append(
            KeyedEnergy(zone.text("key"), *(zone.big(name) for name in _ENERGY_UJ))
        )
        zone.end()
    flags = fields.list("flags")
    if not all(isinstance(flag, str) for flag in flags):
        raise _bad("energy", "flags", "a list of text")
    return EnergyReply(
        instance_id=fields.text("instance_id"),
        t0_ns=fields.big("t0_ns"),
        t1_ns=fields.big("t1_ns"),
        zones=tuple(zones),
        host_busy_ns=fields.big("host_busy_ns"),
        samples=fields.whole("samples"),
        wraps=fields.whole("wraps"),
        gaps=fields.whole("gaps"),
        resets=fields.whole("resets"),
        failures=fields.whole("failures"),
        flags=tuple(cast("list[str]", flags)),
    )


_DECODERS = {
    "hello": _hello_in,
    "snapshot": _snapshot_in,
    "energy": _energy_in,
    "series": _series_in,
    "map": _map_in,
}
