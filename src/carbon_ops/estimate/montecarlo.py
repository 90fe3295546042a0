"""The distribution of a model by adaptive Monte Carlo (JCGM 101:2008, clause 7.9.4).

Trials come in blocks of 10,000 or more. After each block the mean, standard deviation
and both ends of the interval have a standard error from the scatter between blocks; the
run stops when twice that error is below the numerical tolerance of all four.

Random numbers are the raw counter-based bits of Philox, one counter range per block,
turned into normals by the inverse of Wichura's AS 241; so a run depends on its seed
alone, not on numpy's choice of sampling methods. Bit for bit this holds on one build of
numpy and one kind of processor; elsewhere exp and log may differ in the last place.

Sources
    JCGM 101:2008; J. K. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3"
    (SC11, Philox); M. J. Wichura, AS 241 (see :mod:`carbon_ops.estimate.normal`).
"""

from __future__ import annotations

from math import ceil, exp, floor, inf, isinf, log10, sqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from carbon_ops.estimate import normal
from carbon_ops.estimate.inputs import (
    Distribution,
    Lognormal,
    TruncatedNormal,
    Uniform,
    is_random,
    logarithmic,
    shape,
)
from carbon_ops.estimate.moments import Model

Array = NDArray[np.float64]

BLOCK = 10_000
MOST_TRIALS = 10_000_000
# Blocks before the first look. The standard starts with two, whose scatter is known too
# badly: one run in ten would stop by luck, with ends 0.1 standard deviations off.
LEAST_BLOCKS = {1: 4, 2: 20}
FAR = 5.0  # sigmas: bounds beyond this are sampled by their logarithm


class Run(NamedTuple):
    """What a run found [unit of the model]; ``delta`` is its numerical tolerance."""

    mean: float
    sd: float
    median: float
    low: float
    high: float
    trials: int
    delta: float
    converged: bool


def tolerance(u: float, digits: int) -> float:
    """Return the numerical tolerance of ``u`` to ``digits`` digits (7.9.2).

    >>> tolerance(35.7, 2), tolerance(35.7, 1)
    (0.5, 5.0)
    """
    if u <= 0.0:
        return 0.0
    power = floor(log10(u)) - digits + 1
    if round(u / 10.0**power) == 10**digits:
        power += 1
    return 0.5 * 10.0**power


def adaptive(
    model: Model,
    coverage: float,
    *,
    digits: int,
    seed: int,
    part: float = 1.0,
    most: int = MOST_TRIALS,
) -> Run:
    """Return the model's distribution, run until it is stable.

    Args:
        model: The formula and its inputs.
        coverage: Probability of the symmetric interval.
        digits: Significant digits of the standard deviation that count.
        seed: At least 0, below 2**64; the same seed gives the same run.
        part: Fraction of the tolerance to reach (1/5 to validate another method, 8.2).
        most: Trials after which to stop with ``converged=False``.
    """
    size = max(ceil(100.0 / (1.0 - coverage)), BLOCK)
    blocks: list[Array] = []
    stats: list[tuple[float, float, float, float]] = []
    delta = inf
    converged = False
    while not converged and (len(blocks) + 1) * size <= max(
        most, LEAST_BLOCKS[digits] * size
    ):
        values = sample(model, seed, len(blocks), size)
        blocks.append(values)
        low, _, high = _interval(values, coverage)
        stats.append((float(values.mean()), float(values.std(ddof=1)), low, high))
        h = len(stats)
        if h < LEAST_BLOCKS[digits]:
            continue
        table = np.array(stats)
        # pooled: mean square within blocks, and between them
        u = sqrt(float((table[:, 1] ** 2).mean() + table[:, 0].var()))
        delta = tolerance(u, digits)
        errors = table.std(axis=0, ddof=1) / sqrt(h)
        converged = bool((2.0 * errors <= delta * part).all())
    every = np.concatenate(blocks)
    low, median, high = _interval(every, coverage)
    mean, sd = float(every.mean()), float(every.std(ddof=1))
    return Run(mean, sd, median, low, high, every.size, delta, converged)


def validated(model: Model, coverage: float, low: float, high: float) -> dict[str, Any]:
    """Compare an interval with a Monte Carlo run to a fifth of the tolerance (clause 8).

    Returns:
        ``d_low`` and ``d_high``, the distances of the end points; ``delta``, to two
        digits of the standard deviation; ``valid``, whether both are within it.
    """
    from carbon_ops.estimate.engine import seed_of

    # Another stream than the estimate's own run, which would agree with itself.
    seed = seed_of(model) ^ 1
    run = adaptive(model, coverage, digits=2, seed=seed, part=0.2)
    d_low, d_high = abs(low - run.low), abs(high - run.high)
    return {
        "d_low": d_low,
        "d_high": d_high,
        "delta": run.delta,
        "valid": max(d_low, d_high) <= run.delta,
        "seed": seed,
        "trials": run.trials,
        "converged": run.converged,
    }


def _interval(values: Array, coverage: float) -> tuple[float, float, float]:
    """Return low end, median and high end; ``values`` are reordered (7.7.2)."""
    size = values.size
    inside = round(coverage * size)
    first = max(round((size - inside) / 2) - 1, 0)
    last = min(first + inside, size - 1)
    half = size // 2
    values.partition(sorted({first, half - 1, half, last}))
    median = 0.5 * (values[half - 1] + values[half])
    return float(values[first]), float(median), float(values[last])


def sample(model: Model, seed: int, block: int, size: int) -> Array:
    """Return ``size`` trials of the model, block number ``block`` of a seed."""
    bits = np.random.Philox(key=seed, counter=[0, 0, 0, block])

    def uniforms() -> Array:  # the middle of each of 2**53 cells
        raw = bits.random_raw(size) >> np.uint64(11)
        return raw.astype(np.float64) * 2.0**-53 + 2.0**-54

    result: Array = np.full(size, model.scale)
    factors = [i.distribution for i in model.factors]
    if model.copula:
        first = scores(uniforms())
        second = model.copula * first + sqrt(1.0 - model.copula**2) * scores(uniforms())
        for value, z in zip(factors, (first, second), strict=False):
            result *= draw(value, np.array([normal.lower(x) for x in z.tolist()]))
        factors = factors[2:]
    result *= _product(factors, uniforms)
    if model.terms:
        if model.rho:
            added = _walk(model, uniforms)
        else:
            added = np.zeros(size)
            for term in model.terms:
                parts = [i.distribution for i in term.factors]
                added += term.weight * _product(parts, uniforms)
        result *= added
    if model.offset is not None:
        result += _product([model.offset.distribution], uniforms)
    return result


def _product(factors: list[Distribution], uniforms: Any) -> Array | float:
    """Return trials of a product; lognormal factors are one lognormal together."""
    result: Array | float = 1.0
    wide: list[Lognormal] = []
    for value in factors:
        if not is_random(value):
            result *= shape(value).mean
        elif isinstance(value, Lognormal):
            wide.append(value)
        else:
            result = draw(value, uniforms()) * result
    if wide:
        mu, s2 = logarithmic(wide)
        wave: Array = np.exp(mu + sqrt(s2) * scores(uniforms()))
        result = wave * result
    return result


def _walk(model: Model, uniforms: Any) -> Array | float:
    """Return trials of a sum of jointly normal terms, correlated as AR(1)."""
    added: Array | float = 0.0
    z: Array | float = 0.0
    for number, term in enumerate(model.terms):
        mean, c2, _, _ = shape(term.factors[0].distribution)
        fresh = scores(uniforms())
        z = model.rho * z + sqrt(1.0 - model.rho**2) * fresh if number else fresh
        added = added + term.weight * mean * (1.0 + sqrt(c2) * z)
    return added


def draw(value: Distribution, u: Array) -> Array:
    """Return the quantiles of a distribution at the probabilities ``u``."""
    if isinstance(value, Uniform):
        return value.lower + (value.upper - value.lower) * u
    if isinstance(value, Lognormal):
        mu, s2 = logarithmic([value])
        found: Array = np.exp(mu + sqrt(s2) * scores(u))
        return found
    if not isinstance(value, TruncatedNormal) or value.sigma == 0.0:
        return np.full(u.shape, shape(value).mean)
    mu, sigma, low, high = value
    alpha, beta = (low - mu) / sigma, (high - mu) / sigma
    if alpha >= FAR:
        return low + sigma * _beyond(u, alpha, beta - alpha)
    if beta <= -FAR:
        return high - sigma * _beyond(1.0 - u, -beta, beta - alpha)
    above, below = normal.upper(alpha), normal.upper(beta)
    return mu - sigma * scores(below + (1.0 - u) * (above - below))


def _beyond(u: Array, alpha: float, length: float) -> Array:
    """Return distances beyond ``alpha`` of a normal's tail, at probabilities ``u``."""
    start = normal.mills(alpha)
    cut = 0.0
    if not isinf(length):
        cut = exp(-length * (alpha + 0.5 * length)) * normal.mills(alpha + length)
        cut /= start
    level = np.log1p(-u * (1.0 - cut))
    t: Array = -level * start
    for _ in range(6):
        m: Array = alpha + t
        for k in range(40, 0, -1):
            m = alpha + t + k / m
        m = 1.0 / m
        t = np.maximum(t + m * (np.log(m / start) - t * (alpha + 0.5 * t) - level), 0.0)
    return np.minimum(t, length)


def scores(p: Array) -> Array:
    """Return the standard normal quantiles of ``p`` (AS 241)."""
    q = p - 0.5
    z: Array = q * normal.ratio(normal.CENTRE, 0.180625 - q * q)
    outside = np.flatnonzero(np.abs(q) > 0.425)
    tail = p[outside]
    r = np.sqrt(-np.log(np.minimum(tail, 1.0 - tail)))
    size = normal.ratio(normal.MIDDLE, r - 1.6)
    far = r > 5.0
    if far.any():
        size[far] = normal.ratio(normal.FAR, r[far] - 5.0)
    z[outside] = np.copysign(size, q[outside])
    return z
