"""What has a canonical form, and what is refused instead of being rounded or dropped."""

from __future__ import annotations

import datetime
import enum
import math
from collections import OrderedDict
from fractions import Fraction

import pytest

from carbon_ops.errors import InvalidInputError
from carbon_ops.ledger.canonical import MAX_DEPTH, MAX_INTEGER, CanonicalError, dumps


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Name(str, enum.Enum):
    A = "a"


class Length(float):
    """A subclass as numpy's float64 is one."""


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


CYCLE: list[object] = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        -math.inf,
        MAX_INTEGER + 1,
        -MAX_INTEGER - 1,
        2**64,
        "\ud800",
        {"\udfff": 1},
        b"bytes",
        datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc),
        Colour.RED,
        Level.LOW,
        Name.A,
        {1: "one"},
        {None: 1},
        {b"a": 1},
        {1, 2},
        Fraction(1, 2),
        object(),
        nested(MAX_DEPTH + 1),
        CYCLE,
        {"deep": {"inside": [1, {"a": math.nan}]}},
    ],
    ids=lambda value: type(value).__name__ + str(value)[:9].split(" object")[0],
)
def test_what_has_no_exact_form_is_refused(value: object) -> None:
    with pytest.raises(CanonicalError) as caught:
        dumps(value)
    assert isinstance(caught.value, InvalidInputError)
    assert str(caught.value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, b"null"),
        (True, b"true"),
        (False, b"false"),
        (0, b"0"),
        (-0.0, b"0"),
        (1.0, b"1"),
        (Length(2.5), b"2.5"),
        (MAX_INTEGER, b"9007199254740991"),
        (-MAX_INTEGER, b"-9007199254740991"),
        (9688405237104394.0, b"9688405237104394"),
        (1e16, b"10000000000000000"),
        (1e21, b"1e+21"),
        (1.5e-7, b"1.5e-7"),
        (0.00001, b"0.00001"),
        (
            'a"\\\b\f\n\r\t\x00\x1f\x7f/',
            b'"a\\"\\\\\\b\\f\\n\\r\\t\\u0000\\u001f\x7f/"',
        ),
        ("\u2028é😀", '"\u2028é😀"'.encode()),
        ((1, [2, ()]), b"[1,[2,[]]]"),
        (OrderedDict(b=1, a=2), b'{"a":2,"b":1}'),
        ({"\ue000": 1, "\U00010000": 2}, '{"\U00010000":2,"\ue000":1}'.encode()),
        ({"": 1, "a": {"": []}}, b'{"":1,"a":{"":[]}}'),
        (nested(MAX_DEPTH), b"[" * MAX_DEPTH + b"1" + b"]" * MAX_DEPTH),
    ],
    ids=lambda value: type(value).__name__ + str(value)[:9].split(" object")[0],
)
def test_values_take_their_one_form(value: object, text: bytes) -> None:
    assert dumps(value) == text


def test_bool_is_not_a_number_of_joules() -> None:
    assert dumps({"t": True, "n": 1}) == b'{"n":1,"t":true}'


def test_the_error_names_the_value_and_says_what_to_do() -> None:
    with pytest.raises(CanonicalError, match="9007199254740992") as caught:
        dumps({"total_uj": 2**53})
    assert "decimal string" in caught.value.hint
