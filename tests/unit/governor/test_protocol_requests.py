"""What the governor lets in, and with which word it refuses the rest."""

from __future__ import annotations

import pytest

from carbon_ops.governor.protocol import (
    MAX_REQUEST_BYTES,
    ProtocolError,
    Request,
    decode_request,
)


def test_times_may_be_text_or_integers() -> None:
    text = decode_request(b'{"v":1,"op":"energy","t0_ns":"5","t1_ns":"7"}\n')
    number = decode_request(b'{"v":1,"op":"energy","t0_ns":5,"t1_ns":7}')

    assert text == number == Request("energy", 5, 7)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"", "invalid_json"),
        (b"\n", "invalid_json"),
        (b"{", "invalid_json"),
        (b"\xff\xfe{\x00}\x00", "invalid_json"),
        (b'{"v":1,"v":1,"op":"hello"}', "invalid_json"),
        (b'{"v":NaN,"op":"hello"}', "invalid_json"),
        (b'{"v":1,"op":"hello"} {}', "invalid_json"),
        (b"[" * MAX_REQUEST_BYTES, "invalid_json"),
        (b'{"a":' * 200, "invalid_json"),
        (b"[]", "invalid_request"),
        (b"null", "invalid_request"),
        (b'{"op":"hello"}', "invalid_request"),
        (b'{"v":1}', "invalid_request"),
        (b'{"v":1,"op":["hello"]}', "invalid_request"),
        (b'{"v":1,"op":"hello","extra":1}', "invalid_request"),
        (b'{"v":1,"op":"hello","t0_ns":"1"}', "invalid_request"),
        (b'{"v":2,"op":"hello"}', "unsupported_version"),
        (b'{"v":true,"op":"hello"}', "unsupported_version"),
        (b'{"v":1.0,"op":"hello"}', "unsupported_version"),
        (b'{"v":"1","op":"hello"}', "unsupported_version"),
        (b'{"v":1,"op":"Hello"}', "unknown_op"),
        (b'{"v":1,"op":""}', "unknown_op"),
        (b'{"v":1,"op":"energy","t0_ns":"2","t1_ns":"1"}', "invalid_request"),
        (b'{"v":1,"op":"energy","t0_ns":"1"}', "invalid_request"),
        (b'{"v":1,"op":"energy","t0_ns":true,"t1_ns":"1"}', "invalid_request"),
        (b'{"v":1,"op":"energy","t0_ns":"01","t1_ns":"1"}', "invalid_request"),
        (b'{"v":1,"op":"energy","t0_ns":"-1","t1_ns":"1"}', "invalid_request"),
        (b'{"v":1,"op":"energy","t0_ns":"+1","t1_ns":"1"}', "invalid_request"),
        (b'{"v":1,"op":"energy","t0_ns":"1_0","t1_ns":"11"}', "invalid_request"),
        (
            '{"v":1,"op":"energy","t0_ns":"\u0661","t1_ns":"9"}'.encode(),
            "invalid_request",
        ),
        (b'{"v":1,"op":"energy","t0_ns":1.5,"t1_ns":"9"}', "invalid_request"),
        (
            b'{"v":1,"op":"energy","t0_ns":1,"t1_ns":9223372036854775808}',
            "invalid_request",
        ),
        (
            b'{"v":1,"op":"energy","t0_ns":1,"t1_ns":' + b"9" * 900 + b"}",
            "invalid_request",
        ),
    ],
)
def test_a_wrong_request_is_named(line: bytes, code: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_request(line)

    assert caught.value.code == code
