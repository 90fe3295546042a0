"""What a ledger sends to a witness.

Pure. A witness remembers, for each log it knows, the largest tree it has seen, and signs
a checkpoint only if that tree is the beginning of the new one: whoever holds the log's key
cannot then show two histories, or roll one back, to people who ask for the signature.

Source
    C2SP: c2sp.org/tlog-witness, the call ``add-checkpoint``.
"""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple

from carbon_ops.errors import InvalidInputError

MAX_REQUEST_BYTES = 1 << 17
_MAX_PATH = 63  # as in a proof file: a tree of 2**53 records is 53 high


class Request(NamedTuple):
    """A request to sign: the tree of the note's checkpoint extends that of ``old``."""

    old: int
    path: tuple[bytes, ...]
    note: bytes

    def text(self) -> bytes:
        """Return the body to send."""
        lines = [f"old {self.old}", *(base64.b64encode(h).decode() for h in self.path)]
        return "\n".join(lines).encode() + b"\n\n" + self.note

    @classmethod
    def parse(cls, body: bytes) -> Request:
        """Read a body, as a witness does.

        Raises:
            InvalidInputError: it has another form, or more than 63 hashes.
        """
        head, found, note = body.partition(b"\n\n")
        first, *rest = head.split(b"\n")
        digits = first[4:]
        known = first.startswith(b"old ") and digits.isdigit() and len(digits) < 17
        if (
            not found
            or not known
            or len(rest) > _MAX_PATH
            or len(body) > MAX_REQUEST_BYTES
        ):
            raise InvalidInputError("this is no request to add a checkpoint")
        if len(digits) > 1 and digits.startswith(b"0"):
            raise InvalidInputError(
                f"the old size {digits.decode()} begins with a zero"
            )
        try:
            path = tuple(base64.b64decode(line, validate=True) for line in rest)
        except binascii.Error as error:
            raise InvalidInputError(f"a hash of the request: {error}") from None
        if any(len(node) != 32 for node in path):
            raise InvalidInputError("a hash of the request has not 32 bytes")
        return cls(int(digits), path, note)
