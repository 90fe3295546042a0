"""Power cuts: a file system that stops in the middle, and what it holds when it is back.

ext4 on a loop device, cut off by its own shutdown ioctl without flushing its journal, so
that whatever was not made durable is gone. ``noauto_da_alloc`` takes away the kernel's
own help for programs that replace files without fsync. The negative controls leave the
fsync out and have to lose something; else this test could not see a loss.

Needs root, loop devices, mount namespaces and mkfs.ext4.
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
        return made.stderr.strip()

    def cut(self) -> None:
        """Stop the file system where it is."""
        descriptor = os.open(self.where, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, EXT4_IOC_SHUTDOWN, struct.pack("I", NOLOGFLUSH))
        finally:
            os.close(descriptor)

    def unmount(self) -> None:
        if self.mounted:
            subprocess.run(["umount", self.where], check=True)
            self.mounted = False


def losses(disk: Disk, sabotage: str, rounds: int) -> list[str]:
    """Cut the power ``rounds`` times under a writer; return what was lost by that."""
    path = disk.where / "l"
    Ledger.init(path, signer=KEY, segment_records=64).close()
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
        trouble = disk.mount()
        assert disk.mounted, trouble
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


def main(folder: str, sabotage: str) -> None:
    """Print what was lost in twelve cuts, or why there were none, as JSON."""
    image, where = Path(folder, "disk"), Path(folder, "mnt")
    where.mkdir()
    with image.open("wb") as file:
        file.truncate(32 * 1024 * 1024)
    subprocess.run(["mkfs.ext4", "-q", image], check=True, capture_output=True)
    disk = Disk(image, where)
    trouble = disk.mount()
    if not disk.mounted:
        print(json.dumps({"skip": f"no loop mounts here: {trouble}"}))
        return
    try:
        print(json.dumps({"found": losses(disk, sabotage, 12)}))
    finally:
        disk.unmount()


def lost(folder: Path, sabotage: str) -> list[str]:
    """Run :func:`main` in a mount namespace of its own.

    A namespace that somebody else makes would otherwise hold a copy of the mount, and a
    file system that lost its power lives on as long as any mount of it: to mount it again
    would give that one, not what the disk holds.
    """
    if os.geteuid() != 0:
        pytest.skip("loop mounts need root")
    for tool in ("mkfs.ext4", "unshare"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool}")
    alone = ["unshare", "--mount", "--propagation", "private"]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespaces here")
    run = subprocess.run(
        [*alone, sys.executable, __file__, folder, sabotage],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    if "skip" in told:
        pytest.skip(told["skip"])
    found: list[str] = told["found"]
    return found


def test_no_acknowledged_record_is_lost_when_the_power_goes(tmp_path: Path) -> None:
    assert lost(tmp_path, "") == []


@pytest.mark.parametrize("sabotage", ["no_fsync", "no_file_fsync"])
def test_without_fsync_the_same_cuts_do_lose_records(
    tmp_path: Path, sabotage: str
) -> None:
    assert lost(tmp_path, sabotage)


if __name__ == "__main__":
    main(*sys.argv[1:])
