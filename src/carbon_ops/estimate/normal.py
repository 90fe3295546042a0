"""The normal distribution: tails, their inverse and Mills' ratio, stable far out.

Arithmetic only. ``inverse`` takes single numbers; :data:`CENTRE`, :data:`MIDDLE` and
:data:`FAR` are the coefficients, so that Monte Carlo applies the same formula to arrays.

Sources
    M. J. Wichura, "Algorithm AS 241: The Percentage Points of the Normal Distribution",
    Applied Statistics 37 (1988) 477 (relative error about 1e-16).
    NIST DLMF 7.9.1 and 7.18 (continued fraction of Mills' ratio).
"""

from __future__ import annotations

from math import erfc, exp, log, pi, sqrt
from typing import Any, TypeVar

Real = TypeVar("Real")
_SQRT1_2 = sqrt(0.5)

Ratio = tuple[
    tuple[float, ...], tuple[float, ...]
]  # numerator, denominator; high first

# fmt: off
CENTRE: Ratio = (  # |p - 1/2| <= 0.425, in r = 0.180625 - (p - 1/2)**2
    (2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457,
     13731.693765509461125, 1971.5909503065514427, 133.14166789178437745, 3.3871328727963666080),
    (5226.4952788528545610, 28729.085735721942674, 39307.895800092710610, 21213.794301586595867,
     5394.1960214247511077, 687.18700749205790830, 42.313330701600911252, 1.0),
)
MIDDLE: Ratio = (  # sqrt(-ln p) <= 5, in r = sqrt(-ln p) - 1.6
    (7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1, 1.27045825245236838258,
     3.64784832476320460504, 5.76949722146069140550, 4.63033784615654529590, 1.42343711074968357734),
    (1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2, 1.48103976427480074590e-1,
     6.89767334985100004550e-1, 1.67638483018380384940, 2.05319162663775882187, 1.0),
)
FAR: Ratio = (  # in r = sqrt(-ln p) - 5
    (2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3, 2.65321895265761230930e-2,
     2.96560571828504891230e-1, 1.78482653991729133580, 5.46378491116411436990, 6.65790464350110377720),
    (2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5, 7.86869131145613259100e-4,
     1.48753612908506148525e-2, 1.36929880922735805310e-1, 5.99832206555887937690e-1, 1.0),
)
# fmt: on


def ratio(coefficients: Ratio, r: Real) -> Real:
    """Return the quotient of two polynomials at ``r``, a number or an array (Horner)."""
    top: Any = 0.0
    bottom: Any = 0.0
    for a, b in zip(*coefficients, strict=True):
        top = top * r + a
        bottom = bottom * r + b
    found: Real = top / bottom
    return found


def lower(z: float) -> float:
    """Return P(Z <= z) of a standard normal; exact far into the lower tail."""
    return 0.5 * erfc(-z * _SQRT1_2)


def upper(z: float) -> float:
    """Return P(Z > z) of a standard normal; exact far into the upper tail."""
    return 0.5 * erfc(z * _SQRT1_2)


def density(z: float) -> float:
    """Return the density of a standard normal at ``z``."""
    return exp(-0.5 * z * z) / sqrt(2.0 * pi)


def inverse(p: float) -> float:
    """Return z with P(Z <= z) = ``p``, for 0 < p < 1.

    >>> round(inverse(0.975), 6)
    1.959964
    """
    q = p - 0.5
    if abs(q) <= 0.425:
        return q * ratio(CENTRE, 0.180625 - q * q)
    r = sqrt(-log(p if q < 0.0 else 1.0 - p))
    z = ratio(MIDDLE, r - 1.6) if r <= 5.0 else ratio(FAR, r - 5.0)
    return -z if q < 0.0 else z


def mills(z: float) -> float:
    """Return P(Z > z) / density(z) for ``z`` >= 0, where both may underflow.

    >>> round(mills(1000.0) * 1000.0, 9)
    0.999999
    """
    if z < 5.0:
        return upper(z) / density(z)
    tail = z
    for k in range(60, 0, -1):  # z + 1/(z + 2/(z + 3/...)); 60 steps: 1e-16 from z = 5
        tail = z + k / tail
    return 1.0 / tail
