"""An unmodified program sees the virtual counters, and nothing stays behind."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks import __main__ as command
from benchmarks import own
from benchmarks.virtual_host import host as virtual

ROOT = Path(__file__).resolve().parents[2]
WHY = virtual.missing()
needs_a_host = pytest.mark.skipif(WHY is not None, reason=f"no virtual host: {WHY}")
PAGE = Path(command.PAGE).read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
LOOK = """
import glob, os
base = "/sys/class/powercap"
for path in sorted(glob.glob(base + "/*:*")):
    assert os.path.islink(path), path
    assert os.path.samefile(path + "/subsystem", base), path
    with open(path + "/name") as file:
        print(os.path.basename(path), file.read().strip())
"""
READ = """
import os
fd = os.open("/sys/class/powercap/intel-rapl:0/energy_uj", os.O_RDONLY)
for _ in range(2):
    print(os.pread(fd, 64, 0).decode().strip())
"""


def inside(host: virtual.VirtualHost, code: str) -> str:
    ran = subprocess.run(
        host.inside([sys.executable, "-c", code]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@needs_a_host
def test_the_tree_has_the_kernels_layout() -> None:
    with virtual.VirtualHost(virtual.two_sockets(script=True)) as host:
        assert inside(host, LOOK).splitlines() == [
            "intel-rapl-mmio:0 package-0",
            "intel-rapl:0 package-0",
            "intel-rapl:0:0 core",
            "intel-rapl:0:1 dram",
            "intel-rapl:1 package-1",
            "intel-rapl:1:0 core",
            "intel-rapl:1:1 dram",
            "intel-rapl:2 psys",
        ]


@needs_a_host
def test_a_reading_lies_between_the_truth_before_and_after() -> None:
    zones = virtual.two_sockets(script=True)
    package = zones[0]
    with virtual.VirtualHost(zones) as host:
        before = host.truth()["zones_j"]["intel-rapl:0"]
        first, second = map(int, inside(host, READ).split())
        after = host.truth()["zones_j"]["intel-rapl:0"]
    assert package.energy_uj(before) <= first <= second <= package.energy_uj(after)


@needs_a_host
def test_the_host_outside_does_not_see_it_and_nothing_stays() -> None:
    before = os.path.exists("/sys/class/powercap/intel-rapl-mmio:0")
    with virtual.VirtualHost(virtual.two_sockets(script=True)) as host:
        assert os.path.exists("/sys/class/powercap/intel-rapl-mmio:0") is before
        assert os.listdir(host.folder) == []
    assert not os.path.exists(host.folder)
    with open("/proc/self/mounts", encoding="utf-8") as file:
        assert host.folder not in file.read()


@needs_a_host
def test_the_page_can_be_repeated_by_hand(tmp_path: Path) -> None:
    (program,) = [block for block in BLOCKS if "VirtualHost" in block]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ran = subprocess.run(
        ["sh", "-euc", program],
        cwd=tmp_path,
        env={"PATH": path, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert float(ran.stdout.rpartition(":")[2]) > 300  # 2 s at about 200 W


def test_the_commands_of_the_page_exist() -> None:
    lines = [
        shlex.split(line, comments=True)
        for block in BLOCKS
        for line in block.splitlines()
        if line.startswith("scripts/bench")
    ]
    assert len(lines) >= 4
    for _, *words in lines:
        command.arguments().parse_args(words)


def test_every_benchmark_is_under_the_one_command() -> None:
    files = {path.name for path in (ROOT / "benchmarks").glob("*.py")}
    runnable = files - {"__init__.py", "__main__.py", "own.py"}
    tracked = subprocess.run(
        ["git", "ls-files", "benchmarks"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    if tracked:  # a checkout: what somebody is still writing does not count
        runnable &= {Path(name).name for name in tracked.splitlines()}
    assert {script.script for script in own.SCRIPTS} == runnable


def test_the_one_command_runs_a_script_of_its_own(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks", "own", "--scripts", "counter_reading"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "whole sample" in ran.stdout
