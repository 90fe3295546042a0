"""Append to a ledger until killed; print every acknowledged seq.

``ledger_storm_writer.py FOLDER NAME [SABOTAGE]``: lines ``seq name counter`` on standard
output, each written only after the append came back. The sabotage is for negative
controls: ``no_fsync`` makes every fsync do nothing, ``no_file_fsync`` those of files.
"""

from __future__ import annotations

import os
import stat
import sys

from carbon_ops.ledger.note import Signer
from carbon_ops.ledger.store import Ledger

KEY = Signer("host.example/test", bytes(range(32)))


def sabotage(kind: str) -> None:
    """Leave out what makes a write durable."""
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if kind == "no_file_fsync" and stat.S_ISDIR(os.fstat(descriptor).st_mode):
            real(descriptor)

    if kind:
        os.fsync = fsync  # type: ignore[assignment]


def main(folder: str, name: str, kind: str = "") -> None:
    sabotage(kind)
    counter = 0
    with Ledger.open(folder, signer=KEY, lock_timeout_s=60) as ledger:
        while True:
            count = 1 + counter % 3
            records = [
                {"type": "energy_metric", "by": name, "n": counter + i}
                for i in range(count)
            ]
            for i, receipt in enumerate(ledger.append_many(records)):
                os.write(1, f"{receipt.seq} {name} {counter + i}\n".encode())
            counter += count


if __name__ == "__main__":
    main(*sys.argv[1:])
