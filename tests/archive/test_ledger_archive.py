"""Ledgers of every format ever released still verify. Their files never change."""

from __future__ import annotations

import shutil
from hashlib import sha256
from pathlib import Path

from carbon_ops.ledger.note import VerifierKey
from carbon_ops.ledger.proofs import check_proof
from carbon_ops.ledger.prove import prove
from carbon_ops.ledger.verify import verify_ledger

HERE = Path(__file__).parent
VKEY = "carbon-ops.example/host1+6051eb4d+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
DIGEST = "d03db11d7693ad44435213d133b38ed41d98bfade58878eb34548c44424e8c73"


def copied(tmp_path: Path) -> Path:
    """A copy, whatever modes the checkout gave the files."""
    shutil.copytree(HERE / "ledger-1", tmp_path / "ledger-1")
    return tmp_path / "ledger-1"


def test_the_archive_was_not_touched() -> None:
    files = sorted((HERE / "ledger-1").iterdir())
    whole = b"".join(file.name.encode() + b"\0" + file.read_bytes() for file in files)
    assert sha256(whole).hexdigest() == DIGEST


def test_format_1_verifies(tmp_path: Path) -> None:
    report = verify_ledger(copied(tmp_path), vkeys=[VKEY])
    assert (report.verdict, report.size, report.covered) == ("OK", 70, 70)
    assert report.origin == "carbon-ops.example/host1"
    assert report.signer != report.origin + "+6051eb4d"  # the key was changed since


def test_format_1_gives_proofs(tmp_path: Path) -> None:
    report = verify_ledger(copied(tmp_path), vkeys=[VKEY])
    new = (
        "carbon-ops.example/host1+58d81525+ASVDuS/xCVURR2rcg2nbbdyTNmWhGXjdoUBO4QZsqVWd"
    )
    assert report.signer is not None
    assert new.startswith(report.signer)
    for seq in (0, 63, 64, 69):
        proof = prove(tmp_path / "ledger-1", seq)
        assert check_proof(proof.file, [VerifierKey.parse(new)]).holds
