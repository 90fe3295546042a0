"""A provider in memory: any factors at any times, with holes where asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from carbon_ops.errors import ProviderError
from carbon_ops.intensity.base import Intensity, Interval, Series, Signal

HOUR = 3_600_000_000_000


def intensity(
    grams: float,
    *,
    signal: Signal = "marginal",
    cv: float = 0.2,
    residual: float = 0.0,
    forecast: bool = False,
    gas: str = "CO2",
) -> Intensity:
    return Intensity(
        g_per_kwh=grams,
        cv=cv,
        residual_cv=residual,
        signal=signal,
        factor_basis="direct",
        accounting="production",
        gas="CO2e" if gas == "CO2e" else "CO2",
        zone="XX",
        provider="memory",
        version="1",
        licence="none",
        data_time="2026",
        is_forecast=forecast,
        uncertainty_source="made up",
    )


class MemoryProvider:
    """Consecutive intervals of one length from the epoch on, repeated for ever.

    ``None`` is a hole, as providers have them at the end of their data. Answers the same
    factors for both signals, with the signal's own label.
    """

    name = "memory"

    def __init__(
        self, factors: Sequence[Intensity | None], length_ns: int = HOUR
    ) -> None:
        self.factors = factors
        self.length_ns = length_ns
        self.calls = 0
        self.fail = False

    def series(
        self, region: str | None, signal: Signal, start_ns: int, end_ns: int
    ) -> Series:
        self.calls += 1
        if self.fail:
            raise ProviderError("memory: no answer")
        first, found = start_ns // self.length_ns, []
        while first * self.length_ns < end_ns:
            factor = self.factors[first % len(self.factors)]
            found.append(
                Interval(
                    first * self.length_ns,
                    (first + 1) * self.length_ns,
                    None if factor is None else factor._replace(signal=signal),
                    "not_published" if factor is None else None,
                )
            )
            first += 1
        return Series(signal, tuple(found), "ab" * 32)


Maker = Callable[..., MemoryProvider]


@pytest.fixture
def provider() -> Maker:
    return MemoryProvider


@pytest.fixture
def factor() -> Callable[..., Intensity]:
    return intensity
