"""From what a provider sends to intervals without hole or overlap.

Values are checked here and nowhere else: 0 is legal; negative, NaN, infinite or above
5,000 g/kWh is not an intensity. A stretch without a value stays in the series, without a
factor and with the reason. Arithmetic only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from math import isfinite, isnan, nan
from typing import NamedTuple

from carbon_ops.errors import ProviderError
from carbon_ops.intensity.base import (
    FactorBasis,
    Gas,
    Intensity,
    Interval,
    Series,
    Signal,
)
from carbon_ops.units import NS_PER_S

MOST_G_PER_KWH = 5_000.0
LB_PER_MWH = 0.45359237  # g/kWh; the pound is exact by definition
NO_DATA = "no_data"
_DECIMAL = frozenset("0123456789+-.eE ")
NS = NS_PER_S


class Point(NamedTuple):
    """One value of a provider, over ``[start_ns, end_ns)``."""

    start_ns: int
    end_ns: int
    g_per_kwh: float | None  # None: published as missing
    is_forecast: bool = False
    is_estimated: bool = False
    issued_ns: int | None = None  # when a forecast was made


def grams(value: object, *, factor: float = 1.0) -> float | None:
    """Return ``value`` x ``factor`` in g/kWh; None stays None. Numbers may be text.

    Raises:
        ProviderError: it is no intensity; the message names the value.
    """
    if value is None:
        return None
    number = nan
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError):
            if set(str(value)) <= _DECIMAL:  # float() takes "1_000" and other scripts
                number = float(value) * factor + 0.0  # -0.0 is 0.0
    if isnan(number):
        raise ProviderError(f"{str(value)[:80]!r} is not an intensity")
    if not isfinite(number) or not 0 <= number <= MOST_G_PER_KWH:
        raise ProviderError(f"{number:g} g/kWh is not an intensity")
    return number


def instant(text: object) -> int:
    """Return RFC 3339 text as ns since the Unix epoch. A time without zone is refused.

    Raises:
        ProviderError: it is not such a time.

    >>> instant("2018-01-20T12:00Z")
    1516449600000000000
    """
    try:
        moment = datetime.fromisoformat(str(text).strip().replace("Z", "+00:00"))
        # a time without zone cannot be subtracted: TypeError
        delta = moment - datetime(1970, 1, 1, tzinfo=timezone.utc)
    except (ValueError, TypeError, OverflowError):
        raise ProviderError(f"{str(text)[:80]!r} is not a time with its zone") from None
    return (delta.days * 86_400 + delta.seconds) * NS + delta.microseconds * 1_000


def text_of(when_ns: int, form: str = "%Y-%m-%dT%H:%M:%SZ") -> str:
    """Return ns since the Unix epoch as UTC text, whole seconds."""
    return datetime.fromtimestamp(when_ns // NS, tz=timezone.utc).strftime(form)


def cover(
    points: Iterable[Point],
    start_ns: int,
    end_ns: int,
    make: Callable[[Point, float], Intensity],
) -> tuple[Interval, ...]:
    """Return intervals that cover ``[start_ns, end_ns)`` exactly, gaps as such.

    Where two points begin together the better one stays: measured before forecast, a
    value before none, the later one in the list before the earlier. A point ends where
    the next begins at the latest. An empty span gives one empty interval.
    """
    # Sorting keeps the order of equals, so of those the last one in the list stays.
    ranked = sorted(points, key=lambda p: (p.start_ns, *_rank(p)))
    ordered = list({point.start_ns: point for point in ranked}.values())
    result: list[Interval] = []
    at, last = start_ns, max(end_ns, start_ns + 1)  # an empty span asks for an instant
    nexts = [*(point.start_ns for point in ordered), last][1:]
    for point, end in zip(ordered, nexts, strict=True):
        low, high = max(point.start_ns, at), min(point.end_ns, end, last)
        if low >= high:
            continue
        if low > at:
            result.append(Interval(at, low, None, NO_DATA))
        factor = None if point.g_per_kwh is None else make(point, point.g_per_kwh)
        result.append(Interval(low, high, factor, None if factor else NO_DATA))
        at = high
    if at < last:
        result.append(Interval(at, last, None, NO_DATA))
    if end_ns == start_ns:
        result = [result[0]._replace(end_ns=end_ns)]
    return tuple(result)


def labelled(
    template: Intensity, point: Point, grams: float, residual_cv: float = 0.0
) -> Intensity:
    """Return the factor of one point, with the labels of its whole series.

    An exact 0 leaves a relative uncertainty nothing to act on: its flag says so.
    """
    return template._replace(
        g_per_kwh=grams,
        residual_cv=residual_cv,
        data_time=text_of(point.start_ns),
        is_forecast=point.is_forecast,
        is_estimated=point.is_estimated,
        flags=template.flags if grams else (*template.flags, "zero_factor"),
    )


def _rank(point: Point) -> tuple[bool, bool]:
    return (point.g_per_kwh is not None, not point.is_forecast)


class Kind(NamedTuple):
    """What a factor counts. Only factors of one kind may stand for one another."""

    signal: Signal
    factor_basis: FactorBasis
    gas: Gas


def kind_of(factor: Intensity) -> Kind:
    return Kind(factor.signal, factor.factor_basis, factor.gas)


def fill(series: Series, other: Series, kind: Kind | None, flag: str | None) -> Series:
    """Return ``series`` with missing stretches taken from ``other``, marked ``flag``.

    A factor of another kind than ``kind`` never steps in: the stretch stays missing,
    with the reason ``basis_mismatch``.
    """
    result: list[Interval] = []
    for interval in series.intervals:
        if interval.intensity is not None:
            result.append(interval)
            continue
        for low, high, spare in overlaps(interval, other):
            if spare is None:
                piece = Interval(low, high, None, interval.reason)
            elif kind is not None and kind_of(spare) != kind:
                piece = Interval(low, high, None, "basis_mismatch")
            else:
                flags = spare.flags if flag is None else (*spare.flags, flag)
                piece = Interval(low, high, spare._replace(flags=flags))
            result.append(piece)
    return series._replace(intervals=tuple(result))


def overlaps(
    gap: Interval, other: Series
) -> Iterable[tuple[int, int, Intensity | None]]:
    """Yield the pieces of ``gap`` as ``other`` covers them, without hole."""
    if gap.start_ns == gap.end_ns:
        found = next(
            (i.intensity for i in other.intervals if i.start_ns <= gap.start_ns), None
        )
        yield gap.start_ns, gap.end_ns, found
        return
    at = gap.start_ns
    for piece in other.intervals:
        low, high = max(at, piece.start_ns), min(gap.end_ns, piece.end_ns)
        if low < high:
            if low > at:
                yield at, low, None
            yield low, high, piece.intensity
            at = high
    if at < gap.end_ns:
        yield at, gap.end_ns, None


def gap(signal: Signal, start_ns: int, end_ns: int, reason: str) -> Series:
    """Return a series that holds nothing, and says why."""
    return Series(signal, (Interval(start_ns, end_ns, None, reason),))


def joined(hashes: Sequence[str]) -> str | None:
    """Return one hash for several replies: the only one's own, else that of the list.

    The list is hashed as text, one lower-case hex digest per line.
    """
    if len(hashes) <= 1:
        return hashes[0] if hashes else None
    from hashlib import sha256

    return sha256("".join(h + "\n" for h in hashes).encode()).hexdigest()
