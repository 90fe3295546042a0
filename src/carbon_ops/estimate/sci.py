"""Embodied carbon of a span, and the Software Carbon Intensity of a unit of work.

    M = TE x (TiR / EL) x (RR / ToR)        SCI = (O + M) per R

TE is the carbon embodied in the hardware, TiR the time reserved, EL its expected
lifespan, RR/ToR the share of its resources reserved, O the operational carbon. Where the
embodied carbon is unknown, or counted in another gas or on another basis than O, there is
no score: null with a reason, never 0. Arithmetic only.

Source: ISO/IEC 21031:2024, Software Carbon Intensity; its example (1000 kg over four
years, one hour) gives 28.54 g.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import hypot
from typing import TYPE_CHECKING, Any, NamedTuple

from carbon_ops.data.facility import embodied_in
from carbon_ops.errors import InvalidInputError
from carbon_ops.estimate.inputs import number

if TYPE_CHECKING:
    from carbon_ops.estimate.record import CarbonRecord

YEAR_S = 365 * 86_400.0  # the standard's own example counts 35,040 h in four years
LIFETIME_YEARS, LIFETIME_CV = 4.0, 0.25  # servers are kept 3 to 6 years
KNOWN_CV = 0.30  # of a manufacturer's own product carbon footprint
SIGNALS = ("average", "marginal")


class Embodied(NamedTuple):
    """Hardware whose making is shared out over its life."""

    total_g: float  # of one machine, cradle to gate [g]
    cv: float  # standard uncertainty of total_g / lifetime, relative (k=1)
    lifetime_s: float
    share: float  # of the machine's resources reserved for the work, 0 to 1
    gas: str
    source: str
    default: bool  # the figure is the shipped one for this kind of hardware

    def over(self, reserved_s: float) -> float:
        """Return the embodied carbon [g] of ``reserved_s`` seconds of reservation."""
        _positive("reserved seconds", reserved_s, zero=True)
        grams = self.total_g * (reserved_s / self.lifetime_s) * self.share
        return number(grams, "embodied carbon [g]")

    def to_dict(self, reserved_s: float) -> dict[str, Any]:
        """Return the record's ``embodied`` for a span of ``reserved_s`` seconds."""
        grams = self.over(reserved_s)
        return {
            "g": grams,
            "u_g": grams * self.cv,
            "reserved_s": reserved_s,
            "factor_basis": "lifecycle",
            **{key: item for key, item in self._asdict().items() if key != "cv"},
        }


def embodied(
    hardware: str | None = None,
    *,
    total_kg: float | None = None,
    cv: float | None = None,
    gas: str = "CO2e",
    lifetime_years: float | None = None,
    share: float = 1.0,
    source: str = "given by the caller",
) -> Embodied:
    """Return hardware from the table (``"server"``) or with a figure of the caller's.

    Args:
        hardware: A row of the shipped table. Leave out with ``total_kg``.
        total_kg: Cradle-to-gate carbon of one machine [kg], a manufacturer's figure.
        cv: Its relative standard uncertainty (k=1); 30 % when only the figure is given.
        gas: ``CO2e`` or ``CO2``, of the caller's figure.
        lifetime_years: Expected lifespan; 4 years, known to 25 %, when left out.
        share: Part of the machine's resources reserved, above 0 and at most 1.
        source: Where the caller's figure is from.

    Raises:
        InvalidInputError: neither or both figures, or a value out of range.
    """
    if (hardware is None) == (total_kg is None):
        raise InvalidInputError("give either a kind of hardware or total_kg")
    if hardware is not None:
        known = embodied_in(hardware)
        grams, gas, source = known.total_g, known.gas, known.source
        spread = known.cv if cv is None else cv
    else:
        grams = _positive("total_kg", total_kg, zero=True) * 1000.0
        spread = KNOWN_CV if cv is None else cv
    _positive("cv", spread, zero=True)
    years = LIFETIME_YEARS if lifetime_years is None else lifetime_years
    _positive("lifetime_years", years)
    if _positive("share", share) > 1:
        raise InvalidInputError(f"share must be at most 1, got {share}")
    life_cv = LIFETIME_CV if lifetime_years is None else 0.0
    # Both relative and independent: 1 + cv^2 of a product multiplies. To first order
    # 1/lifetime is known as well as lifetime.
    total_cv = ((1 + spread**2) * (1 + life_cv**2) - 1) ** 0.5
    return Embodied(
        grams, total_cv, years * YEAR_S, share, gas, source, hardware is not None
    )


def score(
    estimate: Mapping[str, Any],
    made: Mapping[str, Any] | None,
    *,
    units: float,
    functional_unit: str,
    boundary: str,
    signal: str = "average",
) -> dict[str, Any]:
    """Return the SCI of a record, or null with the reason why there is none.

    Args:
        estimate: A carbon record as JSON (``record.to_dict()``).
        made: Its embodied part, :meth:`Embodied.to_dict`; None where unknown.
        units: How many functional units the span served, above 0.
        functional_unit: What R is: ``request``, ``token``, ``epoch``, or your own.
        boundary: What is inside: which hardware, whose energy, which stages of life.
        signal: Which intensity stands for I; the standard allows either.

    Raises:
        InvalidInputError: units, unit, boundary or signal is unusable.
    """
    _positive("units", units)
    for name, text in (("functional_unit", functional_unit), ("boundary", boundary)):
        if not isinstance(text, str) or not text.strip():
            raise InvalidInputError(f"{name} must say what it is, got {text!r}")
    if signal not in SIGNALS:
        raise InvalidInputError(f"signal is average or marginal, got {signal!r}")
    side = estimate[signal]
    labels = side.get("intensity") or {}
    result: dict[str, Any] = {
        "value": None,
        "u": None,
        "unit": f"g{labels.get('gas', 'CO2e')} per {functional_unit}",
        "R": units,
        "functional_unit": functional_unit,
        "boundary": boundary,
        "I_type": f"{signal}, {labels.get('factor_basis')}, location-based",
        "operational_g": side["g"],
        "embodied_g": made and made["g"],
        "reason": None,
    }
    if side["g"] is None:
        result["reason"] = side.get("reason") or "no_operational_carbon"
    elif made is None:
        result["reason"] = "embodied_unknown"
    elif made["gas"] != labels.get("gas"):
        result["reason"] = "gas_mismatch"
    elif made["factor_basis"] != labels.get("factor_basis"):
        result["reason"] = "basis_mismatch"
    else:
        result["value"] = number((side["g"] + made["g"]) / units, "the score")
        result["u"] = hypot(side["sd"], made["u_g"]) / units
    return result


def with_score(
    record: CarbonRecord,
    *,
    units: float,
    functional_unit: str,
    boundary: str,
    signal: str = "average",
) -> CarbonRecord:
    """Return the record with its ``sci`` filled in, from its own embodied carbon.

    Raises:
        InvalidInputError: see :func:`score`.
    """
    from dataclasses import replace

    what = {"functional_unit": functional_unit, "boundary": boundary, "signal": signal}
    plain = record.to_dict()
    return replace(record, sci=score(plain, plain["embodied"], units=units, **what))


def _positive(name: str, value: object, *, zero: bool = False) -> float:
    found = number(value, name)
    if found == 0.0 and not zero:
        raise InvalidInputError(f"{name} must be above 0, got {value!r}")
    return found
