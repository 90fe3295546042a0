"""``carbon-ops monitor`` on a disk that fills up: nothing measured is lost unsaid."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from carbon_ops.ledger.verify import verify_ledger

MONITOR = (sys.executable, "-m", "carbon_ops", "monitor", "--json", "-i", "0.2")
DEADLINE_S = 60.0


@pytest.fixture(name="alone")
def _alone(tmp_path: Path) -> dict[str, str]:
    """The environment of a host where no governor runs."""
    return {
        **os.environ,
        "CARBON_OPS_SOCKET": str(tmp_path / "nobody.sock"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
    }


def test_monitor_keeps_what_a_full_disk_refuses_until_there_is_room(
    alone: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "ledger"
    monitor = (*MONITOR, "--ledger", str(path))
    subprocess.run([*monitor, "-n", "1"], env=alone, capture_output=True, check=True)
    active = path / "active.jsonl"
    full = active.stat().st_size
    room = resource.getrlimit(resource.RLIMIT_FSIZE)
    process = subprocess.Popen(
        monitor,
        env=alone,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (full, room[1])),
    )
    assert process.stdout is not None
    looks = [process.stdout.readline() for _ in range(3)]
    assert active.stat().st_size == full
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, room)
    looks += [process.stdout.readline() for _ in range(2)]
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=DEADLINE_S)
    looks += out.splitlines()

    assert process.returncode == 0, err
    said = err.splitlines()
    assert "cannot be written now; records wait" in said[0]
    assert said[1] == "carbon-ops: the ledger is written again"
    assert verify_ledger(path).verdict == "OK"
    kept = [json.loads(line) for line in active.read_text().splitlines()]
    starts = [one["timestamp_start"] for one in kept if one["type"] == "host_sample"]
    assert starts[1:] == [json.loads(look)["timestamp_start"] for look in looks]


def test_monitor_writes_late_what_a_full_disk_refused_and_fails_if_it_never_can(
    alone: dict[str, str], tmp_path: Path
) -> None:
    alone.pop("PYTHONUNBUFFERED", None)
    soft = (2_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    lines = tmp_path / "lines"
    for gets_room in (True, False):
        with (
            lines.open("wb") as file,
            subprocess.Popen(
                MONITOR,
                env=alone,
                stdout=file,
                stderr=subprocess.PIPE,
                text=True,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, soft),
            ) as process,
        ):
            assert process.stderr is not None
            assert "output not written: File too large" in process.stderr.readline()
            if gets_room:
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (soft[1],) * 2)
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=DEADLINE_S)
        assert "Exception" not in err
        assert process.returncode == (0 if gets_room else 1), err
        if gets_room:
            shown = [json.loads(line) for line in lines.read_text().splitlines()]
            ends = [one["timestamp_end"] for one in shown]
            assert ends[:-1] == [one["timestamp_start"] for one in shown[1:]]
