"""The Lightning callback, in real trainings of a model of a few numbers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from carbon_ops import EnergyLogger
from carbon_ops.integrations.lightning import energy_callback, samples_in

pytest.importorskip("torch", reason="no CPU build of PyTorch in this environment")


def model(slow: float = 0.0, fails: bool = False) -> Any:
    import torch
    from lightning.pytorch import LightningModule

    class Tiny(LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 1)

        def training_step(self, batch: Any, index: int) -> Any:
            end = time.process_time() + slow
            while time.process_time() < end:
                pass
            if fails:
                raise LookupError("no such thing")
            return self.layer(batch[0]).mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    return Tiny()


def fit(made: Any, folder: Path, callback: Any) -> Any:
    import torch
    from lightning.pytorch import Trainer

    data = torch.utils.data.TensorDataset(torch.zeros(20, 4))
    trainer = Trainer(
        max_epochs=2,
        accelerator="cpu",
        callbacks=[callback],
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(made, torch.utils.data.DataLoader(data, batch_size=8))
    return trainer


def test_run_epochs_and_steps_are_measured(tmp_path: Path) -> None:
    energy = energy_callback()
    trainer = fit(model(slow=0.35), tmp_path, energy)
    run = energy.training.run
    assert (run["steps"], run["samples"]) == (6, 40)
    assert [epoch["samples"] for epoch in run["epochs"]] == [20, 20]
    assert run["energy_cpu_s"] >= 6 * 0.35
    assert run["energy_j_per_sample"] == pytest.approx(run["energy_j"] / 40)
    logged = float(trainer.callback_metrics["energy_j_per_step"])
    assert logged == pytest.approx(energy.training.last["energy_j_per_step"])


def test_a_training_that_raises_is_recorded_as_failed(tmp_path: Path) -> None:
    logger = EnergyLogger()
    with pytest.raises(LookupError):
        fit(model(fails=True), tmp_path, energy_callback(logger))
    status = {metric["operation"]: metric["status"] for metric in logger.metrics}
    assert status == dict.fromkeys(
        ("training_steps", "training_epoch", "training_run"), "error"
    )


def test_samples_are_those_of_the_first_tensor() -> None:
    import torch

    assert samples_in({"x": [torch.zeros(3, 2)], "y": torch.zeros(5)}) == 3
    assert samples_in((1, "text", torch.zeros(7))) == 7
    assert samples_in(torch.tensor(1.0)) == 0
    assert samples_in("text") == 0
