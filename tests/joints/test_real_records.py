"""What is really written to ledgers keeps the published schemas."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Literal

import jsonschema

from carbon_ops import CarbonEstimator, EnergyLogger
from carbon_ops.estimate.inputs import TruncatedNormal
from carbon_ops.estimate.sci import embodied
from carbon_ops.ledger.lines import lines
from carbon_ops.ledger.store import Ledger
from carbon_ops.ledger.verify import verify_ledger
from carbon_ops.meter.record import records
from carbon_ops.testing.governor import GovernorProcess
from carbon_ops.testing.ledgers import signer

SCHEMAS = Path(__file__).parents[2] / "docs/reference/schemas"
CLI = (sys.executable, "-m", "carbon_ops")


def measure(path: Path, **settings: object) -> None:
    """Write a span, a call and their estimates."""
    with EnergyLogger(ledger=path, **settings) as logger:  # type: ignore[arg-type]
        with logger.span("span", settle=True):
            sum(range(100_000))
        logger.log_metrics("call", epoch=3)


def checked(path: Path) -> list[str]:
    """Hold every record of a ledger to its published schema; return their types."""
    kinds = []
    for line in lines(str(path)):
        record = json.loads(line)
        kinds.append(record["type"])
        schema = json.loads((SCHEMAS / f"{kinds[-1]}-1.json").read_text())
        jsonschema.validate(record, schema, jsonschema.Draft202012Validator)
    return kinds


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

    kinds = checked(path)
    assert kinds.count("energy_metric") == kinds.count("carbon_estimate") == 11
    assert set(kinds) > {"genesis", "host_sample", "heartbeat"}


def test_every_kind_of_estimate_keeps_its_schema_and_can_be_derived_anew(
    tmp_path: Path,
) -> None:
    """Methods, signals, overheads, coverages, no energy, no factor, too many intervals."""
    with EnergyLogger(socket=str(tmp_path / "nobody.sock")) as logger:
        with logger.span("x") as span:
            pass
    metric = span.metric
    assert metric is not None
    pues = (None, "unknown", 1.2, (1.3, 0.1), "gcp", TruncatedNormal(1.2, 0.3, 1.0))
    signals: tuple[Literal["marginal", "average"], ...] = ("marginal", "average")
    times = (0.0, 7200.0)
    made = [
        CarbonEstimator(
            region, method=method, signal=signal, pue=pue, embodied=hardware
        ).estimate_over_span(*times, energy_wh, energy_u_wh=energy_u_wh)
        for method in ("auto", "monte_carlo")
        for signal, pue, hardware in zip(
            signals * 3,
            pues,
            (None, embodied("server")) * 3,
            strict=True,
        )
        for region in ("DE", None, "US-CA", "IS")
        for energy_wh, energy_u_wh in ((10.0, 1.0), (10.0, None), (0.0, 0.0))
        if method == "auto" or (region, energy_u_wh) == ("DE", 1.0)
    ]
    made.append(
        CarbonEstimator("DE", method="analytical_truncated").estimate_over_span(
            *times, 1.0
        )
    )
    made.append(CarbonEstimator("DE").estimate_over_span(*times, None))
    made.append(CarbonEstimator("DE").estimate_over_span(5.0, 5.0, 0.0))
    estimates = [estimate.to_dict() for estimate in made]
    long = made[0].to_dict()
    grid = long["average"]["intensity"]
    long["average"]["intensity"] = {**grid, "intervals": grid["intervals"] * 700}
    path = tmp_path / "ledger"
    with Ledger.init(path, signer=signer()) as ledger:
        for estimate in [*estimates, long]:
            ledger.append_many(records(metric, estimate))

    kinds = checked(path)
    assert kinds.count("carbon_estimate") == len(estimates) + 1
    report = verify_ledger(path, vkeys=[signer().vkey], recompute=True)
    assert (report.verdict, report.recomputed) == ("OK", len(estimates))
    assert report.skipped == 1


def test_what_happens_to_a_ledger_keeps_its_schema(tmp_path: Path) -> None:
    """A torn tail that was cut off, and an exchange of keys."""
    path = tmp_path / "ledger"
    Ledger.init(path, signer=signer()).close()
    with open(path / "active.jsonl", "ab") as file:
        file.write(b"half a line")
    with Ledger.open(path, signer=signer()) as ledger:
        ledger.rotate_key(signer(2))
    assert checked(path) == ["genesis", "recovery", "key_rotate"]
