"""Units as types, and the only place where one unit becomes another.

Inside: microjoules (``int``), nanoseconds (``int``), joules, seconds, watts, grams and
grams per kilowatt-hour (``float``). At the edges a name carries its unit
(``energy_wh_total``).

Source of the factors: SI (1 Wh = 3,600 J, exact).
"""

from __future__ import annotations

from typing import NewType

Joules = NewType("Joules", float)
WattHours = NewType("WattHours", float)
Seconds = NewType("Seconds", float)

NS_PER_S = 1_000_000_000
HOUR_NS, DAY_NS = 3_600 * NS_PER_S, 86_400 * NS_PER_S
UJ_PER_J = 1_000_000
J_PER_WH = 3_600.0
WH_PER_KWH = 1_000.0


def joules(energy: int) -> Joules:
    """Return ``energy`` [µJ] in joules.

    >>> joules(1_500_000)
    1.5
    """
    return Joules(energy / UJ_PER_J)


def watt_hours(energy_j: float) -> WattHours:
    """Return ``energy_j`` [J] in watt-hours.

    >>> watt_hours(7_200.0)
    2.0
    """
    return WattHours(energy_j / J_PER_WH)


def seconds(duration_ns: int) -> Seconds:
    """Return ``duration_ns`` [ns] in seconds.

    >>> seconds(1_500_000_000)
    1.5
    """
    return Seconds(duration_ns / NS_PER_S)
