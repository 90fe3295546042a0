"""The Trainer callback, in real trainings of a model of a few hundred numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from carbon_ops import EnergyLogger
from carbon_ops.errors import InvalidInputError
from carbon_ops.integrations.huggingface import energy_callback

torch = pytest.importorskip(
    "torch", reason="no CPU build of PyTorch in this environment"
)

# The tiny model and its training, for this process and for ranks of their own.
TINY = """
import time
import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

class Sentences(torch.utils.data.Dataset):
    def __init__(self, count, slow):
        self.count, self.slow = count, slow
    def __len__(self):
        return self.count
    def __getitem__(self, i):
        end = time.process_time() + self.slow
        while time.process_time() < end:
            pass
        return {"input_ids": torch.tensor([1, 2, i % 30]), "labels": torch.tensor(i % 2)}

def trainer(folder, callbacks, count=20, slow=0.0, **given):
    model = BertForSequenceClassification(BertConfig(
        vocab_size=32, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
        intermediate_size=8, max_position_embeddings=8))
    arguments = {"per_device_train_batch_size": 8, "num_train_epochs": 2,
                 "logging_steps": 1, "report_to": [], "disable_tqdm": True,
                 "save_strategy": "no", "use_cpu": True, **given}
    return Trainer(model=model, args=TrainingArguments(folder, **arguments),
                   train_dataset=Sentences(count, slow), eval_dataset=Sentences(4, 0),
                   callbacks=callbacks)
"""


def trainer(folder: Path, callbacks: list[Any], **given: Any) -> Any:
    space: dict[str, Any] = {}
    exec(TINY, space)
    return space["trainer"](str(folder), callbacks, **given)


def test_run_epochs_and_steps_are_measured(tmp_path: Path) -> None:
    energy = energy_callback()
    made = trainer(tmp_path, [energy], slow=0.02)
    made.train()
    run = energy.training.run
    assert run["steps"] == made.state.global_step == 6
    assert run["samples"] == 40  # 2 epochs of 20, the last batch of each has 4
    assert run["energy_j_per_sample"] == pytest.approx(run["energy_j"] / 40)
    assert run["energy_j_per_step"] == pytest.approx(run["energy_j"] / 6)
    assert run["energy_origin"] == "counter simulated"
    assert [epoch["samples"] for epoch in run["epochs"]] == [20, 20]
    assert sum(epoch["energy_cpu_s"] for epoch in run["epochs"]) <= run["energy_cpu_s"]
    logged = [entry for entry in made.state.log_history if "loss" in entry]
    assert any("energy_j_per_step" in entry for entry in logged)
    assert made.state.log_history[-1]["energy_j"] == run["energy_j"]


def test_the_spans_are_a_tree_and_groups_hold_all_steps(tmp_path: Path) -> None:
    logger = EnergyLogger()
    trainer(tmp_path, [energy_callback(logger)], eval_strategy="epoch").train()
    by_name: dict[str, list[Any]] = {}
    for metric in logger.metrics:
        by_name.setdefault(metric["operation"], []).append(metric)
    assert {name: len(found) for name, found in by_name.items()} == {
        "training_run": 1,
        "training_epoch": 2,
        "training_steps": len(by_name["training_steps"]),
    }
    run = by_name["training_run"][0]
    assert {m["parent_id"] for m in by_name["training_epoch"]} == {run["span_id"]}
    assert sum(m["additional_info"]["steps"] for m in by_name["training_steps"]) == 6
    assert run["additional_info"]["ranks"] == 1


def test_a_training_that_fails_does_not_spoil_the_next(tmp_path: Path) -> None:
    from transformers import TrainerCallback

    class Fails(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **kw: Any) -> None:
            raise KeyboardInterrupt

    logger = EnergyLogger()
    energy = energy_callback(logger)
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path, [energy, Fails()]).train()
    trainer(tmp_path, [energy]).train()
    runs = [m for m in logger.metrics if m["operation"] == "training_run"]
    assert [m["status"] for m in runs] == ["error", "ok"]
    assert runs[1]["parent_id"] is None
    assert energy.training.run["steps"] == 6


def test_the_model_card_gets_grams_with_their_interval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import ModelCard

    energy = energy_callback(EnergyLogger(region="FR"))
    with pytest.raises(InvalidInputError):
        energy.model_card()
    made = trainer(tmp_path, [energy])
    made.train()
    made.create_model_card(model_name="tiny")
    monkeypatch.setattr(os, "cpu_count", lambda: 4_096)  # as PYTHON_CPU_COUNT does
    energy.write_model_card(tmp_path / "README.md")
    found = ModelCard.load(str(tmp_path / "README.md")).data["co2_eq_emissions"]
    assert found["emissions"] > 0
    assert found["geographical_location"] == "FR"
    assert "counter simulated; 95% interval" in found["source"]
    online = os.sysconf("SC_NPROCESSORS_ONLN")
    assert found["hardware_used"].startswith(f"{online} CPUs, ")


def test_without_energy_nothing_is_made_up(tmp_path: Path) -> None:
    logger = EnergyLogger(socket="/nowhere", model="off")
    energy = energy_callback(logger)
    made = trainer(tmp_path, [energy])
    made.train()
    assert "energy_j" not in energy.training.run
    assert energy.training.run["energy_origin"] == "no energy (model_off)"
    assert not any("energy_j" in entry for entry in made.state.log_history)
    with pytest.raises(InvalidInputError):
        energy.model_card()


RANK = TINY + """
import json, sys
from carbon_ops.integrations.huggingface import energy_callback
energy = energy_callback()
trainer(sys.argv[1], [energy], count=32, slow=0.02, ddp_backend="gloo").train()
print("FOUND", json.dumps(energy.training.run), flush=True)
"""


def test_two_ranks_of_a_host_are_one_report_that_counts_both(tmp_path: Path) -> None:
    script = tmp_path / "rank.py"
    script.write_text(RANK)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"),
            *("--master-addr=127.0.0.1", "--master-port=0", "--standalone"),
            *(str(script), str(tmp_path / "out")),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    found = [
        json.loads(line.split("FOUND ")[1])
        for line in done.stdout.splitlines()
        if "FOUND" in line
    ]
    told = [run for run in found if run]
    assert (len(found), len(told)) == (2, 1)
    # Each rank burns 2 x 16 x 0.02 s of CPU time; both are in the one report.
    assert told[0]["ranks"] == 2
    assert told[0]["samples"] == 64
    assert told[0]["energy_cpu_s"] >= 1.28
