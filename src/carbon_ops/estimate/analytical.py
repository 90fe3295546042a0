"""The distribution of a carbon figure from the distributions of its inputs.

Moments are exact (:mod:`carbon_ops.estimate.moments`). The interval follows the first
rule that holds, and the record names it:

``degenerate``            no input has any spread.
``exact_lognormal``       a product of lognormal factors only; exact.
``exact_truncnorm``       one spread input, truncated normal (``exact_uniform``, too); exact.
``lognormal_mixture``     lognormal factors dominate, one or two others are integrated
                          numerically; ends within 0.001 standard deviations.
``cornish_fisher``        four moments, inside the domain where the end points were
                          within 0.03 standard deviations of the exact ones: skewness at
                          most 0.8, excess kurtosis in -0.5..1.0, and inputs whose
                          bounds are nearer than 2 sigma hold under a quarter of the
                          variance.

Otherwise Monte Carlo. Arithmetic only.

Sources
    JCGM 100:2008 (GUM); E. A. Cornish, R. A. Fisher, "Moments and cumulants in the
    specification of distributions" (1937).
"""

from __future__ import annotations

from math import erfc, exp, fsum, inf, log, log1p, pi, prod, sqrt
from typing import NamedTuple

from carbon_ops.estimate.inputs import (
    Distribution,
    Input,
    Lognormal,
    TruncatedNormal,
    Uniform,
    is_random,
    logarithmic,
    nodes,
    quantile,
    shape,
)
from carbon_ops.estimate.moments import Cumulants, Model, floor, shares, total
from carbon_ops.estimate.normal import inverse

MAX_SKEWNESS = 0.8
KURTOSIS = (-0.5, 1.0)
WEIGHTY = 0.25  # share of variance from which near bounds matter
FAR_BOUND = 2.0  # sigmas


class Result(NamedTuple):
    """Mean, standard deviation, median and interval [the unit of the model]."""

    mean: float
    sd: float
    median: float
    low: float
    high: float
    detail: str


def lognormal_product(scale: float, factors: list[Lognormal], z: float) -> Result:
    """Return the exact result for lognormal factors; ``z`` is half the interval."""
    growth = mean = 1.0
    s2 = 0.0
    for m, cv in factors:
        v = cv * cv
        mean *= m
        growth *= 1.0 + v
        s2 += log1p(v)
    mean *= scale
    median = mean * exp(-0.5 * s2)
    width = exp(z * sqrt(s2))
    # growth - 1 would lose a spread of 1e-8
    sd = mean * sqrt(growth - 1.0 if growth > 1.001 else _growth(factors))
    return Result(mean, sd, median, median / width, median * width, "exact_lognormal")


def _growth(factors: list[Lognormal]) -> float:
    """Return ``product(1 + cv^2) - 1`` without cancelling."""
    c2 = 0.0
    for _, cv in factors:
        c2 += (1.0 + c2) * cv * cv
    return c2


def _constant(model: Model) -> float:
    """Return what the factors without spread multiply the others by."""
    fixed = (i.distribution for i in model.factors if not is_random(i.distribution))
    return prod((shape(value).mean for value in fixed), start=model.scale)


def analytical(model: Model, coverage: float) -> Result | None:
    """Return the result by the first rule that holds; None where none does.

    Args:
        model: The formula and its inputs.
        coverage: Probability of the (probabilistically symmetric) interval.
    """
    p = 0.5 * (1.0 - coverage)
    simple = not (model.terms or model.offset or model.copula)
    spread = [i for i in model.inputs() if is_random(i.distribution)]
    if simple and spread:
        wide = [d for i in spread if type(d := i.distribution) is Lognormal]
        if len(wide) == len(spread):
            constant = _constant(model)
            if constant > 0.0:
                return lognormal_product(constant, wide, -inverse(p))
    if model.copula and len(spread) > 1:
        return None
    whole = total(model)
    if not spread or whole.k2 <= 0.0:
        m = whole.mean
        return Result(m, 0.0, m, m, m, "degenerate")
    if model.offset is not None and total(model._replace(offset=None)).k2 == 0.0:
        spread = [model.offset]
    if len(spread) == 1:
        return _single(model, spread[0], whole, p)
    if simple:
        mixed = _mixture(model, whole, p)
        if mixed is not None:
            return mixed
    if not _well_behaved(spread, shares(model), whole):
        return None
    z = inverse(p)
    low, median, high = (whole.mean + whole.sd * _warp(whole, q) for q in (z, 0.0, -z))
    return Result(
        whole.mean, whole.sd, median, max(low, floor(model)), high, "cornish_fisher"
    )


def _warp(c: Cumulants, z: float) -> float:
    """Return the Cornish-Fisher quantile, in standard deviations from the mean."""
    g1, g2 = c.skewness, c.excess_kurtosis
    return (
        z
        + (z * z - 1.0) * g1 / 6.0
        + (z * z - 3.0) * z * g2 / 24.0
        - (2.0 * z * z - 5.0) * z * g1 * g1 / 36.0
    )


def _well_behaved(spread: list[Input], weights: dict[str, float], c: Cumulants) -> bool:
    if abs(c.skewness) > MAX_SKEWNESS or not (
        KURTOSIS[0] <= c.excess_kurtosis <= KURTOSIS[1]
    ):
        return False
    near = {i.name for i in spread if _bound_distance(i.distribution) < FAR_BOUND}
    weight = fsum(w for name, w in weights.items() if name.split("[")[0] in near)
    return weight < WEIGHTY


def _bound_distance(value: Distribution) -> float:
    """Return how far the nearest bound is, in (the parent's) standard deviations."""
    if isinstance(value, TruncatedNormal):
        return min(value.mu - value.lower, value.upper - value.mu) / value.sigma
    return sqrt(3.0) if isinstance(value, Uniform) else inf


def _single(model: Model, only: Input, whole: Cumulants, p: float) -> Result:
    """Return the exact result where one input is spread: C is linear in it."""
    value = only.distribution
    slope = whole.sd / (sqrt(shape(value).c2) * shape(value).mean)
    start = whole.mean - slope * shape(value).mean
    if not model.offset and not model.terms:  # it is 0 but for rounding
        start = 0.0
    low, median, high = (start + slope * quantile(value, q) for q in (p, 0.5, 1.0 - p))
    kinds = {TruncatedNormal: "exact_truncnorm", Uniform: "exact_uniform"}
    kind = kinds.get(type(value), "exact_lognormal")
    return Result(whole.mean, whole.sd, median, low, high, kind)


def _mixture(model: Model, whole: Cumulants, p: float) -> Result | None:
    """Integrate over one or two factors that are not lognormal.

    ``P(C <= c) = E[Phi((ln c - ln X - mu) / s)]`` with X the product of the others,
    smooth where the lognormal part is at least as wide as each of the others.
    """
    spread = [i.distribution for i in model.factors if is_random(i.distribution)]
    lognormal = [value for value in spread if isinstance(value, Lognormal)]
    others = [value for value in spread if not isinstance(value, Lognormal)]
    constant, c2 = _constant(model), _growth(lognormal)
    if len(others) not in (1, 2) or constant <= 0.0:
        return None
    if any(shape(value).c2 > c2 for value in others):
        return None
    mu, s2 = logarithmic(lognormal)
    s = sqrt(s2)
    grid = [(mu + log(constant), 1.0)]
    for value in others:
        points = nodes(value, 12 if isinstance(value, Uniform) else 48)
        grid = [(x + y, w * v) for x, w in grid for y, v in points if w * v > 1e-14]
    middle = fsum(x * w for x, w in grid)
    width = sqrt(s2 + fsum(w * (x - middle) ** 2 for x, w in grid))
    low, median, high = (
        exp(_solve(grid, s, q, middle + width * inverse(q))) for q in (p, 0.5, 1.0 - p)
    )
    return Result(whole.mean, whole.sd, median, low, high, "lognormal_mixture")


def _solve(grid: list[tuple[float, float]], s: float, p: float, y: float) -> float:
    """Return y where the mixture of normals (centres, weights; width s) has counted p."""
    a, b = sqrt(0.5) / s, 1.0 / (s * sqrt(2.0 * pi))
    for _ in range(60):
        mass = slope = 0.0
        for x, w in grid:
            t = (y - x) * a
            mass += w * erfc(-t)
            slope += w * exp(-t * t)
        step = (0.5 * mass - p) / (b * slope)
        y -= min(max(step, -s), s)
        if abs(step) < 1e-13 * (1.0 + abs(y)):
            break
    return y
