"""Proofs over the tree: that a record is in it, that a later tree extends an earlier one.

Pure. What the tree is made of comes in as ``node(low, high)``, the root over the records
from ``low`` to ``high`` - 1. A proof file stands alone: record, path and signed
checkpoint in one text, checked against a key and nothing else.

Sources
    RFC 6962 section 2.1; RFC 9162 sections 2.1.3.2 and 2.1.4.2 (how to check).
    C2SP: c2sp.org/tlog-proof, the text of a proof file.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from typing import NamedTuple

from carbon_ops.errors import InvalidInputError
from carbon_ops.ledger.merkle import EMPTY_ROOT, leaf_hash, node_hash
from carbon_ops.ledger.note import (
    ED25519,
    Checkpoint,
    NoteError,
    VerifierKey,
    parse_note,
)
from carbon_ops.ledger.rotation import KeyHistory

Node = Callable[[int, int], bytes]
_HEADER = b"c2sp.org/tlog-proof@v1\n"
_MAX_PATH = 63  # a tree of 2**53 records is 53 high
MAX_PROOF_BYTES = 1 << 18


def _split(count: int) -> int:
    """Return the largest power of two below ``count``."""
    return 1 << (count - 1).bit_length() - 1


def inclusion(index: int, size: int, node: Node) -> list[bytes]:
    """Return the hashes that lead from record ``index`` to the root of ``size``.

    Raises:
        InvalidInputError: there is no such record in such a tree.
    """
    if not 0 <= index < size:
        raise InvalidInputError(f"no record {index} among {size}")
    path = []
    low, high = 0, size
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            path.append(node(middle, high))
            high = middle
        else:
            path.append(node(low, middle))
            low = middle
    return path[::-1]


def included(
    leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes
) -> bool:
    """Say whether ``path`` leads from ``leaf`` at ``index`` to ``root``."""
    if not 0 <= index < size or any(len(node) != 32 for node in path):
        return False
    at, last, found = index, size - 1, leaf
    for node in path:
        if last == 0:
            return False
        if at & 1 or at == last:
            found = node_hash(node, found)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            found = node_hash(found, node)
        at, last = at >> 1, last >> 1
    return last == 0 and found == root


def consistency(old: int, new: int, node: Node) -> list[bytes]:
    """Return the hashes that show: the tree of ``new`` records extends that of ``old``.

    Raises:
        InvalidInputError: ``old`` is larger than ``new``, or negative.
    """
    if not 0 <= old <= new:
        raise InvalidInputError(f"a tree of {new} records cannot extend one of {old}")
    path: list[bytes] = []
    if old in (0, new):
        return path
    low, high, whole = 0, new, True  # whole: the old tree's own root is not sent
    while high != old:
        middle = low + _split(high - low)
        if old <= middle:
            path.append(node(middle, high))
            high = middle
        else:
            path.append(node(low, middle))
            low, whole = middle, False
    if not whole:
        path.append(node(low, high))
    return path[::-1]


def consistent(
    old: int, new: int, old_root: bytes, new_root: bytes, path: Sequence[bytes]
) -> bool:
    """Say whether ``path`` shows that the new tree begins with the old one."""
    if not 0 <= old <= new or any(len(node) != 32 for node in path):
        return False
    if old == 0:
        return not path and old_root == EMPTY_ROOT
    if old == new:
        return not path and old_root == new_root
    nodes = list(path)
    if old & (old - 1) == 0:
        nodes.insert(0, old_root)
    if not nodes:
        return False
    at, last = old - 1, new - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    first = second = nodes[0]
    for node in nodes[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            first, second = node_hash(node, first), node_hash(node, second)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            second = node_hash(second, node)
        at, last = at >> 1, last >> 1
    return last == 0 and first == old_root and second == new_root


# --- the proof file


class ProofReport(NamedTuple):
    """What a proof file shows."""

    holds: bool
    code: str | None
    detail: str
    seq: int | None = None
    record: bytes = b""  # its bytes, without line feed; believed only if ``holds``
    origin: str | None = None
    size: int | None = None
    signer: str | None = None

    def to_dict(self) -> dict[str, object]:
        """Return plain JSON-able values; the record as an object, if it holds."""
        fields: dict[str, object] = self._asdict()
        return fields | {"record": json.loads(self.record) if self.holds else None}


def write_proof(record: bytes, seq: int, path: Sequence[bytes], note: bytes) -> bytes:
    """Return the proof file: record (as ``extra``), place, path, signed checkpoint."""
    lines = [b"extra " + base64.b64encode(record), b"index %d" % seq]
    lines += [base64.b64encode(node) for node in path]
    return _HEADER + b"\n".join(lines) + b"\n\n" + note


def check_proof(
    data: bytes, vkeys: Sequence[VerifierKey], origin: str | None = None
) -> ProofReport:
    """Check a proof file; any bytes give a report.

    Args:
        data: The file.
        vkeys: Keys that are trusted to sign the checkpoint.
        origin: Name the ledger must have; that of the keys by default.
    """
    try:
        seq, record, path, note_bytes = _parse(data)
        note = parse_note(note_bytes)
        claim = Checkpoint.parse(note.body)
    except (ValueError, UnicodeDecodeError) as error:
        return ProofReport(False, "E_PROOF_FORMAT", f"no proof file: {error}")
    about = ProofReport(True, None, "", seq, record, claim.origin, claim.size)
    logs = [key for key in vkeys if key.kind == ED25519]
    if claim.origin not in ({origin} if origin else {key.name for key in logs}):
        return about._replace(
            holds=False, code="E_ORIGIN", detail=f"it is about {claim.origin!r:.80}"
        )
    signer, fault = KeyHistory(claim.origin, logs, None, ()).signed(note, claim.size)
    if fault is not None or signer is None:
        why = fault.detail if fault else "no key"
        code = fault.code if fault else "E_KEY_UNKNOWN"
        return about._replace(holds=False, code=code, detail=why)
    about = about._replace(signer=signer.short())
    if not included(leaf_hash(record), seq, claim.size, path, claim.root):
        why = "the path does not lead from the record to the signed root"
        return about._replace(holds=False, code="E_PROOF", detail=why)
    try:
        named = json.loads(record).get("seq")
    except (ValueError, AttributeError, RecursionError):
        named = None
    if named != seq or type(named) is not int:
        why = f"the record calls itself {named!r:.40}"
        return about._replace(holds=False, code="E_SEQ", detail=why)
    return about


def _parse(data: bytes) -> tuple[int, bytes, list[bytes], bytes]:
    if len(data) > MAX_PROOF_BYTES:
        raise NoteError(f"it is longer than {MAX_PROOF_BYTES} bytes")
    if not data.startswith(_HEADER):
        raise NoteError("it does not begin with c2sp.org/tlog-proof@v1")
    head, found, note = data[len(_HEADER) :].partition(b"\n\n")
    lines = head.split(b"\n")
    if not found or len(lines) < 2 or len(lines) > 2 + _MAX_PATH:
        raise NoteError(
            "extra, index, path, an empty line and a checkpoint are expected"
        )
    extra, place = lines[:2]
    digits = place[6:]
    if not extra.startswith(b"extra ") or not place.startswith(b"index "):
        raise NoteError("its lines `extra` and `index` are missing")
    if not digits.isdigit() or len(digits) > 16 or digits != b"%d" % int(digits):
        raise NoteError("its index is no number")
    record = base64.b64decode(extra[6:], validate=True)
    path = [base64.b64decode(line, validate=True) for line in lines[2:]]
    return int(digits), record, path, note
