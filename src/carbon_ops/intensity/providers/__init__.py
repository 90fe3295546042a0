"""Providers of live grid intensity. None is asked unless a caller names it.

A name is one of :data:`BUILT_IN`, ``file:PATH``, or one that another package offers as an
entry point in the group ``carbon_ops.intensity``. Several names with commas between them
make a chain: the first answers, the others fill its gaps with factors of the same kind.
"""

from __future__ import annotations

from importlib import import_module
from typing import cast

from carbon_ops.errors import InvalidInputError
from carbon_ops.intensity.base import IntensityProvider
from carbon_ops.intensity.cache import Cache

ENTRY_POINTS = "carbon_ops.intensity"

# Name: module below this package, and class in it.
BUILT_IN = {
    "electricitymaps": ("electricity_maps", "ElectricityMaps"),
    "electricitymaps-v3": ("electricity_maps", "ElectricityMapsV3"),
    "watttime": ("watttime", "WattTime"),
    "uk-carbon-intensity": ("uk", "UkCarbonIntensity"),
    "energy-charts": ("energy_charts", "EnergyCharts"),
}


def open_provider(spec: str, *, cache: Cache | None = None) -> IntensityProvider:
    """Return the provider or chain of providers that ``spec`` names.

    Raises:
        InvalidInputError: no such provider, or one that keeps another contract.
        ConfigError: its key is missing or readable by others.
    """
    names = [name.strip() for name in spec.split(",")]
    if len(names) > 1:
        from carbon_ops.intensity.providers.chain import Chain

        return Chain([open_provider(name, cache=cache) for name in names])
    (name,) = names
    if name == "static":
        from carbon_ops.intensity.static import StaticProvider

        return StaticProvider()
    kind, _, path = name.partition(":")
    if kind == "file" and path:
        from carbon_ops.intensity.providers.file import FileProvider

        return FileProvider(path)
    if name in BUILT_IN:
        module, attribute = BUILT_IN[name]
        made: object = getattr(import_module(f"{__name__}.{module}"), attribute)(
            cache=cache
        )
    else:
        made = _plugin(name)
    if not callable(getattr(made, "series", None)) or not getattr(made, "name", ""):
        raise InvalidInputError(f"{name!r} offers no name and series()")
    return cast(IntensityProvider, made)


def _plugin(name: str) -> object:
    from importlib.metadata import entry_points

    found = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
    if name not in found:
        known = ["static", *BUILT_IN, "file:PATH", *sorted(found)]
        raise InvalidInputError(
            f"unknown provider {name[:80]!r}", hint=f"Known: {', '.join(known)}."
        )
    return found[name].load()()
