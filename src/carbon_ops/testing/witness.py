"""A witness of transparency logs, as c2sp.org/tlog-witness wants one to answer.

It decides and keeps nothing: what it has seen comes in, what it has to remember goes out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from carbon_ops.errors import InvalidInputError
from carbon_ops.ledger.merkle import EMPTY_ROOT
from carbon_ops.ledger.note import (
    ED25519,
    Checkpoint,
    Signer,
    VerifierKey,
    cosign,
    parse_note,
)
from carbon_ops.ledger.proofs import consistent
from carbon_ops.ledger.witness import Request


class Answer(NamedTuple):
    """An answer: the status of HTTP, its body, and what the witness knows from now on."""

    status: int
    body: bytes = b""
    seen: Checkpoint | None = None


def answer(
    body: bytes,
    logs: Mapping[str, Sequence[VerifierKey]],
    seen: Mapping[str, Checkpoint],
    signer: Signer,
    at_s: int,
) -> Answer:
    """Answer a request as a witness has to.

    Args:
        body: What the log sent.
        logs: The origins that the witness knows, and the keys it trusts for each.
        seen: The largest checkpoint of each that it has signed.
        signer: The witness's own key.
        at_s: The time to state [s since 1970].

    Returns:
        200 with the signature line; 400 for a request that cannot be read or an old size
        above the new; 403 without a signature of the log; 404 for an unknown origin; 409
        with the size the witness knows if ``old`` is another; 422 for a tree that does not
        extend the known one. ``seen`` is to be stored before a 200 is sent.
    """
    try:
        request = Request.parse(body)
        note = parse_note(request.note)
        new = Checkpoint.parse(note.body)
    except InvalidInputError:
        return Answer(400)
    if new.origin not in logs:
        return Answer(404)
    if not any(
        key.kind == ED25519 and key.verifies(note.body, line.blob)
        for key in logs[new.origin]
        for line in note.by(key)
    ):
        return Answer(403)
    if request.old > new.size:
        return Answer(400)
    known = seen.get(new.origin, Checkpoint(new.origin, 0, EMPTY_ROOT))
    if request.old != known.size:
        return Answer(409, b"%d\n" % known.size)
    if not consistent(known.size, new.size, known.root, new.root, request.path):
        return Answer(422)
    return Answer(200, cosign(note.body, signer, at_s), new)
