"""The whole way of the data with nothing replaced but the hardware.

A kernel-shaped powercap tree whose true energy is known, the real daemon at
``--powercap-root``, its real socket, a client in another process, the logger, the
estimate, a signed ledger and its verification.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from carbon_ops.ledger.note import Signer
from carbon_ops.ledger.verify import verify_ledger
from carbon_ops.testing.powercap import FakePowercap, server

ORIGIN = "carbon-ops.example/main-path"
UNITS_NJ = {"package": 61_035, "dram": 15_300}

# What the client does, in a process of its own.
CLIENT = """
import json, sys, time
from carbon_ops import EnergyLogger, Ledger
from carbon_ops.ledger.note import Signer

signer = Signer.parse(sys.argv[2])
with Ledger.init(sys.argv[3], origin=signer.name, signer=signer) as ledger:
    with EnergyLogger(socket=sys.argv[1], ledger=ledger, region="DE") as logger:
        with logger.span("work", settle=True) as span:
            end = time.monotonic() + 1.2
            while time.monotonic() < end:
                sum(i * i for i in range(1000))
print(json.dumps({"metric": span.metric, "estimate": span.estimate.to_dict()}))
"""
TOTALS = """
import json, sys
from carbon_ops.governor.client import GovernorClient
client = GovernorClient(sys.argv[1])
sample = client.latest()
zones = [[z.kind, z.counted, t.total_uj, t.wraps]
         for z, t in zip(client.layout.zones, sample.totals)]
print(json.dumps([sample.monotonic_ns, zones]))
"""


class Hardware(threading.Thread):
    """Moves the registers every few milliseconds and remembers what is true."""

    def __init__(self, tree: FakePowercap) -> None:
        super().__init__()
        self.tree = tree
        self.stop = threading.Event()
        self.counted = 0  # ticks per package
        self.true_j: list[tuple[float, float]] = [(time.time(), 0.0)]

    def run(self) -> None:
        last = time.monotonic()
        while not self.stop.wait(0.004):
            now = time.monotonic()
            ticks = int((now - last) * 90 / 61.035e-6)  # 90 W each
            last = now
            for package in ("intel-rapl:0", "intel-rapl:1"):
                self.tree.advance(package, ticks)
                self.tree.advance(f"{package}:0", ticks // 2)  # core: a part of it
                self.tree.advance(f"{package}:1", ticks)  # dram, at 15.3 µJ
            self.tree.advance("intel-rapl:2", 3 * ticks)  # psys holds all of it
            self.tree.advance("intel-rapl-mmio:0", ticks)  # package 0 once more
            self.counted += ticks
            joules = self.counted * 2 * sum(UNITS_NJ.values()) / 1e9
            self.true_j.append((time.time(), joules))

    def at(self, when: float) -> float:
        """Return the true energy [J] at a time, between the two moves around it."""
        after = next(n for n, (t, _) in enumerate(self.true_j) if t >= when)
        (t0, e0), (t1, e1) = self.true_j[after - 1], self.true_j[after]
        return e0 + (e1 - e0) * (when - t0) / (t1 - t0)


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        yield Path(made)


def ask(code: str, *arguments: str | Path) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_from_counter_to_audit_with_nothing_replaced(folder: Path) -> None:
    tree = server(str(folder / "sys"))
    socket = folder / "governor.sock"
    hardware = Hardware(tree)
    signer = Signer.generate(ORIGIN)
    daemon = subprocess.Popen(
        [
            *(sys.executable, "-m", "carbon_ops.governor.daemon"),
            *(f"--powercap-root={tree.root}", f"--socket={socket}"),
            f"--socket-group={os.getgid()}",
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert daemon.stderr is not None
        first = daemon.stderr.readline()
        assert "serving 4 of 8 zones from rapl_sysfs" in first
        hardware.start()
        said = ask(CLIENT, socket, signer.text(), folder / "ledger")
        hardware.stop.set()
        hardware.join()
        final = _settled(socket)
    finally:
        hardware.stop.set()
        daemon.terminate()
        assert daemon.wait(10) == 0
        if daemon.stderr:
            daemon.stderr.close()

    # Totals: every tick, across the wrap each register went through; nothing twice.
    counted = [zone for zone in final if zone[1]]
    assert len(counted) == 4
    for kind, _, total, wraps in counted:
        assert total == hardware.counted * UNITS_NJ[kind] // 1_000
        assert wraps == 1
    assert {kind for kind, _, _, _ in counted} == {"package", "dram"}

    metric, estimate = said["metric"], said["estimate"]
    energy, host = metric["energy"], metric["energy"]["host"]
    assert energy["attribution_mode"] == "governor"
    assert energy["reason"] is None
    assert energy["governor"]["mode"] == "rapl_sysfs"
    assert energy["governor"]["uid"] == os.getuid()

    # The host's energy in the span: inside its bounds, and near the truth.
    start, end = (
        datetime.fromisoformat(metric[key].replace("Z", "+00:00")).timestamp()
        for key in ("timestamp_start", "timestamp_end")
    )
    truth = hardware.at(end) - hardware.at(start)
    low, high = host["counter_bounds_j"]
    assert low <= truth <= high
    assert host["total_j"] == pytest.approx(truth, rel=0.05)

    # Conserved, to the microjoule.
    assert round(host["total_j"] * 1e6) == round(host["this_task_j"] * 1e6) + round(
        host["rest_j"] * 1e6
    )
    assert energy["energy_j_total"] == pytest.approx(host["this_task_j"])
    assert 0 < energy["allocation_ratio"] <= 1

    # Grams follow from the joules that were measured.
    assert estimate["energy_wh"] == pytest.approx(energy["energy_wh_total"])
    assert estimate["marginal"]["ci_low"] < estimate["carbon_gco2e"]
    assert estimate["average"]["g"] > 0

    report = verify_ledger(folder / "ledger", vkeys=[signer.vkey], origin=ORIGIN)
    assert (report.verdict, report.size) == ("OK", 3)
    lines = (folder / "ledger" / "active.jsonl").read_text().splitlines()
    kept = [json.loads(line) for line in lines]
    assert [r["type"] for r in kept] == ["genesis", "energy_metric", "carbon_estimate"]
    assert kept[1]["span_id"] == kept[2]["span_id"] == metric["span_id"]


def _settled(socket: Path) -> list[tuple[str, bool, int, int]]:
    """Return the totals of a sample that was taken after the last move."""
    moved = time.monotonic_ns()
    end = time.monotonic() + 20
    while time.monotonic() < end:
        taken, zones = ask(TOTALS, socket)
        if taken > moved:
            return [tuple(zone) for zone in zones]
    raise AssertionError("no sample after the last move")
