"""The shipped yearly factors: usable everywhere, offline, and honest about their age.

Marginal is a fossil operating margin of our own, average is Ember's (states of the US:
eGRID). Both are yearly values at the plant: they say nothing about one hour, so they
cannot rank hours, and no network losses are in them.

Uncertainties are relative standard uncertainties (k=1), common to a whole span.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast, get_args

from carbon_ops.data.tables import Table, load
from carbon_ops.errors import InvalidInputError
from carbon_ops.intensity.base import (
    FactorBasis,
    Gas,
    Intensity,
    Interval,
    Series,
    Signal,
)
from carbon_ops.intensity.region import FUEL, WORLD, Region, resolve
from carbon_ops.units import DAY_NS

# Model 0.16, reference 0.20, regions inside a country 0.17, in quadrature. The first is
# the rms of ln(ratio) to WattTime's annual rates in 34 countries: agreement with another
# model, not accuracy.
MARGINAL_CV = 0.30
MARGINAL_SOURCE = "0.16 model, 0.20 reference, 0.17 regional, in quadrature"
# Ember against consumption-based annual values, 88 countries: median absolute
# difference 13.6 %, sd of the logarithm 0.31; small factors differ by more.
AVERAGE_CV = 0.15
SMALL_AVERAGE_CV = 0.30
SMALL_AVERAGE = 100.0  # g/kWh
AVERAGE_FLOOR = 5.0  # g/kWh, absolute
AVERAGE_SOURCE = "annual averages of two providers compared in 88 countries"
# A yearly value applied to less than a day: hour-to-hour spread, in quadrature.
SHORT_SPAN_CV = 0.25
SHORT_SPAN_SOURCE = "; 0.25 for a yearly value applied to under 24 h"

# Of the numbers above, in each factor's version: a record says under which it was made.
# Whoever changes one of them changes this, too.
RULES = "rules-1"


class StaticProvider:
    """Yearly national factors from the tables in this package; no network, ever."""

    name = "static"

    def __init__(self) -> None:
        self._factors: dict[tuple[str | None, Signal, bool], Intensity | None] = {}

    def series(
        self, region: str | None, signal: Signal, start_ns: int, end_ns: int
    ) -> Series:
        """Return one interval over ``[start_ns, end_ns)`` with the yearly factor.

        A region without a factor gives an interval without one, and the reason
        (``no_marginal_factor``, ``no_average_factor``).

        Raises:
            UnknownRegionError: no table knows the region.
            InvalidInputError: unknown signal, or a reversed span.
        """
        if end_ns < start_ns:
            raise InvalidInputError(
                f"span ends {start_ns - end_ns} ns before it starts"
            )
        key = (region, signal, end_ns - start_ns < DAY_NS)
        if key not in self._factors:  # it keeps as many as regions were named
            self._factors[key] = factor_of(resolve(region), signal, short=key[2])
        factor = self._factors[key]
        reason = None if factor is not None else f"no_{signal}_factor"
        return Series(signal, (Interval(start_ns, end_ns, factor, reason),))


def factor_of(
    region: Region, signal: Signal, *, short: bool = False
) -> Intensity | None:
    """Return the yearly factor of a region, or None where the tables have none.

    ``short`` widens the uncertainty for a span of less than 24 h.
    """
    if signal not in get_args(Signal):
        raise InvalidInputError(
            f"unknown signal {signal!r}", hint="Signals are marginal and average."
        )
    if region.code.startswith(FUEL):
        return _own_plant(region) if signal == "average" else None
    table = labels = load(f"grid_{signal}")
    key = zone = region.country or ""
    if region.code == WORLD:
        table, key, zone = load("world"), signal, WORLD
    elif signal == "average" and region.state is not None:
        table = labels = load("us_states")
        key = zone = region.state
    if key not in table.rows:
        return None
    year, text, *more = table.rows[key]
    grams = float(text)
    flags: tuple[str, ...] = ()
    cv, source = MARGINAL_CV, MARGINAL_SOURCE
    if signal == "average":
        cv = AVERAGE_CV if zone == WORLD else average_cv(grams)
        source = AVERAGE_SOURCE
    elif zone != WORLD:
        flags = ("low_fossil_share",) * (more[0] == "1")
        flags += ("country_factor",) * (region.state is not None)  # it has no table
    if zone == WORLD:  # between countries, and each one's own: 1 + cv^2 multiplies
        cv = ((1 + float(more[0]) ** 2) * (1 + cv**2) - 1) ** 0.5
        source = f"spread between countries, weighted by generation, and {source}"
        flags = ("world",)
    if short:
        cv, source = (cv**2 + SHORT_SPAN_CV**2) ** 0.5, source + SHORT_SPAN_SOURCE
    made = _intensity(labels, table.sha256, signal, zone, year, grams, cv, source)
    return made._replace(default=not region.given, flags=flags)


def average_cv(grams: float) -> float:
    """Return the uncertainty of an average of ``grams`` [g/kWh], relative, k=1.

    Between 100 and 200 g/kWh it stays at 30 g/kWh, so that a live value which crosses
    100 does not double or halve its interval.
    """
    small = min(SMALL_AVERAGE_CV, SMALL_AVERAGE_CV * SMALL_AVERAGE / grams)
    return max(AVERAGE_CV, small, AVERAGE_FLOOR / grams)


def average_cv_of(values: Sequence[float]) -> float:
    """Return the uncertainty common to a series of averages [g/kWh], relative, k=1."""
    mean = math.fsum(values) / len(values) if values else 0.0
    return average_cv(mean) if mean else SMALL_AVERAGE_CV


def _own_plant(region: Region) -> Intensity:
    """Return the life-cycle factor of a kind of plant; it does not vary by the hour."""
    table = load("fuels")
    low, median, high, _ = table.rows[region.code[len(FUEL) :]]
    sigma = math.log(float(high) / float(low)) / 4  # the range taken as +- 2 sd
    grams, cv = float(median) * math.exp(sigma**2 / 2), math.sqrt(math.expm1(sigma**2))
    source = "range of the literature taken as four standard deviations of ln"
    year, sha256 = table.meta["year"], table.sha256
    made = _intensity(table, sha256, "average", region.code, year, grams, cv, source)
    return made._replace(flags=("own_plant",))


def _intensity(
    labels: Table,
    sha256: str,
    signal: Signal,
    zone: str,
    year: str,
    grams: float,
    cv: float,
    source: str,
) -> Intensity:
    meta = labels.meta
    return Intensity(
        g_per_kwh=grams,
        cv=cv,
        residual_cv=0.0,
        signal=signal,
        factor_basis=cast(FactorBasis, meta["factor_basis"]),
        accounting="production",
        gas=cast(Gas, meta["gas"]),
        zone=zone,
        provider=StaticProvider.name,
        version=f"{meta['version']} {RULES} sha256:{sha256}",
        licence=meta["licence"],
        data_time=year,
        annual=True,
        uncertainty_source=source,
    )
