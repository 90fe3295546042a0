"""A governor on the simulated source, in a directory of the user's own, for the demo."""

from __future__ import annotations

import ctypes
import os
import selectors
import signal
import socket
import subprocess  # nosec B404: argument lists, no shell
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from carbon_ops.errors import SourceUnavailableError

START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 5.0
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def _die_with_parent() -> None:
    """Have the kernel end this child when its parent is gone, however it went."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def simulated_governor(directory: Path) -> Iterator[Path]:
    """Run a governor while the block runs; yield its socket.

    Raises:
        SourceUnavailableError: it ended, or did not report READY in time.
    """
    path = directory / "governor.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(directory / "notify.sock"))
        process = subprocess.Popen(  # nosec B603: our own module
            [
                *(sys.executable, "-m", "carbon_ops.governor.daemon"),
                *("--rapl-mode=simulated", f"--socket={path}"),
                f"--socket-group={os.getgid()}",
            ],
            env={**os.environ, "NOTIFY_SOCKET": str(directory / "notify.sock")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - no thread runs yet
        )
        try:
            _await_ready(notify, process)
            yield path
        finally:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stderr:
                process.stderr.close()


def _await_ready(notify: socket.socket, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    with selectors.DefaultSelector() as selector:
        selector.register(notify, selectors.EVENT_READ)
        while time.monotonic() < deadline and process.poll() is None:
            if selector.select(0.05) and b"READY=1" in notify.recv(4096):
                return
    process.terminate()
    said = process.communicate()[1].decode(errors="replace").strip()
    raise SourceUnavailableError(
        f"the simulated governor did not start: {said or 'no message'}",
        hint="Run `carbon-governor --rapl-mode=simulated --socket=/tmp/try.sock` to see.",
    )
