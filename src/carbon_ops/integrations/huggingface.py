"""Energy of ``transformers.Trainer``: per step, epoch and run, joules per sample.

::

    from carbon_ops.integrations.huggingface import energy_callback

    energy = energy_callback()
    Trainer(..., callbacks=[energy]).train()
    print(energy.training.run["energy_j_per_sample"])
    energy.write_model_card("README.md")

The figures of the last steps go into what the Trainer logs, those of the run to the end
of ``state.log_history``. The names are those of
:func:`carbon_ops.integrations.figures.figures`, beginning with ``energy_``.

What this cannot know
    GPUs that other programs use too, and anything on hosts where no rank runs. Steps
    shorter than 0.3 s are measured in groups, see :mod:`carbon_ops.integrations.training`.
    Trackers named in ``report_to`` are called before this callback, so they get the
    figures of steps only through :mod:`~carbon_ops.integrations.mlflow` or
    :mod:`~carbon_ops.integrations.wandb`. Samples are counted from batch sizes and the
    length of the dataset; in an epoch that was resumed in its middle, and with a dataset
    without a length, the last batch may be counted as full.
"""

from __future__ import annotations

import os
from typing import Any, cast

from carbon_ops.errors import InvalidInputError
from carbon_ops.integrations.training import Training

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carbon_ops.meter.logger import EnergyLogger

LOGGED = ("energy_j", "energy_j_per_step", "energy_j_per_sample", "energy_power_w")


class EnergyHooks:
    """What :func:`energy_callback` adds to ``transformers.TrainerCallback``."""

    def __init__(self, logger: EnergyLogger | None = None) -> None:
        self.training = Training(logger)
        self._left: int | None = (
            None  # samples of this epoch still to come, on this host
        )

    def on_train_begin(self, args: Any, state: Any, control: Any, **kw: Any) -> None:
        self.training.begin(framework="transformers")

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kw: Any) -> None:
        try:
            length = len(kw["train_dataloader"].dataset)
        except (KeyError, TypeError, AttributeError):
            self._left = None
        else:
            local = self.training.local_ranks or 1
            self._left = -(-length * local // max(1, args.world_size))
        self.training.begin_epoch(int(state.epoch or 0))

    def on_step_begin(self, args: Any, state: Any, control: Any, **kw: Any) -> None:
        self.training.begin_step()

    def on_step_end(self, args: Any, state: Any, control: Any, **kw: Any) -> None:
        samples = args.train_batch_size * args.gradient_accumulation_steps
        samples *= self.training.local_ranks or 1
        if self._left is not None:
            samples = min(samples, self._left)
            self._left -= samples
        # The default flow, which decides this, is called before other callbacks.
        self.training.end_step(
            samples, pause=bool(control.should_evaluate or control.should_save)
        )

    def on_log(
        self, args: Any, state: Any, control: Any, logs: Any = None, **kw: Any
    ) -> None:
        last = {k: v for k, v in self.training.last.items() if k in LOGGED}
        if logs is not None and "loss" in logs:
            logs.update(last)  # for what is called after us: the progress bar, printers
            if state.log_history:
                state.log_history[-1].update(last)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kw: Any) -> None:
        self.training.end_epoch()

    def on_train_end(self, args: Any, state: Any, control: Any, **kw: Any) -> None:
        self.training.end()
        numbers = {
            key: value
            for key, value in self.training.run.items()
            if isinstance(value, float)
        }
        if numbers:
            state.log_history.append({"step": state.global_step, **numbers})

    def model_card(self) -> dict[str, Any]:
        """Return ``co2_eq_emissions`` for a model card's metadata.

        Without a region the grid is the world's, and the source says so.

        Raises:
            InvalidInputError: no training has ended in this process, or it is not the
                one that reports, or its energy is not known.
        """
        metric = self.training.metric
        if metric is None or metric["energy"]["energy_j_total"] is None:
            raise InvalidInputError(
                "there are no emissions to put on a model card",
                hint="Call it after train(), on the host's first rank; "
                "callback.training.run says where the energy comes from.",
            )
        estimate = self.training.estimate
        if estimate is None:
            from carbon_ops.estimate.estimator import CarbonEstimator

            estimate = CarbonEstimator().estimate_metric(metric)
        record = estimate.to_dict()
        factor = record[record["signal"]]["intensity"] if "signal" in record else {}
        low, high = estimate.ci_low_gco2e, estimate.ci_high_gco2e
        return {
            "emissions": estimate.carbon_gco2e,
            "source": f"carbon-ops, {self.training.run['energy_origin']}; "
            f"{estimate.coverage:.0%} interval {low:.3g} to {high:.3g} g",
            "geographical_location": factor.get("zone"),
            "hardware_used": f"{metric['cpu']['count']} CPUs, {self.training.run['host']}",
        }

    def write_model_card(self, path: str | os.PathLike[str]) -> None:
        """Put :meth:`model_card` into the metadata of the model card at ``path``."""
        from huggingface_hub import ModelCard

        card = ModelCard.load(os.fspath(path))
        card.data["co2_eq_emissions"] = self.model_card()
        card.save(os.fspath(path))


def energy_callback(logger: EnergyLogger | None = None) -> EnergyHooks:
    """Return a ``TrainerCallback`` for ``Trainer(callbacks=[...])``.

    Args:
        logger: Where to measure; default: one of its own.
    """
    from transformers import TrainerCallback

    made = type("EnergyCallback", (EnergyHooks, TrainerCallback), {})
    return cast("EnergyHooks", made(logger))
