"""``carbon-ops run`` and the ledger: recorded, verified, and nothing lost."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from carbon_ops.ledger.keys import save
from carbon_ops.ledger.note import Signer
from carbon_ops.ledger.verify import verify_ledger

RUN = (sys.executable, "-m", "carbon_ops", "run", "--region", "DE")


@pytest.fixture(name="env")
def _env(tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ,
        "CARBON_OPS_SOCKET": str(tmp_path / "nobody.sock"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
    }


def run(
    env: dict[str, str], *argv: str, **kwargs: Any
) -> subprocess.CompletedProcess[bytes]:
    """Run ``carbon-ops run`` with ``argv``."""
    return subprocess.run(
        [*RUN, *argv], env=env, capture_output=True, timeout=60, check=False, **kwargs
    )


def summary(stderr: bytes) -> dict[str, Any]:
    """Return the object on the last line of standard error."""
    found = json.loads(stderr.splitlines()[-1])
    assert isinstance(found, dict)
    return found


def test_each_run_appends_its_metric_and_estimate_to_a_ledger_made_on_the_way(
    env: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "ledger"
    found = [
        summary(run(env, "--ledger", str(path), "--json", "--", "true").stderr)
        for _ in range(2)
    ]
    assert [one["ledger"]["seq"] for one in found] == [1, 3]
    report = verify_ledger(path)
    assert (report.verdict, report.size) == ("OK", 5)
    lines = [json.loads(x) for x in (path / "active.jsonl").read_text().splitlines()]
    assert [line["type"] for line in lines[3:]] == ["energy_metric", "carbon_estimate"]
    assert lines[3]["span_id"] == lines[4]["span_id"] == found[1]["metric"]["span_id"]
    assert "unsigned" in found[1]["notes"][-1]


def test_a_key_in_the_environment_signs_a_new_ledger(
    env: dict[str, str], tmp_path: Path
) -> None:
    signer = Signer.generate("example.org/runs")
    key = tmp_path / "a.key"
    save(signer, key)
    path = tmp_path / "ledger"
    env["CARBON_OPS_LEDGER_KEY"] = str(key)
    done = run(env, "--ledger", str(path), "--", "true")
    assert b"record 1, signed" in done.stderr
    report = verify_ledger(path, vkeys=[signer.vkey])
    assert (report.verdict, report.size) == ("OK", 3)


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_records_that_the_disk_refuses_are_printed_and_the_status_is_the_commands(
    env: dict[str, str], tmp_path: Path, as_json: list[str]
) -> None:
    path = tmp_path / "ledger"
    assert run(env, "--ledger", str(path), "--", "true").returncode == 0
    size = (path / "active.jsonl").stat().st_size

    def no_larger_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    done = run(
        env,
        *("--ledger", str(path), *as_json, "--", "sh", "-c", "exit 3"),
        preexec_fn=no_larger_files,
    )
    assert done.returncode == 3
    records = [json.loads(x) for x in done.stderr.splitlines() if x.startswith(b"{")]
    assert [x["type"] for x in records[:2]] == ["energy_metric", "carbon_estimate"]
    assert b"Traceback" not in done.stderr
    assert verify_ledger(path).verdict == "OK"


def test_a_damaged_ledger_is_refused_before_the_command_starts(
    env: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "ledger"
    for _ in range(2):
        run(env, "--ledger", str(path), "--", "true")
    active = path / "active.jsonl"
    lines = active.read_bytes().splitlines(keepends=True)
    active.write_bytes(b"".join([lines[0], *lines[2:]]))
    done = run(env, "--ledger", str(path), "--", "touch", str(tmp_path / "ran"))
    assert done.returncode == 125
    assert not (tmp_path / "ran").exists()
    assert b"Traceback" not in done.stderr


def test_the_arguments_of_a_command_are_not_recorded(
    env: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "ledger"
    done = run(env, "--ledger", str(path), "--json", "--", "true", "--password=s3cret")
    assert b"s3cret" not in done.stderr
    assert b"s3cret" not in (path / "active.jsonl").read_bytes()


def test_a_torn_end_is_set_aside_and_said(env: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    run(env, "--ledger", str(path), "--", "true")
    with (path / "active.jsonl").open("ab") as active:
        active.write(b'{"type":"energy_met')
    done = run(env, "--ledger", str(path), "--", "true")
    assert done.returncode == 0
    assert b"quarantine-3-" in done.stderr
    assert verify_ledger(path).verdict == "OK"
