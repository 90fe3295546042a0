"""Energy of Lightning's ``Trainer.fit``: per step, epoch and run, joules per sample.

::

    from carbon_ops.integrations.lightning import energy_callback

    energy = energy_callback()
    Trainer(callbacks=[energy]).fit(model, data)
    print(energy.training.run["energy_j_per_sample"])

The figures of the last steps are logged with ``pl_module.log``, those of the run stay in
``training.run``. A training that raises is recorded as failed.

What this cannot know
    GPUs that other programs use too, and anything on hosts where no rank runs. Samples
    are the first dimension of a batch's first tensor, on every rank of the host alike;
    a batch without one counts none. Steps shorter than 0.3 s are measured in groups, see
    :mod:`carbon_ops.integrations.training`; here a step is a batch, even where gradients
    are accumulated over several. A validation inside an epoch is in the energy of that
    epoch, and of the group of steps that it interrupts.
"""

from __future__ import annotations

from typing import Any, cast

from carbon_ops.integrations.training import Training

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carbon_ops.meter.logger import EnergyLogger

LOGGED = ("energy_j_per_step", "energy_j_per_sample", "energy_power_w")


def samples_in(batch: Any) -> int:
    """Return the first dimension of the first tensor in ``batch``, 0 if it has none."""
    shape = getattr(batch, "shape", None)
    if shape is not None:
        return int(shape[0]) if len(shape) else 0
    parts = batch.values() if isinstance(batch, dict) else batch
    if isinstance(batch, (dict, list, tuple)):
        return next((count for count in map(samples_in, parts) if count), 0)
    return 0


class EnergyHooks:
    """What :func:`energy_callback` adds to Lightning's ``Callback``."""

    def __init__(self, logger: EnergyLogger | None = None) -> None:
        self.training = Training(logger)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.training.begin(framework="lightning")

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.training.begin_epoch(trainer.current_epoch)

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        self.training.begin_step()

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        before = self.training.last
        self.training.end_step(samples_in(batch) * (self.training.local_ranks or 1))
        last = self.training.last
        if last is not before:
            known = {name: last[name] for name in LOGGED if name in last}
            pl_module.log_dict(known, rank_zero_only=True)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.training.end_epoch()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.training.end()

    def on_exception(
        self, trainer: Any, pl_module: Any, exception: BaseException
    ) -> None:
        self.training.end("error")


def energy_callback(logger: EnergyLogger | None = None) -> EnergyHooks:
    """Return a ``Callback`` for ``Trainer(callbacks=[...])``.

    Args:
        logger: Where to measure; default: one of its own.
    """
    try:
        from lightning.pytorch import Callback
    except ImportError:
        from pytorch_lightning import Callback

    made = type("EnergyCallback", (EnergyHooks, Callback), {})
    return cast("EnergyHooks", made(logger))
