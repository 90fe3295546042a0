"""Is this line a record, in canonical form, at its place in the chain? Bytes in, verdict out.

Opens nothing. The canonical form of most lines is proven fast: a quick JSON codec has to
reproduce the line, and the line must hold none of the things in which that codec and
RFC 8785 differ (whole or exponential floats, integers beyond 2**53 - 1, the order of
names above U+FFFF, depth). Every other line takes the exact way: parsed by the standard
library and written again by :func:`carbon_ops.ledger.canonical.dumps`. Either way a name
that occurs twice is gone after parsing, and the bytes differ.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, NamedTuple, NoReturn

from carbon_ops.ledger.canonical import (
    MAX_DEPTH,
    MAX_INTEGER,
    CanonicalError,
    dumps,
)
from carbon_ops.ledger.chain import MAX_RECORD_BYTES, ZERO_HASH
from carbon_ops.ledger.merkle import node_hash

# Number tokens that the quick codec writes otherwise than RFC 8785: it has no plus sign in
# exponents, and uses them from 1e-5 down instead of from 1e-7 down. An exponent is followed
# by the end of its token, which inside text happens by chance only (and then costs time,
# no more).
_EXPONENT = re.compile(rb"e(?:\d{1,3}|-[1-6])[,}\]]")
_WHOLE_FLOAT = re.compile(rb"\.0[,}\]]")
_SHAPE = bytes(
    ord("0") if c in b"0123456789" else ord(",") if c in b":[,-" else c
    for c in range(256)
)
_LONG_INTEGER = b"," + b"0" * 16
_ABOVE_BMP = bytes(range(0xF0, 0x100))
_SEQ, _PREV, _TYPE = b'"seq":', b'"prev_hash":', b'"type":'
_ROTATE = b'"type":"key_rotate"'
_SPECIAL = ("genesis", "key_rotate", "carbon_estimate")


class Fault(NamedTuple):
    """What is wrong, and with which record."""

    code: str
    seq: int | None
    detail: str


def odd(line: bytes) -> bool:
    """Say whether the quick codec's word on ``line`` would not be enough."""
    return (
        _EXPONENT.search(line) is not None
        or _WHOLE_FLOAT.search(line) is not None
        or _LONG_INTEGER in line.translate(_SHAPE)
        or line.count(b"{") + line.count(b"[") > MAX_DEPTH
        or (not line.isascii() and len(line.translate(None, _ABOVE_BMP)) != len(line))
    )


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def read_exact(line: bytes) -> tuple[dict[str, Any], str, str]:
    """Parse ``line`` and compare it with its canonical form, slowly and exactly.

    Returns:
        The record, a code (empty: all is well) and what is wrong.
    """
    try:
        value = json.loads(
            line.decode("utf-8"),
            parse_constant=_no_constant,
        )
    except (ValueError, RecursionError) as error:
        return {}, "E_PARSE", f"no JSON: {str(error)[:80]}" if line else "an empty line"
    if not isinstance(value, dict):
        return {}, "E_PARSE", f"a JSON {type(value).__name__}, not an object"
    try:
        canonical = dumps(value)
    except (CanonicalError, RecursionError) as error:
        return value, "E_NOT_CANONICAL", str(error)[:120]
    if canonical != line:
        return value, "E_NOT_CANONICAL", "its bytes are not the RFC 8785 form"
    return value, "", ""


def fold(first: int, leaves: Sequence[bytes]) -> list[tuple[int, bytes]]:
    """Return the roots of the largest complete subtrees over a run of leaf hashes.

    Args:
        first: Place of the first leaf in the whole tree.
        leaves: Leaf hashes, 32 bytes each.

    Returns:
        (number of leaves, root) from left to right, each aligned in the whole tree.
    """
    made = []
    at, end = first, first + len(leaves)
    while at < end:
        count = at & -at if at else 1 << (end - at).bit_length() - 1
        while count > end - at:
            count >>= 1
        level = list(leaves[at - first : at - first + count])
        while len(level) > 1:
            pairs = iter(level)
            level = [
                node_hash(left, right) for left, right in zip(pairs, pairs, strict=True)
            ]
        made.append((count, level[0]))
        at += count
    return made


class Chain:
    """Walks over records in order. Stops for good at the first fault.

    Args:
        seq: Number of the first record to come.
        prev_hash: Hash of the record before it; None where the caller compares
            :attr:`first_prev` itself (segments checked side by side).
        covered: Records from here on do not count for :attr:`newest`.
        links_only: Check the hashes that link the records, and nothing else.
        recompute: Called with each ``carbon_estimate``; text says what does not follow,
            None that it cannot be repeated.
    """

    def __init__(
        self,
        seq: int = 0,
        prev_hash: str | None = ZERO_HASH,
        *,
        covered: int = MAX_INTEGER,
        links_only: bool = False,
        recompute: Callable[[dict[str, Any]], str | None] | None = None,
    ) -> None:
        import msgspec

        self.seq = seq
        self.prev_hash = prev_hash
        self.first_prev: str | None = None
        self.leaves: list[bytes] = []
        self.genesis: dict[str, Any] | None = None
        self.rotations: list[tuple[int, dict[str, Any]]] = []
        self.newest: str | None = None  # time of the last covered record that has one
        self.recomputed = 0  # estimates whose numbers were derived anew
        self.skipped = 0  # and those of a schema that cannot be
        self.fault: Fault | None = None
        self._covered = covered
        self._recompute = recompute
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder().decode
        self._encode: Callable[[Any], bytes] = msgspec.json.Encoder(
            order="sorted"
        ).encode
        self.feed = self._links if links_only else self._records

    def _records(self, lines: Sequence[bytes]) -> bool:
        """Check complete lines (no line feeds); return False at the first fault."""
        decode, encode, add = self._decode, self._encode, self.leaves.append
        seq, prev = self.seq, self.prev_hash
        for line in lines:
            if len(line) > MAX_RECORD_BYTES:
                return self._stop(seq, "E_LIMIT", f"longer than {MAX_RECORD_BYTES}")
            try:
                record = decode(line)
                exact = encode(record) == line and not odd(line)
            except (ValueError, RecursionError):
                exact = False
            if not exact:
                record, code, why = read_exact(line)
                if code:
                    return self._stop(seq, code, why)
            if type(record) is not dict:
                return self._stop(seq, "E_PARSE", "JSON, but not an object")
            found = record.get("seq")
            if found != seq or type(found) is not int:
                return self._stop(seq, "E_SEQ", f"its seq is {found!r:.40}")
            before = record.get("prev_hash")
            if before != prev:
                if prev is not None or type(before) is not str:
                    why = f"its prev_hash is not the hash of record {seq - 1}"
                    return self._stop(seq, "E_PREV_HASH", why)
                self.first_prev = before
            kind = record.get("type")
            if type(kind) is not str or not kind:
                return self._stop(seq, "E_SCHEMA", f"its type is {kind!r:.40}")
            if line.count(_SEQ) + line.count(_PREV) + line.count(_TYPE) != 3:
                return self._stop(seq, "E_SCHEMA", "a reserved name below the top")
            if kind in _SPECIAL and not self._special(seq, kind, record):
                return False
            if seq < self._covered:
                at = record.get("timestamp_end", record.get("ts"))
                if type(at) is str:
                    self.newest = at
            prev = sha256(line).hexdigest()
            add(sha256(b"\x00" + line).digest())
            seq += 1
            self.seq, self.prev_hash = seq, prev
        return True

    def _links(self, lines: Sequence[bytes]) -> bool:
        seq, prev = self.seq, self.prev_hash
        for line in lines:
            at = line.find(_PREV) + len(_PREV) + 1
            before = line[at : at + 64]
            if prev is None:
                self.first_prev = before.decode("ascii", "replace")
            elif before != prev.encode():
                why = f"its prev_hash is not the hash of record {seq - 1}"
                return self._stop(seq, "E_PREV_HASH", why)
            if seq == 0 or _ROTATE in line:  # which key has to sign still matters
                record = read_exact(line)[0]
                if record.get("type") == "genesis":
                    self.genesis = record
                elif record.get("type") == "key_rotate":
                    self.rotations.append((seq, record))
            prev = sha256(line).hexdigest()
            seq += 1
            self.seq, self.prev_hash = seq, prev
        return True

    def _special(self, seq: int, kind: str, record: dict[str, Any]) -> bool:
        if kind == "genesis":
            if seq:
                return self._stop(seq, "E_GENESIS", "a second genesis")
            self.genesis = record
        elif kind == "key_rotate":
            self.rotations.append((seq, record))
        elif self._recompute is not None:
            wrong = self._recompute(record)
            if wrong:
                return self._stop(seq, "E_RECOMPUTE", wrong)
            self.recomputed += wrong is not None
            self.skipped += wrong is None
        return True

    def _stop(self, seq: int, code: str, why: str) -> bool:
        self.fault = Fault(code, seq, f"record {seq}: {why}")
        return False
