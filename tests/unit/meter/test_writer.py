"""What the logger writes to a ledger, and what happens when it can't."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from carbon_ops import CarbonEstimator, EnergyLogger, Ledger, verify_ledger
from carbon_ops.errors import LedgerError, UnknownRegionError
from carbon_ops.estimate.record import CarbonRecord
from carbon_ops.ledger.failures import LedgerWriteError
from carbon_ops.ledger.store import Receipt
from carbon_ops.meter.plain import plain

NOWHERE = "/nonexistent/carbon-ops.sock"


def records(folder: Path) -> list[dict[str, object]]:
    lines = (folder / "active.jsonl").read_bytes().splitlines()
    return [json.loads(line) for line in lines]


def test_each_span_is_written_with_its_estimate(tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    with EnergyLogger(socket=NOWHERE, ledger=folder, region="DE") as logger:
        with logger.span("work") as span:
            sum(range(1000))
        logger.log_metrics("rest")
    kinds = [r["type"] for r in records(folder)]

    assert kinds == ["genesis"] + ["energy_metric", "carbon_estimate"] * 2
    assert records(folder)[1]["span_id"] == records(folder)[2]["span_id"]
    assert span.metric is not None
    assert span.estimate is not None
    assert records(folder)[1]["span_id"] == span.metric["span_id"]
    assert verify_ledger(folder).verdict in ("OK", "OK_PENDING")
    assert logger.summary()["work"]["grams"] is not None


def test_an_estimator_of_the_callers_own_is_used(tmp_path: Path) -> None:
    estimator = CarbonEstimator(region="FR")
    with EnergyLogger(socket=NOWHERE, estimator=estimator) as logger:
        with logger.span("work") as span:
            pass

    assert span.estimate is not None
    assert list(tmp_path.iterdir()) == []


def test_an_open_ledger_stays_open(tmp_path: Path) -> None:
    with Ledger.init(tmp_path / "ledger") as ledger:
        with EnergyLogger(socket=NOWHERE, ledger=ledger) as logger:
            logger.log_metrics("x")
        ledger.append({"type": "heartbeat"})

    assert len(records(tmp_path / "ledger")) == 4


def test_wrong_usage_raises_when_the_logger_is_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")

    with pytest.raises(UnknownRegionError):
        EnergyLogger(socket=NOWHERE, region="Germoney")
    with pytest.raises(LedgerError):
        EnergyLogger(socket=NOWHERE, ledger=tmp_path / "file")


def test_what_the_caller_does_to_its_metric_does_not_reach_the_ledger(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "ledger"
    with EnergyLogger(socket=NOWHERE, ledger=folder) as logger:
        metric = logger.log_metrics("x")
        metric["energy"]["energy_j_total"] = 0.0
        metric["additional_info"]["late"] = 1
    written = records(folder)[1]

    assert written["additional_info"] == {}
    energy = written["energy"]
    assert isinstance(energy, dict)
    assert energy["energy_j_total"] != 0.0


def test_what_cannot_be_written_stops_nothing_and_nothing_else(tmp_path: Path) -> None:
    class Odd(CarbonEstimator):
        """An estimator of somebody's own that says what no ledger takes."""

        def estimate_metric(
            self, metric: Mapping[str, Any], **options: Any
        ) -> CarbonRecord:
            record = super().estimate_metric(metric, **options)
            if metric["operation"] == "bad":
                return dataclasses.replace(record, energy_wh=float("nan"))
            if metric["operation"] == "worse":
                raise RuntimeError("broken")
            return record

    folder = tmp_path / "ledger"
    with EnergyLogger(socket=NOWHERE, ledger=folder, estimator=Odd()) as logger:
        for name in ("good", "bad", "worse", "good"):
            logger.log_metrics(name)
    kinds = [(r["type"], r.get("operation")) for r in records(folder)]

    assert [name for kind, name in kinds if kind == "energy_metric"] == [
        "good",
        "bad",
        "worse",
        "good",
    ]
    assert len([kind for kind, _ in kinds if kind == "carbon_estimate"]) == 2


FORKED = """
import os, signal, sys
from carbon_ops import EnergyLogger
with EnergyLogger(socket="/nonexistent/s", ledger=sys.argv[1]) as logger:
    logger.log_metrics("parent")
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        logger.log_metrics("child")
        logger.flush()
        os._exit(0)
    sys.exit(os.waitpid(pid, 0)[1])
"""


def test_a_forked_child_writes_its_own_records_only(tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    command = [sys.executable, "-c", FORKED, str(folder)]
    subprocess.run(command, check=True, timeout=100, capture_output=True)
    names = [r.get("operation") for r in records(folder) if "operation" in r]

    assert sorted(map(str, names)) == ["child", "parent"]
    assert verify_ledger(folder).verdict in ("OK", "OK_PENDING")


def test_information_of_any_kind_can_be_written(tmp_path: Path) -> None:
    class Rude:
        def __str__(self) -> str:
            raise RuntimeError("no")

    info = {"big": 2**60, "half": "\ud800", "rude": Rude(), "deep": [[[{"x": b"y"}]]]}
    cycle: list[object] = []
    cycle.append(cycle)

    assert plain(info, set())["big"] == str(2**60)
    assert plain(info, set())["half"] == "\\ud800"
    assert plain(info, set())["rude"] == "<Rude>"
    with EnergyLogger(socket=NOWHERE, ledger=tmp_path / "ledger") as logger:
        logger.log_metrics("x", **info, cycle=cycle)
    assert len(records(tmp_path / "ledger")) == 3


class Doubtful(Ledger):
    """A ledger whose disk keeps the first of many records and then will not say so."""

    def append_many(self, records: Iterable[Mapping[str, object]]) -> list[Receipt]:
        wanted = list(records)
        kept = super().append_many(wanted[:1])
        if len(wanted) == 1:
            return kept
        lost = Receipt(kept[-1].seq + 1, "0" * 64)
        raise LedgerWriteError("EIO", attempted=(*kept, lost), unsure=True)


def test_a_record_that_the_disk_kept_in_doubt_is_not_written_twice(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "ledger"
    Ledger.init(folder).close()
    with Doubtful.open(folder) as ledger:
        with EnergyLogger(socket=NOWHERE, ledger=ledger) as logger:
            written = logger.log_metrics("x")
            for _ in range(3):
                logger.flush()
    kinds = [record["type"] for record in records(folder)]

    assert kinds == ["genesis", "energy_metric", "carbon_estimate"], written
    assert verify_ledger(folder).verdict == "OK"
