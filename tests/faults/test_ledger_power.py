"""Power cuts: a file system that stops in the middle, and what it holds when it is back.

ext4 on a loop device, cut off by its own shutdown ioctl without flushing its journal, so
that whatever was not made durable is gone. ``noauto_da_alloc`` takes away the kernel's
own help for programs that replace files without fsync. The negative controls leave the
fsync out and have to lose something; else this test could not see a loss.

Needs root, loop devices and mkfs.ext4.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import select
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from carbon_ops.ledger.note import Signer
from carbon_ops.ledger.store import Ledger
from carbon_ops.ledger.verify import verify_ledger

HERE = Path(__file__).parent
KEY = Signer("host.example/test", bytes(range(32)))
EXT4_IOC_SHUTDOWN = 0x8004587D  # Linux, fs/ext4/ext4.h: _IOR('X', 125, __u32)
NOLOGFLUSH = 2  # EXT4_GOING_FLAGS_NOLOGFLUSH


class Disk:
    """A small ext4 file system that can lose power."""

    def __init__(self, image: Path, where: Path) -> None:
        self.image = image
        self.where = where
        self.mounted = False

    def mount(self) -> str:
        made = subprocess.run(
            ["mount", "-o", "loop,noauto_da_alloc", self.image, self.where],
            capture_output=True,
            text=True,
            check=False,
        )
        self.mounted = made.returncode == 0
        return made.stderr

    def cut(self) -> None:
        """Stop the file system where it is."""
        descriptor = os.open(self.where, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, EXT4_IOC_SHUTDOWN, struct.pack("I", NOLOGFLUSH))
        finally:
            os.close(descriptor)

    def unmount(self) -> None:
        """Unmount, and wait until nobody else has it mounted.

        A mount namespace that was made meanwhile, by another test for instance, holds a
        copy: mounting again would give the file system that lost its power.
        """
        if not self.mounted:
            return
        subprocess.run(["umount", self.where], check=True)
        self.mounted = False
        deadline = time.monotonic() + 60
        while subprocess.run(
            ["losetup", "-j", self.image], check=True, capture_output=True
        ).stdout:
            assert time.monotonic() < deadline, "still mounted in another namespace"
            time.sleep(0.02)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    if os.geteuid() != 0:
        pytest.skip("loop mounts need root")
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("no mkfs.ext4")
    image, where = tmp_path / "disk", tmp_path / "mnt"
    where.mkdir()
    with image.open("wb") as file:
        file.truncate(32 * 1024 * 1024)
    subprocess.run(["mkfs.ext4", "-q", image], check=True, capture_output=True)
    made = Disk(image, where)
    trouble = made.mount()
    if not made.mounted:
        pytest.skip(f"no loop mounts here: {trouble.strip()}")
    try:
        yield made
    finally:
        made.unmount()


def losses(disk: Disk, sabotage: str, rounds: int) -> list[str]:
    """Cut the power ``rounds`` times under a writer; return what was lost by that."""
    path = disk.where / "l"
    Ledger.init(path, signer=KEY, segment_records=64).close()
    os.sync()
    chance = random.Random(11)
    found: list[str] = []
    for round_ in range(rounds):
        writer = subprocess.Popen(
            [
                sys.executable,
                HERE / "ledger_storm_writer.py",
                path,
                str(round_),
                sabotage,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert writer.stdout is not None
        told, enough = b"", chance.randint(1, 80)
        deadline = time.monotonic() + 60
        while told.count(b"\n") < enough and time.monotonic() < deadline:
            if select.select([writer.stdout], [], [], 1)[0]:
                told += os.read(writer.stdout.fileno(), 512)
        disk.cut()
        writer.kill()
        told += writer.stdout.read()
        writer.stdout.close()
        writer.wait()
        disk.unmount()
        disk.mount()
        found += [f"cut {round_}: {loss}" for loss in compare(path, told)]
        if found:
            return found
        with Ledger.open(path, signer=KEY) as ledger:
            ledger.append({"type": "energy_metric"})
        assert verify_ledger(path, vkeys=[KEY.vkey]).verdict == "OK"
    return found


def compare(path: Path, told: bytes) -> list[str]:
    report = verify_ledger(path, vkeys=[KEY.vkey])
    if report.verdict not in ("OK", "OK_PENDING"):
        return [f"{report.verdict} {report.code} {report.detail}"]
    lines: dict[int, dict[str, object]] = {}
    for file in [*sorted(path.glob("seg-*")), path / "active.jsonl"]:
        for line in file.read_bytes().splitlines() if file.exists() else []:
            record = json.loads(line)
            lines[record["seq"]] = record
    return [
        f"acknowledged record {seq} is gone"
        for seq, name, counter in (line.split() for line in told.decode().splitlines())
        if (lines.get(int(seq), {}).get("by"), lines.get(int(seq), {}).get("n"))
        != (name, int(counter))
    ]


def test_no_acknowledged_record_is_lost_when_the_power_goes(disk: Disk) -> None:
    assert losses(disk, "", 12) == []


@pytest.mark.parametrize("sabotage", ["no_fsync", "no_file_fsync"])
def test_without_fsync_the_same_cuts_do_lose_records(disk: Disk, sabotage: str) -> None:
    assert losses(disk, sabotage, 12)
