"""What is really written to ledgers keeps the published schemas."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema

from carbon_ops import CarbonEstimator, EnergyLogger
from carbon_ops.estimate.inputs import TruncatedNormal
from carbon_ops.estimate.sci import embodied
from carbon_ops.testing.governor import GovernorProcess

SCHEMAS = Path(__file__).parents[2] / "docs/reference/schemas"
CLI = (sys.executable, "-m", "carbon_ops")


def measure(path: Path, **settings: object) -> None:
    """Write a span, a call and their estimates."""
    with EnergyLogger(ledger=path, **settings) as logger:  # type: ignore[arg-type]
        with logger.span("span", settle=True):
            sum(range(100_000))
        logger.log_metrics("call", epoch=3)


def test_records_of_every_kind_of_measurement_keep_their_schema(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    odd = CarbonEstimator(
        "US-CA",
        pue=TruncatedNormal(1.2, 0.3, 1.0),
        method="monte_carlo",
        embodied=embodied("server"),
        signal="average",
    )
    with GovernorProcess() as governor:
        governor.wait_ready().close()
        measure(path, socket=governor.path, region="DE")
        measure(path, socket=governor.path, region="IS", policy="excluded")
        measure(path, socket=governor.path, estimator=odd)
        env = {**os.environ, "CARBON_OPS_SOCKET": governor.path}
        for argv in (
            ("run", "--region", "FR", "--ledger", str(path), "--", "true"),
            ("monitor", "-n", "1", "-i", "0.3", "--ledger", str(path)),
        ):
            subprocess.run([*CLI, *argv], env=env, check=True, capture_output=True)
    nobody = str(tmp_path / "nobody.sock")
    measure(path, socket=nobody, region="DE")
    measure(path, socket=nobody, region="DE", model="off")
    subprocess.run([*CLI, "ledger", "heartbeat", str(path)], check=True)

    kinds = []
    for line in (path / "active.jsonl").read_text().splitlines():
        record = json.loads(line)
        kinds.append(record["type"])
        schema = json.loads((SCHEMAS / f"{kinds[-1]}-1.json").read_text())
        jsonschema.validate(record, schema, jsonschema.Draft202012Validator)
    assert kinds.count("energy_metric") == kinds.count("carbon_estimate") == 11
    assert set(kinds) > {"genesis", "host_sample", "heartbeat"}
