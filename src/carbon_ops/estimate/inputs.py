"""What is known about one input of an estimate: a distribution, its source, its name.

Four kinds: lognormal (arithmetic mean and relative standard uncertainty), truncated
normal (the parent's mu and sigma, and the bounds), uniform, exact. All standard
uncertainties are k=1. Arithmetic only.

Source of the moments: JCGM 100:2008 (GUM); N. L. Johnson, S. Kotz, N. Balakrishnan,
"Continuous Univariate Distributions" 1 (lognormal: chapter 14).
"""

from __future__ import annotations

from math import exp, inf, isfinite, log, log1p, sqrt
from typing import Any, NamedTuple, Union

from carbon_ops.errors import InvalidInputError
from carbon_ops.estimate import truncated
from carbon_ops.estimate.normal import inverse


class Exact(NamedTuple):
    """A value without uncertainty."""

    value: float


class Lognormal(NamedTuple):
    """A positive quantity known to a factor: arithmetic mean and sd / mean."""

    mean: float
    cv: float


class TruncatedNormal(NamedTuple):
    """Normal(mu, sigma) given that it lies in [lower, upper]."""

    mu: float
    sigma: float
    lower: float = 0.0
    upper: float = inf


class Uniform(NamedTuple):
    """Anywhere between two bounds, none more likely (JCGM 101:2008, 6.4.2)."""

    lower: float
    upper: float


Distribution = Union[Exact, Lognormal, TruncatedNormal, Uniform]  # noqa: UP007 (3.10)

# Sizes of numbers, in any unit, that quantities of energy, carbon or their ratios have;
# what lies outside is a slip, and would overflow when multiplied.
LEAST, MOST = 1e-100, 1e100
MOST_CV = 1e6

NAMES: dict[type[Distribution], str] = {
    Exact: "exact",
    Lognormal: "lognormal",
    TruncatedNormal: "truncated_normal",
    Uniform: "uniform",
}


class Input(NamedTuple):
    """One input as it stands in the record."""

    name: str
    distribution: Distribution
    source: str
    default: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON; an infinite upper bound becomes null."""
        parameters = {
            key: None if value == inf else value
            for key, value in self.distribution._asdict().items()
        }
        return {
            "name": self.name,
            "distribution": NAMES[type(self.distribution)],
            "parameters": parameters,
            "source": self.source,
            "default": self.default,
        }


class Shape(NamedTuple):
    """Mean, and central moments 2 to 4 relative to its powers (0 for a mean of 0)."""

    mean: float
    c2: float
    c3: float
    c4: float


def parse(item: dict[str, Any]) -> Input:
    """Return the input that :meth:`Input.to_dict` wrote.

    Raises:
        InvalidInputError: it is not one.
    """
    kinds: dict[str, type[Distribution]] = {v: k for k, v in NAMES.items()}
    try:
        kind = kinds[item["distribution"]]
        parameters = {
            key: inf if value is None else float(value)
            for key, value in item["parameters"].items()
        }
        name, source = str(item["name"]), str(item["source"])
        given = checked(kind(**parameters), name)
        return Input(name, given, source, bool(item["default"]))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InvalidInputError(f"not an input of an estimate: {item!r}") from error


def number(value: object, name: str, *, signed: bool = False) -> float:
    """Return ``value`` as a float: finite, not negative, of a size that quantities have.

    Raises:
        InvalidInputError: it is no such number; the message names it and its value.
    """
    if isinstance(value, (str, bytes, bool)) or not hasattr(value, "__float__"):
        raise InvalidInputError(
            f"{name} must be a number, got {type(value).__name__} {value!r:.80}"
        )
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInputError(
            f"{name} must be a number, got {value!r:.80}"
        ) from error
    if not isfinite(found):
        raise InvalidInputError(f"{name} must be finite, got {value!r}")
    if found < 0.0 and not signed:
        raise InvalidInputError(f"{name} must be at least 0, got {value!r}")
    if found != 0.0 and not LEAST <= abs(found) <= MOST:
        raise InvalidInputError(
            f"{name} must be 0 or between {LEAST:g} and {MOST:g}, got {value!r:.80}"
        )
    return found


def checked(given: Distribution, name: str) -> Distribution:
    """Return ``given`` if it describes a quantity that cannot be negative.

    Raises:
        InvalidInputError: a parameter is no number, not finite, negative or reversed.
    """
    unbounded = isinstance(given, TruncatedNormal) and given.upper == inf
    numbers = {
        key: number(item, f"{key} of {name}", signed=key == "mu")
        for key, item in given._asdict().items()
        if not (unbounded and key == "upper")
    }
    value = type(given)(**numbers)
    if isinstance(value, Lognormal) and value.cv > MOST_CV:
        raise InvalidInputError(
            f"cv of {name} must be at most {MOST_CV:g}, got {value.cv!r}",
            hint="A quantity known to that little is better left out.",
        )
    if isinstance(value, (TruncatedNormal, Uniform)) and value.upper < value.lower:
        raise InvalidInputError(
            f"bounds of {name} are reversed: {value.lower!r}..{value.upper!r}"
        )
    if isinstance(value, TruncatedNormal) and value.sigma == 0.0:
        if not value.lower <= value.mu <= value.upper:
            raise InvalidInputError(
                f"{name}: {value.mu!r} without spread lies outside "
                f"{value.lower!r}..{value.upper!r}"
            )
        return Exact(value.mu)
    if isinstance(value, Lognormal) and value.mean == 0.0:
        return Exact(0.0)
    return value


def is_random(value: Distribution) -> bool:
    """Return whether the distribution has any spread."""
    if type(value) is Lognormal:
        return value.cv > 0.0
    if type(value) is TruncatedNormal:
        return value.sigma > 0.0 and value.upper > value.lower
    return type(value) is Uniform and value.upper > value.lower


def shape(value: Distribution) -> Shape:
    """Return the exact moments up to the fourth."""
    if isinstance(value, Lognormal):
        v = value.cv * value.cv
        w = 1.0 + v
        # skewness (w+2) sqrt(v), kurtosis w^4+2w^3+3w^2-3
        kurtosis = ((w + 2.0) * w + 3.0) * w * w - 3.0
        return Shape(value.mean, v, v * v * (w + 2.0), v * v * kurtosis)
    if isinstance(value, Exact) or not is_random(value):
        return Shape(_point(value), 0.0, 0.0, 0.0)
    if isinstance(value, Uniform):
        mean = 0.5 * (value.lower + value.upper)
        r = 0.5 * (value.upper - value.lower) / mean
        return Shape(mean, r * r / 3.0, 0.0, r**4 / 5.0)  # r is at most 1
    # In units of sigma, so that no power of a very small quantity is formed.
    mu, sigma, low, high = value
    m = truncated.moments(mu / sigma, 1.0, low / sigma, high / sigma)
    m2 = m.mean * m.mean
    return Shape(m.mean * sigma, m.c2 / m2, m.c3 / m2 / m.mean, m.c4 / m2 / m2)


def _point(value: Distribution) -> float:
    """Return the only value of a distribution without spread."""
    if isinstance(value, TruncatedNormal):
        return min(max(value.mu, value.lower), value.upper)
    return value[0]


def quantile(value: Distribution, p: float) -> float:
    """Return x with P(X <= x) = ``p``, for 0 < p < 1."""
    if isinstance(value, Exact) or not is_random(value):
        return _point(value)
    if isinstance(value, Uniform):
        return value.lower + p * (value.upper - value.lower)
    if isinstance(value, Lognormal):
        s2 = log1p(value.cv * value.cv)
        return value.mean * exp(sqrt(s2) * inverse(p) - 0.5 * s2)
    return truncated.quantile(p, *value)


def support(value: Distribution) -> tuple[float, float]:
    """Return the smallest and the largest possible value."""
    if isinstance(value, (TruncatedNormal, Uniform)):
        return value.lower, value.upper
    if isinstance(value, Lognormal) and value.cv > 0.0:
        return 0.0, inf
    point = _point(value)
    return point, point


def mass_cut(value: Distribution) -> float:
    """Return the parent's probability outside the bounds; 0 but for truncated normals."""
    if isinstance(value, TruncatedNormal) and value.sigma > 0.0:
        return truncated.mass_cut(*value)
    return 0.0


def nodes(value: Distribution, count: int) -> list[tuple[float, float]]:
    """Return (logarithm of a value, probability) pairs that integrate smooth functions.

    For uniform and truncated normal distributions; about ``count`` pairs.
    """
    if isinstance(value, Uniform):
        centre = 0.5 * (value.lower + value.upper)
        half = 0.5 * (value.upper - value.lower)
        rule = truncated.legendre(count)
        return [(log(centre + half * x), 0.5 * weight) for x, weight in rule]
    if not isinstance(value, TruncatedNormal):
        return [(log(_point(value)), 1.0)]
    base, pairs = truncated.nodes(*value, panels=max(2, count // 16))
    return [(log(base + value.sigma * t), p) for t, p in pairs if p > 1e-18]


def logarithmic(factors: list[Lognormal]) -> tuple[float, float]:
    """Return mean and variance of the logarithm of a product of lognormal factors."""
    mu = s2 = 0.0
    for mean, cv in factors:
        v = log1p(cv * cv)
        s2 += v
        mu += log(mean) - 0.5 * v
    return mu, s2
