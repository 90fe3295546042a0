"""One signal's figure from its inputs, what it may be called, and what to warn of."""

from __future__ import annotations

from carbon_ops.estimate import span
from carbon_ops.estimate.engine import Method, evaluate
from carbon_ops.estimate.inputs import Distribution, Exact, Input, Lognormal, mass_cut
from carbon_ops.estimate.moments import Model, shares
from carbon_ops.estimate.record import EnergyBasis, Figure
from carbon_ops.intensity.base import Signal
from carbon_ops.units import WH_PER_KWH

WARN_MASS = 0.025  # of the parent cut off, above which (mu, sigma) mislead


def figure(
    inputs: tuple[Input, ...],
    factor: span.Factor | None,
    label: str,
    coverage: float,
    *,
    method: Method,
    validate: bool,
    digits: int,
    seed: int | None = None,
) -> Figure:
    """Return one signal's carbon [g] from its inputs: Wh, g/kWh and factors of 1."""
    model = Model(1.0 / WH_PER_KWH, inputs)
    outcome = evaluate(model, coverage, method=method, digits=digits, seed=seed)
    validation = None
    if validate:
        from carbon_ops.estimate.montecarlo import validated

        validation = validated(model, coverage, outcome.low, outcome.high)
    cut = {i.name: m for i in inputs if (m := mass_cut(i.distribution)) > 0.0}
    return Figure(outcome, factor, None, label, inputs, shares(model), cut, validation)


def warnings(of: Figure) -> list[str]:
    """Return what a reader of the figure should know."""
    found = [
        f"{name}: {mass:.1%} of its normal distribution lies outside the bounds, so its "
        "mean differs from mu"
        for name, mass in of.truncated_mass.items()
        if mass > WARN_MASS
    ]
    if of.factor is not None and of.factor.g_per_kwh == 0.0:
        found.append(
            "the grid factor is 0 g/kWh; a relative uncertainty of it is 0, too"
        )
    o = of.outcome
    if o is not None and not o.low <= o.mean <= o.high:
        found.append(
            "the distribution is so skewed, or the coverage so small, that the mean lies "
            "outside the interval; the median says more"
        )
    if o is not None and o.converged is False:
        found.append("Monte Carlo did not settle the requested digits")
    return found


def factor_inputs(signal: Signal, factor: span.Factor) -> list[Input]:
    """Return the inputs that the factor of a span adds: its bias, and what is left."""
    one = factor.pieces[0].intensity
    mean, cv, residual = factor.g_per_kwh, factor.common_cv, factor.residual_cv
    bias: Distribution = Lognormal(mean, cv) if mean > 0.0 else Exact(0.0)
    source = f"{one.provider} {one.version.split(' ')[0]}: {one.uncertainty_source}"
    found = [Input(f"{signal}.factor", bias, source, one.default)]
    if residual > 0.0 and mean > 0.0:
        source = "errors of single intervals, as the provider states them"
        found.append(Input(f"{signal}.residual", Lognormal(1.0, residual), source))
    return found


def label_of(signal: Signal, basis: EnergyBasis) -> str:
    """Return what a figure may be called: marginal emissions need dynamic energy."""
    if signal == "marginal" and basis == "dynamic":
        return "marginal emissions"
    kind = "dynamic" if basis == "dynamic" else "attributed"
    return f"{kind} energy x {signal} factor"
