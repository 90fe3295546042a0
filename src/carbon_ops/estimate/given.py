"""What callers give, as inputs of an estimate: numbers, a metric, a PUE.

Pure. Everything refused here is refused by name and value.
"""

from __future__ import annotations

from math import prod, sqrt
from typing import Any

from carbon_ops.data.facility import (
    REGION_U,
    UNKNOWN_MOST,
    UNKNOWN_PUE,
    UNKNOWN_U,
    pue_of,
)
from carbon_ops.errors import InvalidInputError
from carbon_ops.estimate.inputs import (
    MOST_CV,
    Distribution,
    Exact,
    Input,
    Lognormal,
    TruncatedNormal,
    Uniform,
    checked,
    number,
    shape,
)
from carbon_ops.units import J_PER_WH

# Energy of which nobody said how sure it is: the spread of software meters against wall
# meters. Source: CodeCarbon and ML-CO2 compared with meters, errors up to 40 %
# (S. Fischer 2025, arXiv:2509.22092).
DEFAULT_ENERGY_CV = 0.25
DEFAULT_ENERGY_SOURCE = "no uncertainty given: software estimates against meters"
UNKNOWN = TruncatedNormal(UNKNOWN_PUE, UNKNOWN_U, 1.0, UNKNOWN_MOST)
UNKNOWN_SOURCE = "Uptime Institute Global Data Center Survey 2024, spread assumed"
MOST_PUE = 100.0  # above, somebody gave a percentage
SMALL_PART = 0.01  # of the variance, below which a distribution's shape does not show

Pue = float | tuple[float, float] | str | Distribution | None
_KINDS = (Exact, Lognormal, TruncatedNormal, Uniform)


def energy(
    energy_wh: float | Distribution | None, energy_u_wh: float | None
) -> tuple[float | None, tuple[Input, ...]]:
    """Return the mean [Wh] and the inputs that make the energy."""
    if energy_wh is None:
        return None, ()
    if isinstance(energy_wh, _KINDS):
        if energy_u_wh is not None:
            raise InvalidInputError(
                "energy_wh is a distribution: energy_u_wh is not used"
            )
        given = checked(energy_wh, "energy_wh")
        return shape(given).mean, (Input("energy", given, "given"),)
    u = None if energy_u_wh is None else number(energy_u_wh, "energy_u_wh")
    return _reading(number(energy_wh, "energy_wh"), u, "given")


def _reading(
    mean: float, u: float | None, source: str
) -> tuple[float, tuple[Input, ...]]:
    """Return a reading [Wh] and the input that it is."""
    if u is None:
        value = Lognormal(mean, DEFAULT_ENERGY_CV) if mean else Exact(0.0)
        return mean, (Input("energy", value, DEFAULT_ENERGY_SOURCE, True),)
    spread_out: Distribution = Exact(mean)
    if u > 0.0:
        # One of (nearly) 0 with an uncertainty is what is left of a normal above 0.
        small = mean * MOST_CV <= u
        spread_out = TruncatedNormal(mean, u) if small else Lognormal(mean, u / mean)
    parts = (Input("energy", spread_out, source),)
    return total(parts), parts


def measured(
    joules: object, u_j: object, bounds: object, source: str
) -> tuple[float | None, tuple[Input, ...]]:
    """Return the energy of a metric: a gain, and what its counter bounds leave open.

    ``u_j`` holds both parts; the bounds' part is rectangular, ``(high - low)/sqrt(12)``.
    """
    if joules is None:
        return None, ()
    mean = number(joules, "energy_j_total") / J_PER_WH
    u = None if u_j is None else number(u_j, "uncertainty_j") / J_PER_WH
    whole = _reading(mean, u, source)
    if not (isinstance(bounds, (list, tuple)) and len(bounds) == 2 and mean and u):
        return whole
    low, high = (number(b, "bounds_j") / J_PER_WH for b in bounds)
    if high < low:
        raise InvalidInputError(f"bounds_j are reversed: {bounds!r:.80}")
    # Rounded to 2**-40, so that 1 - half and 1 + half are exact and their mean is 1.
    half = round(0.5 * (high - low) / mean * 2.0**40) / 2.0**40
    rectangular, rest = half * half / 3.0, (u / mean) ** 2 - half * half / 3.0
    if rest <= 0.0 or half >= 1.0 or rectangular < SMALL_PART * (rest + rectangular):
        return whole
    return mean, (
        # (1 + rest') (1 + rectangular) = 1 + cv^2: the product has the metric's own u
        Input("energy", Lognormal(mean, sqrt(rest / (1.0 + rectangular))), source),
        Input(
            "energy_bounds", Uniform(1.0 - half, 1.0 + half), "bounds of the counter"
        ),
    )


def total(parts: tuple[Input, ...]) -> float:
    """Return the mean energy [Wh] of the inputs that make it."""
    return prod(shape(i.distribution).mean for i in parts)


def spread(parts: tuple[Input, ...]) -> float:
    """Return the standard uncertainty of the energy [Wh]."""
    growth = prod(1.0 + shape(i.distribution).c2 for i in parts)
    return total(parts) * sqrt(growth - 1.0) if growth > 1.0 else 0.0


def pue(value: Pue) -> tuple[Input | None, dict[str, Any]]:
    """Return the input (None: exactly 1) and the record's account of it.

    ``value`` and ``u`` are the published ones; where a bound cuts the normal, the mean
    that enters the estimate differs and stands in the inputs.
    """
    if value is None:
        return None, {
            "value": 1.0,
            "u": None,
            "default": True,
            "reason": "facility overhead not included",
        }
    default, source = False, "given"
    if isinstance(value, _KINDS):
        distribution: Distribution = value
    elif isinstance(value, str):
        if value == "unknown":
            distribution, default, source = UNKNOWN, True, UNKNOWN_SOURCE
        else:
            known = pue_of(value)
            if known is None:
                raise InvalidInputError(
                    f"no PUE is known for {value!r}",
                    hint="Give a number, (value, u), 'unknown', or a cloud region or "
                    "operator: aws:eu-central-1, gcp.",
                )
            distribution = _above_one(known.value, known.u)
            source = f"{known.source}, {known.year}"
    elif isinstance(value, tuple):
        if len(value) != 2:
            raise InvalidInputError(
                f"pue must be a number or (value, u), got {value!r}"
            )
        distribution = _above_one(number(value[0], "pue"), number(value[1], "u of pue"))
    else:
        mean = number(value, "pue")
        distribution = _above_one(mean, REGION_U if mean > 1.0 else 0.0)
        source = "given; its uncertainty is that of published yearly figures"
    distribution = checked(distribution, "pue")
    of = shape(distribution)
    best, u = of.mean, of.mean * sqrt(of.c2)
    if isinstance(distribution, TruncatedNormal):
        best, u = distribution.mu, distribution.sigma
    if not 1.0 <= best <= MOST_PUE or getattr(distribution, "lower", 1.0) < 1.0:
        raise InvalidInputError(f"pue lies between 1 and {MOST_PUE:g}, got {value!r}")
    account = {"value": best, "u": u, "default": default, "reason": source}
    return Input("pue", distribution, source, default), account


def _above_one(mean: float, u: float) -> Distribution:
    return TruncatedNormal(mean, u, 1.0) if u > 0.0 else Exact(mean)
