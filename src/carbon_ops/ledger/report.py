"""What a verification found, for programs, for people and for exit statuses."""

from __future__ import annotations

from typing import Literal, NamedTuple

Verdict = Literal["OK", "OK_PENDING", "TORN_TAIL", "TAMPERED", "NOT_CHECKED"]

# Faults that only something kept outside the ledger can show.
_ANCHOR_CODES = ("E_ROLLBACK", "E_FORK", "E_STALE", "E_COSIG")


class Report(NamedTuple):
    """The outcome of :func:`carbon_ops.ledger.verify.verify_ledger`.

    ``NOT_CHECKED`` is no verdict on the ledger: it could not be read, or it is signed
    and no key was given.
    """

    verdict: Verdict
    code: str | None = None  # E_..., where the verdict is not OK or OK_PENDING
    seq: int | None = None  # the record at which it shows, where one can be named
    detail: str = ""
    size: int = 0  # complete records that were read and found good
    covered: int = 0  # records the signed checkpoint covers
    checkpoint: str | None = None  # as it was verified; unsigned: its three lines
    origin: str | None = None
    signer: str | None = None  # name and key id of the key in force
    signed: bool = False
    anchors: tuple[str, ...] = ()  # what outside the ledger it was compared with
    unseen: tuple[str, ...] = ()  # witnesses given whose signature is nowhere
    links_only: bool = False
    recomputed: int | None = None  # estimates derived anew; None: not asked for
    skipped: int = 0  # estimates of a schema that this version cannot derive anew
    strict: bool = False

    @property
    def exit_code(self) -> int:
        """0 fine, 1 tampered (pending too, if strict), 2 not checked, 3 torn tail."""
        if self.verdict == "OK_PENDING":
            return 1 if self.strict else 0
        return {"OK": 0, "TAMPERED": 1, "NOT_CHECKED": 2, "TORN_TAIL": 3}[self.verdict]

    @property
    def pending(self) -> int:
        """Records beyond the last checkpoint, which nothing covers yet."""
        return max(self.size - self.covered, 0) if self.signed else 0

    @property
    def lines(self) -> tuple[str, str, str, str]:
        """Integrity, anchor, attestation and completeness: what was checked, what not."""
        return (
            f"integrity:    {self._integrity()}",
            f"anchor:       {self._anchor()}",
            "attestation:  NOT CHECKED; whether the writer measured honestly is not "
            "visible in what it wrote",
            "completeness: NOT CHECKED; work that was never recorded leaves no trace here",
        )

    def _integrity(self) -> str:
        failed = self.code is not None and self.code not in _ANCHOR_CODES
        if self.verdict == "NOT_CHECKED":
            return f"NOT CHECKED; {self.detail}"
        if failed and self.verdict == "TAMPERED":
            return f"FAILED, {self.code}; {self.detail}"
        if self.links_only:
            return (
                f"links checked, {self.size} records; canonical form, tree and what the "
                "checkpoint covers NOT CHECKED"
            )
        text = f"checked; {self.size} records: bytes, chain, canonical form, tree"
        if self.signed:
            text += f"; {self.covered} covered by the checkpoint of {self.signer}"
        else:
            text += "; unsigned: truncation not checked"
        if self.pending:
            text += f"; {self.pending} pending beyond it"
        if self.verdict == "TORN_TAIL":
            text += f"; torn tail: {self.detail}"
        if self.recomputed is not None:
            text += f"; {self.recomputed} estimates recomputed"
        if self.skipped:
            text += (
                f", {self.skipped} NOT (another schema, or tables or rules of another "
                "version, or their intervals left out)"
            )
        return text

    def _anchor(self) -> str:
        if self.code in _ANCHOR_CODES and self.verdict == "TAMPERED":
            return f"FAILED, {self.code}; {self.detail}"
        unseen = "".join(f"; NOT cosigned by {name}" for name in self.unseen)
        if self.anchors and self.verdict != "NOT_CHECKED":
            return f"checked; {', '.join(self.anchors)}{unseen}"
        return (
            "NOT CHECKED; a rollback of everything, or another history by the key's "
            f"holder, would not show{unseen}"
        )

    def to_dict(self) -> dict[str, object]:
        """Return plain JSON-able values."""
        fields: dict[str, object] = self._asdict()
        return fields | {
            "anchors": list(self.anchors),
            "unseen": list(self.unseen),
            "pending": self.pending,
            "lines": list(self.lines),
            "exit_code": self.exit_code,
        }
