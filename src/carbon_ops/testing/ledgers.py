"""Ledgers made byte by byte from the rules of the format, honest and forged ones.

Independent of the writer on purpose: a mistake that writer and verifier share would
otherwise pass every test. Nothing is locked, synced or atomic. What a forger with the
file system can do, :class:`Forger` does: edit lines, chain them anew, sign with any key.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

from carbon_ops.ledger.canonical import dumps
from carbon_ops.ledger.chain import ZERO_HASH
from carbon_ops.ledger.merkle import leaf_hash, root
from carbon_ops.ledger.note import Checkpoint, Signer, sign_note

ORIGIN = "carbon-ops.example/host1"


def signer(number: int = 0, name: str = ORIGIN) -> Signer:
    """Return a key that is the same in every run; number 0 is seed bytes 00 to 1f."""
    return Signer(name, bytes((number * 32 + i) % 256 for i in range(32)))


def record(seq: int) -> dict[str, object]:
    """Return a nested record of about 1 kB, as a metric is, without its chain members."""
    joules = 100.0 + seq * 0.37
    return {
        "type": "energy_metric",
        "operation": "train/stüp",
        "span_id": f"{seq:016x}",
        "timestamp_end": f"2026-01-01T{seq // 3600 % 24:02d}:{seq // 60 % 60:02d}:"
        f"{seq % 60:02d}.000000Z",
        "grams": 212.7 + seq,
        "pue_used": 1.2,
        "uncertainty_pct": 7.5,
        "energy": {
            "attribution_mode": "governor",
            "reason": None,
            "allocation_ratio": 0.25 + seq / 1e4,
            "energy_j_total": joules,
            "bounds_j": [joules * 0.9, joules * 1.1],
            "quality": {"samples": 11, "gaps": 0, "wraps": 0, "flags": ["a", "b"]},
        },
        "padding": "x" * 420,
    }


def genesis(
    origin: str = ORIGIN, vkey: str | None = None, step: int = 64
) -> dict[str, object]:
    """Return the first record, without its chain members."""
    head = {"type": "genesis", "format": 1, "origin": origin}
    return {**head, "segment_records": step, "vkey": vkey}


def chained(
    records: Sequence[dict[str, object]], seq: int = 0, prev: str = ZERO_HASH
) -> list[bytes]:
    """Return the lines (no line feeds) of a chain over ``records``."""
    lines = []
    for number, item in enumerate(records, seq):
        line = dumps({**item, "seq": number, "prev_hash": prev})
        lines.append(line)
        prev = sha256(line).hexdigest()
    return lines


class Forger:
    """The lines of a ledger in memory, written to disk in any state.

    Args:
        size: Records, the genesis included.
        step: Records per sealed segment.
        key: Signs the checkpoint; None for an unsigned ledger.
    """

    def __init__(
        self,
        size: int = 200,
        *,
        step: int = 64,
        key: Signer | None = None,
        origin: str = ORIGIN,
        make: Callable[[int], dict[str, object]] = record,
    ) -> None:
        self.key = key
        self.origin = origin
        self.step = step
        first = genesis(origin, key.vkey if key else None, step)
        self.lines = chained([first, *(make(seq) for seq in range(1, size))])
        self.note = self.checkpoint() if key else None

    def checkpoint(self, size: int | None = None, *keys: Signer) -> bytes:
        """Return a signed checkpoint over the first ``size`` lines as they are now."""
        size = len(self.lines) if size is None else size
        claim = Checkpoint(self.origin, size, self.root(size))
        signers = keys or ((self.key,) if self.key else ())
        return sign_note(claim.body(), *signers)

    def root(self, size: int) -> bytes:
        return root([leaf_hash(line) for line in self.lines[:size]])

    def rechain(self, start: int = 0) -> None:
        """Give every line from ``start`` the number and hash that its place asks for."""
        import json

        items = [json.loads(line) for line in self.lines[start:]]
        prev = sha256(self.lines[start - 1]).hexdigest() if start else ZERO_HASH
        self.lines[start:] = chained(items, start, prev)

    def write(self, path: Path, *, sign_anew: bool = False) -> Path:
        """Write the lines in segments, and the checkpoint made at the start or anew."""
        path.mkdir(parents=True, exist_ok=True)
        whole = len(self.lines) // self.step * self.step
        for first in range(0, whole, self.step):
            segment = path / f"seg-{first:020d}.jsonl"
            lines = self.lines[first : first + self.step]
            segment.write_bytes(b"".join(line + b"\n" for line in lines))
            segment.chmod(0o444)
        rest = b"".join(line + b"\n" for line in self.lines[whole:])
        (path / "active.jsonl").write_bytes(rest)
        (path / "LOCK").write_bytes(b"")
        if sign_anew:
            self.note = self.checkpoint()
        if self.note is not None:
            (path / "checkpoint").write_bytes(self.note)
        return path
