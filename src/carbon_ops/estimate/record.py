"""The estimate as a value: what was computed, from what, and how sure it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from carbon_ops.clock import rfc3339
from carbon_ops.estimate.engine import Outcome
from carbon_ops.estimate.inputs import Input
from carbon_ops.estimate.span import Factor
from carbon_ops.intensity.base import Signal
from carbon_ops.model import ESTIMATE_SCHEMA

EnergyBasis = Literal["attributed", "dynamic", "given"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One signal's carbon [g], or the reason why there is none."""

    outcome: Outcome | None
    factor: Factor | None
    reason: str | None
    label: str
    inputs: tuple[Input, ...]  # all that enter this figure
    variance_share: dict[str, float]
    truncated_mass: dict[str, float]
    validation: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON with units in the keys."""
        found = self.outcome or (None,) * len(_OUTCOME)
        return {
            **dict(zip(_OUTCOME, found, strict=True)),
            "label": self.label,
            "intensity": None if self.factor is None else _intensity(self.factor),
            "inputs": [i.name for i in self.inputs],
            "variance_share": dict(self.variance_share),
            "truncated_mass": dict(self.truncated_mass),
            "validation": self.validation,
            "reason": self.reason,
        }


_OUTCOME = (  # of the fields of Outcome, in their order
    "g", "sd", "median", "ci_low", "ci_high", "method", "method_detail", "seed", "trials",
    "converged",
)  # fmt: skip
# Of the chosen figure in the record's head, by their names in the figure.
HEAD = {
    "carbon_gco2e": "g", "median_gco2e": "median", "sd_gco2e": "sd",
    "ci_low_gco2e": "ci_low", "ci_high_gco2e": "ci_high", "label": "label",
    "reason": "reason", "method": "method", "method_detail": "method_detail",
    "seed": "seed", "trials": "trials", "converged": "converged",
    "variance_share": "variance_share", "truncated_mass": "truncated_mass",
}  # fmt: skip


def _intensity(factor: Factor) -> dict[str, Any]:
    pieces = factor.pieces
    every = [p.intensity for p in pieces]
    first, last = every[0], every[-1]
    cv = (factor.common_cv**2 + factor.residual_cv**2) ** 0.5
    times = dict.fromkeys((first.data_time, last.data_time))
    return {
        "g_per_kwh": factor.g_per_kwh,
        "u": factor.g_per_kwh * cv,
        "signal": first.signal,
        "factor_basis": first.factor_basis,
        "gas": first.gas,
        **{
            name: "; ".join(dict.fromkeys(getattr(i, name) for i in every))
            for name in _ALL
        },
        "data_time": "/".join(times),
        **{name: any(getattr(i, name) for i in every) for name in _ANY},
        "flags": list(factor.flags),
        "intervals": [
            {
                "start": rfc3339(p.start_ns),
                "end": rfc3339(p.end_ns),
                "energy_wh": p.energy_wh,
                "g_per_kwh": p.intensity.g_per_kwh,
                "flag": p.flag,
            }
            for p in pieces
        ],
    }


_ALL = ("accounting", "zone", "provider", "version", "licence", "uncertainty_source")
_ANY = ("is_forecast", "is_estimated", "default", "annual")


@dataclass(frozen=True, slots=True)
class CarbonRecord:
    """An estimate of the carbon that a span of energy use stands for.

    Energy is in watt-hours, carbon in grams; ``u`` and ``sd`` are standard uncertainties
    (k=1); the interval covers ``coverage``, symmetric in probability. Figures that could
    not be computed are ``None``, and ``reason`` says why.
    """

    start_ns: int
    end_ns: int
    region: str | None
    signal: Signal
    energy_wh: float | None
    energy_u_wh: float | None
    energy_basis: EnergyBasis
    coverage: float
    marginal: Figure
    average: Figure
    inputs: tuple[Input, ...]
    pue: dict[str, Any]
    embodied: dict[str, Any] | None
    sci: dict[str, Any] | None
    warnings: tuple[str, ...]
    raw_sha256: dict[str, str | None]

    @property
    def figure(self) -> Figure:
        """The figure for the chosen signal."""
        return self.marginal if self.signal == "marginal" else self.average

    @property
    def carbon_gco2e(self) -> float | None:
        """Mean of the figure for the chosen signal [g]."""
        return None if self.figure.outcome is None else self.figure.outcome.mean

    @property
    def reason(self) -> str | None:
        """Why there is no figure for the chosen signal."""
        return self.figure.reason

    @property
    def ci_low_gco2e(self) -> float | None:
        """Lower end of the interval [g]."""
        return None if self.figure.outcome is None else self.figure.outcome.low

    @property
    def ci_high_gco2e(self) -> float | None:
        """Upper end of the interval [g]."""
        return None if self.figure.outcome is None else self.figure.outcome.high

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON: everything needed to judge and to recompute the figures."""
        head = self.figure.to_dict()
        return {
            "schema": ESTIMATE_SCHEMA,
            "start": rfc3339(self.start_ns),
            "end": rfc3339(self.end_ns),
            "region": self.region,
            "signal": self.signal,
            **{key: head[name] for key, name in HEAD.items()},
            "energy_wh": self.energy_wh,
            "energy_u_wh": self.energy_u_wh,
            "energy_basis": self.energy_basis,
            "coverage": self.coverage,
            "marginal": self.marginal.to_dict(),
            "average": self.average.to_dict(),
            "inputs": [i.to_dict() for i in self.inputs],
            "pue": dict(self.pue),
            "embodied": self.embodied,
            "sci": self.sci,
            "warnings": list(self.warnings),
            "raw_sha256": dict(self.raw_sha256),
        }

    def budget(self) -> str:
        """Return the uncertainty budget of the chosen figure as a table of text."""
        from carbon_ops.estimate.budget import table

        return table(self)

    def __str__(self) -> str:
        from carbon_ops.estimate.budget import sentence

        return sentence(self)
