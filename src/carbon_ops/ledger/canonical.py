"""Canonical JSON: one value, one sequence of bytes.

RFC 8785 (JSON Canonicalization Scheme): members sorted by the UTF-16 code units of their
names, no white space, numbers as ECMAScript prints them, UTF-8. What has no exact form
there is refused instead of rounded or dropped: NaN, infinities, integers beyond
2**53 - 1, lone surrogates, names that are not text, and every type JSON does not know.

Sources
    RFC 8785, sections 3.2.2 (numbers, strings) and 3.2.3 (order of members).
    ECMA-262, Number::toString (the form of a number).
    RFC 7493 section 2.2 (I-JSON: the range of integers).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from json.encoder import encode_basestring

from carbon_ops.errors import InvalidInputError

MAX_INTEGER = 2**53 - 1  # I-JSON: beyond it a double no longer holds every integer
MAX_DEPTH = 100  # containers in one another; every common parser reads as much

_quote: Callable[[str], str] = encode_basestring  # escapes what RFC 8785 3.2.2.2 names


class CanonicalError(InvalidInputError):
    """A value has no canonical JSON form."""


def dumps(value: object) -> bytes:
    """Return the RFC 8785 form of ``value``.

    Args:
        value: ``None``, ``bool``, ``int``, ``float``, ``str``, ``list``, ``tuple`` or
            ``dict`` with ``str`` names, nested at most :data:`MAX_DEPTH` deep.

    Raises:
        CanonicalError: some part of ``value`` has no canonical form; says which.

    >>> dumps({"b": 1.0, "a": [1e21, 1e-7, "\\u20ac"]}).decode()
    '{"a":[1e+21,1e-7,"€"],"b":1}'
    """
    try:
        return _text(value, MAX_DEPTH).encode()
    except UnicodeEncodeError as error:
        raise CanonicalError(
            f"text with a lone surrogate (U+{ord(error.object[error.start]):04X}) "
            "has no UTF-8 form"
        ) from None


def number(value: float) -> str:
    """Return a finite double as ECMAScript prints it.

    Python and ECMAScript choose the same shortest digits and differ in the layout only:
    plain digits up to 1e21 there, up to 1e16 here; down to 1e-6 there, 1e-4 here.

    Raises:
        CanonicalError: ``value`` is NaN or infinite.

    >>> number(-0.0), number(1e20), number(1e-06), number(5e-324)
    ('0', '100000000000000000000', '0.000001', '5e-324')
    """
    text = float.__repr__(value)
    if text.endswith(".0"):
        return text[:-2] if text != "-0.0" else "0"
    if "e" not in text and "n" not in text:  # neither exponent nor nan nor inf
        return text
    mantissa, _, exponent = text.partition("e")
    if not exponent:
        raise CanonicalError(f"{value!r} is not a number of JSON")
    sign = "-" if mantissa[0] == "-" else ""
    digits = mantissa.lstrip("-").replace(".", "")
    point = int(exponent) + 1  # digits before the decimal point
    if 0 < point <= 21:
        return sign + digits + "0" * (point - len(digits))
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{fraction}e{point - 1:+d}"


def _utf16(name: str) -> bytes:
    return name.encode("utf-16-be", "surrogatepass")


def _members(value: dict[str, object], depth: int) -> str:
    try:
        plain = "".join(value).isascii()
    except TypeError:
        name = next(name for name in value if not isinstance(name, str))
        raise CanonicalError(
            f"the name of a member must be text, got {name!r}"
        ) from None
    # The order of code points and of UTF-16 units differs only above U+FFFF.
    names = sorted(value) if plain else sorted(value, key=_utf16)
    return (
        "{"
        + ",".join([f"{_quote(name)}:{_text(value[name], depth)}" for name in names])
        + "}"
    )


def _text(value: object, depth: int) -> str:
    if depth < 0:
        raise CanonicalError(f"nested deeper than {MAX_DEPTH} levels")
    kind = type(value)
    if kind is str:
        return _quote(value)  # type: ignore[arg-type]
    if kind is float:
        return number(value)  # type: ignore[arg-type]
    if value is None:
        return "null"
    if kind is bool:
        return "true" if value else "false"
    if kind is dict:
        return _members(value, depth - 1)  # type: ignore[arg-type]
    if isinstance(value, Enum):
        raise CanonicalError(f"{value!r} is an Enum member; give its value")
    if isinstance(value, dict):
        return _members(value, depth - 1)
    if isinstance(value, (list, tuple)):
        return "[" + ",".join([_text(item, depth - 1) for item in value]) + "]"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, int):
        if not -MAX_INTEGER <= value <= MAX_INTEGER:
            raise CanonicalError(
                f"{value} is beyond 2**53 - 1, where JSON numbers stop being exact",
                hint="Write it as a decimal string or in a larger unit.",
            )
        return int.__repr__(value)
    if isinstance(value, str):
        return _quote(value)
    raise CanonicalError(f"{kind.__name__} is not a type of JSON: {value!r:.80}")
