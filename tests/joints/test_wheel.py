"""The wheel this project builds works in an empty environment, on each Python here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UV = str(Path(sys.executable).parent / "uv")
VERSIONS = ("3.10", "3.11", "3.12", "3.13")


def run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def interpreter(version: str) -> str | None:
    """Return an interpreter of ``version`` that runs, or None."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    for candidate in (
        f"python{version}",
        *map(str, pyenv.glob(f"versions/{version}.*/bin/python")),
    ):
        try:
            said = subprocess.run(
                [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
                capture_output=True,
                text=True,
            )
        except FileNotFoundError:
            continue
        if said.returncode == 0 and said.stdout.strip() == version:
            return candidate
    return None


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dist = tmp_path_factory.mktemp("dist")
    run(UV, "build", "--quiet", "--wheel", "--out-dir", dist, ROOT)
    (built,) = dist.glob("*.whl")
    return built


def quick_start() -> str:
    readme = (ROOT / "README.md").read_text()
    found = re.search(r"## Quick start\n+```python\n(.*?)^```$", readme, re.M | re.S)
    assert found
    return found[1]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_quick_start_runs_from_the_wheel(
    version: str, wheel: Path, tmp_path: Path
) -> None:
    python = interpreter(version)
    if python is None:
        pytest.skip(f"no Python {version} on this machine")
    venv = tmp_path / "venv"
    run(UV, "venv", "--quiet", "--python", python, venv)
    run(UV, "pip", "install", "--quiet", "--python", venv / "bin/python", wheel)
    said = run(venv / "bin/python", "-W", "error", "-c", quick_start(), cwd=tmp_path)
    assert "'carbon_gco2e'" in said
    assert run(venv / "bin/carbon-ops", "--version").startswith("carbon-ops, version")
    run(venv / "bin/carbon-governor", "--help")


def test_every_extra_resolves_together(wheel: Path, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    run(UV, "venv", "--quiet", "--python", sys.executable, venv)
    run(
        *(UV, "pip", "install", "--quiet", "--dry-run"),
        *("--python", venv / "bin/python", f"{wheel}[all,dev]"),
    )


def test_the_package_data_is_in_the_wheel(wheel: Path) -> None:
    listed = run(sys.executable, "-m", "zipfile", "-l", wheel)
    tables = [p.name for p in (ROOT / "src/carbon_ops/data").glob("*.csv")]
    assert tables
    for name in [*tables, "py.typed"]:
        assert f"/{name}" in listed
