"""The published schema and page describe what a real governor says and takes."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from carbon_ops.governor import protocol
from carbon_ops.testing.governor import GovernorProcess

DOCS = Path(__file__).parents[2] / "docs" / "reference"
SCHEMA = json.loads((DOCS / "protocol.schema.json").read_text())


def validator(name: str) -> jsonschema.Draft202012Validator:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    return jsonschema.Draft202012Validator(
        {"$ref": f"#/$defs/{name}", "$defs": SCHEMA["$defs"]}
    )


@pytest.fixture(scope="module")
def exchanges() -> Iterator[list[tuple[bytes, bytes]]]:
    """Every kind of request with the reply of a real governor."""
    with GovernorProcess() as governor:
        client = governor.wait_ready()
        first = client.mark()
        while client.latest().sequence < first.sequence + 3:
            time.sleep(0.01)
        t0, t1 = first.monotonic_ns, client.latest().monotonic_ns
        future = t1 + 10**15
        lines = [
            protocol.encode_request(protocol.Request(op))
            for op in ("hello", "snapshot", "map", "map")
        ]
        lines += [
            protocol.encode_request(protocol.Request(op, *times))
            for op in protocol.TIMED_OPS
            for times in ((t0, t1), (0, t0), (t0, future))
        ]
        with socket.socket(socket.AF_UNIX) as raw:
            raw.settimeout(20)
            raw.connect(governor.path)
            with raw.makefile("rb") as replies:
                found = []
                for line in lines:
                    raw.sendall(line)
                    found.append((line, replies.readline()))
        yield found


def test_every_message_satisfies_the_schema(
    exchanges: list[tuple[bytes, bytes]],
) -> None:
    for request, reply in exchanges:
        validator("request").validate(json.loads(request))
        validator("reply").validate(json.loads(reply))


def test_the_schema_knows_every_op(exchanges: list[tuple[bytes, bytes]]) -> None:
    replies = [json.loads(reply) for _, reply in exchanges]

    assert {r["op"] for r in replies if r["ok"]} == set(protocol.OPS)
    assert {r["error"]["code"] for r in replies if not r["ok"]} == {
        "out_of_window",
        "invalid_request",
    }


@pytest.mark.parametrize(
    "body",
    [
        {"v": 1, "op": "hello", "more": 1},
        {"v": 2, "op": "hello"},
        {"v": 1, "op": "energy"},
        {"v": 1, "op": "energy", "t0_ns": "01", "t1_ns": "2"},
        {"v": 1, "op": "energy", "t0_ns": -1, "t1_ns": 2},
        {"v": 1, "op": "hello", "t0_ns": "1", "t1_ns": "2"},
        {"op": "hello"},
        [],
    ],
)
def test_schema_and_governor_refuse_alike(body: Any) -> None:
    assert not validator("request").is_valid(body)
    with pytest.raises(protocol.ProtocolError):
        protocol.decode_request(json.dumps(body).encode())


def test_a_strange_field_in_a_reply_is_refused_by_both(
    exchanges: list[tuple[bytes, bytes]],
) -> None:
    for _, reply in exchanges:
        body = {**json.loads(reply), "strange": 1}
        assert not validator("reply").is_valid(body)
        with pytest.raises(protocol.ProtocolError):
            protocol.decode_reply(json.dumps(body).encode())


def test_the_page_names_every_op_code_and_limit() -> None:
    page = (DOCS / "protocol.md").read_text()

    for name in (*protocol.OPS, *protocol.ERROR_CODES):
        assert f"`{name}`" in page
    assert f"{protocol.MAX_REQUEST_BYTES:,} bytes" in page
    assert f"at most {protocol.MAX_SERIES}" in page
