"""Several providers in a row: the first one answers, the next ones fill its gaps.

Only factors of the first one's kind (signal, basis, gas) may step in, each flagged
``fallback:<name>``. Where none has one the gap stays a gap, with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence

from carbon_ops.errors import InvalidInputError, ProviderError, UnknownRegionError
from carbon_ops.intensity import series
from carbon_ops.intensity.base import IntensityProvider, Series, Signal
from carbon_ops.intensity.series import Kind


class Chain:
    """Providers in the order in which they are asked."""

    name = "chain"

    def __init__(self, providers: Sequence[IntensityProvider]) -> None:
        if not providers:
            raise InvalidInputError("a chain needs a provider")
        self._providers = tuple(providers)

    def kind(self, signal: Signal) -> Kind | None:
        """Return what the first provider's factors count, where it says so."""
        declare = getattr(self._providers[0], "kind", None)
        found = declare(signal) if callable(declare) else None
        return found if isinstance(found, Kind) else None

    def close(self) -> None:
        for provider in self._providers:
            close = getattr(provider, "close", None)
            if callable(close):
                close()

    def series(
        self, region: str | None, signal: Signal, start_ns: int, end_ns: int
    ) -> Series:
        """Return what the first provider has, its gaps filled by the others.

        Raises:
            ProviderError, UnknownRegionError: no provider answered; the first one's.
        """
        kind = self.kind(signal)
        result = series.gap(signal, start_ns, end_ns, series.NO_DATA)
        failure: ProviderError | UnknownRegionError | None = None
        hashes: list[str] = []
        answered = False
        for i, provider in enumerate(self._providers):
            if all(interval.intensity for interval in result.intervals):
                break
            try:
                found = provider.series(region, signal, start_ns, end_ns)
            except (ProviderError, UnknownRegionError) as error:
                failure = failure or error
                continue
            answered = True
            if found.raw_sha256 is not None:
                hashes.append(found.raw_sha256)
            kind = kind or next(
                (series.kind_of(x.intensity) for x in found.intervals if x.intensity),
                None,
            )
            flag = f"fallback:{provider.name}" if i else None
            result = series.fill(result, found, kind, flag)
        if not answered and failure is not None:
            raise failure
        return result._replace(raw_sha256=series.joined(hashes))
