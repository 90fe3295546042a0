"""Laws of the governor's messages: nothing is lost on the way, and nothing else gets in."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_ops.governor import protocol
from carbon_ops.governor.layout import pack_layout, unpack_layout
from carbon_ops.governor.ring import (
    pack_sample,
    slot_of,
    unpack_sample,
)
from carbon_ops.model import Layout, Sample, Zone, ZoneTotals

TIMES = st.integers(0, 2**63 - 1)
BIG = st.integers(0, 2**64 - 1)
COUNT = st.integers(0, 2**32 - 1)
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)

totals = st.builds(ZoneTotals, BIG, BIG, COUNT, COUNT, COUNT, COUNT, st.booleans())
samples = st.builds(
    Sample,
    BIG,
    TIMES,
    TIMES,
    TIMES,
    st.integers(-(2**63), 2**63 - 1),
    TIMES,
    BIG,
    BIG,
    st.lists(totals, max_size=4).map(tuple),
)
zones = st.builds(
    Zone,
    TEXT,
    TEXT,
    st.sampled_from(("package", "dram", "core", "uncore", "psys", "other")),
    st.none() | st.integers(0, 2**31 - 1),
    st.booleans(),
    TEXT,
    st.tuples(st.integers(1, 2**64 - 1), st.integers(1, 2**64 - 1)),
    st.integers(1, 2**64 - 1),
    st.floats(0, 1e9),
)
layouts = st.builds(
    Layout,
    TEXT,
    TEXT,
    st.sampled_from(("rapl_sysfs", "rapl_msr", "simulated")),
    st.integers(1, 10_000_000_000),
    st.lists(zones, max_size=4).map(tuple),
    st.none() | st.booleans(),
    TIMES,
)
requests = st.one_of(
    st.sampled_from(("hello", "snapshot", "map")).map(protocol.Request),
    st.builds(
        lambda op, a, b: protocol.Request(op, min(a, b), max(a, b)),
        st.sampled_from(protocol.TIMED_OPS),
        TIMES,
        TIMES,
    ),
)
energies = st.builds(protocol.KeyedEnergy, TEXT, BIG, BIG, BIG)
replies: st.SearchStrategy[protocol.Reply] = st.one_of(
    st.builds(protocol.HelloReply, layouts, TEXT, TIMES, COUNT, st.booleans()),
    st.builds(protocol.SnapshotReply, TEXT, samples),
    st.builds(
        protocol.EnergyReply,
        TEXT,
        TIMES,
        TIMES,
        st.lists(energies, max_size=3).map(tuple),
        TIMES,
        COUNT,
        COUNT,
        COUNT,
        COUNT,
        COUNT,
        st.lists(TEXT, max_size=3).map(tuple),
    ),
    st.builds(
        protocol.SeriesReply,
        TEXT,
        st.lists(samples, max_size=3).map(tuple),
        st.booleans(),
    ),
    st.builds(protocol.MapReply, TEXT, COUNT),
    st.builds(
        protocol.ErrorReply,
        st.none() | TEXT,
        st.sampled_from(protocol.ERROR_CODES),
        TEXT,
    ),
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(requests)
def test_a_request_arrives_as_it_was_sent(request: protocol.Request) -> None:
    line = protocol.encode_request(request)

    assert protocol.decode_request(line) == request
    assert line.count(b"\n") == 1
    assert len(line) <= protocol.MAX_REQUEST_BYTES


@given(replies)
def test_a_reply_arrives_as_it_was_sent(reply: protocol.Reply) -> None:
    line = protocol.encode_reply(reply)

    assert protocol.decode_reply(line) == reply
    assert line.count(b"\n") == 1


@given(samples)
def test_a_sample_survives_the_ring(sample: Sample) -> None:
    assert unpack_sample(pack_sample(sample, slot_of(len(sample.totals)))) == sample


@given(layouts)
def test_a_layout_survives_the_ring(layout: Layout) -> None:
    assert unpack_layout(pack_layout(layout)) == layout


@given(samples, st.data())
def test_one_flipped_bit_makes_a_slot_unreadable(sample: Sample, data: Any) -> None:
    slot = bytearray(pack_sample(sample, slot_of(len(sample.totals))))
    bit = data.draw(st.integers(0, (len(slot) - 4) * 8 - 1))
    slot[bit // 8] ^= 1 << bit % 8

    assert unpack_sample(bytes(slot)) is None


def decoded(line: bytes) -> None:
    """Both decoders return or raise ProtocolError; anything else fails the test."""
    for decode in (protocol.decode_request, protocol.decode_reply):
        with contextlib.suppress(protocol.ProtocolError):
            decode(line)


@given(st.binary(max_size=1_200))
def test_no_bytes_upset_the_decoders(line: bytes) -> None:
    decoded(line)


@given(anything)
def test_no_json_upsets_the_decoders(value: object) -> None:
    decoded(json.dumps(value).encode())


@given(
    st.one_of(
        replies.map(protocol.encode_reply), requests.map(protocol.encode_request)
    ),
    st.data(),
)
def test_no_damage_to_a_good_line_upsets_the_decoders(line: bytes, data: Any) -> None:
    at = data.draw(st.integers(0, len(line) - 1))
    cut = data.draw(st.integers(0, 3))
    decoded(line[:at] + data.draw(st.binary(max_size=3)) + line[at + cut :])


@given(
    st.one_of(
        replies.map(protocol.encode_reply), requests.map(protocol.encode_request)
    ),
    st.data(),
)
def test_no_wrong_value_in_a_good_message_upsets_the_decoders(
    line: bytes, data: Any
) -> None:
    body = json.loads(line)
    where = body
    while isinstance(where, dict | list) and where:
        keys = list(where) if isinstance(where, dict) else list(range(len(where)))
        key = data.draw(st.sampled_from(keys))
        if data.draw(st.booleans()) or not isinstance(where[key], dict | list):
            where[key] = data.draw(anything)
            break
        where = where[key]
    decoded(json.dumps(body).encode())


@given(replies, TEXT.filter(lambda name: name not in ("v", "op", "ok", "error")))
def test_an_unknown_field_is_refused(reply: protocol.Reply, name: str) -> None:
    body = json.loads(protocol.encode_reply(reply))
    if name in body:
        return
    body[name] = 1

    with pytest.raises(protocol.ProtocolError, match="unknown field"):
        protocol.decode_reply(json.dumps(body).encode())


@given(st.sampled_from(("1e999", "9" * 400, "-1", "NaN", "true", '"1"', "null")))
def test_a_bound_that_is_no_power_is_refused(text: str) -> None:
    zone = Zone("k", "n", "package", 0, True, "", (1, 1), 2**32, 12_345.5)
    layout = Layout("i", "b", "simulated", 1, (zone,), None, 1)
    line = protocol.encode_reply(protocol.HelloReply(layout, "1", 1, 1, True))

    with pytest.raises(protocol.ProtocolError):
        protocol.decode_reply(line.replace(b"12345.5", text.encode()))
