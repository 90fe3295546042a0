"""Which key has to have signed a checkpoint, after keys were exchanged for others.

A ``key_rotate`` record at ``seq`` carries the new vkey and two signatures over the same
text: by the old key, which hands over, and by the new one, which proves that somebody
holds it. Checkpoints of a size up to ``seq`` need the old key, larger ones the new one.
Trust begins with the keys the verifier was given and follows valid records forward only.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

from carbon_ops.ledger.checks import Fault
from carbon_ops.ledger.note import ED25519, Note, NoteError, Signer, VerifierKey


def statement(origin: str, seq: int, new_vkey: str) -> bytes:
    """Return the text that both keys sign."""
    return f"carbon-ops/rotate/v1\n{origin}\n{seq}\n{new_vkey}\n".encode()


def rotation_record(origin: str, seq: int, old: Signer, new: Signer) -> dict[str, str]:
    """Return the record that hands over from ``old`` to ``new`` at ``seq``."""
    text = statement(origin, seq, new.vkey)
    return {
        "type": "key_rotate",
        "new_vkey": new.vkey,
        "old_sig": base64.b64encode(old.sign_raw(text)).decode("ascii"),
        "new_sig": base64.b64encode(new.sign_raw(text)).decode("ascii"),
    }


class KeyHistory:
    """The keys of one ledger, in the order in which they were in force.

    Args:
        origin: The ledger's name.
        trusted: Log keys the verifier was given.
        genesis_vkey: The key the first record names; believed in nothing, but tried as
            the old key of the first rotation.
        rotations: (seq, record), in order.

    :attr:`fault` is set where a rotation does not hold.
    """

    def __init__(
        self,
        origin: str,
        trusted: Sequence[VerifierKey],
        genesis_vkey: object,
        rotations: Sequence[tuple[int, Mapping[str, Any]]],
    ) -> None:
        self.trusted = list(trusted)
        self.changes: list[tuple[int, VerifierKey, VerifierKey]] = []
        self.fault: Fault | None = None
        named = _key(genesis_vkey)
        old = [*trusted, named] if named is not None else [*trusted]
        for seq, record in rotations:
            new = _key(record.get("new_vkey"))
            if new is None:
                self._stop(seq, "it names no new key")
                return
            text = statement(origin, seq, new.text())
            by_old, by_new = (_raw(record.get(n)) for n in ("old_sig", "new_sig"))
            giver = next((key for key in old if key.verifies(text, by_old)), None)
            if giver is None:
                self._stop(seq, "the key in force did not sign it")
                return
            if new == giver or not new.verifies(text, by_new):
                self._stop(seq, f"the new key {new.short()} did not sign it")
                return
            self.changes.append((seq, giver, new))
            if giver in self.trusted and new not in self.trusted:
                self.trusted.append(new)
            old = [new]

    def _stop(self, seq: int, why: str) -> None:
        self.fault = Fault("E_ROTATION", seq, f"record {seq}: {why}")

    def in_force(self, size: int) -> VerifierKey | None:
        """Return the key that signs checkpoints of this size; None: no rotation says."""
        key = self.changes[0][1] if self.changes else None
        for seq, _, new in self.changes:
            if size > seq:
                key = new
        return key

    def signed(self, note: Note, size: int) -> tuple[VerifierKey | None, Fault | None]:
        """Return the key in force whose line the note carries, or what is wrong."""
        signers = []
        for key in self.trusted:
            lines = note.by(key)
            if not lines:
                continue
            if not all(key.verifies(note.body, line.blob) for line in lines):
                why = f"the signature by {key.short()} does not fit the checkpoint"
                return None, Fault("E_CKPT_SIG", None, why)
            signers.append(key)
        if not signers:
            names = ", ".join(
                sorted({f"{s.name}+{s.id.hex()}" for s in note.signatures})
            )
            why = f"signed by {names}, which is none of the keys trusted here"
            return None, Fault("E_KEY_UNKNOWN", None, why)
        wanted = self.in_force(size)
        if wanted is None or wanted in signers:
            return wanted or signers[0], None
        later = [seq for seq, _, new in self.changes if new in signers and size <= seq]
        if later:
            why = f"signed by a key that comes into force after record {later[0]}"
            return None, Fault("E_KEY_NOT_YET", later[0], why)
        ended = [seq for seq, old, _ in self.changes if old in signers and size > seq]
        why = f"signed by a key that record {max(ended, default=-1)} took out of force"
        if not ended:
            return None, Fault("E_KEY_UNKNOWN", None, "the key in force did not sign")
        return None, Fault("E_KEY_RETIRED", max(ended), why)


def _key(vkey: object) -> VerifierKey | None:
    try:
        key = VerifierKey.parse(vkey) if isinstance(vkey, str) else None
    except NoteError:
        return None
    return key if key is not None and key.kind == ED25519 else None


def _raw(text: object) -> bytes:
    try:
        return base64.b64decode(str(text).encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        return b""
