"""A ledger as metrics: how many records it has, and how often it did not verify.

Records are counted at each look. Verification reads all of them, so it runs in a thread
of its own, at the first look and again when an hour has passed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence

from carbon_ops import clock
from carbon_ops.errors import CarbonOpsError
from carbon_ops.export import table
from carbon_ops.export.table import Family, Point, family
from carbon_ops.ledger.files import ACTIVE, MAX_FILE_BYTES
from carbon_ops.ledger.reader import NotAFileError, read_small, segments
from carbon_ops.ledger.store import SEGMENT_RECORDS
from carbon_ops.ledger.verify import verify_ledger
from carbon_ops.log import log
from carbon_ops.units import NS_PER_S

EVERY_NS = 3_600 * NS_PER_S
BAD = ("TAMPERED", "TORN_TAIL", "NOT_CHECKED")


class LedgerView:
    """Shows the ledger in the directory ``path``.

    Args:
        path: The ledger.
        vkeys: Keys that are trusted; a signed ledger needs its own, or every
            verification is ``NOT_CHECKED``.
    """

    def __init__(self, path: str, vkeys: Sequence[str] = ()) -> None:
        self._path = path
        self._vkeys = tuple(vkeys)
        self._failures = dict.fromkeys(BAD, 0)
        self._due_ns = 0
        self._running: threading.Thread | None = None

    def families(self) -> Iterator[Family]:
        """Yield the metrics as of now; a verification that is due begins."""
        if clock.monotonic_ns() >= self._due_ns and not self.verifying:
            self._due_ns = clock.monotonic_ns() + EVERY_NS
            self._running = threading.Thread(target=self.verify, daemon=True)
            self._running.start()
        found = size(self._path)
        if found is not None:
            yield from family(table.LEDGER_RECORDS, [Point(("written",), float(found))])
        points = [Point((bad,), float(n)) for bad, n in self._failures.items()]
        yield from family(table.LEDGER_FAILURES, points)

    @property
    def verifying(self) -> bool:
        """Whether a verification runs now."""
        return self._running is not None and self._running.is_alive()

    def verify(self) -> None:
        """Verify once, and count what is not well."""
        try:
            verdict = verify_ledger(self._path, vkeys=self._vkeys).verdict
        except (CarbonOpsError, OSError) as error:
            log().warning("ledger %s not verified: %s", self._path, error)
            verdict = "NOT_CHECKED"
        if verdict in BAD:
            self._failures[verdict] += 1


def size(path: str) -> int | None:
    """Return how many records the ledger has, None where there is none to read."""
    try:
        sealed = segments(path)
        active = read_small(os.path.join(path, ACTIVE), MAX_FILE_BYTES)
    except (OSError, NotAFileError):
        return None
    if not sealed and active is None:
        return None
    before = sealed[-1] + SEGMENT_RECORDS if sealed else 0
    return before + (0 if active is None else active.count(b"\n"))
