"""Energy in MLflow's store and in a Weights & Biases run."""

from __future__ import annotations

from pathlib import Path

import pytest

from carbon_ops import EnergyLogger
from carbon_ops.integrations import wandb as to_wandb
from carbon_ops.integrations.mlflow import energy_run, log_energy


@pytest.fixture
def logger(governor: str) -> EnergyLogger:
    return EnergyLogger(socket=governor, region="FR")


def test_mlflow_keeps_the_figures_as_system_metrics(
    logger: EnergyLogger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "store").as_uri())
    with mlflow.start_run() as run:
        with energy_run("training", logger) as span:
            sum(range(100_000))
        assert span.metric is not None
        log_energy(span.metric, step=7, samples=10)
    client = mlflow.MlflowClient()
    kept = client.get_run(run.info.run_id).data
    joules = span.metric["energy"]["energy_j_total"]
    assert joules is not None
    assert kept.metrics["system/energy_j"] == joules
    assert kept.metrics["system/energy_j_per_sample"] == joules / 10
    assert kept.metrics["system/energy_gco2e_low"] < kept.metrics["system/energy_gco2e"]
    assert kept.tags["carbon_ops.energy_origin"] == "counter simulated"
    history = client.get_metric_history(run.info.run_id, "system/energy_j")
    assert [entry.step for entry in history] == [0, 7]


def test_an_unreachable_mlflow_does_not_break_the_work(
    logger: EnergyLogger, tmp_path: Path
) -> None:
    import mlflow

    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    mlflow.set_tracking_uri((blocked / "store").as_uri())
    done = False
    with energy_run("training", logger):
        done = True
    assert done
    with pytest.raises(LookupError), energy_run("training", logger):
        raise LookupError


def test_wandb_has_a_history_and_sums(
    logger: EnergyLogger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    run = wandb.init(
        project="test",
        mode="offline",
        dir=str(tmp_path),
        settings=wandb.Settings(console="off"),
    )
    try:
        joules = 0.0
        for step in (1, 2):
            metric = logger.log_metrics("epoch")
            to_wandb.log_energy(run, metric, step=step, samples=4)
            joules += metric["energy"]["energy_j_total"] or 0.0
        assert run.summary["energy/total_j"] == pytest.approx(joules)
        assert run.summary["energy/origin"] == "counter simulated"
        assert "energy/total_gco2e" not in dict(run.summary)
    finally:
        run.finish()


def test_wandb_gets_nothing_that_is_unknown() -> None:
    class Run:
        def __init__(self) -> None:
            self.summary: dict[str, object] = {}
            self.logged: list[dict[str, float]] = []

        def log(self, numbers: dict[str, float], step: int | None = None) -> None:
            self.logged.append(numbers)

    run = Run()
    metric = EnergyLogger(socket="/nowhere", model="off").log_metrics("epoch")
    to_wandb.log_energy(run, metric)
    assert set(run.logged[0]) == {"energy/seconds", "energy/cpu_s"}
    assert run.summary == {"energy/origin": "no energy (model_off)"}
