"""Which place a region name means.

Accepted: ISO 3166-1 codes (``DE``, ``DEU``), English country names, states of the US
(``US-CA``), cloud regions (``aws:eu-central-1``), a plant of one's own
(``fuel:solar_pv_rooftop``) and ``WORLD``. A name is never guessed:
what is not known is refused, with the nearest known names as a hint.
"""

from __future__ import annotations

from typing import NamedTuple

from carbon_ops.data.tables import load
from carbon_ops.errors import UnknownRegionError

# In wide use though not the ISO 3166-1 code: the United Kingdom's exceptional
# reservation, and the European Union's code for Greece.
_ALIASES = {"UK": "GB", "EL": "GR"}
_MOST_SUGGESTIONS = 3
WORLD = "WORLD"
FUEL = "fuel:"  # a plant of one's own, off the grid: fuel:solar_pv_rooftop


class Region(NamedTuple):
    """A place with a grid."""

    code: str  # canonical: "DE", "US-CA", "aws:eu-central-1", "WORLD"
    name: str
    country: str | None  # alpha-2; None for the world
    state: str | None = None  # "US-CA" where the state is known
    given: bool = True  # False: nobody named a region, this is the default


def resolve(region: str | None) -> Region:
    """Return the place that ``region`` names; ``None`` is the world, not given.

    Raises:
        UnknownRegionError: no table knows it; the hint suggests the nearest names.

    >>> resolve("deu").code
    'DE'
    >>> resolve("us-ca").name
    'California'
    """
    if region is None:
        return Region(WORLD, "World", None, given=False)
    if not isinstance(region, str):
        raise UnknownRegionError(
            f"a region is text, got {type(region).__name__}", hint=_FORMS
        )
    text = region.strip()
    code = text.upper()
    code = _ALIASES.get(code, code)
    if code == WORLD:
        return Region(WORLD, "World", None)
    countries = load("countries").rows
    if code in countries:
        return Region(code, countries[code][1], code)
    if (
        code.startswith(FUEL.upper())
        and code[len(FUEL) :].lower() in load("fuels").rows
    ):
        name = code[len(FUEL) :].lower()
        return Region(FUEL + name, name.replace("_", " "), None)
    if ":" in code:
        cloud = load("cloud_regions").rows.get(code.lower())
        if cloud is not None:
            country, state, _, _, place = cloud
            return Region(code.lower(), place, country, state or None)
    elif "-" in code:
        cells = load("us_states").rows.get(code)
        if cells is not None:
            return Region(code, cells[2], "US", code)
    folded = text.casefold()
    for alpha2, (alpha3, name) in countries.items():
        if code == alpha3 or folded == name.casefold():
            return Region(alpha2, name, alpha2)
    raise UnknownRegionError(f"unknown region {text[:80]!r}", hint=_hint(text[:80]))


_FORMS = (
    "Use an ISO 3166 code (DE, DEU), a state (US-CA), a cloud region "
    "(aws:eu-central-1) or WORLD; "
    "`carbon-ops intensity --list` shows all."
)


def _hint(text: str) -> str:
    nearest = suggest(text)
    return (f"Did you mean {', '.join(nearest)}? " if nearest else "") + _FORMS


def suggest(text: str) -> list[str]:
    """Return up to three known names that begin with ``text`` or are a slip away."""
    from difflib import get_close_matches

    names: dict[str, str] = {}
    for alpha2, (alpha3, name) in load("countries").rows.items():
        label = f"{alpha2} ({name})"
        names[alpha2.casefold()] = names[alpha3.casefold()] = label
        names[name.casefold()] = label
    for code, row in load("us_states").rows.items():
        names[code.casefold()] = names[row[2].casefold()] = f"{code} ({row[2]})"
    for fuel in load("fuels").rows:
        names[FUEL + fuel] = FUEL + fuel
    for code, cells in load("cloud_regions").rows.items():
        names[code] = names[code.partition(":")[2]] = f"{code} ({cells[4]})"
    wanted = text.casefold()
    # Two letters begin too many names, and three are near to too many codes.
    found = [name for name in names if len(wanted) > 2 and name.startswith(wanted)]
    if len(wanted) > 3:
        found += get_close_matches(wanted, names, n=6, cutoff=0.8)
    return list(dict.fromkeys(names[name] for name in found))[:_MOST_SUGGESTIONS]
