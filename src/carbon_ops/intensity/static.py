"""The shipped yearly factors: usable everywhere, offline, and honest about their age.

Marginal is a fossil operating margin of our own, average is Ember's (states of the US:
eGRID). Both are yearly values at the plant: they say nothing about one hour, so they
cannot rank hours, and no network losses are in them.

Uncertainties are relative standard uncertainties (k=1), common to a whole span.
"""

from __future__ import annotations

import math

from carbon_ops.data.tables import Table, load
from carbon_ops.errors import InvalidInputError
from carbon_ops.intensity.base import (
    Accounting,
    FactorBasis,
    Gas,
    Intensity,
    Interval,
    Series,
    Signal,
)
from carbon_ops.intensity.region import FUEL, WORLD, Region, resolve

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
DAY_NS = 86_400 * 1_000_000_000

_BASES: dict[str, FactorBasis] = {
    "direct": "direct",
    "lifecycle": "lifecycle",
    "output": "output",
}
_GASES: dict[str, Gas] = {"CO2": "CO2", "CO2e": "CO2e"}
_ACCOUNTING: Accounting = "production"


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
        if key in self._factors:
            factor = self._factors[key]
        else:
            factor = factor_of(resolve(region), signal, short=key[2])
            self._factors[key] = factor  # as many as regions were named
        reason = None if factor is not None else f"no_{signal}_factor"
        return Series(signal, (Interval(start_ns, end_ns, factor, reason),))


def factor_of(
    region: Region, signal: Signal, *, short: bool = False
) -> Intensity | None:
    """Return the yearly factor of a region, or None where the tables have none.

    ``short`` widens the uncertainty for a span of less than 24 h.
    """
    if signal not in ("marginal", "average"):
        raise InvalidInputError(
            f"unknown signal {signal!r}", hint="Signals are marginal and average."
        )
    if region.code == WORLD:
        return _world(signal, region, short=short)
    if region.code.startswith(FUEL):
        return _own_plant(region) if signal == "average" else None
    if signal == "average" and region.state is not None:
        table = load("us_states")
        return _average(table, region.state, region, short=short)
    if region.country is None:
        return None
    table = load(f"grid_{signal}")
    if region.country not in table.rows:
        return None
    if signal == "average":
        return _average(table, region.country, region, short=short)
    year, grams, low_fossil = table.rows[region.country]
    flags: tuple[str, ...] = ("low_fossil_share",) if low_fossil == "1" else ()
    if region.state is not None:
        flags += ("country_factor",)  # the state has no table of its own
    return _intensity(
        table,
        float(grams),
        _widened(MARGINAL_CV, short=short),
        signal=signal,
        zone=region.country,
        year=year,
        source=MARGINAL_SOURCE + SHORT_SPAN_SOURCE * short,
        flags=flags,
        default=not region.given,
    )


def average_cv(grams: float) -> float:
    """Return the uncertainty of an average of ``grams`` [g/kWh], relative, k=1.

    Between 100 and 200 g/kWh it stays at 30 g/kWh, so that a live value which crosses
    100 does not double or halve its interval.
    """
    small = min(SMALL_AVERAGE_CV, SMALL_AVERAGE_CV * SMALL_AVERAGE / grams)
    return max(AVERAGE_CV, small, AVERAGE_FLOOR / grams)


def _widened(cv: float, *, short: bool) -> float:
    return float((cv**2 + SHORT_SPAN_CV**2) ** 0.5) if short else cv


def _average(table: Table, key: str, region: Region, *, short: bool) -> Intensity:
    year, text, *_ = table.rows[key]
    grams = float(text)
    return _intensity(
        table,
        grams,
        _widened(average_cv(grams), short=short),
        signal="average",
        zone=key,
        year=year,
        source=AVERAGE_SOURCE + SHORT_SPAN_SOURCE * short,
        flags=(),
        default=not region.given,
    )


def _world(signal: Signal, region: Region, *, short: bool) -> Intensity:
    """Return the world's distribution: between countries, and each one's own."""
    table, labels = load("world"), load(f"grid_{signal}")
    years, text, between, _ = table.rows[signal]
    own = MARGINAL_CV if signal == "marginal" else AVERAGE_CV
    # A product of two independent lognormal factors: 1 + cv^2 multiplies.
    cv = ((1 + float(between) ** 2) * (1 + own**2) - 1) ** 0.5
    return _intensity(
        labels,
        float(text),
        _widened(cv, short=short),
        signal=signal,
        zone=WORLD,
        year=years,
        source="spread between countries, weighted by generation, and "
        + (MARGINAL_SOURCE if signal == "marginal" else AVERAGE_SOURCE)
        + SHORT_SPAN_SOURCE * short,
        flags=("world",),
        default=not region.given,
        sha256=table.sha256,
    )


def _own_plant(region: Region) -> Intensity:
    """Return the life-cycle factor of a kind of plant; it does not vary by the hour."""
    table = load("fuels")
    low, median, high, _ = table.rows[region.code[len(FUEL) :]]
    sigma = math.log(float(high) / float(low)) / 4  # the range taken as +- 2 sd
    return _intensity(
        table,
        float(median) * math.exp(sigma**2 / 2),
        math.sqrt(math.expm1(sigma**2)),
        signal="average",
        zone=region.code,
        year=table.meta["year"],
        source="range of the literature taken as four standard deviations of ln",
        flags=("own_plant",),
        default=False,
    )


def _intensity(
    table: Table,
    grams: float,
    cv: float,
    *,
    signal: Signal,
    zone: str,
    year: str,
    source: str,
    flags: tuple[str, ...],
    default: bool,
    sha256: str | None = None,
) -> Intensity:
    meta = table.meta
    return Intensity(
        g_per_kwh=grams,
        cv=cv,
        residual_cv=0.0,
        signal=signal,
        factor_basis=_BASES[meta["factor_basis"]],
        accounting=_ACCOUNTING,
        gas=_GASES[meta["gas"]],
        zone=zone,
        provider=StaticProvider.name,
        version=f"{meta['version']} sha256:{sha256 or table.sha256}",
        licence=meta["licence"],
        data_time=year,
        default=default,
        annual=True,
        uncertainty_source=source,
        flags=flags,
    )
