"""The distribution of a carbon figure from the distributions of its inputs.

``C = scale x product of factors x (1, or a sum of independent terms) + offset``.

Moments up to the fourth are exact: central moments of factors multiply, cumulants of
terms add. The interval follows the first rule that holds, and the record names it:

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
    JCGM 100:2008 (GUM); L. A. Goodman, "On the exact variance of products", JASA 55
    (1960) 708; E. A. Cornish, R. A. Fisher, "Moments and cumulants in the specification
    of distributions" (1937).
"""

from __future__ import annotations

from math import erfc, exp, fsum, inf, log, log1p, sqrt
from typing import NamedTuple

from carbon_ops.estimate.inputs import (
    Distribution,
    Input,
    Lognormal,
    Shape,
    TruncatedNormal,
    Uniform,
    is_random,
    logarithmic,
    nodes,
    quantile,
    shape,
    support,
)
from carbon_ops.estimate.normal import inverse

MAX_SKEWNESS = 0.8
KURTOSIS = (-0.5, 1.0)
WEIGHTY = 0.25  # share of variance from which near bounds matter
FAR_BOUND = 2.0  # sigmas


class Term(NamedTuple):
    """One addend of a sum: a known weight times independent inputs."""

    weight: float
    factors: tuple[Input, ...]


class Model(NamedTuple):
    """``scale x product(factors) x sum(terms) + offset``; no terms: the sum is 1.

    ``rho`` correlates neighbouring terms, ``rho**|i-j|``: one input each, jointly normal
    (truncation has to be negligible). ``copula`` is the correlation of the normal scores
    of the first two factors.
    """

    scale: float
    factors: tuple[Input, ...] = ()
    terms: tuple[Term, ...] = ()
    offset: Input | None = None
    rho: float = 0.0
    copula: float = 0.0

    def inputs(self) -> list[Input]:
        """Return all inputs, in the order of the formula."""
        found = list(self.factors)
        for term in self.terms:
            found += term.factors
        return found if self.offset is None else [*found, self.offset]


class Cumulants(NamedTuple):
    """Mean and cumulants 2 to 4, in powers of the unit of the mean."""

    mean: float
    k2: float
    k3: float
    k4: float

    @property
    def sd(self) -> float:
        return sqrt(self.k2)

    @property
    def skewness(self) -> float:
        return self.k3 / self.k2 / self.sd if self.k2 > 0.0 else 0.0

    @property
    def excess_kurtosis(self) -> float:
        return self.k4 / self.k2 / self.k2 if self.k2 > 0.0 else 0.0


class Result(NamedTuple):
    """Mean, standard deviation, median and interval [the unit of the model]."""

    mean: float
    sd: float
    median: float
    low: float
    high: float
    detail: str


def product(shapes: list[Shape]) -> Shape:
    """Return the exact moments of a product of independent quantities.

    With ``X = m(1 + d)``: ``1 + d = (1 + a)(1 + b)``, expanded so that only non-negative
    second and fourth moments are added and small spreads do not cancel.
    """
    mean, a2, a3, a4 = 1.0, 0.0, 0.0, 0.0
    for m, b2, b3, b4 in shapes:
        mean *= m
        a2, a3, a4 = (
            a2 + (1.0 + a2) * b2,
            a3 + 3.0 * (2.0 * a2 + a3) * b2 + (1.0 + 3.0 * a2 + a3) * b3,
            a4
            + 6.0 * (a2 + 2.0 * a3 + a4) * b2
            + 4.0 * (3.0 * a2 + 3.0 * a3 + a4) * b3
            + (1.0 + 6.0 * a2 + 4.0 * a3 + a4) * b4,
        )
    return Shape(mean, a2, a3, a4)


def _cumulants(of: Shape, scale: float = 1.0) -> Cumulants:
    m = of.mean * scale
    m2 = m * m
    return Cumulants(
        m, m2 * of.c2, m2 * m * of.c3, m2 * m2 * (of.c4 - 3.0 * of.c2 * of.c2)
    )


def _shape_of(c: Cumulants) -> Shape:
    if c.mean == 0.0:
        return Shape(0.0, 0.0, 0.0, 0.0)
    m2 = c.mean * c.mean
    c2 = c.k2 / m2
    return Shape(c.mean, c2, c.k3 / (m2 * c.mean), c.k4 / (m2 * m2) + 3.0 * c2 * c2)


def _add(parts: list[Cumulants]) -> Cumulants:
    return Cumulants(*(fsum(column) for column in zip(*parts, strict=True)))


def total(model: Model) -> Cumulants:
    """Return exact mean and cumulants of the result; a copula has no closed form."""
    shapes = [shape(i.distribution) for i in model.factors]
    if model.terms:
        parts = [
            _cumulants(product([shape(i.distribution) for i in t.factors]), t.weight)
            for t in model.terms
        ]
        added = _add(parts)
        if model.rho:
            spreads = [sqrt(part.k2) for part in parts]
            steps = [1.0] * len(spreads)
            added = Cumulants(
                added.mean, correlated(spreads, steps, model.rho), 0.0, 0.0
            )
        shapes.append(_shape_of(added))
    result = _cumulants(product(shapes), model.scale)
    if model.offset is not None:
        result = _add([result, _cumulants(shape(model.offset.distribution))])
    return result


def correlated(spreads: list[float], steps: list[float], rho: float) -> float:
    """Return the variance of a sum whose errors follow an AR(1) process.

    Args:
        spreads: Standard deviations of the addends, in order of time.
        steps: Distance in time from the addend before; the first one is not used.
        rho: Correlation over a distance of 1.
    """
    variance = carried = 0.0
    for sd, step in zip(spreads, steps, strict=True):
        carried *= rho**step
        variance += sd * (sd + 2.0 * carried)
        carried += sd
    return variance


def shares(model: Model) -> dict[str, float]:
    """Return each input's part of the variance; what only pairs explain is ``joint``.

    First-order Sobol indices. A correlated sum counts as one input, ``terms``.
    """
    found: dict[str, float] = {}
    if not model.terms and model.offset is None:  # scale cancels
        shapes = [shape(i.distribution) for i in model.factors]
        c2 = product(shapes).c2
        if c2 <= 0.0 or model.scale == 0.0:
            return {}
        for i, of in zip(model.factors, shapes, strict=True):
            found[i.name] = of.c2 / c2
        return _with_joint(found)
    whole = total(model)
    if whole.k2 <= 0.0:
        return {}
    sums: list[tuple[str, Cumulants]] = []
    if model.terms:
        for number, term in enumerate(model.terms):
            for i in term.factors:
                others = 1.0
                for other in term.factors:
                    if other is not i:
                        others *= shape(other.distribution).mean
                alone = _cumulants(shape(i.distribution), term.weight * others)
                sums.append((f"{i.name}[{number}]", alone))
        if model.rho:
            bare = total(Model(1.0, (), model.terms, None, model.rho))
            sums = [("terms", bare)]
    addends = 1.0 if not model.terms else total(Model(1.0, (), model.terms)).mean
    means = [shape(i.distribution).mean for i in model.factors]
    common = model.scale
    for m in means:
        common *= m
    for i in model.factors:
        of = shape(i.distribution)
        found[i.name] = (common * addends) ** 2 * of.c2 / whole.k2
    for name, part in sums:
        found[name] = common * common * part.k2 / whole.k2
    if model.offset is not None:
        found[model.offset.name] = (
            _cumulants(shape(model.offset.distribution)).k2 / whole.k2
        )
    return _with_joint(found)


def _with_joint(found: dict[str, float]) -> dict[str, float]:
    found = {name: min(share, 1.0) for name, share in found.items()}
    rest = 1.0 - fsum(found.values())
    found["joint"] = rest if rest > 1e-12 else 0.0
    return found


def floor(model: Model) -> float:
    """Return the smallest value the result can take."""
    low = model.scale
    for i in model.factors:
        low *= support(i.distribution)[0]
    if model.terms:
        ends = []
        for term in model.terms:
            end = term.weight
            for i in term.factors:
                end *= support(i.distribution)[0]
            ends.append(end)
        low *= fsum(ends)
    if model.offset is not None:
        low += support(model.offset.distribution)[0]
    return low


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
            constant = model.scale
            for i in model.factors:
                if not is_random(i.distribution):
                    constant *= shape(i.distribution).mean
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
    ends = [start + slope * quantile(value, q) for q in (p, 0.5, 1.0 - p)]
    if not model.offset and not model.terms:  # start is 0 but for rounding
        ends = [slope * quantile(value, q) for q in (p, 0.5, 1.0 - p)]
    kind = {TruncatedNormal: "exact_truncnorm", Uniform: "exact_uniform"}
    return Result(
        whole.mean,
        whole.sd,
        ends[1],
        ends[0],
        ends[2],
        kind.get(type(value), "exact_lognormal"),
    )


def _mixture(model: Model, whole: Cumulants, p: float) -> Result | None:
    """Integrate over one or two factors that are not lognormal.

    ``P(C <= c) = E[Phi((ln c - ln X - mu) / s)]`` with X the product of the others,
    smooth where the lognormal part is at least as wide as each of the others.
    """
    lognormal: list[Lognormal] = []
    others: list[Input] = []
    constant = model.scale
    for i in model.factors:
        if not is_random(i.distribution):
            constant *= shape(i.distribution).mean
        elif isinstance(i.distribution, Lognormal):
            lognormal.append(i.distribution)
        else:
            others.append(i)
    c2 = _growth(lognormal)
    if len(others) not in (1, 2) or constant <= 0.0:
        return None
    if any(shape(i.distribution).c2 > c2 for i in others):
        return None
    mu, s2 = logarithmic(lognormal)
    s = sqrt(s2)
    grid = [(mu + log(constant), 1.0)]
    for i in others:
        count = 12 if isinstance(i.distribution, Uniform) else 48
        points = nodes(i.distribution, count)
        grid = [(x + y, w * v) for x, w in grid for y, v in points if w * v > 1e-14]
    middle = fsum(x * w for x, w in grid)
    width = sqrt(s2 + fsum(w * (x - middle) ** 2 for x, w in grid))
    ends = [
        exp(_solve(grid, s, q, middle + width * inverse(q))) for q in (p, 0.5, 1.0 - p)
    ]
    return Result(whole.mean, whole.sd, ends[1], ends[0], ends[2], "lognormal_mixture")


def _solve(grid: list[tuple[float, float]], s: float, p: float, y: float) -> float:
    """Return y where the mixture of normals (centres, weights; width s) has counted p."""
    a, b = sqrt(0.5) / s, 1.0 / (s * sqrt(2.0 * 3.141592653589793))
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
