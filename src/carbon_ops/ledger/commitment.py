"""Values that a record commits to without holding them, so that they can be forgotten.

The record holds the SHA-256 over path, random salt and value; the opening (those three)
lies elsewhere. Who is shown the opening can check it against the record; once every copy
of it is deleted, nobody finds the value by trying, because the salt is gone with it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from hashlib import sha256
from typing import NamedTuple

from carbon_ops.errors import InvalidInputError
from carbon_ops.ledger.canonical import dumps

PREFIX = b"carbon-ops/commit/v1\n"
SALT_BYTES = 32
MIN_SALT_BYTES = 16  # shorter ones can be tried out together with likely values


def read_opening(data: bytes) -> Opening:
    """Read an opening from its file: a JSON object of ``path``, ``salt`` and ``value``.

    Raises:
        InvalidInputError: it is none.
    """
    try:
        found = json.loads(data)
        opening = Opening(found["path"], found["salt"], found["value"])
        sound = len(found) == 3 and type(opening.path) is type(opening.salt) is str
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise InvalidInputError(f"this is no opening: {error}") from None
    if not sound:
        raise InvalidInputError("an opening holds path, salt and value, and no more")
    return opening


class Opening(NamedTuple):
    """What a commitment was made of."""

    path: str  # where in the record the commitment stands, names joined by dots
    salt: str  # random bytes in lower-case hexadecimal
    value: object  # any JSON value

    def commitment(self) -> str:
        """Return the SHA-256 that the record holds, in hexadecimal.

        Raises:
            InvalidInputError: the salt is too short or no hexadecimal, or the value has
                no canonical JSON form.
        """
        try:
            salt = bytes.fromhex(self.salt)
        except ValueError:
            salt = b""
        if len(salt) < MIN_SALT_BYTES or salt.hex() != self.salt:
            raise InvalidInputError(
                f"a salt is at least {MIN_SALT_BYTES} bytes in lower-case hexadecimal"
            )
        return sha256(PREFIX + dumps(self._asdict())).hexdigest()


def commit(path: str, value: object) -> tuple[str, Opening]:
    """Return the commitment to put at ``path`` of a record, and its opening to keep.

    Two commitments to one value differ, so that equal values cannot be told.
    """
    opening = Opening(path, os.urandom(SALT_BYTES).hex(), value)
    return opening.commitment(), opening


def opens(record: Mapping[str, object], opening: Opening) -> bool:
    """Say whether ``opening`` is what ``record`` committed to at its path."""
    found: object = record
    for name in opening.path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    try:
        return found == opening.commitment()
    except InvalidInputError:
        return False
