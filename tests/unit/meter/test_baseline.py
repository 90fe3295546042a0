"""The stored power of the idle host: what is in the file, and what the user says."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from carbon_ops import EnergyLogger
from carbon_ops.meter.baseline import Idle, path, save, stored
from carbon_ops.meter.local import LocalCounters
from carbon_ops.sources.simulated import Load, SimulatedSource

HERE = os.uname()
IDLE = Idle(
    *(HERE.nodename, HERE.release, "simulated", "2026-01-01T00:00:00Z"),
    *(30.0, 12.0, 2.0, 0.1, 1.0),
)


@pytest.mark.parametrize(
    "text",
    [
        *("", "null", "[]", '{"calibrations": 5}', '{"calibrations": [1]}'),
        *('{"calibrations": [{"host": "x"}]}', "\xff\xfe", "[" * 60_000),
        json.dumps({"calibrations": [IDLE._replace(cpu_w=float("nan"))._asdict()]}),
        json.dumps({"calibrations": [IDLE._replace(dram_w=-1.0)._asdict()]}),
        json.dumps({"calibrations": [IDLE._asdict() | {"date": 5}]}),
        json.dumps({"calibrations": [IDLE._asdict() | {"cpu_u_w": "0.1"}]}),
    ],
    ids=lambda text: text[:20],
)
def test_a_file_that_makes_no_sense_holds_no_calibration(
    text: str, tmp_path: Path
) -> None:
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    file = Path(path(environ))
    file.parent.mkdir(parents=True)
    file.write_bytes(text.encode("latin-1"))

    assert stored(environ) == []
    save(IDLE, environ)
    assert stored(environ) == [IDLE]


def test_one_bad_entry_hides_no_other(tmp_path: Path) -> None:
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    save(IDLE, environ)
    file = Path(path(environ))
    kept = json.loads(file.read_text())
    file.write_text(json.dumps({**kept, "calibrations": [5, *kept["calibrations"]]}))

    assert stored(environ) == [IDLE]


def test_what_the_user_says_of_the_memory_goes_before_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    save(IDLE)
    profile = dict.fromkeys(("package-0", "package-0/dram"), Load(1_000.0, 0.0))

    def idle_w() -> float:
        source = LocalCounters(SimulatedSource(profile))
        with EnergyLogger(source=source, policy="excluded") as logger:
            end = time.process_time() + 0.02
            while time.process_time() < end:
                pass
            metric = logger.log_metrics("x")
        idle = metric["energy"]["host"]["idle_j"]
        assert idle is not None
        return idle / metric["duration_s"]

    assert idle_w() == pytest.approx(12.0 + 2.0, rel=1e-3)
    monkeypatch.setenv("CARBON_OPS_IDLE_DRAM_W", "0.5")
    assert idle_w() == pytest.approx(12.0 + 0.5, rel=1e-3)
    monkeypatch.setenv("CARBON_OPS_IDLE_W", "7")
    assert idle_w() == pytest.approx(7.0 + 0.5, rel=1e-3)
