"""From a model to numbers: the analytical rule that holds, or Monte Carlo.

numpy is imported only when Monte Carlo runs.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from carbon_ops.errors import InvalidInputError
from carbon_ops.estimate.analytical import analytical
from carbon_ops.estimate.moments import Model, total

Method = Literal["auto", "analytical_truncated", "monte_carlo"]
_SEED_BITS = 48  # stays exact as a JSON number


class Outcome(NamedTuple):
    """What is reported of one figure [the unit of the model]."""

    mean: float
    sd: float
    median: float
    low: float
    high: float
    method: Literal["analytical_truncated", "monte_carlo"]
    detail: str
    seed: int | None = None
    trials: int | None = None
    converged: bool | None = None


def seed_of(model: Model) -> int:
    """Return a seed that depends on the model alone, so that equal inputs agree."""
    from hashlib import sha256

    return int.from_bytes(sha256(repr(model).encode()).digest()[:8], "big") >> (
        64 - _SEED_BITS
    )


def evaluate(
    model: Model,
    coverage: float = 0.95,
    *,
    method: Method = "auto",
    digits: int = 1,
    seed: int | None = None,
) -> Outcome:
    """Return mean, spread and interval of ``model``.

    Mean and standard deviation are exact wherever a closed form exists, also when the
    interval comes from Monte Carlo.

    Args:
        model: The formula and its inputs.
        coverage: Probability of the (probabilistically symmetric) interval.
        method: ``auto`` takes Monte Carlo only where no analytical rule holds.
        digits: Significant digits of the standard deviation that Monte Carlo settles.
        seed: Of Monte Carlo; by default derived from the model.

    Raises:
        InvalidInputError: ``analytical_truncated`` was asked for and no rule holds.
    """
    if method != "monte_carlo":
        found = analytical(model, coverage)
        if found is not None:
            mean, sd, median, low, high, detail = found
            return Outcome(mean, sd, median, low, high, "analytical_truncated", detail)
        if method == "analytical_truncated":
            raise InvalidInputError(
                "no analytical rule holds for these inputs",
                hint='Use method="auto", which falls back to Monte Carlo.',
            )
    from carbon_ops.estimate.montecarlo import adaptive

    if seed is None:
        seed = seed_of(model)
    run = adaptive(model, coverage, digits=digits, seed=seed)
    mean, sd = run.mean, run.sd
    if not model.copula:
        exact = total(model)
        mean, sd = exact.mean, exact.sd
    detail = f"jcgm_101_adaptive_{digits}_digits"
    numbers = (mean, sd, run.median, run.low, run.high)
    return Outcome(*numbers, "monte_carlo", detail, seed, run.trials, run.converged)
