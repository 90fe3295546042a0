"""The commands of the documentation and the audit scripts, run as they stand there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from carbon_ops.testing.ledgers import Forger, record, signer

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/how-to/verify-a-ledger.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
KEY = signer()

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("perl", "openssl", "jq"))),
    reason="perl, openssl and jq are needed for the public-tools checks",
)


def sh(text: str, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run shell text where `carbon-ops` is this very checkout."""
    tools = home / "tools"
    tools.mkdir(exist_ok=True)
    tool = tools / "carbon-ops"
    tool.write_text(f'#!/bin/sh\nexec {sys.executable} -m carbon_ops "$@"\n')
    tool.chmod(0o755)
    (home / "kept").mkdir(exist_ok=True)
    return subprocess.run(
        ["sh", "-eu", "-c", text, "sh", *arguments],
        env={
            "PATH": f"{tools}:{os.environ['PATH']}",
            "HOME": str(home),
            "LEDGER": str(home / "my ledger"),
            "KEPT": str(home / "kept"),
            "VKEY": KEY.vkey,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def script(name: str, home: Path, *more: str) -> subprocess.CompletedProcess[str]:
    text = f'{ROOT}/scripts/{name} "$LEDGER" "$VKEY" "$@"'
    return sh(text, home, *more)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_each_command_of_the_page_works(block: str, tmp_path: Path) -> None:
    Forger(200, key=KEY).write(tmp_path / "my ledger")
    done = sh(block, tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"OK|Verified Successfully|HOLDS|kept", done.stdout + done.stderr)


@pytest.mark.parametrize("block", BLOCKS[:6], ids=range(6))
def test_each_check_of_the_page_can_fail(block: str, tmp_path: Path) -> None:
    """A digit in record 193, the root, and the anchor's own way of finding out."""
    ledger = Forger(200, key=KEY)
    ledger.lines[193] = ledger.lines[193].replace(b'"gaps":0', b'"gaps":1')
    path = ledger.write(tmp_path / "my ledger")
    note = (path / "checkpoint").read_bytes()
    (path / "checkpoint").write_bytes(note.replace(b"\n200\n", b"\n199\n"))
    assert sh(block, tmp_path).returncode != 0


def test_the_page_holds_all_promised_checks() -> None:
    page = "".join(BLOCKS)
    for tool in ("perl", "jq", "sha256sum", "openssl", "ledger verify", "check-proof"):
        assert tool in page


def test_audit_verify_agrees_with_the_verifier(tmp_path: Path) -> None:
    ledger = Forger(200, key=KEY)
    kept = tmp_path / "kept.checkpoint"
    kept.write_bytes(ledger.checkpoint(130))
    path = ledger.write(tmp_path / "my ledger")
    done = script("audit-verify", tmp_path, str(kept))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "200 records, 200 under the signed checkpoint, 1 kept" in done.stdout

    def damaged(name: str, old: bytes, new: bytes) -> str:
        file = path / name
        whole = file.read_bytes()
        assert old in whole
        file.chmod(0o644)
        file.write_bytes(whole.replace(old, new, 1))
        done = script("audit-verify", tmp_path, str(kept))
        file.write_bytes(whole)
        assert done.returncode == 1, done.stdout + done.stderr
        return done.stdout

    assert "record 71 breaks" in damaged(f"seg-{64:020d}.jsonl", b"282.7", b"282.8")
    assert "not those of" in damaged("active.jsonl", b'"grams":411.7', b'"grams":411.8')
    assert "not signed" in damaged("checkpoint", b"\n200\n", b"\n199\n")
    assert "cut off" in damaged("active.jsonl", ledger.lines[199] + b"\n", b"")
    (path / "checkpoint").unlink()
    assert script("audit-verify", tmp_path).returncode == 1


def test_audit_anchor_finds_rollback_and_fork(tmp_path: Path) -> None:
    kept = str(tmp_path / "kept")
    path = Forger(150, key=KEY).write(tmp_path / "my ledger")
    for size in (150, 200):
        shutil.rmtree(path)
        Forger(size, key=KEY).write(path)
        done = script("audit-anchor", tmp_path, kept)
        assert done.returncode == 0, done.stdout + done.stderr
    assert len(os.listdir(kept)) == 2
    assert "nothing new" in script("audit-anchor", tmp_path, kept).stdout

    shutil.rmtree(path)
    Forger(150, key=KEY).write(path)
    done = script("audit-anchor", tmp_path, kept)
    assert (done.returncode, "rolled back" in done.stdout) == (1, True)
    shutil.rmtree(path)
    Forger(300, key=KEY, make=lambda seq: record(seq) | {"grams": 1.5}).write(path)
    done = script("audit-anchor", tmp_path, kept)
    assert (done.returncode, "are not those" in done.stdout) == (1, True)
    assert len(os.listdir(kept)) == 2


def test_audit_extract_writes_proofs_that_hold(tmp_path: Path) -> None:
    Forger(200, key=KEY).write(tmp_path / "my ledger")
    out = tmp_path / "out"
    done = script("audit-extract", tmp_path, str(out), "3", "199")
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(out)) == [
        "199.json", "199.tlog-proof", "3.json", "3.tlog-proof",
    ]  # fmt: skip
    assert script("audit-extract", tmp_path, str(out), "200").returncode == 2


@pytest.mark.parametrize("name", ["audit-verify", "audit-anchor", "audit-extract"])
def test_wrong_usage_prints_how(name: str, tmp_path: Path) -> None:
    done = sh(f"{ROOT}/scripts/{name}", tmp_path)
    assert (done.returncode, name in done.stderr) == (2, True)
