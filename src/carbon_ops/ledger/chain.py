"""A record's bytes, and the hash that the next record carries.

A record is one canonical JSON object with three reserved members: ``seq`` counts from 0,
``prev_hash`` is the SHA-256 of the record before it (without its line feed), ``type``
says what it is. The chain shows an edit, a swap, an insertion or a deletion in the
middle. It cannot show that the end is missing: the signed checkpoint does.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import NamedTuple

from carbon_ops.errors import InvalidInputError
from carbon_ops.ledger.canonical import MAX_INTEGER, dumps

ZERO_HASH = "0" * 64  # prev_hash of the first record
MAX_RECORD_BYTES = 65_535  # C2SP tlog-tiles: the length of an entry is a uint16
RESERVED = ("seq", "prev_hash", "type")
FORMAT = 1


class RecordError(InvalidInputError):
    """A record cannot be written as it is; nothing was written."""


def record_hash(line: bytes) -> str:
    """Return the lower-case hex SHA-256 of a record's bytes, line feed not included.

    >>> record_hash(b"{}")[:16]
    '44136fa355b3678a'
    """
    return sha256(line).hexdigest()


class Draft(NamedTuple):
    """A record in canonical form that lacks only its place in the chain.

    The expensive part of writing is done before the lock is taken, and what the caller
    does to its dictionary afterwards changes nothing.
    """

    before: bytes  # members that sort before "prev_hash", with a comma if any
    between: bytes  # members between "prev_hash" and "seq", with a comma if any
    after: bytes  # members after "seq"; never empty, "type" is one

    def line(self, seq: int, prev_hash: str) -> bytes:
        """Return the record's bytes at its place, without the line feed."""
        return b'{%b"prev_hash":"%b",%b"seq":%d,%b}' % (
            self.before,
            prev_hash.encode(),
            self.between,
            seq,
            self.after,
        )


def draft(record: Mapping[str, object]) -> Draft:
    """Return ``record`` in canonical form, ready for its place in the chain.

    Raises:
        CanonicalError: a value has no canonical JSON form.
        RecordError: ``type`` is missing, a reserved name is used by the caller or
            below the top level, a double is a whole number that readers take for an
            integer out of range, or the record would be longer than 65,535 bytes.

    >>> draft({"type": "heartbeat", "a": 1}).line(7, ZERO_HASH)[:20]
    b'{"a":1,"prev_hash":"'
    """
    kind = record.get("type")
    if not isinstance(kind, str) or not kind:
        raise RecordError(f"a record needs a type, got {kind!r}")
    for name in ("seq", "prev_hash"):
        if name in record:
            raise RecordError(f"{name!r} is written by the ledger, not by the caller")
    parts: tuple[dict[str, object], ...] = ({}, {}, {})
    for name, value in record.items():
        place = (
            2 if not isinstance(name, str) else (name > "prev_hash") + (name > "seq")
        )
        parts[place][name] = value
    before, between, after = (dumps(part)[1:-1] for part in parts)
    for value in record.values():
        _refuse_misleading(value)  # after dumps, which bounds the depth
    made = Draft(before and before + b",", between and between + b",", after)
    longest = len(made.line(MAX_INTEGER, ZERO_HASH))
    if longest > MAX_RECORD_BYTES:
        raise RecordError(
            f"a record holds at most {MAX_RECORD_BYTES} bytes, this one {longest}"
        )
    return made


def _refuse_misleading(value: object) -> None:
    """Refuse what a reader of the line would not read as it was meant.

    Line-based tools find ``"prev_hash":`` by its name alone. A whole double from 2**53 to
    1e21 is written as plain digits, which read back as an integer out of range.
    """
    if isinstance(value, dict):
        for name in RESERVED:
            if name in value:
                raise RecordError(f"{name!r} is reserved: not below the top level")
        value = value.values()
    elif isinstance(value, float):
        if MAX_INTEGER < abs(value) < 1e21:
            raise RecordError(
                f"{value!r} is a whole number beyond 2**53 - 1",
                hint="Write it as a decimal string or in a larger unit.",
            )
        return
    elif not isinstance(value, (list, tuple)):
        return
    for inner in value:
        if isinstance(inner, (dict, list, tuple, float)):
            _refuse_misleading(inner)
