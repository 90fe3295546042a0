"""Whatever becomes of its output, a command ends with the right status, no traceback."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

CLI = (sys.executable, "-m", "carbon_ops")


@pytest.mark.parametrize(
    "argv", [("intensity", "--list"), ("estimate", "--help"), ("doctor",)]
)
def test_a_full_disk_is_said_in_one_line(argv: tuple[str, ...]) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*CLI, *argv], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 2
    assert done.stderr == b"carbon-ops: No space left on device\n"


@pytest.mark.parametrize(
    "argv",
    [
        ("monitor", "-n", "1", "--interval"),
        ("top", "-n", "1", "--interval"),
        ("calibrate", "--seconds"),
        ("export", "prometheus", "--textfile", "/dev/null", "--interval"),
    ],
)
@pytest.mark.parametrize("text", ["nan", "inf", "-1", "0", ""])
def test_a_length_of_time_is_a_number_within_its_limits(
    argv: tuple[str, ...], text: str
) -> None:
    done = subprocess.run([*CLI, *argv, text], capture_output=True, check=False)
    assert done.returncode == 2
    assert b"Invalid value for" in done.stderr


@pytest.mark.parametrize(
    ("setting", "value", "colours"),
    [("TERM", "xterm", True), ("TERM", "dumb", False), ("NO_COLOR", "1", False)],
)
def test_colours_are_for_a_terminal_that_wants_them(
    setting: str, value: str, colours: bool
) -> None:
    env = {**os.environ, "TERM": "xterm", "NO_COLOR": "", setting: value}
    outer, inner = pty.openpty()
    with subprocess.Popen([*CLI, "doctor"], stdout=inner, env=env) as process:
        os.close(inner)
        shown = b""
        try:
            while more := os.read(outer, 65_536):
                shown += more
        except OSError:  # EIO: the other end is closed
            pass
    os.close(outer)
    assert process.returncode == 0
    assert b"modelled" in shown
    assert (b"\x1b[" in shown) is colours


def test_a_reader_that_goes_away_ends_a_command_as_any_other() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*CLI, "intensity", "--list"],
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_what_the_encoding_of_the_output_lacks_is_escaped() -> None:
    work = ("--energy-wh", "1", "--units", "1", "--per", "█", "--boundary", "one")
    made = ("--hardware", "server", "--reserved-s", "1", "--region", "DE")
    done = subprocess.run(
        [*CLI, "sci", *work, *made],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        check=True,
    )
    assert b"gCO2e per \\u2588" in done.stdout


def test_the_hint_about_the_region_fits_a_command_too(tmp_path: Path) -> None:
    span = ("--start", "0", "--end", "1", "--energy-wh", "1")
    done = subprocess.run(
        [*CLI, "estimate", *span], capture_output=True, text=True, check=True
    )
    assert "--region DE" in done.stderr
    grid = tmp_path / "grid.csv"
    grid.write_text(
        "# signal: average\n# factor_basis: lifecycle\n# accounting: production\n"
        "# gas: CO2e\n# zone: DE\nstart,end,g_per_kwh\n"
        "1970-01-01T00:00:00Z,1970-01-01T01:00:00Z,300\n"
    )
    file = ("--provider", f"file:{grid}", "--signal", "average")
    done = subprocess.run(
        [*CLI, "estimate", *span, *file], capture_output=True, text=True, check=True
    )
    assert (done.stderr, "DE 300" in done.stdout) == ("", True)
    settings = {**os.environ, "CARBON_OPS_REGION": "FR"}
    done = subprocess.run(
        [*CLI, "estimate", *span],
        capture_output=True,
        text=True,
        env=settings,
        check=True,
    )
    assert (done.stderr, "FR 515.8" in done.stdout) == ("", True)
