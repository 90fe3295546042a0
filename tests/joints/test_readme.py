"""The README is run: each Python block as a program, each command as typed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = BLOCK.findall((ROOT / "README.md").read_text())
PYTHON = [code for language, code in BLOCKS if language == "python"]
COMMANDS = [
    line
    for language, code in BLOCKS
    if language == "bash"
    for line in code.splitlines()
]

# Commands that another check runs, or that would change the machine.
ELSEWHERE = {
    "git clone https://github.com/scrrlt/carbon-ops && cd carbon-ops": "by hand",
    "./scripts/demo   # measures, estimates, records, verifies, then attacks the record": (
        "test_demo.py"
    ),
    "./scripts/test   # runs every check": "this is it",
    "python3 -m venv ~/.carbon-ops": "test_wheel.py",
    "~/.carbon-ops/bin/pip install '.[all]'": "test_wheel.py",
    "~/.carbon-ops/bin/carbon-ops doctor": "below, from this environment",
    "sudo groupadd --system carbon-users": "changes the machine",
    "sudo ~/.carbon-ops/bin/python -m carbon_ops.governor.daemon": (
        "the governor's joint tests"
    ),
}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    home = tmp_path / "home"
    home.mkdir()
    return {
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "CARBON_OPS_SOCKET": str(tmp_path / "no-governor.sock"),
    }


def test_there_is_something_to_run() -> None:
    assert len(PYTHON) >= 2
    assert len(COMMANDS) > len(ELSEWHERE)


@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_each_python_block_runs(
    code: str, tmp_path: Path, environment: dict[str, str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_the_commands_run_in_their_order(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    for line in COMMANDS:
        if line in ELSEWHERE:
            continue
        done = subprocess.run(
            shlex.split(line),
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, (line, done.stdout, done.stderr)


def test_no_listed_command_has_left_the_readme() -> None:
    assert set(ELSEWHERE) <= set(COMMANDS)
