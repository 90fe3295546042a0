"""NVIDIA through the real nvidia-ml-py, over a driver library built here from C."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SHIM = Path(__file__).parent / "nvml_shim" / "nvml_shim.c"
COMPILER = shutil.which("cc") or shutil.which("gcc")

# Runs in a process of its own, because the library is loaded once per process.
PROGRAM = """
import json, os, sys
from carbon_ops.errors import SourceUnavailableError
from carbon_ops.sources.gpu_nvidia import NvidiaGpus
try:
    gpus = NvidiaGpus()
except SourceUnavailableError as error:
    print(json.dumps({"error": str(error), "hint": error.hint})); raise SystemExit
out = {"devices": [d._asdict() for d in gpus.devices], "steps": []}
for step in sys.argv[1:]:
    with open(os.environ["NVML_SHIM"], "w") as f: f.write(step)
    out["steps"].append([
        {**gpus.read(d)._asdict(), "share": gpus.busy_share(d, frozenset({77}), 5)}
        for d in gpus.devices])
gpus.close()
print(json.dumps(out))
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if COMPILER is None:
        pytest.skip("no C compiler on this machine")
    folder = tmp_path_factory.mktemp("nvml")
    subprocess.run(
        [
            *(COMPILER, "-shared", "-fPIC", "-Wall", "-Werror"),
            *("-o", str(folder / "libnvidia-ml.so.1"), str(SHIM)),
        ],
        check=True,
    )
    return folder


def ask(library: Path | None, tmp_path: Path, *steps: str) -> dict[str, Any]:
    state = tmp_path / "devices"
    state.write_text(steps[0] if steps else "")
    environ = {**os.environ, "NVML_SHIM": str(state)}
    environ["LD_LIBRARY_PATH"] = str(library or tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *steps],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def device(name: str, energy: int = 1_000, mig: int = 0, error: int = 0) -> str:
    return f"device GPU-{name} A100 {energy} 250000 93 1024 {mig} {error}\n"


def test_counters_come_in_microjoules_and_watts(library: Path, tmp_path: Path) -> None:
    said = ask(
        library, tmp_path, device("a", 1_000) + device("b", -1), device("a", 3_500)
    )
    first, second = said["steps"]
    assert first[0]["energy_uj"] == 1_000_000
    assert second[0]["energy_uj"] == 3_500_000
    assert first[0]["power_w"] == 250.0
    assert first[0]["memory_used_bytes"] == 1024
    assert first[0]["utilization_percent"] == 93.0
    assert first[0]["source"] == "nvml_energy"
    # An older card has no energy counter: none, with the driver's own reason; not 0.
    assert first[1]["energy_uj"] is None
    assert first[1]["power_w"] == 250.0
    assert first[1]["reason"] == "no_energy_counter: Not Supported"


def test_a_shared_device_is_divided_by_busy_time_and_says_so(
    library: Path, tmp_path: Path
) -> None:
    alone = device("a") + "process 0 77 80\n"
    shared = device("a") + "process 0 77 30\nprocess 0 99 90\n"
    idle = device("a") + "process 0 77 0\nprocess 0 99 0\n"
    split = device("a", mig=1) + "process 0 77 30\n"
    steps = ask(library, tmp_path, alone, shared, idle)["steps"]
    shares = [step[0]["share"] for step in steps]
    assert shares[0] == [1.0, None]
    assert shares[1] == [0.25, "shared_time_occupancy"]
    assert shares[2][0] is None
    (mig,) = ask(library, tmp_path, split)["steps"]
    assert mig[0]["share"] == [None, "mig_not_attributable"]


def test_a_driver_that_dies_in_mid_run_is_a_reason(
    library: Path, tmp_path: Path
) -> None:
    said = ask(library, tmp_path, device("a"), device("a", error=15))
    _, lost = said["steps"]
    assert lost[0]["energy_uj"] is None
    assert "GPU is lost" in lost[0]["reason"]
    assert lost[0]["share"][0] is None


def test_no_driver_and_no_device_are_typed_errors(
    library: Path, tmp_path: Path
) -> None:
    assert "Driver Not Loaded" in str(ask(library, tmp_path)["error"])
    assert "does not answer" in str(ask(None, tmp_path)["error"])
