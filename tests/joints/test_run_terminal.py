"""``carbon-ops run``, ``top`` and ``monitor`` under a shell with job control on a real (pseudo) terminal.

Commands that are interrupted are never in the middle of a fork: dash loses a signal that
comes while it starts a child by vfork.
"""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

DEADLINE_S = 20.0


class Terminal:
    """A person at an interactive bash, reading what it prints."""

    def __init__(self, home: Path) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # xdist ignores it
            env = {
                "PATH": os.environ["PATH"],
                "HOME": str(home),
                "TERM": "dumb",
                "PS1": "",
                "CARBON_OPS_SOCKET": str(home / "nobody.sock"),
                "CARBON_OPS_REGION": "DE",
                "OPS": f"{sys.executable} -m carbon_ops",
                "RUN": f"{sys.executable} -m carbon_ops run -o {home}/summary",
            }
            os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], env)
        self.seen = ""
        self.type("bind 'set enable-bracketed-paste off'; PS1='%''% '; echo up''set")
        self.expect("upset")
        self.prompt()

    def type(self, line: str) -> None:
        self.press(line + "\n")

    def press(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    def expect(self, pattern: str) -> re.Match[str]:
        """Wait until ``pattern`` shows, and forget what was before its end."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            found = re.search(pattern, self.seen)
            if found:
                self.seen = self.seen[found.end() :]
                return found
            left = deadline - time.monotonic()
            assert left > 0, f"no {pattern!r} in {self.seen[-400:]!r}"
            if select.select([self.fd], [], [], left)[0]:
                self.seen += os.read(self.fd, 65536).decode(errors="replace")

    def prompt(self) -> None:
        """Wait until the shell reads: what is typed earlier may be dropped."""
        self.expect("%% ")

    def close(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)


@pytest.fixture(name="terminal")
def _terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path)
    yield terminal
    terminal.close()


def test_ctrl_c_ends_the_command_and_the_shell_sees_130(terminal: Terminal) -> None:
    terminal.type("$RUN -- sh -c 'echo rea''dy; exec sleep 60'")
    terminal.expect("ready")
    terminal.press("\x03")
    terminal.prompt()
    terminal.type("echo then=$?")
    terminal.expect("then=130")


def test_ctrl_c_ends_a_loop_in_a_script_as_it_does_without_us(
    terminal: Terminal, tmp_path: Path
) -> None:
    script = tmp_path / "loop.sh"
    script.write_text(
        "for i in 1 2 3; do $RUN -- sh -c 'echo begun; exec sleep 60'; done\n"
    )
    terminal.type(f"bash {script}")
    terminal.expect("begun")
    terminal.press("\x03")
    terminal.prompt()


def test_ctrl_c_reaches_the_command_once_and_a_handler_may_keep_it_alive(
    terminal: Terminal, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import os, signal, sys\n"
        "hits = []\n"
        "signal.signal(2, lambda *a: (hits.append(1), os.write(1, b'hit\\n')))\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "print('hits', len(hits), flush=True)\n"
        "sys.exit(5)\n"
    )
    terminal.type(f"$RUN -- {sys.executable} {program}")
    terminal.expect("ready")
    terminal.press("\x03")
    terminal.expect("hit\r\n")
    terminal.type("")
    terminal.expect("hits 1")
    terminal.prompt()
    terminal.type("echo then=$?")
    terminal.expect("then=5")


def test_ctrl_z_gives_the_shell_back_and_fg_goes_on(
    terminal: Terminal, tmp_path: Path
) -> None:
    terminal.type("$RUN -- sh -c 'echo at $$; while read x; do echo got:$x; done'")
    command = terminal.expect(r"at (\d+)\r\n").group(1)
    for word in ("one", "two"):
        terminal.press("\x1a")
        terminal.expect("Stopped")
        terminal.prompt()
        # Right after it was continued, run may stop a moment before its command does,
        # which takes what is typed until then.
        stat = Path("/proc", command, "stat")
        deadline = time.monotonic() + DEADLINE_S
        while stat.read_text().rpartition(") ")[2][0] != "T":
            assert time.monotonic() < deadline
        terminal.type("fg")
        terminal.type(word)
        terminal.expect(f"got:{word}")
    terminal.press("\x04")
    terminal.prompt()
    assert "exit status 0" in (tmp_path / "summary").read_text()


WORK = """
import time
def work(name):
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass
    print(name, time.process_time(), flush=True)
work("first")
input()
work("second")
"""


def test_what_was_stopped_and_went_on_is_measured_whole(
    terminal: Terminal, tmp_path: Path
) -> None:
    (tmp_path / "work.py").write_text(WORK)
    terminal.type(f"$RUN --json -- {sys.executable} -S {tmp_path}/work.py")
    terminal.expect("first")
    terminal.press("\x1a")
    terminal.expect("Stopped")
    terminal.prompt()
    terminal.type("sleep 0.5; fg")
    terminal.type("")
    used = float(terminal.expect(r"second ([\d.]+)\r\n").group(1))
    terminal.prompt()
    found = json.loads((tmp_path / "summary").read_text())
    metric = found["metric"]
    assert (found["exit_status"], metric["status"], found["notes"]) == (0, "ok", [])
    assert used <= metric["cpu"]["process_s"] < used + 0.2
    assert metric["duration_s"] > 0.4 + 0.5
    begin, end = (
        datetime.fromisoformat(metric[f"timestamp_{edge}"].replace("Z", "+00:00"))
        for edge in ("start", "end")
    )
    assert (end - begin).total_seconds() == pytest.approx(
        metric["duration_s"], abs=1e-5
    )
    flags = metric["energy"]["quality"]["flags"]
    assert not {"child_left", "children_auto_reaped", "ratio_clamped"} & set(flags)


def test_a_command_that_stops_itself_stops_the_job(terminal: Terminal) -> None:
    terminal.type("$RUN -- bash -c 'kill -STOP $$; echo aw''ake'")
    terminal.expect("Stopped")
    terminal.prompt()
    terminal.type("fg")
    terminal.expect("awake")


def test_a_pipeline_keeps_the_terminal_for_its_other_members(
    terminal: Terminal,
) -> None:
    terminal.type("$RUN -- sleep 0.2 | bash -c 'read x < /dev/tty; echo read''er=$x'")
    terminal.type("typed")
    terminal.expect("reader=typed")


def test_a_background_command_that_reads_is_stopped_like_any_other(
    terminal: Terminal,
) -> None:
    terminal.type("set -b; $RUN -- cat &")  # -b: tells at once when a job stops
    terminal.expect("Stopped")
    terminal.type("fg")
    terminal.expect(r"fg\r\n\$RUN -- cat\r\n")
    terminal.type("a line")
    terminal.expect("a line\r\na line\r\n")


def test_top_leaves_the_screen_while_it_is_stopped(terminal: Terminal) -> None:
    terminal.type("TERM=xterm $OPS top -i 0.2")
    for _ in range(2):
        terminal.expect(r"\x1b\[\?1049h")
        terminal.expect("W host = ")
        terminal.press("\x1a")
        terminal.expect(r"\x1b\[\?25h\x1b\[\?1049l")
        terminal.expect("Stopped")
        terminal.prompt()
        terminal.type("stty -a")
        terminal.expect(" icanon ")
        terminal.prompt()
        terminal.type("fg")
    terminal.expect("W host = ")
    terminal.press("q")
    terminal.prompt()


def test_top_draws_nothing_on_a_terminal_that_cannot_move(terminal: Terminal) -> None:
    terminal.type("$OPS top -i 0.2 -n 2; echo st''atus=$?")
    terminal.expect("W host = ")
    terminal.expect("W host = ")
    assert "\x1b[?1049h" not in terminal.seen
    terminal.expect("status=0")


def test_monitor_goes_on_after_it_was_stopped_beyond_its_interval(
    terminal: Terminal,
) -> None:
    line = r"\d\d:\d\d:\d\d +[\d.]+ "
    terminal.type("$OPS monitor -i 0.2")
    terminal.expect(line)
    terminal.press("\x1a")
    terminal.expect("Stopped")
    terminal.prompt()
    terminal.type("sleep 0.5; fg")  # longer than the interval
    for _ in range(3):
        terminal.expect(line)
    terminal.press("\x03")
    terminal.prompt()
    terminal.type("echo st''atus=$?")
    terminal.expect("status=0")
