"""Energy in MLflow, beside its own system metrics: ``system/energy_j`` and so on.

::

    from carbon_ops.integrations.mlflow import energy_run

    with mlflow.start_run(), energy_run("training"):
        train()

The tag ``carbon_ops.energy_origin`` says whether joules were counted or modelled. What is
not known is not logged.

What this cannot know
    What other processes of the same MLflow run used: each logs its own, under the same
    names. MLflow keeps plain numbers; intervals are two metrics (``..._low``,
    ``..._high``), and who needs a record that can be checked gives the logger a ledger.
"""

from __future__ import annotations

from contextlib import contextmanager

from carbon_ops.integrations.figures import figures, origin
from carbon_ops.log import log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from carbon_ops.estimate.record import CarbonRecord
    from carbon_ops.meter.logger import EnergyLogger
    from carbon_ops.meter.span import Span
    from carbon_ops.model import Metric

PREFIX = "system/energy_"
ORIGIN_TAG = "carbon_ops.energy_origin"


def log_energy(
    metric: Metric,
    estimate: CarbonRecord | None = None,
    *,
    step: int | None = None,
    samples: int = 0,
) -> None:
    """Log what was measured to the active MLflow run.

    Args:
        metric: What was measured.
        estimate: Its carbon, if there is one.
        step: MLflow's step.
        samples: How many samples were worked on, for the joules of each.
    """
    import mlflow

    numbers = figures(metric, estimate, samples=samples, prefix=PREFIX)
    mlflow.log_metrics(numbers, step=step)
    mlflow.set_tag(ORIGIN_TAG, origin(metric))


@contextmanager
def energy_run(
    operation: str, logger: EnergyLogger | None = None, *, step: int | None = None
) -> Iterator[Span]:
    """Measure a block and log it to the active run; failures to log are not raised.

    Args:
        operation: What the work is called.
        logger: Where to measure; default: the program's shared one.
        step: MLflow's step.
    """
    from carbon_ops.meter.track import shared_logger

    span = (logger or shared_logger()).span(operation)
    try:
        with span:
            yield span
    finally:
        if span.metric is not None:
            try:
                log_energy(span.metric, span.estimate, step=step)
            except Exception as error:  # noqa: BLE001 - must not break what it measures
                log().warning("energy was not logged to MLflow: %s", error)
