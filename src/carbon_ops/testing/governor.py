"""A real governor in a process of its own, for tests and experiments.

Awkward parts kept: it is another process with another pid, can be stopped, killed and
started again on the same path, and its socket is a file in a real directory.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import statistics
import subprocess  # nosec B404: argument lists, no shell
import sys
import tempfile
import time

from carbon_ops.errors import GovernorUnavailableError
from carbon_ops.governor.client import GovernorClient

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

START_TIMEOUT_S = 30.0


class GovernorProcess:
    """Start with ``args`` (simulated counters if none); a context manager.

    The socket is in a short directory of its own, because a Unix path has at most 107
    bytes. What it prints is in :meth:`said`.
    """

    def __init__(self, *args: str, env: Mapping[str, str] | None = None) -> None:
        self.args = args or ("--rapl-mode=simulated",)
        self.directory = tempfile.mkdtemp(prefix="cog", dir="/tmp")  # nosec B108
        self.path = os.path.join(self.directory, "s")
        self._log = os.path.join(self.directory, "log")
        ours = {k: v for k, v in os.environ.items() if k != "NOTIFY_SOCKET"}
        self._env = {**ours, **(env or {})}
        self.running = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        """Start another one on the same path, without waiting."""
        with open(self._log, "ab") as log:
            self.running = subprocess.Popen(  # nosec B603: our own module
                [
                    *(sys.executable, "-m", "carbon_ops.governor.daemon"),
                    *(f"--socket={self.path}", f"--socket-group={os.getegid()}"),
                    *self.args,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env,
            )
        return self.running

    def wait_ready(self) -> GovernorClient:
        """Return a connected client once the governor serves."""
        client = GovernorClient(self.path)
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                client.latest()
                return client
            except GovernorUnavailableError:
                if time.monotonic() > deadline or self.running.poll() is not None:
                    raise
                time.sleep(0.01)

    def answer_s(self) -> float:
        """Return how long somebody new waits for a first answer [s].

        The median of nine: one wait may be the scheduler's, on a busy machine.

        Raises:
            OSError: refused, hung up, or silent for 20 s.
        """
        waits = []
        for _ in range(9):
            start = time.monotonic()
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                client.connect(self.path)  # waits where the queue is full
                client.settimeout(20)
                client.sendall(b'{"v":1,"op":"hello"}\n')
                if b'"ok":true' not in client.recv(65_536):
                    raise ConnectionError(f"the governor at {self.path} did not greet")
            waits.append(time.monotonic() - start)
        return statistics.median(waits)

    def said(self) -> str:
        """Return what it printed so far."""
        with open(self._log, encoding="utf-8") as log:
            return log.read()

    def kill(self) -> None:
        """End it without a chance to clean up."""
        self.running.send_signal(signal.SIGCONT)
        self.running.kill()
        self.running.wait()

    def stop(self) -> int:
        """Ask it to end; return its exit status."""
        self.running.send_signal(signal.SIGCONT)
        self.running.terminate()
        return self.running.wait(START_TIMEOUT_S)

    def __enter__(self) -> GovernorProcess:
        return self

    def __exit__(self, *error: object) -> None:
        if self.running.poll() is None:
            self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
