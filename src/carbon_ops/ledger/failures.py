"""What a writer is told when a write does not succeed: which records stand all the same."""

from __future__ import annotations

from carbon_ops.errors import LedgerError
from carbon_ops.ledger.files import SyncFailedError
from carbon_ops.ledger.tail import Receipt


class LedgerExistsError(LedgerError):
    """There is a ledger already; nothing was changed."""


class KeyNotInForceError(LedgerError):
    """The key given is not the one that signs this ledger now; nothing was written."""


class LedgerWriteError(LedgerError):
    """Records could not be written.

    :attr:`durable` holds the receipts of those records of the call that are on the disk
    all the same, from its first record on; the others are not in the ledger. With
    :attr:`unsure` the disk did not say whether it kept the last write, and this ledger
    object refuses further work: look at the disk, then open the ledger again.
    """

    def __init__(
        self,
        message: str,
        durable: tuple[Receipt, ...] = (),
        *,
        unsure: bool = False,
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.durable = durable
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
    """A write stopped at ``cause``; for whom it concerns it becomes an error ``kind``."""

    def __init__(self, kind: type[LedgerWriteError], cause: OSError) -> None:
        super().__init__(kind, cause)
        self.kind = kind
        self.cause = cause

    def error(self, path: str, durable: list[Receipt], wanted: int) -> LedgerWriteError:
        """Return the error for a call that asked for ``wanted`` records."""
        unsure = isinstance(self.cause, SyncFailedError)
        delayed = self.kind is CheckpointDelayed
        what = "write the checkpoint of" if delayed else "write to"
        told = "the disk confirmed nothing" if unsure else "nothing was written"
        if durable:
            told = f"records {durable[0].seq} to {durable[-1].seq} are on the disk"
        if 0 < len(durable) < wanted:
            told += f", the other {wanted - len(durable)} are not"
        kind = self.kind if len(durable) == wanted else LedgerWriteError
        error = kind(
            f"cannot {what} the ledger {path}: {self.cause.strerror}; {told}",
            tuple(durable),
            unsure=unsure,
            hint="Free space or mend the disk; the ledger itself is whole.",
        )
        error.__cause__ = self.cause
        return error
