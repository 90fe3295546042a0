"""A real process in a real cgroup with a CPU limit, its energy modelled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from carbon_ops.cli.measurement import as_text
from carbon_ops.model import Metric

ROOT = Path("/sys/fs/cgroup")
LIMIT = 0.25  # CPUs; fewer than any machine has
IDLE_W, LOAD_W = 10.0, 50.0

# Joins the cgroups, then measures itself; a child of its own burns beside it, uncounted.
TASK = """
import json, os, sys
for folder in sys.argv[2:]:
    with open(folder + "/cgroup.procs", "w") as file:
        file.write("0")
import time
from carbon_ops import EnergyLogger

def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        sum(range(500))

with EnergyLogger(
    socket="/nonexistent/s", cpu_watts=(10, 50), scope=sys.argv[1]
) as logger:
    with logger.span("both") as span:
        child = os.fork()
        burn(0.1)
        if not child:
            os._exit(0)
        os.waitpid(child, 0)
print(json.dumps(span.metric))
"""


def put(path: Path, text: str) -> None:
    path.write_text(text, encoding="ascii")


@pytest.fixture
def limited() -> Iterator[list[Path]]:
    """Make a cgroup with a limit, as one folder or, in version 1, one per controller."""
    name = f"carbon-ops-test-{os.getpid()}"
    made: list[Path] = []
    try:
        if (ROOT / "cgroup.controllers").exists():
            made = [ROOT / name]
            made[0].mkdir()
            put(made[0] / "cpu.max", f"{LIMIT * 100_000:.0f} 100000")
        else:
            for controller in ("cpu", "cpuacct"):
                folder = (ROOT / controller).resolve() / name
                if folder not in made:
                    folder.mkdir()
                    made.append(folder)
            put(made[0] / "cpu.cfs_quota_us", f"{LIMIT * 100_000:.0f}")
        yield made
    except OSError as error:
        pytest.skip(f"no cgroup with a CPU limit can be made here: {error}")
    finally:
        for folder in made:
            if folder.exists():
                folder.rmdir()


@pytest.mark.parametrize(
    ("scope", "least", "most"),
    # About half of what the cgroup used is the child's.
    [("process", 0.3, 0.7), ("cgroup", 0.95, 1.0)],
    ids=["process", "cgroup"],
)
def test_a_limited_task_is_billed_from_its_part_and_by_its_cgroups_time(
    limited: list[Path], tmp_path: Path, scope: str, least: float, most: float
) -> None:
    env = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", TASK, scope, *map(str, limited)],
        cwd=tmp_path,
        env={**env, "CARBON_OPS_POWERCAP_ROOT": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if done.returncode and "cgroup.procs" in done.stderr:
        pytest.skip(f"this process may not join it: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    metric: Metric = json.loads(done.stdout)
    energy, cpus = metric["energy"], metric["cpu"]["count"]
    assert {"cpu_limited", "modelled"} <= set(energy["quality"]["flags"])
    assert energy["model"] is not None
    assert energy["model"]["cpu_limit"] == LIMIT
    ratio, total_j = energy["allocation_ratio"], energy["host"]["total_j"]
    task_j, rest_j = energy["energy_j_total"], energy["host"]["rest_j"]
    assert ratio is not None
    assert total_j is not None
    assert task_j is not None
    assert rest_j is not None
    assert least <= ratio <= most
    used_s = metric["cpu"]["process_s"] / ratio
    part_j = IDLE_W * LIMIT / cpus * metric["duration_s"]
    part_j += (LOAD_W - IDLE_W) / cpus * used_s
    assert task_j == pytest.approx(ratio * part_j, rel=1e-3)
    assert task_j + rest_j == pytest.approx(total_j, abs=1e-6)
    text = as_text(metric, None, 0, "none")
    assert f"{100 * ratio:.1f} % of its cgroup's CPU time" in text
    assert f"0.25 of {cpus} CPUs allowed: given by the user" in text
    # A quarter of a CPU for 0.2 s of work.
    assert metric["duration_s"] > 0.5
