"""A ledger as tiles, read back by nothing but the format's own words."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from carbon_ops.errors import InvalidInputError, LedgerError
from carbon_ops.ledger.merkle import leaf_hash, root
from carbon_ops.ledger.note import NoteError
from carbon_ops.ledger.tiles import _Tree, tile_path, to_tiles
from carbon_ops.testing.ledgers import Forger, signer

KEY = signer()


def entries(data: bytes) -> list[bytes]:
    """Split a bundle: each entry after its length, two bytes, the high one first."""
    found = []
    while data:
        length = data[0] * 256 + data[1]
        found.append(data[2 : 2 + length])
        assert len(found[-1]) == length
        data = data[2 + length :]
    return found


def hashes(data: bytes) -> list[bytes]:
    return [data[at : at + 32] for at in range(0, len(data), 32)]


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_paths_are_those_of_the_format() -> None:
    """The examples of c2sp.org/tlog-tiles."""
    assert tile_path(0, 1234067) == "tile/0/x001/x234/067"
    assert tile_path("entries", 1234067, 8) == "tile/entries/x001/x234/067.p/8"
    assert tile_path(3, 0) == "tile/3/000"
    assert tile_path(0, 999) == "tile/0/999"
    assert tile_path(0, 1000) == "tile/0/x001/000"


def test_tiles_hold_the_records_and_lead_to_the_signed_root(tmp_path: Path) -> None:
    """600 records, the last 20 beyond the checkpoint: two full tiles and one of 68."""
    ledger = Forger(600, key=KEY)
    ledger.note = ledger.checkpoint(580)
    path, out = ledger.write(tmp_path / "ledger"), tmp_path / "out"

    assert to_tiles(str(path), out) == 580

    assert names(out) == [
        "checkpoint",
        *(f"tile/0/{n}" for n in ("000", "001", "002.p/68")),
        "tile/1/000.p/2",
        *(f"tile/entries/{n}" for n in ("000", "001", "002.p/68")),
    ]
    assert (out / "checkpoint").read_bytes() == ledger.note
    found: list[bytes] = []
    for n, name in enumerate(("000", "001", "002.p/68")):
        bundle = entries((out / "tile/entries" / name).read_bytes())
        leaves = hashes((out / "tile/0" / name).read_bytes())
        assert leaves == [leaf_hash(entry) for entry in bundle]
        found += bundle
        above = hashes((out / "tile/1/000.p/2").read_bytes())
        assert n == 2 or above[n] == root(leaves)
    assert found == ledger.lines[:580]


def test_the_third_level_begins_at_65_536_hashes(tmp_path: Path) -> None:
    tree = _Tree(tmp_path)
    leaves = [number.to_bytes(32, "big") for number in range(65_536 + 1)]
    for leaf in leaves:
        tree.add(0, leaf)
    tree.finish()
    assert (tmp_path / "tile/2/000.p/1").read_bytes() == root(leaves[:65_536])
    assert len((tmp_path / "tile/1/000").read_bytes()) == 8_192
    assert (tmp_path / "tile/0/256.p/1").read_bytes() == leaves[-1]
    assert not (tmp_path / "tile/1/001.p").exists()


@pytest.mark.parametrize("size", [1, 255, 256, 257])
def test_sizes_about_a_whole_tile(size: int, tmp_path: Path) -> None:
    ledger = Forger(size, key=KEY)
    to_tiles(str(ledger.write(tmp_path / "ledger")), tmp_path / "out")
    found = b"".join(
        (tmp_path / "out" / name).read_bytes()
        for name in names(tmp_path / "out")
        if "entries" in name
    )
    assert entries(found) == ledger.lines


def test_what_was_not_signed_leaves_no_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    unsigned = Forger(3).write(tmp_path / "unsigned")
    with pytest.raises(LedgerError, match="no checkpoint"):
        to_tiles(str(unsigned), out)
    ledger = Forger(300, key=KEY)
    ledger.lines[299] = ledger.lines[299].replace(b'"gaps":0', b'"gaps":1')
    with pytest.raises(LedgerError, match="not those signed"):
        to_tiles(str(ledger.write(tmp_path / "edited")), out)
    ledger.lines[299] = b"x" * 70_000
    with pytest.raises(LedgerError, match="not those signed"):
        to_tiles(str(ledger.write(tmp_path / "long")), out)
    del ledger.lines[200:]
    with pytest.raises(LedgerError, match="not those signed"):
        to_tiles(str(ledger.write(tmp_path / "cut")), out)
    ledger.note = b"nonsense"
    with pytest.raises(NoteError):
        to_tiles(str(ledger.write(tmp_path / "note")), out)
    assert not out.exists()
    out.mkdir()
    with pytest.raises(InvalidInputError, match="File exists"):
        to_tiles(str(Forger(3, key=KEY).write(tmp_path / "good")), out)
    assert os.listdir(out) == []
