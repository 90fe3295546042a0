"""The page about frameworks: each of its blocks runs, as it stands."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest

PAGE = Path(__file__).parents[2] / "docs/how-to/frameworks.md"
SECTIONS = dict(
    re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.M | re.S)
)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
PYTHON = {
    title: code
    for title, text in SECTIONS.items()
    for language, code in BLOCK.findall(text)
    if language == "python"
}
CELLS = [c for _, c in BLOCK.findall(SECTIONS["Jupyter"])]


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_each_framework_has_a_block() -> None:
    modules = (PAGE.parents[2] / "src/carbon_ops/integrations").glob("[a-z]*.py")
    inner = {"figures", "shares", "training", "jupyter", "pytest_plugin"}
    named = set(
        re.findall(r"carbon_ops\.integrations\.(\w+)", "".join(PYTHON.values()))
    )
    assert {path.stem for path in modules} - inner == named - inner
    assert set(SECTIONS) - set(PYTHON) == {"Jupyter"}


@pytest.mark.parametrize("title", [t for t in PYTHON if t != "pytest"])
def test_a_block_runs(title: str, tmp_path: Path) -> None:
    code = PYTHON[title]
    if "import torch" in code and importlib.util.find_spec("torch") is None:
        pytest.skip("no CPU build of PyTorch in this environment")
    done = subprocess.run(
        [sys.executable, "-W", "error:::carbon_ops", "-c", code],
        env={
            **os.environ,
            "WANDB_CONSOLE": "off",
            "MLFLOW_TRACKING_URI": (tmp_path / "runs").as_uri(),
            "MLFLOW_ALLOW_FILE_STORE": "true",
        },
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"\d", done.stdout)
    if title == "transformers":
        assert "co2_eq_emissions" in (tmp_path / "README.md").read_text()


def test_the_test_with_a_budget_runs(tmp_path: Path) -> None:
    code = PYTHON["pytest"]
    words = ["-m", "pytest", "-p", "no:cacheprovider", "--energy", "test_speed.py"]
    for file, passes in ((code, True), (code.replace("1000", "0.001"), False)):
        (tmp_path / "test_speed.py").write_text(file)
        done = subprocess.run(
            [sys.executable, *words], capture_output=True, text=True, timeout=110
        )
        assert (done.returncode == 0) is passes, done.stdout
        assert "energy of tests" in done.stdout
        assert ("energy budget of 0.001 J exceeded" in done.stdout) is not passes


def test_the_cells_run_and_show_their_energy(tmp_path: Path) -> None:
    book = nbformat.v4.new_notebook()
    book.cells = [nbformat.v4.new_code_cell(cell) for cell in CELLS]
    client = nbclient.NotebookClient(book, timeout=100, kernel_name="python3")
    client.execute(cwd=str(tmp_path))
    texts = [str(cell.outputs) for cell in book.cells]
    assert "warm-up" in texts[1]
    assert "warm-up" in texts[2]
    assert " J" in texts[2]
