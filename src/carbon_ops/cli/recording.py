"""A ledger that a measuring command writes to, made when it is not there."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from carbon_ops.errors import CarbonOpsError

if TYPE_CHECKING:
    from carbon_ops.ledger.store import Ledger, Receipt
    from carbon_ops.model import Metric

UNSIGNED = (
    "the ledger is unsigned: a truncation will not show; "
    "`carbon-ops ledger init DIR` makes a signed one"
)


class Written(NamedTuple):
    """What became of records."""

    receipts: tuple[Receipt, ...]
    trouble: str | None
    missing: tuple[Mapping[str, Any], ...]  # records that are not in the ledger


def open_or_make(path: str) -> Ledger:
    """Open the ledger at ``path``; make it there when nothing is.

    A new one is signed if CARBON_OPS_LEDGER_KEY names a key.

    Raises:
        LedgerError: there is something else at ``path``, or it cannot be written.
    """
    from carbon_ops.ledger import keys
    from carbon_ops.ledger.store import Ledger

    if os.path.lexists(path) and not (os.path.isdir(path) and not os.listdir(path)):
        return Ledger.open(path)
    named = os.environ.get(keys.ENV)
    return Ledger.init(path, signer=keys.load(Path(named)) if named else None)


def records(
    metric: Metric, estimate: Mapping[str, Any] | None
) -> list[Mapping[str, Any]]:
    """Return what a ledger keeps of one measurement."""
    kept: list[Mapping[str, Any]] = [{"type": "energy_metric", **metric}]
    if estimate is not None:
        kept.append(
            {"type": "carbon_estimate", "span_id": metric["span_id"], **estimate}
        )
    return kept


def write(ledger: Ledger, kept: Sequence[Mapping[str, Any]]) -> Written:
    """Write ``kept``, durably; trouble is told, not raised."""
    from carbon_ops.ledger.store import LedgerWriteError

    try:
        return Written(tuple(ledger.append_many(kept)), None, ())
    except LedgerWriteError as error:
        return Written(error.durable, str(error), tuple(kept[len(error.durable) :]))
    except (CarbonOpsError, OSError) as error:
        return Written((), str(error), tuple(kept))


def close(ledger: Ledger) -> str | None:
    """Close ``ledger``; return what went wrong, if something did."""
    try:
        ledger.close()
    except (CarbonOpsError, OSError) as error:
        return str(error)
    return None
