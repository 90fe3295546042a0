"""A record's life: write, checkpoint, falsify, verify, prove, and keep an anchor.

Needs the extra `audit`. Everything happens in a temporary folder. The energies are made
up: this is about the record, not about joules.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from carbon_ops import Ledger, verify_ledger
from carbon_ops.ledger.note import Signer, VerifierKey
from carbon_ops.ledger.proofs import check_proof
from carbon_ops.ledger.prove import prove


def say(what: str, path: Path, vkey: str, anchor: bytes | None = None) -> str:
    report = verify_ledger(path, vkeys=[vkey], anchor=anchor)
    print(f"{what:42} {report.verdict} {report.code or ''} {report.detail}".rstrip())
    return report.verdict


def main(folder: Path) -> int:
    signer = Signer.generate("example.org/host1")
    vkey = signer.vkey  # give this to the auditor, by another way than the ledger
    path, early, forged = folder / "ledger", folder / "early", folder / "forged"

    with Ledger.init(path, signer=signer) as ledger:
        ledger.append_many({"type": "note", "joules": 10.0 * n} for n in range(1, 4))
        shutil.copytree(path, early)
        ledger.append_many({"type": "note", "joules": 10.0 * n} for n in range(4, 7))
    anchor = (path / "checkpoint").read_bytes()  # kept where the writer cannot reach it
    verdicts = [say("as written", path, vkey)]

    shutil.copytree(path, forged)
    active = forged / "active.jsonl"
    active.write_bytes(active.read_bytes().replace(b'"joules":40', b'"joules":14'))
    verdicts.append(say("one energy changed", forged, vkey))

    proof = prove(path, 4).file
    key = VerifierKey.parse(vkey)
    shown = check_proof(proof, [key])
    print(f"proof of record {shown.seq}, without the ledger     holds: {shown.holds}")
    lie = check_proof(proof.replace(b"index 4", b"index 3"), [key])
    print(f"the same, as if it were record 3           holds: {lie.holds}, {lie.code}")

    # Records AND checkpoint put back to an earlier, genuine state: nothing inside the
    # copy can tell. Only what was kept elsewhere can.
    verdicts.append(say("rolled back as a whole", early, vkey))
    verdicts.append(say("rolled back, compared with the anchor", early, vkey, anchor))
    expected = ["OK", "TAMPERED", "OK", "TAMPERED"]
    return 0 if verdicts == expected and shown.holds and not lie.holds else 1


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        sys.exit(main(Path(temporary)))
