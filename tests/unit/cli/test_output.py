"""Text for people fits their terminal; text for programs is left alone."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import termios
from collections.abc import Iterator

import pytest

from carbon_ops.cli import monitor
from carbon_ops.cli.output import fit

LONG = "  source    a model of CPU load [model_cpu_load]"


@pytest.fixture(name="terminal")
def _terminal() -> Iterator[int]:
    outer, inner = pty.openpty()
    yield inner
    os.close(inner)
    os.close(outer)


def resize(terminal: int, columns: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))


def test_lines_break_between_words_under_where_they_began(terminal: int) -> None:
    resize(terminal, 40)
    assert fit(f"{LONG}\nshort", terminal, 12).split("\n") == [
        "  source    a model of CPU load",
        "            [model_cpu_load]",
        "short",
    ]


def test_programs_and_terminals_without_a_size_get_whole_lines(terminal: int) -> None:
    resize(terminal, 0)
    assert fit(LONG, terminal, 12) == fit(LONG, terminal, 0) == LONG
    with open(os.devnull, "wb") as file:
        assert fit(LONG, file.fileno(), 12) == LONG
    assert fit(LONG, -1, 12) == LONG


def test_a_line_of_monitor_fits_a_terminal_of_eighty_columns() -> None:
    record = {
        "timestamp_end": "2026-01-05T10:00:00.000000Z",
        "energy": {
            "power_w": 1234.56,
            "energy_j": 123456.78,
            "source": "model_cpu_load",
            "reason": "no_socket",
        },
        "cpu": {"percent": 100.0},
        "memory": {"percent": 100.0},
        "gpu": [{"power_w": 1234.5}],
    }
    shown = monitor.line(record)
    assert len(shown) <= 80
    for title in ("watts", "joules", "cpu %", "mem %", "gpu W"):
        end = monitor.HEAD.index(title) + len(title)
        assert shown[end - 1].isdigit()
        assert shown[end] == " "
