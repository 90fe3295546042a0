"""A ledger that a measuring command writes to, made when it is not there."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from carbon_ops.errors import LedgerError

if TYPE_CHECKING:
    from carbon_ops.ledger.store import Ledger
    from carbon_ops.model import Metric


def open_or_make(path: str) -> Ledger:
    """Open the ledger at ``path``; make it there when nothing is.

    Raises:
        LedgerError: there is something else at ``path``, or it cannot be written.
    """
    from carbon_ops.ledger.store import Ledger

    if os.path.isdir(path) and not os.listdir(path):
        os.rmdir(path)
    if os.path.lexists(path):
        return Ledger.open(path)
    return Ledger.init(path)


def records(metric: Metric, estimate: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return what a ledger keeps of one measurement."""
    kept: list[dict[str, Any]] = [{"type": "energy_metric", **metric}]
    if estimate is not None:
        kept.append(
            {"type": "carbon_estimate", "span_id": metric["span_id"], **estimate}
        )
    return kept


def append(ledger: Ledger, kept: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Write ``kept`` durably; return the number and hash of the first record.

    Raises:
        LedgerError: they are not in the ledger.
    """
    try:
        receipts = ledger.append_many(kept)
        ledger.flush()
        ledger.close()
    except OSError as error:
        raise LedgerError(f"{error.strerror or error}") from error
    return {"seq": receipts[0].seq, "hash": receipts[0].hash, "signed": ledger.signed}
