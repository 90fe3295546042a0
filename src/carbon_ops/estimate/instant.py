"""Times as people give them, as ns since the Unix epoch. Arithmetic only.

Source of the text form: RFC 3339.
"""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta, timezone

from carbon_ops.errors import InvalidInputError
from carbon_ops.units import NS_PER_S

Instant = str | datetime | float  # RFC 3339 text, aware datetime, or epoch seconds

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_MICROSECOND = timedelta(microseconds=1)
# Years 1 to 9999, the range of RFC 3339 text.
_FIRST_S, _LAST_S = -62_135_596_800, 253_402_300_800
_TEXT = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ]([01]\d|2[0-3]):([0-5]\d):([0-5]\d|60)(?:\.(\d+))?"
    r"(?:([Zz])|([+-])([01]\d|2[0-3]):([0-5]\d))?",
    re.ASCII,
)
_FORM_HINT = "Like 2026-03-29T01:30:00Z or 2026-03-29T03:30:00.25+02:00."
_UTC_HINT = "Append Z for UTC, or an offset such as +02:00."


def instant(value: object, name: str) -> int:
    """Return a time as ns since the Unix epoch.

    Args:
        value: RFC 3339 text with its offset, an aware datetime, or epoch seconds.
        name: What the value is called, for the error.

    Raises:
        InvalidInputError: anything else, a naive time, NaN or a date that does not exist.

    >>> instant("1970-01-01T01:00:00.5+01:00", "start_ts")
    500000000
    """
    if isinstance(value, str):
        return _parsed(value, name)
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise InvalidInputError(
                f"{name} has no time zone: {value!r}",
                hint="Pass an aware datetime, e.g. datetime.now(timezone.utc).",
            )
        return (value - _EPOCH) // _MICROSECOND * 1_000
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidInputError(
            f"{name} must be RFC 3339 text, an aware datetime or epoch seconds, "
            f"got {type(value).__name__} {value!r}"
        )
    if not _FIRST_S <= value < _LAST_S:  # NaN is not, either
        raise InvalidInputError(
            f"{name} is no time between year 1 and 9999: {value!r:.80}",
            hint="Numbers are seconds since 1970-01-01T00:00:00Z.",
        )
    whole = int(value // 1)
    return whole * NS_PER_S + round((value - whole) * NS_PER_S)


def _parsed(text: str, name: str) -> int:
    """Return RFC 3339 text as ns; digits beyond the nanosecond are cut off."""
    match = _TEXT.fullmatch(text)
    if match is None:
        raise InvalidInputError(
            f"{name} is not an RFC 3339 time: {text[:80]!r}", hint=_FORM_HINT
        )
    year, month, day, hour, minute, second, fraction, utc, sign, off_h, off_m = (
        match.groups()
    )
    try:
        days = date(int(year), int(month), int(day)).toordinal() - _EPOCH_DAY
    except ValueError as error:
        raise InvalidInputError(
            f"{name}: there is no such day: {text!r}", hint=_FORM_HINT
        ) from error
    whole = days * 86_400 + int(hour) * 3_600 + int(minute) * 60 + int(second)
    if utc is None:
        if sign is None:
            raise InvalidInputError(
                f"{name} has no time zone: {text!r}", hint=_UTC_HINT
            )
        offset = int(off_h) * 3_600 + int(off_m) * 60
        whole += offset if sign == "-" else -offset
    return whole * NS_PER_S + (int((fraction + "00000000")[:9]) if fraction else 0)
