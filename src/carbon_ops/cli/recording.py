"""A ledger that a measuring command writes to, made when it is not there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from carbon_ops.errors import CarbonOpsError

if TYPE_CHECKING:
    from carbon_ops.ledger.store import Receipt
    from carbon_ops.model import Metric

UNSIGNED = (
    "the ledger is unsigned: a truncation will not show; "
    "`carbon-ops ledger init DIR` makes a signed one"
)


class Book:
    """A ledger and what became of the records given to it; trouble is told, not raised.

    Raises:
        LedgerError: the ledger cannot be opened.
    """

    def __init__(self, path: str) -> None:
        from carbon_ops.ledger.store import Ledger

        self._ledger = Ledger.open_or_init(path)
        self._path = path
        self._span: tuple[int, int] | None = None  # numbers of first and last record
        self._troubles: dict[str, None] = {}  # each once, however often it comes
        self.place: dict[str, Any] | None = None  # of the newest record of a metric
        self.missing: list[Mapping[str, Any]] = []  # what is not in the ledger

    def keep(self, metric: Metric, estimate: Mapping[str, Any] | None) -> None:
        """Write one measurement, durably."""
        from carbon_ops.meter.record import records

        self.write(records(metric, estimate))

    def write(self, kept: Sequence[Mapping[str, Any]]) -> None:
        """Write records, durably; what cannot be written is in :attr:`missing`."""
        from carbon_ops.ledger.store import LedgerWriteError

        receipts: tuple[Receipt, ...] = ()
        try:
            receipts = tuple(self._ledger.append_many(kept))
        except LedgerWriteError as error:
            receipts = error.durable
            self._troubles[str(error)] = None
        except (CarbonOpsError, OSError) as error:
            self._troubles[str(error)] = None
        self.missing += kept[len(receipts) :]
        if receipts:
            seq, digest = receipts[0].seq, receipts[0].hash
            self._span = (seq if self._span is None else self._span[0], seq)
            place = {"path": self._path, "seq": seq, "hash": digest}
            self.place = {**place, "state": self._kind}

    @property
    def trouble(self) -> str:
        """The newest kind of failure."""
        return next(reversed(self._troubles), "nothing")

    @property
    def said(self) -> str:
        """Where the measurements are, in words."""
        if self._span is None:
            return f"NOT WRITTEN: {self.trouble}"
        first, last = self._span
        numbers = f"record {first}" if first == last else f"records {first} to {last}"
        return f"{self._path}, {numbers}, {self._kind}"

    @property
    def _kind(self) -> str:
        return "signed" if self._ledger.signed else "unsigned"

    def close(self) -> list[str]:
        """Close the ledger; return what a person should know."""
        notes = list(self._troubles)
        try:
            self._ledger.close()
        except (CarbonOpsError, OSError) as error:
            notes.append(str(error))
        if self.missing:
            notes.append("what is not in the ledger is on standard error, as JSON")
        recovered = self._ledger.recovered
        if recovered is not None:
            notes.append(
                f"the ledger's end was damaged from record {recovered.seq} on; "
                f"it is kept in {recovered.quarantine}"
            )
        if not self._ledger.signed:
            notes.append(UNSIGNED)
        return notes
