"""As in the containers: a governor that is root with no capability, an exporter that is
nobody, and between them a directory that only one of the two may write."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from carbon_ops.testing.powercap import server

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become others"),
    pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv is not here"),
]
GROUP, USER = 65420, 65421
BARE = ("--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all")
DEADLINE_S = 60.0


@pytest.fixture(name="folder")
def _folder() -> Iterator[Path]:
    # Not tmp_path, which no other user may enter.
    folder = Path(tempfile.mkdtemp(prefix="coc", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def python_for_others() -> bool:
    words = ["setpriv", f"--reuid={USER}", f"--regid={GROUP}", *BARE]
    code = "import carbon_ops.cli.export"
    done = subprocess.run(
        [*words, sys.executable, "-c", code], capture_output=True, check=False, cwd="/"
    )
    return done.returncode == 0


def test_root_without_capabilities_serves_and_nobody_exports(folder: Path) -> None:
    tree = server(str(folder / "host" / "sys"))
    counters = sorted((folder / "host").rglob("energy_uj"))
    for counter in counters:
        counter.chmod(0o400)
    assert len(counters) > 4
    socket = folder / "run" / "carbon-ops.sock"
    socket.parent.mkdir(mode=0o755)
    governor = subprocess.Popen(
        [
            *("setpriv", f"--regid={GROUP}", *BARE),
            *(sys.executable, "-m", "carbon_ops.governor.daemon"),
            *(f"--powercap-root={tree.root}", f"--socket={socket}"),
            f"--socket-group={GROUP}",
        ],
        cwd="/",
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + DEADLINE_S
        while not socket.exists() or socket.stat().st_gid != GROUP:
            assert time.monotonic() < deadline
            assert governor.poll() is None
            time.sleep(0.05)
        assert socket.stat().st_mode & 0o777 == 0o660
        if not python_for_others():
            pytest.skip("this Python is in a folder that other users may not enter")
        for group, found in ((GROUP, True), (USER, False)):
            assert ("hw_energy_joules_total{" in scraped(str(socket), group)) == found
    finally:
        governor.kill()
        governor.wait()


def scraped(socket: str, group: int) -> str:
    exporter = subprocess.Popen(
        [
            *("setpriv", f"--reuid={USER}", f"--regid={group}", *BARE),
            *(sys.executable, "-m", "carbon_ops", "export", "prometheus"),
            *("--listen=127.0.0.1:0", f"--socket={socket}"),
        ],
        cwd="/",
        stdout=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"]},
    )
    try:
        assert exporter.stdout is not None
        url = exporter.stdout.readline().strip()
        with urllib.request.urlopen(url, timeout=DEADLINE_S) as reply:
            return str(reply.read().decode())
    finally:
        exporter.kill()
        exporter.communicate()
