"""What a writer is told when a write does not succeed: which records stand all the same."""

from __future__ import annotations

from typing import NamedTuple

from carbon_ops.errors import LedgerError
from carbon_ops.ledger.tail import Receipt


class LedgerExistsError(LedgerError):
    """There is a ledger already; nothing was changed."""


class KeyNotInForceError(LedgerError):
    """The key given is not the one that signs this ledger now; nothing was written."""


class LedgerWriteError(LedgerError):
    """Records could not be written.

    :attr:`durable` holds the receipts of those records of the call that are on the disk
    all the same, from its first record on; the others are not in the ledger. With
    :attr:`unsure` the disk, or the process that wrote for this one, did not say whether
    it kept the next ones, :attr:`attempted` as far as they are known. The next call reads the ledger anew and writes its end anew;
    then :meth:`~carbon_ops.ledger.store.Ledger.holds` says which of them are there.
    """

    def __init__(
        self,
        message: str,
        durable: tuple[Receipt, ...] = (),
        *,
        attempted: tuple[Receipt, ...] = (),
        unsure: bool = False,
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.durable = durable
        self.attempted = attempted
        self.unsure = unsure


class CheckpointDelayed(LedgerWriteError):
    """The records are durable, but no checkpoint covers them yet.

    The next flush, or the next program that opens the ledger, writes it. Do not append
    the records again.
    """

    @property
    def seq(self) -> int | None:
        """The last durable record of the call."""
        return self.durable[-1].seq if self.durable else None


class Stopped(Exception):
    """A write stopped at ``cause``; for a call that is durable all the same, a ``kind``.

    ``sure`` of the ledger's records are known to be on the disk; None: all it shows.
    """

    def __init__(
        self, kind: type[LedgerWriteError], cause: OSError, sure: int | None = None
    ) -> None:
        super().__init__(kind, cause)
        self.kind = kind
        self.cause = cause
        self.sure = sure


class Written(NamedTuple):
    """How far a write came."""

    receipts: list[Receipt]  # of all records that are durable
    acknowledged: int  # so many of them are covered by a checkpoint too
    stopped: Stopped | None
    attempted: tuple[Receipt, ...] = ()  # of the next ones, which may be durable or not

    def part(self, start: int, end: int) -> Written:
        """Return what it says of the records from ``start`` to before ``end``."""
        tried = [*self.receipts, *self.attempted][start:end]
        durable = self.receipts[start:end]
        covered = min(max(self.acknowledged - start, 0), end - start)
        return Written(durable, covered, self.stopped, tuple(tried[len(durable) :]))

    def after(self, kept: list[Receipt]) -> Written:
        """Return the same for a call whose first records were there before.

        A write begins by making them durable, and covered.
        """
        stopped = self.stopped
        if stopped is not None and kept and kept[-1].seq >= (stopped.sure or 2**53):
            return self._replace(attempted=(*kept, *self.attempted))
        mended = stopped is None or self.receipts
        return self._replace(
            receipts=[*kept, *self.receipts],
            acknowledged=self.acknowledged + len(kept) if mended else 0,
        )

    def error(self, stopped: Stopped, path: str, wanted: int) -> LedgerWriteError:
        """Return the error for a stopped call that asked for ``wanted`` records."""
        kind, cause, sure = stopped.kind, stopped.cause, stopped.sure
        what = "write the checkpoint of" if kind is CheckpointDelayed else "write to"
        told = "the disk confirmed none" if self.attempted else "nothing was written"
        durable = self.receipts
        if durable:
            told = f"records {durable[0].seq} to {durable[-1].seq} are on the disk"
        if 0 < len(durable) < wanted:
            told += f", the other {wanted - len(durable)} are not"
            told += " or not surely" if self.attempted else ""
        if sure is not None:
            told += f"; records before {sure} are known to be on the disk"
        error = (kind if len(durable) == wanted else LedgerWriteError)(
            f"cannot {what} the ledger {path}: {cause.strerror}; {told}",
            tuple(durable),
            attempted=self.attempted,
            unsure=bool(self.attempted),
            hint="Free space or mend the disk; the ledger itself is whole.",
        )
        error.__cause__ = cause
        return error
