"""Start a virtual host and run commands in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from benchmarks.virtual_host.power import Power, Zone

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DRAM_NJ = 15_300  # the fixed unit of server memory in the kernel's driver


def missing() -> str | None:
    """Return why this machine can't have a virtual host; None if it can."""
    if not sys.platform.startswith("linux"):
        return "needs Linux"
    if os.geteuid() != 0:
        return "needs root, to mount"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "needs /dev/fuse"
    for tool in ("unshare", "nsenter"):
        if shutil.which(tool) is None:
            return f"needs the command {tool} (util-linux)"
    tried = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False)
    return None if tried.returncode == 0 else "may not make a mount namespace"


def two_sockets(
    *, script: bool, wraps: bool = False, per_cpu_w: float = 100.0
) -> tuple[Zone, ...]:
    """Return a server's zones: two packages with core and memory, psys over all, and
    mmio that repeats package 0.

    Args:
        script: Power follows a script; else the machine's CPU load, half in each
            package, nothing when idle.
        wraps: Every counted register wraps once, 8 to 10 s after the start: late, so that
            a meter that starts slowly sees all of it too.
        per_cpu_w: Watts for each busy CPU [W].
    """
    zones = []
    both: list[tuple[float, float]] = []
    for socket, (high, low, memory) in enumerate(
        ((150.0, 60.0, 18.0), (95.0, 50.0, 14.0))
    ):
        if script:
            package = Power(((0.43, high), (0.57, low)))
            core = Power(((0.43, high * 0.7), (0.57, low * 0.7)))
            dram = Power(((1.0, memory),))
            both.append((high, low))
        else:
            package, core, dram = (
                Power((), per_cpu_w / 2),
                Power((), per_cpu_w / 3),
                Power(),
            )
        mean = 0.43 * high + 0.57 * low
        top = f"intel-rapl:{socket}"
        zones += [
            Zone(top, f"package-{socket}", package, counted=True,
                 wraps_after_j=mean * (8.0 + 0.6 * socket) if wraps else None),
            Zone(f"{top}:0", "core", core),
            Zone(f"{top}:1", "dram", dram, DRAM_NJ, counted=True,
                 wraps_after_j=memory * (9.2 + 0.6 * socket) if wraps else None),
        ]  # fmt: skip
    if script:
        whole = Power(
            (
                (0.43, 1.25 * sum(high for high, _ in both) + 40),
                (0.57, 1.25 * sum(low for _, low in both) + 40),
            )
        )
    else:
        whole = Power((), per_cpu_w * 1.25)
    zones.append(Zone("intel-rapl:2", "psys", whole))
    zones.append(zones[0]._replace(ident="intel-rapl-mmio:0", counted=False))
    return tuple(zones)


class VirtualHost:
    """A context manager; ``t0_ns`` is CLOCK_MONOTONIC when the scripts began."""

    def __init__(self, zones: Sequence[Zone], sockets: int = 2) -> None:
        self.zones = tuple(zones)
        self._sockets = sockets

    def __enter__(self) -> VirtualHost:
        self.folder = tempfile.mkdtemp(prefix="vh", dir="/tmp")
        self._server = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.virtual_host.serve", self.folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        zones = [zone._asdict() for zone in self.zones]
        ready = self._ask({"zones": zones, "sockets": self._sockets})
        self.pid, self.t0_ns = ready["pid"], ready["t0_ns"]
        return self

    def _ask(self, question: object) -> dict[str, Any]:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(question) + "\n")
        self._server.stdin.flush()
        line = self._server.stdout.readline()
        if not line:
            raise RuntimeError("the virtual host ended before it answered")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def truth(self) -> dict[str, Any]:
        """Return the true energies now, and how many files were read so far."""
        return self._ask(None)

    def inside(self, command: Sequence[str]) -> list[str]:
        """Return the command line that runs ``command`` in this host. Its working
        directory is the root folder."""
        return ["nsenter", f"--mount=/proc/{self.pid}/ns/mnt", "--", *command]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait(10)
        self._server.stdout.close()
        os.rmdir(self.folder)
