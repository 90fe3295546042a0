"""The clocks of the machine, as integers, and times as RFC 3339 text."""

from __future__ import annotations

import time

NS_PER_US = 1_000


def monotonic_ns() -> int:
    """Return CLOCK_MONOTONIC [ns]; it stands still during suspend."""
    return time.monotonic_ns()


def boottime_ns() -> int:
    """Return CLOCK_BOOTTIME [ns]; it goes on during suspend."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def wall_ns() -> int:
    """Return the time of day [ns since the Unix epoch, UTC]; it can step."""
    return time.time_ns()


_second = 0, "1970-01-01T00:00:00"


def rfc3339(wall: int) -> str:
    """Return ``wall`` [ns since the epoch] as RFC 3339 UTC text with microseconds.

    Truncated, never rounded, so that order is kept.

    >>> rfc3339(1_700_000_000_123_456_789)
    '2023-11-14T22:13:20.123456Z'
    """
    global _second  # noqa: PLW0603 - most texts are of the same second as the last
    whole, rest = divmod(wall, 1_000_000_000)
    second, text = _second
    if whole != second:
        t = time.gmtime(whole)
        text = (
            f"{t.tm_year:04d}-{t.tm_mon:02d}-{t.tm_mday:02d}"
            f"T{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d}"
        )
        _second = whole, text
    return f"{text}.{rest // NS_PER_US:06d}Z"
