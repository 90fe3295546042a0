"""Energy in Weights & Biases: ``energy/j`` and so on in the history, sums in the summary.

::

    from carbon_ops.integrations.wandb import log_energy

    with logger.span("epoch") as span:
        train()
    log_energy(run, span.metric)

Works with any run object that has ``log`` and ``summary``; ``wandb`` itself is not
imported here. What is not known is not logged.

What this cannot know
    What other processes that log to the same run used. The sums in the summary are of
    what this process logged: spans that contain one another would count twice, so log
    either the epochs or the run.
"""

from __future__ import annotations

from typing import Any

from carbon_ops.integrations.figures import figures, origin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carbon_ops.estimate.record import CarbonRecord
    from carbon_ops.model import Metric

PREFIX = "energy/"
SUMMED = ("j", "wh", "gco2e")


def log_energy(
    run: Any,
    metric: Metric,
    estimate: CarbonRecord | None = None,
    *,
    step: int | None = None,
    samples: int = 0,
) -> None:
    """Log what was measured to ``run``.

    Args:
        run: What ``wandb.init`` returned.
        metric: What was measured.
        estimate: Its carbon, if there is one.
        step: The history's step.
        samples: How many samples were worked on, for the joules of each.
    """
    numbers = figures(metric, estimate, samples=samples, prefix=PREFIX)
    run.log(numbers, step=step)
    for name in SUMMED:
        if PREFIX + name in numbers:
            key = f"{PREFIX}total_{name}"
            run.summary[key] = (run.summary.get(key) or 0.0) + numbers[PREFIX + name]
    run.summary[f"{PREFIX}origin"] = origin(metric)
