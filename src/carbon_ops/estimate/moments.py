"""Exact moments of a carbon figure from the distributions of its inputs.

``C = scale x product of factors x (1, or a sum of independent terms) + offset``: central
moments of factors multiply, cumulants of terms add. Arithmetic only.

Sources
    JCGM 100:2008 (GUM); L. A. Goodman, "On the exact variance of products", JASA 55
    (1960) 708; I. M. Sobol, "Sensitivity estimates for nonlinear mathematical models",
    MMCE 1 (1993) 407.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import fsum, prod, sqrt
from typing import NamedTuple

from carbon_ops.estimate.inputs import Input, Shape, shape, support


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


def _shapes(inputs: Iterable[Input]) -> list[Shape]:
    return [shape(i.distribution) for i in inputs]


def total(model: Model) -> Cumulants:
    """Return exact mean and cumulants of the result; a copula has no closed form."""
    shapes = _shapes(model.factors)
    if model.terms:
        parts = [_cumulants(product(_shapes(t.factors)), t.weight) for t in model.terms]
        added = _add(parts)
        if model.rho:
            spreads = [part.sd for part in parts]
            variance = correlated(spreads, [1.0] * len(spreads), model.rho)
            added = Cumulants(added.mean, variance, 0.0, 0.0)
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
    if not model.terms and model.offset is None:  # the everyday case: scale cancels
        shapes = _shapes(model.factors)
        c2 = product(shapes).c2
        if c2 <= 0.0 or model.scale == 0.0:
            return {}
        found = {i.name: s.c2 / c2 for i, s in zip(model.factors, shapes, strict=True)}
        return _with_joint(found)
    whole = total(model)
    if whole.k2 <= 0.0:
        return {}
    common = prod((s.mean for s in _shapes(model.factors)), start=model.scale)
    bare = Model(1.0, (), model.terms, None, model.rho)
    addends = total(bare).mean if model.terms else 1.0
    variances = {
        i.name: (common * addends) ** 2 * shape(i.distribution).c2
        for i in model.factors
    }
    if model.rho:
        variances["terms"] = common * common * total(bare).k2
    else:
        for number, term in enumerate(model.terms):
            alone = term.weight * product(_shapes(term.factors)).mean * common
            for i in term.factors:
                variances[f"{i.name}[{number}]"] = alone**2 * shape(i.distribution).c2
    if model.offset is not None:
        variances[model.offset.name] = _cumulants(shape(model.offset.distribution)).k2
    return _with_joint({name: v / whole.k2 for name, v in variances.items()})


def _with_joint(found: dict[str, float]) -> dict[str, float]:
    found = {name: min(share, 1.0) for name, share in found.items()}
    rest = 1.0 - fsum(found.values())
    found["joint"] = rest if rest > 1e-12 else 0.0
    return found


def floor(model: Model) -> float:
    """Return the smallest value the result can take."""

    def lowest(start: float, factors: Iterable[Input]) -> float:
        return prod((support(i.distribution)[0] for i in factors), start=start)

    low = lowest(model.scale, model.factors)
    if model.terms:
        low *= fsum(lowest(term.weight, term.factors) for term in model.terms)
    if model.offset is not None:
        low += support(model.offset.distribution)[0]
    return low
