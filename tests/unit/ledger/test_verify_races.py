"""A writer seals the active file between two looks of a verifier."""

from __future__ import annotations

from pathlib import Path

import pytest

from carbon_ops.ledger import reader, walk
from carbon_ops.ledger.files import segment_name
from carbon_ops.ledger.verify import verify_ledger
from carbon_ops.testing.ledgers import Forger, signer

KEY = signer()


@pytest.mark.parametrize("size", [128, 130, 200], ids=["no active", "new", "newer"])
def test_a_file_sealed_between_two_looks_is_found(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the first look records 64 to 127 are the active file; then they are sealed."""
    ledger = Forger(size, key=KEY)
    ledger.note = ledger.checkpoint(128)
    path = ledger.write(tmp_path / "ledger")
    (path / "active.jsonl").rename(tmp_path / "later")
    hidden = [64, *range(128, size // 64 * 64, 64)]
    for first in hidden:
        (path / segment_name(first)).rename(tmp_path / str(first))
    real = reader.open_file

    def sealing(name: str) -> int | None:
        if name.endswith("active.jsonl") and (tmp_path / "64").exists():
            for first in hidden:
                (tmp_path / str(first)).rename(path / segment_name(first))
            if size % 64:
                (tmp_path / "later").rename(path / "active.jsonl")
        return real(name)

    monkeypatch.setattr(walk, "open_file", sealing)
    report = verify_ledger(path, vkeys=[KEY.vkey])
    assert report.verdict == ("OK" if size == 128 else "OK_PENDING"), report
    assert report.size == size


def test_derived_files_are_not_believed(tmp_path: Path) -> None:
    """A payload is edited; whatever else lies there says that all is well."""
    ledger = Forger(200, key=KEY)
    ledger.lines[70] = ledger.lines[70].replace(b'"gaps":0', b'"gaps":1')
    ledger.rechain(71)
    path = ledger.write(tmp_path / "ledger")
    (path / "frontier").write_bytes(b'{"base":[],"segments":[],"size":0,"step":64}\n')
    (path / f"tree-{0:020d}").write_bytes(bytes(8192))
    (path / "tile").mkdir()
    assert verify_ledger(path, vkeys=[KEY.vkey]).code == "E_ROOT"
