"""What holds of every distribution, checked against brute force on random inputs."""

from __future__ import annotations

from itertools import product as pairs
from math import fsum, inf, isclose, sqrt

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from carbon_ops.estimate import truncated
from carbon_ops.estimate.analytical import analytical
from carbon_ops.estimate.inputs import (
    Distribution,
    Exact,
    Input,
    Lognormal,
    TruncatedNormal,
    Uniform,
    checked,
    quantile,
    shape,
    support,
)
from carbon_ops.estimate.moments import Model, Term, correlated, shares, total
from carbon_ops.estimate.montecarlo import adaptive, sample
from carbon_ops.estimate.normal import inverse, lower, upper

FEW = settings(max_examples=25, deadline=None)
MANY = settings(max_examples=300, deadline=None)

ratios = st.floats(-1000.0, 50.0)  # mu / sigma
widths = st.floats(1e-3, 100.0)  # upper bound, in sigmas above the lower


@st.composite
def cut_normals(draw: st.DrawFn) -> TruncatedNormal:
    sigma = draw(st.floats(1e-3, 1e3))
    low = draw(st.sampled_from([0.0, 1.0, 5.0]))
    mu = low + draw(ratios) * sigma
    high = low + draw(widths) * sigma if draw(st.booleans()) else inf
    assume(high > low)
    return TruncatedNormal(mu, sigma, low, high)


@st.composite
def distributions(draw: st.DrawFn) -> Distribution:
    """Inputs as estimates have them: not absurd, but with cuts that matter."""
    kind = draw(st.sampled_from(["lognormal", "truncated", "uniform", "exact"]))
    mean = draw(st.floats(0.1, 1000.0))
    if kind == "lognormal":
        return Lognormal(mean, draw(st.floats(0.01, 0.6)))
    if kind == "truncated":
        sigma = mean * draw(st.floats(0.02, 1.5))
        low = draw(st.sampled_from([0.0, 0.5])) * mean
        high = draw(st.sampled_from([inf, 1.6 * mean]))
        return TruncatedNormal(mean, sigma, low, high)
    if kind == "uniform":
        return Uniform(mean * draw(st.floats(0.1, 0.95)), mean)
    return Exact(mean)


models = st.lists(distributions(), min_size=1, max_size=4).map(
    lambda found: Model(
        0.5, tuple(Input(f"x{n}", d, "law") for n, d in enumerate(found))
    )
)


@MANY
@given(cut_normals())
@example(TruncatedNormal(-10_000.0, 10.0))
@example(TruncatedNormal(0.0, 1.0, 5.0, 5.001))
def test_moments_of_a_cut_normal_equal_a_dense_sum(x: TruncatedNormal) -> None:
    found = truncated.moments(*x)
    mode = min(max(x.mu, x.lower), x.upper)
    reach = 14.0 / max(1.0, abs(mode - x.mu) / x.sigma / 3.0)
    left = max(x.lower, mode - reach * x.sigma)
    right = min(x.upper, mode + reach * x.sigma)
    d = np.linspace(left - mode, right - mode, 200_001)
    shift = (mode - x.mu) / x.sigma
    t = d / x.sigma
    weight = np.exp(-0.5 * t * (t + 2.0 * shift))
    weight[0] *= 0.5
    weight[-1] *= 0.5
    weight /= weight.sum()
    mean = float((d * weight).sum())
    centred = d - mean
    sd = sqrt(float((centred**2 * weight).sum()))
    assert isclose(found.mean, mode + mean, rel_tol=1e-6, abs_tol=1e-6 * sd)
    assert isclose(sqrt(found.c2), sd, rel_tol=1e-5)
    assert found.c3 / sd**3 == pytest.approx(
        float((centred**3 * weight).sum()) / sd**3, abs=1e-3
    )
    assert x.lower <= found.mean <= x.upper


@MANY
@given(cut_normals(), st.floats(1e-6, 1.0 - 1e-6))
def test_a_quantile_counts_its_probability(x: TruncatedNormal, p: float) -> None:
    value = truncated.quantile(p, *x)
    assert x.lower <= value <= x.upper
    alpha, beta = (x.lower - x.mu) / x.sigma, (x.upper - x.mu) / x.sigma
    assume(max(alpha, -beta) < 30.0)  # beyond, the tails underflow here
    z = (value - x.mu) / x.sigma
    if alpha > 0.0:
        counted = (upper(alpha) - upper(z)) / (upper(alpha) - upper(beta))
    elif beta < 0.0:
        counted = (lower(z) - lower(alpha)) / (lower(beta) - lower(alpha))
    else:
        whole = 1.0 - lower(alpha) - upper(beta)
        assume(whole > 1e-3)
        counted = (lower(z) - lower(alpha)) / whole
    slack = 1e-7 if x.upper - x.lower < 0.1 * x.sigma else 1e-9
    # z is rounded when it is formed from far away
    slack += 1e-14 * abs(x.mu / x.sigma) ** 2
    assert abs(counted - p) <= slack


@MANY
@given(distributions(), st.floats(0.001, 0.999), st.floats(0.001, 0.999))
def test_quantiles_never_decrease_and_stay_in_the_support(
    x: Distribution, p: float, q: float
) -> None:
    low, high = sorted((p, q))
    ends = support(x)
    assert ends[0] <= quantile(x, low) <= quantile(x, high) <= ends[1]


@given(st.floats(1e-300, 1.0 - 1e-9))
def test_the_inverse_of_the_normal_is_its_inverse(p: float) -> None:
    assert isclose(lower(inverse(p)), p, rel_tol=1e-11)


@FEW
@given(models)
def test_moments_equal_a_million_trials(model: Model) -> None:
    exact = total(model)
    values = np.concatenate([sample(model, 7, b, 250_000) for b in range(4)])
    slack = 1e-9 * abs(exact.mean)
    assert abs(values.mean() - exact.mean) <= 6e-3 * exact.sd + slack
    # the standard error of a variance is sqrt((kurtosis + 2) / n)
    error = sqrt((max(exact.excess_kurtosis, 0.0) + 2.0) / values.size)
    assert abs(values.var() - exact.k2) <= 8.0 * error * exact.k2 + slack


@FEW
@given(models, st.sampled_from([0.8, 0.95]))
def test_every_interval_a_rule_allows_equals_brute_force(
    model: Model, coverage: float
) -> None:
    found = analytical(model, coverage)
    assume(found is not None)
    assert found is not None
    values = np.concatenate([sample(model, 11, b, 250_000) for b in range(4)])
    p = 0.5 * (1.0 - coverage)
    for value, q in ((found.low, p), (found.median, 0.5), (found.high, 1.0 - p)):
        truth = float(np.quantile(values, q))
        tail = 0.012 if found.detail != "cornish_fisher" else 0.05
        if q > 0.9:  # the density is low there: more noise in the trials
            tail *= 1.0 + max(total(model).skewness, 0.0)
        assert abs(value - truth) <= tail * found.sd + 1e-9 * abs(found.mean)


@FEW
@given(st.lists(distributions(), min_size=2, max_size=3), st.floats(0.5, 3.0))
def test_a_wider_input_never_narrows_the_result(
    found: list[Distribution], factor: float
) -> None:
    assume(factor > 1.0)
    narrow = Lognormal(2.0, 0.1)
    others = tuple(Input(f"x{n}", d, "law") for n, d in enumerate(found))
    spreads = [
        total(Model(1.0, (*others, Input("x", d, "law")))).sd
        for d in (narrow, narrow._replace(cv=0.1 * factor))
    ]
    assert spreads[1] > spreads[0]


@MANY
@given(models)
def test_shares_of_the_variance_add_up(model: Model) -> None:
    found = shares(model)
    assert all(0.0 <= share <= 1.0 for share in found.values())
    assert not found or fsum(found.values()) == pytest.approx(1.0)


@MANY
@given(
    st.lists(st.floats(0.0, 10.0), min_size=1, max_size=12),
    st.floats(0.0, 1.0),
    st.floats(0.1, 2.0),
)
def test_a_correlated_sum_equals_the_double_sum(
    spreads: list[float], rho: float, step: float
) -> None:
    steps = [step] * len(spreads)
    double = fsum(
        a * b * rho ** (abs(i - j) * step)
        for (i, a), (j, b) in pairs(enumerate(spreads), repeat=2)
    )
    assert correlated(spreads, steps, rho) == pytest.approx(double, rel=1e-9)


@FEW
@given(st.floats(10.0, 1000.0), st.integers(2, 30), st.floats(0.02, 0.3))
def test_a_finer_cut_buys_no_precision(grams: float, parts: int, cv: float) -> None:
    """One energy over one interval, or over many with the same factor in common."""
    energy = Input("energy", Lognormal(1.0, 0.05), "law")
    bias = Input("bias", Lognormal(1.0, cv), "law")
    whole = total(Model(grams, (energy, bias)))
    cut = tuple(
        Term(grams / parts, (Input("i", Exact(1.0), "law"),)) for _ in range(parts)
    )
    assert total(Model(1.0, (energy, bias), cut)).sd >= whole.sd * (1.0 - 1e-12)


@FEW
@given(models, st.integers(0, 2**48 - 1))
def test_a_run_depends_on_its_seed_alone(model: Model, seed: int) -> None:
    first = adaptive(model, 0.95, digits=1, seed=seed)
    assert adaptive(model, 0.95, digits=1, seed=seed) == first


@MANY
@given(distributions(), st.floats(0.1, 10.0))
def test_units_do_not_matter(x: Distribution, scale: float) -> None:
    """Scaling the model scales every figure and no relative one."""
    plain, scaled = (total(Model(s, (Input("x", x, "law"),))) for s in (1.0, scale))
    assert scaled.mean == pytest.approx(scale * plain.mean)
    assert scaled.sd == pytest.approx(scale * plain.sd)
    assert scaled.skewness == pytest.approx(plain.skewness, abs=1e-9)


@MANY
@given(distributions())
def test_what_is_accepted_has_finite_moments(x: Distribution) -> None:
    of = shape(checked(x, "x"))
    assert of.mean > 0.0
    assert 0.0 <= of.c2 < inf
    assert of.c4 >= of.c2**2 * (1.0 - 1e-12), "the kurtosis is at least 1"
