"""The governor's messages: one JSON object a line, versioned, nothing unknown let in.

Pure: bytes to values and back. ``docs/reference/protocol.md`` is the same thing for
people, ``protocol.schema.json`` for programs. Totals and nanoseconds travel as decimal
strings, because a double cannot hold them beyond 2**53; a request may also give its
times as JSON integers.

Every decoder raises :class:`ProtocolError` and nothing else, whatever the bytes are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from math import inf
from typing import Any, NamedTuple, NoReturn, cast

from carbon_ops.governor.layout import flaw
from carbon_ops.model import Layout, Sample, Zone, ZoneTotals

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


# --- how values are written, and read strictly --------------------------------------


class _Codec(NamedTuple):
    write: Callable[[Any], object]  # value to what JSON can hold
    read: Callable[[object, str], Any]  # back, from the place that is named


def _bad(where: str, wanted: str) -> ProtocolError:
    return ProtocolError("invalid_request", f"{where} is not {wanted}")


def _plain(kind: type, wanted: str) -> _Codec:
    def read(value: object, where: str) -> object:
        if type(value) is not kind:
            raise _bad(where, wanted)
        return value

    return _Codec(lambda value: value, read)


def _decimal(value: object, where: str) -> int:
    """Return the integer that ``value`` spells in the one way it may be spelt."""
    if isinstance(value, str) and len(value) <= 40:  # 128 bits and a sign
        digits = value[1:] if value.startswith("-") else value
        if digits.isascii() and digits.isdigit() and str(int(value)) == value:
            return int(value)
    raise _bad(where, "an integer as a decimal string")


def _power(value: object, where: str) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and 0 <= cast("float", value) < inf):
        raise _bad(where, "a power")
    try:
        return float(cast("float", value))
    except OverflowError:  # an integer of hundreds of digits
        raise _bad(where, "a power") from None


def _fraction(value: object, where: str) -> tuple[int, ...]:
    parts: tuple[int, ...] = _BIGS.read(value, where)
    if len(parts) != 2 or parts[1] <= 0:
        raise _bad(where, "a fraction")
    return parts


def _maybe(codec: _Codec) -> _Codec:
    return _Codec(
        lambda value: None if value is None else codec.write(value),
        lambda value, where: None if value is None else codec.read(value, where),
    )


def _list(codec: _Codec) -> _Codec:
    def read(value: object, where: str) -> tuple[object, ...]:
        if not isinstance(value, list):
            raise _bad(where, "a list")
        return tuple([codec.read(part, where) for part in value])

    return _Codec(lambda value: [codec.write(part) for part in value], read)


def _object(make: Callable[[Iterable[Any]], object], **members: _Codec) -> _Codec:
    """Return the codec of a tuple whose parts are these members, in this order."""

    def write(value: tuple[object, ...]) -> dict[str, object]:
        pairs = zip(members.items(), value, strict=True)
        return {name: codec.write(part) for (name, codec), part in pairs}

    def read(value: object, where: str) -> object:
        if not isinstance(value, dict):
            raise _bad(where, "an object")
        for name in members:
            if name not in value:
                raise _bad(f"{where}.{name}", "there")
        for name in value:
            if name not in members:
                raise ProtocolError(
                    "invalid_request", f"{where}: unknown field {name[:40]!r}"
                )
        parts = [
            codec.read(value[name], f"{where}.{name}")
            for name, codec in members.items()
        ]
        return make(parts)

    return _Codec(write, read)


_TEXT, _FLAG = _plain(str, "text"), _plain(bool, "true or false")
_WHOLE, _BIG = _plain(int, "an integer"), _Codec(str, _decimal)
_BIGS = _list(_BIG)

_ZONE = _object(
    Zone._make,
    key=_TEXT,
    name=_TEXT,
    kind=_TEXT,
    package=_maybe(_WHOLE),
    counted=_FLAG,
    why=_TEXT,
    unit_uj=_Codec(_BIGS.write, _fraction),
    wrap_ticks=_BIG,
    bound_w=_Codec(float, _power),
)
_TOTALS = _object(
    ZoneTotals._make,
    total_uj=_BIG,
    slack_uj=_BIG,
    wraps=_WHOLE,
    gaps=_WHOLE,
    resets=_WHOLE,
    failures=_WHOLE,
    fresh=_FLAG,
)
_SAMPLE = _object(
    Sample._make,
    sequence=_WHOLE,
    monotonic_ns=_BIG,
    read_ns=_BIG,
    boottime_ns=_BIG,
    wall_ns=_BIG,
    host_busy_ns=_BIG,
    late_ticks=_WHOLE,
    missed_ticks=_WHOLE,
    totals=_list(_TOTALS),
)
_KEYED = _object(KeyedEnergy._make, key=_TEXT, point_uj=_BIG, low_uj=_BIG, high_uj=_BIG)


def _hello(parts: Iterable[Any]) -> HelloReply:
    *members, version, now, kept, ring = parts
    layout = Layout._make(members)
    wrong = flaw(layout)
    if wrong:
        raise ProtocolError("invalid_request", wrong)
    return HelloReply(layout, version, now, kept, ring)


_REPLIES: dict[str, tuple[type, _Codec]] = {
    "hello": (
        HelloReply,
        _object(
            _hello,
            instance_id=_TEXT,
            boot_id=_TEXT,
            source=_TEXT,
            interval_ns=_BIG,
            zones=_list(_ZONE),
            filtered=_maybe(_FLAG),
            started_wall_ns=_BIG,
            version=_TEXT,
            monotonic_ns=_BIG,
            samples_kept=_WHOLE,
            map=_FLAG,
        ),
    ),
    "snapshot": (
        SnapshotReply,
        _object(SnapshotReply._make, instance_id=_TEXT, sample=_SAMPLE),
    ),
    "energy": (
        EnergyReply,
        _object(
            EnergyReply._make,
            instance_id=_TEXT,
            t0_ns=_BIG,
            t1_ns=_BIG,
            zones=_list(_KEYED),
            host_busy_ns=_BIG,
            samples=_WHOLE,
            wraps=_WHOLE,
            gaps=_WHOLE,
            resets=_WHOLE,
            failures=_WHOLE,
            flags=_list(_TEXT),
        ),
    ),
    "series": (
        SeriesReply,
        _object(
            SeriesReply._make, instance_id=_TEXT, samples=_list(_SAMPLE), more=_FLAG
        ),
    ),
    "map": (MapReply, _object(MapReply._make, instance_id=_TEXT, size=_WHOLE)),
}
_OPS_OF = {kind: op for op, (kind, _) in _REPLIES.items()}
_PROBLEM = _object(tuple, code=_TEXT, message=_TEXT)


# --- lines --------------------------------------------------------------------------


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
    body, named = _parse(line, "request")
    op: str = _TEXT.read(named, "request.op")
    if op not in OPS:
        raise ProtocolError("unknown_op", f"unknown op; this governor has {OPS}")
    if op not in TIMED_OPS:
        _object(tuple).read(body, "request")
        return Request(op)
    request = Request(op, *_TIMES.read(body, "request"))
    if (request.t1_ns or 0) < (request.t0_ns or 0):
        raise ProtocolError("invalid_request", "t1_ns lies before t0_ns")
    return request


def _time(value: object, where: str) -> int:
    number = value if type(value) is int else _decimal(value, where)
    if not 0 <= number <= _MAX_NS:
        raise _bad(where, "a CLOCK_MONOTONIC in nanoseconds")
    return number


_TIME = _Codec(str, _time)
_TIMES = _object(tuple, t0_ns=_TIME, t1_ns=_TIME)


def encode_reply(reply: Reply) -> bytes:
    """Return ``reply`` as one line, newline included."""
    if isinstance(reply, ErrorReply):
        problem = _PROBLEM.write(reply[1:])
        return _line({"v": VERSION, "op": reply.op, "ok": False, "error": problem})
    op = _OPS_OF[type(reply)]
    parts = (*reply.layout, *reply[1:]) if isinstance(reply, HelloReply) else reply
    body: Any = _REPLIES[op][1].write(parts)
    return _line({"v": VERSION, "op": op, "ok": True, **body})


def decode_reply(line: bytes) -> Reply:
    """Return the reply in ``line``.

    Raises:
        ProtocolError: not a reply of this version.
    """
    body, op = _parse(line, "reply")
    if _FLAG.read(body.pop("ok", None), "reply.ok"):
        if not isinstance(op, str) or op not in _REPLIES:
            raise ProtocolError("unknown_op", "a reply to an unknown op")
        reply: Reply = _REPLIES[op][1].read(body, "reply")
        return reply
    ((code, message),) = _object(tuple, error=_PROBLEM).read(body, "reply")
    return ErrorReply(_maybe(_TEXT).read(op, "reply.op"), code, message)


def _line(body: dict[str, object]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode() + b"\n"


def _parse(line: bytes, where: str) -> tuple[dict[str, object], object]:
    """Return what a message of this version holds beside its op, and the op."""
    try:
        body = json.loads(
            line.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
        )
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise ProtocolError("invalid_json", f"not one JSON object: {error}") from None
    if not isinstance(body, dict):
        raise _bad(where, "an object")
    for name in ("v", "op"):
        if name not in body:
            raise _bad(f"{where}.{name}", "there")
    version = body.pop("v")
    if type(version) is not int or version != VERSION:
        raise ProtocolError("unsupported_version", f"v has to be {VERSION}")
    return body, body.pop("op")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    body = dict(pairs)
    if len(body) != len(pairs):
        raise ValueError("a name occurs twice")
    return body
