"""What a grid intensity is, and the contract every provider keeps.

A factor never travels without its labels: signals of different type (marginal or
average, direct or lifecycle, CO2 or CO2e) are neither added nor substituted.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

Signal = Literal["marginal", "average"]
FactorBasis = Literal["direct", "lifecycle", "output"]
Accounting = Literal["production", "consumption", "residual"]
Gas = Literal["CO2", "CO2e"]


class Intensity(NamedTuple):
    """One factor with everything needed to judge and to recompute it."""

    g_per_kwh: float  # arithmetic mean [g/kWh], 0 is legal
    cv: float  # standard uncertainty (k=1) / mean, common to all intervals of the zone
    residual_cv: float  # additional standard uncertainty of one interval, relative
    signal: Signal
    factor_basis: FactorBasis
    accounting: Accounting
    gas: Gas
    zone: str
    provider: str
    version: str  # of the data set, with the hash that makes it recomputable
    licence: str
    data_time: str  # what period the value describes, e.g. "2024" or an RFC 3339 time
    is_forecast: bool = False
    is_estimated: bool = False
    default: bool = False  # nobody chose this value: it is the shipped default
    annual: bool = False  # a yearly value: says nothing about one hour
    uncertainty_source: str = ""
    flags: tuple[str, ...] = ()

    @property
    def u_g_per_kwh(self) -> float:
        """Standard uncertainty (k=1) of this one factor [g/kWh]."""
        spread: float = (self.cv**2 + self.residual_cv**2) ** 0.5
        return self.g_per_kwh * spread


class Interval(NamedTuple):
    """A half-open stretch of time, ``[start_ns, end_ns)`` in ns since the Unix epoch."""

    start_ns: int
    end_ns: int
    intensity: Intensity | None  # None: the provider has no value here
    reason: str | None = None  # why not


class Series(NamedTuple):
    """Consecutive intervals that cover a span without hole or overlap."""

    signal: Signal
    intervals: tuple[Interval, ...]
    raw_sha256: str | None = None  # of the provider's reply, for audit


class IntensityProvider(Protocol):
    """Where factors come from. Never called unless the user chose it."""

    name: str

    def series(
        self, region: str | None, signal: Signal, start_ns: int, end_ns: int
    ) -> Series:
        """Return the factors that cover ``[start_ns, end_ns)``.

        ``region=None`` means that none was given (zone ``WORLD``).

        Raises:
            UnknownRegionError: the region means nothing to this provider.
            ProviderError: no usable answer.
        """
