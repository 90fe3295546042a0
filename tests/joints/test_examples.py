"""Each example runs as it stands, where there is neither RAPL nor a governor."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree as ET

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
# What each has to say, so that nobody takes its figures for something else.
SAYS = {
    "quickstart": ["source: ", "95 %"],
    "training_loop": ["records, OK"],
    "async_service": ["GET /work: 20 requests", "source: "],
    "multiprocess": ["scope 'process' does not see"],
    "shared_host": ["SIMULATED", "microjoule: True"],
    "audit_workflow": ["TAMPERED E_PREV_HASH", "TAMPERED E_ROLLBACK"],
    "marginal_vs_average": ["no_marginal_factor"],
    "prometheus_scraper": ["SIMULATED", "agrees: True", "wraps in between: "],
    "aliasing_demo": ["SIMULATED", "observed / predicted"],
}
NEEDS = {"prometheus_scraper": "prometheus_client", "audit_workflow": "cryptography"}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {
        "HOME": str(tmp_path),
        "PATH": os.environ["PATH"],
        "CARBON_OPS_SOCKET": str(tmp_path / "no-governor.sock"),
    }


def run(
    name: str, tmp_path: Path, environment: dict[str, str], *args: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), *args],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_every_example_is_here() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(SAYS)


@pytest.mark.parametrize("name", [n for n in SAYS if n != "aliasing_demo"])
def test_an_example_runs_as_it_stands(
    name: str, tmp_path: Path, environment: dict[str, str]
) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    done = run(name, tmp_path, environment)
    assert done.returncode == 0, done.stdout + done.stderr
    for text in SAYS[name]:
        assert text in done.stdout


def real_counters() -> bool:
    return bool(list(Path("/sys/class/powercap").glob("intel-rapl:*")))


@pytest.mark.skipif(real_counters(), reason="would take two minutes of real counters")
def test_the_aliasing_demo_draws_what_it_says(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    done = run(
        "aliasing_demo", tmp_path, environment, "--duration=120", "--plot=out.svg"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for text in SAYS["aliasing_demo"]:
        assert text in done.stdout
    assert "No wrap happened" in done.stdout  # of memory, in two seconds
    lines = ET.parse(tmp_path / "out.svg").getroot().findall(".//{*}polyline")
    assert len(lines) == 6


@pytest.mark.skipif(real_counters(), reason="would take two minutes of real counters")
def test_the_aliasing_demo_draws_a_png_or_says_what_that_needs(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    done = run("aliasing_demo", tmp_path, environment, "--duration=30", "--plot=o.png")
    if shutil.which("rsvg-convert") or shutil.which("magick"):
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "o.png").read_bytes().startswith(b"\x89PNG")
    else:
        assert done.returncode == 2
        assert "rsvg-convert" in done.stderr


def test_the_aliasing_demo_refuses_what_it_cannot_do(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    for wrong in ("--duration=1", "--plot=out.jpg"):
        done = run("aliasing_demo", tmp_path, environment, wrong)
        assert done.returncode == 2
        assert wrong[2:6] in done.stderr


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        return importlib.import_module("aliasing.simulated")


@pytest.mark.parametrize("watts", [65.0, 200.0, 400.0, 1_000.0])
@pytest.mark.parametrize("unit", ["61.0 µJ", "15.3 µJ"], ids=["61uJ", "15uJ"])
def test_each_loss_is_as_predicted(demo: ModuleType, unit: str, watts: float) -> None:
    """The virtual clock makes this exact, up to a tick and a millisecond's update."""
    one = demo.one_wrap(unit, watts, 120.0)
    update_j = watts * 0.001 + 0.001
    assert one.governor == pytest.approx(one.truth, abs=update_j)
    assert one.aware == pytest.approx(one.truth, abs=update_j)
    for reader, error in one.errors.items():
        assert error.observed == pytest.approx(error.predicted, abs=update_j), reader
    for pair in demo.any_start(unit, watts, 120.0):
        assert pair.observed == pytest.approx(pair.predicted, rel=0.05)


def test_edges_and_peaks_are_as_predicted(demo: ModuleType) -> None:
    *pairs, worst = demo.edges(200.0, 120.0)
    for pair in pairs:
        assert pair.observed == pytest.approx(pair.predicted, rel=0.02)
    assert worst < 0.1
    assert demo.peak() == pytest.approx((350.0, 350.0, 70.0), rel=0.02)
