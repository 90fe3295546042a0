"""Make a virtual environment for each meter, outside the checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

from benchmarks.side_by_side.peers import PEERS
from benchmarks.virtual_host.host import ROOT

CACHE = os.path.join(
    os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"),
    "carbon-ops-bench",
)
UNCOUNTED = {"pip", "setuptools", "wheel"}
INVENTORY = """
import importlib.metadata as m, json, sysconfig
found = {d.metadata["Name"]: d.version for d in m.distributions()}
print(json.dumps([found, sysconfig.get_paths()["purelib"]]))
"""


def python_of(name: str) -> str:
    return os.path.join(CACHE, name, "bin", "python")


def install(name: str) -> str | None:
    """Make the environment of ``name`` unless it is there; return why it failed.

    This checkout is installed anew each time, as a wheel, like the others.
    """
    folder = os.path.join(CACHE, name)
    ours = PEERS[name].requirements == (".",)
    uv = shutil.which(
        "uv", path=f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    )
    done = os.path.join(folder, "installed")
    if os.path.exists(done) and not ours:
        return None
    wanted = [ROOT] if ours else list(PEERS[name].requirements)
    if uv:
        make = [uv, "venv", "-q", "--clear", "--python", sys.executable, folder]
        # Compiled as pip does: else every run would pay for it.
        fill = [uv, "pip", "install", "-q", "--compile-bytecode"]
        fill += ["--python", python_of(name)]
        fill += ["--reinstall-package", "carbon-ops"] if ours else []
    else:
        make = [sys.executable, "-m", "venv", "--clear", folder]
        fill = [python_of(name), "-m", "pip", "install", "-q"]
    for command in (make, [*fill, *wanted]):
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            return (ran.stderr.strip().splitlines() or ["failed"])[-1][:200]
    with open(done, "x", encoding="utf-8"):
        pass
    return None


def inventory(name: str) -> dict[str, object]:
    """Return version, number of distributions and megabytes, without pip and its like
    unless the meter asked for them."""
    ran = subprocess.run(
        [python_of(name), "-c", INVENTORY], capture_output=True, check=True
    )
    found, site = json.loads(ran.stdout)
    asked = {r.split("<")[0] for r in PEERS[name].requirements}
    skipped = UNCOUNTED - asked
    size = 0
    for folder, folders, files in os.walk(site):
        if folder == site:
            folders[:] = [f for f in folders if f.split("-")[0] not in skipped]
        folders[:] = [f for f in folders if f != "__pycache__"]
        size += sum(os.lstat(os.path.join(folder, f)).st_size for f in files)
    lower = {n.lower(): v for n, v in found.items()}
    return {
        "version": lower[name.lower()],
        "packages": len([n for n in found if n not in skipped]),
        "megabytes": round(size / 1e6, 1),
    }
