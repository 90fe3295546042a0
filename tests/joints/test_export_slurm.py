"""The Slurm examples: one rank of a node measures, and the job's cgroup is remembered."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from carbon_ops import config
from carbon_ops.testing.governor import GovernorProcess

SLURM = Path(__file__).parents[2] / "packaging" / "slurm"
V2 = "0::/system.slice/node7_slurmstepd.scope/job_42/step_0/user/task_3\n"
BATCH = V2.replace("step_0", "step_batch")
V1 = "4:cpu,cpuacct:/slurm/uid_1000/job_42/step_0\n1:name=systemd:/x\n"


def shell(
    script: str, env: Mapping[str, str], path: str = os.environ["PATH"]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(SLURM / script)],
        env={"PATH": path, "HOME": "/home/u", "SLURM_JOB_ID": "42", **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def task(rank: int, cgroup: Path) -> list[str]:
    done = shell(
        "task_prolog.sh",
        {
            "SLURM_LOCALID": str(rank),
            "SLURMD_NODENAME": "node7",
            "CARBON_OPS_PROC_CGROUP": str(cgroup),
        },
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (V2, "/system.slice/node7_slurmstepd.scope/job_42/step_0"),
        (BATCH, "/system.slice/node7_slurmstepd.scope/job_42/step_batch"),
        (V1, "/slurm/uid_1000/job_42/step_0"),
    ],
    ids=["v2", "batch", "v1"],
)
def test_one_rank_of_a_step_is_elected_and_has_the_steps_cgroup(
    tmp_path: Path, text: str, path: str
) -> None:
    cgroup = tmp_path / "cgroup"
    cgroup.write_text(text)
    assert task(0, cgroup) == [
        "export CARBON_OPS_ELECTED=1",
        "export CARBON_OPS_LEDGER=/home/u/carbon-ops/42-node7",
        f"export CARBON_OPS_SCOPE=cgroup:{path}",
    ]
    for rank in (1, 7):
        assert task(rank, cgroup) == [
            "export CARBON_OPS_ELECTED=0",
            "unset CARBON_OPS_LEDGER",
        ]


def test_without_a_cgroup_of_the_job_the_scope_is_left_and_said(tmp_path: Path) -> None:
    cgroup = tmp_path / "cgroup"
    cgroup.write_text("0::/user.slice/job_420/x\n")
    lines = task(0, cgroup)
    assert not [line for line in lines if "SCOPE" in line]
    assert lines[-1].startswith("print ")


def test_the_environment_made_here_is_one_the_settings_take() -> None:
    made = {
        "CARBON_OPS_ELECTED": "1",
        "CARBON_OPS_SLURM_STATE": "/x",
        "CARBON_OPS_LEDGER": "/x/42-node7",
        "CARBON_OPS_SCOPE": "cgroup:/slurm/job_42",
    }
    found = config.load(made)
    assert found["scope"].origin == "CARBON_OPS_SCOPE"


def test_prolog_and_epilog_never_drain_a_node(tmp_path: Path) -> None:
    said = tmp_path / "said"
    for name, status in (("systemd-run", 0), ("systemctl", 1), ("logger", 0)):
        file = tmp_path / name
        file.write_text(f'#!/bin/sh\necho "{name} $*" >> {said}\nexit {status}\n')
        file.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    assert shell("prolog.sh", {}, path).returncode == 0
    assert shell("epilog.sh", {}, path).returncode == 0
    started, stopped, told = said.read_text().splitlines()
    assert "--unit=carbon-ops-job-42" in started
    assert "SupplementaryGroups=carbon-users" in started
    assert stopped == "systemctl stop carbon-ops-job-42.service"
    assert told.startswith("logger -t carbon-ops")


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not here")
def test_the_scripts_are_clean() -> None:
    scripts = [str(path) for path in SLURM.glob("*.sh")]
    done = subprocess.run(["shellcheck", *scripts], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode()


def test_a_jobs_cgroup_is_found_followed_and_remembered(tmp_path: Path) -> None:
    clock = runpy.run_path(str(SLURM / "job_energy.py"))["JobClock"](
        "42", str(tmp_path)
    )
    assert clock.read() == 0  # the prolog runs before there is one
    job = tmp_path / "system.slice" / "node7_slurmstepd.scope" / "job_42"
    write_cpu(job, 250)
    assert clock.read() == 250_000_000
    write_cpu(job, 900)
    assert clock.read() == 900_000_000
    shutil.rmtree(job)
    assert clock.read() == 900_000_000  # the epilog runs when there is none


def write_cpu(job: Path, ms: int) -> None:
    job.mkdir(parents=True, exist_ok=True)
    (job / "cpu.stat").write_text(f"usage_usec {1_000 * ms}\n")


def test_the_record_of_a_job_is_on_the_disk_when_the_epilog_ends(
    tmp_path: Path,
) -> None:
    root = tmp_path / "cgroup"
    root.mkdir()
    with GovernorProcess() as governor:
        governor.wait_ready().close()
        running = subprocess.Popen(
            [
                sys.executable,
                str(SLURM / "job_energy.py"),
                "42",
                str(tmp_path),
                str(root),
            ],
            env={**os.environ, "CARBON_OPS_SOCKET": governor.path},
            cwd=tmp_path,
        )
        try:
            deadline = time.monotonic() + 60
            while not (tmp_path / "ledger" / "active.jsonl").exists():
                assert time.monotonic() < deadline
                time.sleep(0.05)
            write_cpu(root / "job_42", 250)
            running.send_signal(signal.SIGTERM)
            assert running.wait(60) == 0
        finally:
            running.kill()
            running.wait()
    lines = (tmp_path / "ledger" / "active.jsonl").read_text().splitlines()
    (metric,) = [r for r in map(json.loads, lines) if r["type"] == "energy_metric"]
    assert metric["operation"] == "slurm_job"
    assert metric["additional_info"]["slurm_job_id"] == "42"
    assert metric["cpu"]["process_s"] in (0.25, 0.0)  # ended before the span began
    assert metric["energy"]["attribution_mode"] == "governor"
