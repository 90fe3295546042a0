"""The quick proof of canonical form never says yes where the exact one says no.

And where the exact one says yes, the quick one may only pass the question on.
"""

from __future__ import annotations

import struct
from typing import Any

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from carbon_ops.ledger.canonical import dumps
from carbon_ops.ledger.checks import odd, read_exact

decode = msgspec.json.Decoder().decode
encode = msgspec.json.Encoder(order="sorted").encode


def quick(line: bytes) -> bool:
    try:
        value = decode(line)
        return type(value) is dict and encode(value) == line and not odd(line)
    except (ValueError, RecursionError):
        return False


def test_small_numbers_take_the_quick_way() -> None:
    """A task of a second stands for micrograms: most records hold such numbers."""
    for number in (1e-7, 2.83056e-07, 9.99e-7, 5e-324, -3.3e-100):
        assert quick(b'{"a":%b}' % dumps(number))
    for number in (1e-6, 9.99e-6, 1e-5):
        assert exact(b'{"a":%b}' % dumps(number))


def exact(line: bytes) -> bool:
    return read_exact(line)[1] == ""


def doubles() -> st.SearchStrategy[float]:
    bits = st.integers(0, 2**64 - 1).map(
        lambda n: struct.unpack("<d", n.to_bytes(8, "little"))[0]
    )
    near = st.builds(
        lambda digits, power: float(f"{digits}e{power}"),
        st.integers(-(10**17), 10**17),
        st.integers(-40, 10),
    )
    return st.one_of(bits, near, st.floats())


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    doubles().filter(lambda x: x - x == 0),
    st.text(),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), values, max_size=6))
@settings(max_examples=600, deadline=None)
@example({"a": 1e16, "b": 1e-6, "c": -0.0, "d": 2**53, "e": 5e-324, "f": 1e21})
@example({"\ue000": 1, "\U00010000": 2})
def test_what_the_quick_codec_writes_is_judged_alike(record: dict[str, Any]) -> None:
    """Its own bytes are the ones it can never object to by comparison alone."""
    line = encode(record)
    assert not quick(line) or exact(line)


@given(st.dictionaries(st.text(), values, max_size=6), st.data())
@settings(max_examples=600, deadline=None)
def test_a_changed_line_is_judged_alike(record: dict[str, Any], data: Any) -> None:
    line = bytearray(encode(record))
    at = data.draw(st.integers(0, len(line)))
    piece = data.draw(
        st.one_of(
            st.binary(max_size=3),
            st.sampled_from(
                [b".0", b"e0", b"e-1", b"E5", b"0", b"-", b" ", b"\\u00e9"]
            ),
        )
    )
    line[at : at + data.draw(st.integers(0, 2))] = piece
    assert not quick(bytes(line)) or exact(bytes(line))


@given(doubles().filter(lambda x: x - x == 0))
@settings(max_examples=3000, deadline=None)
def test_every_double_is_judged_alike(number: float) -> None:
    for text in (repr(number), encode(number).decode(), dumps(number).decode()):
        line = b'{"a":%b}' % text.encode()
        assert not quick(line) or exact(line), line


@given(st.dictionaries(st.text(), values, max_size=6))
@settings(max_examples=300, deadline=None)
def test_the_canonical_form_of_a_readable_value_is_exact(
    record: dict[str, Any],
) -> None:
    try:
        line = dumps(record)
    except ValueError:
        return  # it has no canonical form
    value, code, _ = read_exact(line)
    if code:  # whole doubles beyond 2**53 print as integers that JSON cannot hold
        assert code == "E_NOT_CANONICAL"
        assert "2**53" in read_exact(line)[2]
    else:
        assert dumps(value) == line
