"""What a data centre adds to the energy of its computers, and hardware to its use.

Power usage effectiveness (PUE) is the energy of the whole facility over that of its IT
equipment, as the operators disclose it per year (ISO/IEC 30134-2). Nothing here decides
whether a factor applies; that is the caller's to say.
"""

from __future__ import annotations

from typing import NamedTuple

from carbon_ops.data.tables import load
from carbon_ops.errors import InvalidInputError

REGION_U = 0.02  # rounding and year-to-year change of a disclosed regional value
# Nobody knows: Uptime Institute, Global Data Center Survey 2024, average of the answers.
UNKNOWN_PUE, UNKNOWN_U, UNKNOWN_MOST = 1.56, 0.30, 3.0


class Pue(NamedTuple):
    """A power usage effectiveness and its standard uncertainty (k=1); at least 1."""

    value: float
    u: float
    source: str
    year: str


def pue_of(name: str) -> Pue | None:
    """Return the PUE of a cloud region (``aws:eu-west-1``) or an operator (``aws``).

    The region's own where it is disclosed, otherwise the mean over the operator's
    regions with their spread. None for anything else.
    """
    name = name.strip().lower()
    regions, operators = load("cloud_regions"), load("cloud_operators")
    row = regions.rows.get(name)
    if row is not None and row[2]:
        source = f"{name}: {regions.meta['pue_source']}"
        return Pue(float(row[2]), REGION_U, source, row[3])
    mean = operators.rows.get(name.partition(":")[0])
    if mean is None or (":" in name and row is None):
        return None
    value, u, count, year, title = mean
    source = f"{title}, {count} regions: {operators.meta['source']}"
    return Pue(float(value), float(u), source, year)


class HardwareCarbon(NamedTuple):
    """Carbon embodied in one piece of hardware."""

    total_g: float
    cv: float
    gas: str
    source: str


def embodied_in(hardware: str) -> HardwareCarbon:
    """Return what the table knows about a kind of hardware.

    Raises:
        InvalidInputError: the table does not have it; the hint names what it has.
    """
    rows = load("embodied").rows
    if hardware not in rows:
        raise InvalidInputError(
            f"no embodied figure for {hardware!r}",
            hint=f"Known: {', '.join(rows)}. A figure of the manufacturer is better.",
        )
    kg, cv, gas, _, source = rows[hardware]
    return HardwareCarbon(float(kg) * 1000.0, float(cv), gas, source)
