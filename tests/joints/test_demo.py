"""The demo does the whole job, refuses every attack and leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[2] / "README.md"


@pytest.fixture
def runtime() -> Iterator[Path]:
    """A short path: a socket's name holds at most 107 bytes."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


def without_numbers(text: str) -> list[str]:
    """Return the words of each line that has any, with N for every number."""
    lines = re.sub(r"\d+(\.\d+)?", "N", text).splitlines()
    return [" ".join(line.split()) for line in lines if line.strip()]


def start(runtime: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "carbon_ops", "demo", *arguments],
        env={**os.environ, "XDG_RUNTIME_DIR": str(runtime), "COLUMNS": "80"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def governors(runtime: Path) -> list[int]:
    """Return the processes that have this test's folder on their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if str(runtime).encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except (OSError, ValueError):
            continue
    return found


def wait_until(condition: object, seconds: float = 20.0) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "still not so"
        time.sleep(0.02)


def test_the_demo_measures_records_verifies_and_refuses(runtime: Path) -> None:
    said, _ = start(runtime, "--json").communicate(timeout=100)
    result = json.loads(said)
    assert result["simulated"] is True
    spans = result["spans"]
    for span in spans:
        energy = span["metric"]["energy"]
        assert energy["attribution_mode"] == "governor"
        assert energy["components"]["cpu"]["source"] == "simulated"
        low, high = energy["bounds_j"]
        assert 0 < low <= energy["energy_j_total"] <= high
        estimate = span["estimate"]
        for signal_ in ("marginal", "average"):
            one = estimate[signal_]
            assert 0 < one["ci_low"] < one["g"] < one["ci_high"]
        assert estimate["method"] == "analytical_truncated"
    # The children's CPU time is the task's, which itself but waits; on a busy machine
    # they get less than the second that each of them runs.
    assert spans[-1]["metric"]["cpu"]["process_s"] > 0.2
    assert result["ledger"]["verdict"] == "OK"
    assert [a["code"] for a in result["attacks"]] == [
        "E_PREV_HASH",
        "E_TRUNCATED",
        "E_ROOT",
    ]
    # Each says which record; of a tree's root only the records below it are known.
    assert [a["seq"] for a in result["attacks"]] == [2, 8, None]
    assert "records 0 to 8" in result["attacks"][2]["detail"]
    assert governors(runtime) == []
    assert list(runtime.iterdir()) == []


def test_what_is_shown_to_people_says_that_it_is_simulated(runtime: Path) -> None:
    process = start(runtime)
    said, _ = process.communicate(timeout=100)
    assert process.returncode == 0
    assert "SIMULATED" in said
    assert said.count("TAMPERED") == 3
    shown = re.search(r"^```text\n(.*?)^```$", README.read_text(), re.M | re.S)
    assert shown
    assert without_numbers(said) == without_numbers(shown[1])


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_demo_ends_what_it_started(
    runtime: Path, how: signal.Signals
) -> None:
    process = start(runtime)
    wait_until(lambda: len(governors(runtime)) > 0)
    process.send_signal(how)
    process.communicate(timeout=30)
    assert process.returncode in {128 + how, -how}
    wait_until(lambda: governors(runtime) == [])
    if how is not signal.SIGKILL:
        assert list(runtime.iterdir()) == []
