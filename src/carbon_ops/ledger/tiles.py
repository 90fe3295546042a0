"""A signed ledger as the files of a transparency log, for its clients and mirrors.

A folder with ``checkpoint``, ``tile/<level>/<n>`` (up to 256 hashes each) and
``tile/entries/<n>`` (up to 256 records, each after its length), over exactly the records
that the checkpoint covers. It can be served over HTTP as it is.

Source
    C2SP: c2sp.org/tlog-tiles (paths, widths of partial tiles, entry bundles).
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from carbon_ops.errors import InvalidInputError, LedgerError
from carbon_ops.ledger.chain import MAX_RECORD_BYTES
from carbon_ops.ledger.files import CHECKPOINT
from carbon_ops.ledger.lines import lines
from carbon_ops.ledger.merkle import Frontier, leaf_hash, root
from carbon_ops.ledger.note import MAX_NOTE_BYTES, Checkpoint, parse_note
from carbon_ops.ledger.reader import read_checkpoint

WIDTH = 256  # hashes in a full tile, records in a full bundle


def tile_path(level: int | str, number: int, width: int = WIDTH) -> str:
    """Return a tile's place; ``level`` is ``"entries"`` for a bundle of records.

    >>> tile_path(1, 1234067), tile_path("entries", 0, 17)
    ('tile/1/x001/x234/067', 'tile/entries/000.p/17')
    """
    parts = [f"{number % 1000:03d}"]
    while number := number // 1000:
        parts.insert(0, f"x{number % 1000:03d}")
    partial = f".p/{width}" if width < WIDTH else ""
    return f"tile/{level}/{'/'.join(parts)}{partial}"


class _Tree:
    """Tiles as they fill up, each level's full ones giving a hash to the level above."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[int | str, list[bytes]] = {}
        self._full: dict[int | str, int] = {}

    def add(self, level: int | str, item: bytes) -> None:
        held = self._open.setdefault(level, [])
        held.append(item)
        if len(held) < WIDTH:
            return
        self._write(level, held)
        self._full[level] = self._full.get(level, 0) + 1
        self._open[level] = []
        if isinstance(level, int):
            self.add(level + 1, root(held))

    def finish(self) -> None:
        """Write the partial tiles at the right edge."""
        for level, held in self._open.items():
            if held:
                self._write(level, held)

    def _write(self, level: int | str, held: Sequence[bytes]) -> None:
        place = tile_path(level, self._full.get(level, 0), len(held))
        path = self._folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(held))


def to_tiles(ledger: str, output: Path) -> int:
    """Write the tiles of a signed ledger to the new folder ``output``; constant memory.

    Returns:
        The number of records, those under the checkpoint.

    Raises:
        LedgerError: no ledger, no checkpoint, or the records are not those signed.
        InvalidInputError: ``output`` is there already, or cannot be written.
    """
    note = read_checkpoint(ledger, MAX_NOTE_BYTES)
    if note is None:
        raise LedgerError(
            f"{ledger} has no checkpoint: tiles are those of a signed tree",
            hint="Export jsonl instead.",
        )
    claim = Checkpoint.parse(parse_note(note).body)
    try:
        output.mkdir()
    except OSError as error:
        raise InvalidInputError(f"cannot write {output}: {error.strerror}") from error
    try:
        _fill(ledger, claim, output)
        (output / CHECKPOINT).write_bytes(note)
    except BaseException:
        shutil.rmtree(output, ignore_errors=True)
        raise
    return claim.size


def _fill(ledger: str, claim: Checkpoint, output: Path) -> None:
    tree, whole = _Tree(output), Frontier()
    for line in islice(lines(ledger), claim.size):
        if len(line) <= MAX_RECORD_BYTES:  # else the root is another one
            tree.add("entries", len(line).to_bytes(2, "big") + line)
        leaf = leaf_hash(line)
        tree.add(0, leaf)
        whole.append(leaf)
    if whole.size != claim.size or whole.root() != claim.root:
        raise LedgerError(
            f"the records of {ledger} are not those signed",
            hint="`carbon-ops ledger verify` says where.",
        )
    tree.finish()
