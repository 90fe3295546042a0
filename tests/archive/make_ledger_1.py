"""Made ``ledger-1``, once. Run it only to see what it was made of, never to make it anew.

python tests/archive/make_ledger_1.py DIRECTORY
"""

from __future__ import annotations

import sys
from pathlib import Path

from carbon_ops.ledger.rotation import rotation_record
from carbon_ops.testing.ledgers import ORIGIN, Forger, chained, genesis, record, signer


def main(path: Path) -> None:
    """Write 70 records in segments of 64, with a change of key at record 66."""
    key, new = signer(), signer(2)
    ledger = Forger(1, key=key)
    items: list[dict[str, object]] = [genesis(vkey=key.vkey)]
    items += [record(seq) for seq in range(1, 66)]
    items.append(dict(rotation_record(ORIGIN, 66, key, new)))
    items.append({"type": "heartbeat", "ts": "2026-01-01T00:00:00.000000Z",
                  "monotonic_ns": "1", "boottime_ns": "1"})  # fmt: skip
    items.append({"type": "x", "grams": 0.000001, "note": "Zürich 😀", "n": None})
    items.append({"type": "x", "big": 1e21, "small": 5e-324, "whole": 2**53 - 1})
    ledger.lines = chained(items)
    ledger.note = ledger.checkpoint(None, new)
    ledger.write(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
