"""Processes that start together with one ledger that does not exist yet."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from carbon_ops import verify_ledger

WRITER = """
import sys
from carbon_ops.ledger.store import Ledger

print("ready", flush=True)
sys.stdin.readline()
with Ledger.open_or_init(sys.argv[1]) as ledger:
    ledger.append({"type": "note"})
"""


def test_one_makes_it_and_all_write(tmp_path: Path) -> None:
    for attempt in range(5):
        path = tmp_path / f"ledger-{attempt}"
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(4)
        ]
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write("\n")
            writer.stdin.flush()
        for writer in writers:
            _, errors = writer.communicate(timeout=60)
            assert (writer.returncode, errors) == (0, "")
        report = verify_ledger(str(path))
        assert report.verdict == "OK"
        assert len((path / "active.jsonl").read_bytes().splitlines()) == 5
