"""Power cuts: a file system that stops in the middle, and what it holds when it is back.

ext4 or XFS on a loop device, cut off by its own shutdown ioctl without flushing its
journal, so that whatever was not made durable is gone. ``noauto_da_alloc`` takes away the
kernel's own help for programs that replace files without fsync. The negative controls
leave the fsync out and have to lose something; else this test could not see a loss.

Needs root, loop devices, mount namespaces, and mkfs.ext4 or mkfs.xfs.
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
SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN, XFS_IOC_GOINGDOWN: _IOR('X', 125, __u32)
NOLOGFLUSH = 2  # EXT4_GOING_FLAGS_NOLOGFLUSH, XFS_FSOP_GOING_FLAGS_NOLOGFLUSH
OPTIONS = {"ext4": "loop,noauto_da_alloc", "xfs": "loop"}
SIZE_BYTES = {"ext4": 32 << 20, "xfs": 300 << 20}  # the least that mkfs.xfs takes


class Disk:
    """A small file system that can lose power."""

    def __init__(self, kind: str, image: Path, where: Path) -> None:
        self.kind = kind
        self.image = image
        self.where = where
        self.mounted = False

    def mount(self) -> str:
        made = subprocess.run(
            ["mount", "-o", OPTIONS[self.kind], self.image, self.where],
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
            fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", NOLOGFLUSH))
        finally:
            os.close(descriptor)

    def unmount(self) -> None:
        if self.mounted:
            subprocess.run(["umount", self.where], check=True)
            self.mounted = False


def losses(disk: Disk, sabotage: str, count: int, rounds: int) -> list[str]:
    """Cut the power ``rounds`` times under ``count`` writers; return what was lost."""
    path = disk.where / "l"
    Ledger.init(path, signer=KEY, segment_records=64).close()
    chance = random.Random(11)
    found: list[str] = []
    for round_ in range(rounds):
        program = [sys.executable, str(HERE / "ledger_storm_writer.py"), str(path)]
        writers = [
            subprocess.Popen(
                [*program, f"{round_}.{i}", sabotage],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            for i in range(count)
        ]
        pipes = {writer.stdout: b"" for writer in writers if writer.stdout}
        enough = chance.randint(1, 80)
        deadline = time.monotonic() + 60
        while sum(told.count(b"\n") for told in pipes.values()) < enough * count:
            assert time.monotonic() < deadline
            for pipe in select.select([*pipes], [], [], 1)[0]:
                pipes[pipe] += os.read(pipe.fileno(), 512)
        disk.cut()
        for writer in writers:
            writer.kill()
        for pipe in pipes:
            pipes[pipe] += pipe.read()
            pipe.close()
        for writer in writers:
            writer.wait()
        told = b"".join(pipes.values())
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


def main(folder: str, kind: str, sabotage: str, count: str) -> None:
    """Print what was lost in twelve cuts, or why there were none, as JSON."""
    image, where = Path(folder, "disk"), Path(folder, "mnt")
    where.mkdir()
    with image.open("wb") as file:
        file.truncate(SIZE_BYTES[kind])
    subprocess.run([f"mkfs.{kind}", "-q", image], check=True, capture_output=True)
    disk = Disk(kind, image, where)
    trouble = disk.mount()
    if not disk.mounted:
        print(json.dumps({"skip": f"no loop mounts here: {trouble}"}))
        return
    try:
        print(json.dumps({"found": losses(disk, sabotage, int(count), 12)}))
    finally:
        disk.unmount()


def lost(folder: Path, kind: str, sabotage: str, count: int) -> list[str]:
    """Run :func:`main` in a mount namespace of its own.

    A namespace that somebody else makes would otherwise hold a copy of the mount, and a
    file system that lost its power lives on as long as any mount of it: to mount it again
    would give that one, not what the disk holds.
    """
    if os.geteuid() != 0:
        pytest.skip("loop mounts need root")
    for tool in (f"mkfs.{kind}", "unshare"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool}")
    alone = ["unshare", "--mount", "--propagation", "private"]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespaces here")
    run = subprocess.run(
        [*alone, sys.executable, __file__, folder, kind, sabotage, str(count)],
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


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_no_acknowledged_record_is_lost_when_the_power_goes(
    tmp_path: Path, kind: str, count: int
) -> None:
    """Several writers write for each other; the one that is told did not write."""
    assert lost(tmp_path, kind, "", count) == []


@pytest.mark.parametrize("sabotage", ["no_fsync", "no_file_fsync"])
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_without_fsync_the_same_cuts_do_lose_records(
    tmp_path: Path, kind: str, sabotage: str
) -> None:
    assert lost(tmp_path, kind, sabotage, 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
