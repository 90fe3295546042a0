"""The records of a ledger as they lie there, in order, unverified, in constant memory."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

from carbon_ops.errors import LedgerError
from carbon_ops.ledger.files import ACTIVE, segment_name
from carbon_ops.ledger.reader import NotAFileError, blocks, open_file, segments


def lines(path: str, start: int = 0) -> Iterator[bytes]:
    """Yield the complete lines from record ``start`` on, without their line feeds.

    A line is taken as it is; :func:`carbon_ops.ledger.verify.verify_ledger` says whether
    it may be believed.

    Raises:
        LedgerError: nothing there, a file that is none, or not readable.
    """
    try:
        if not os.path.isdir(path):
            yield from _file(path, start)
            return
        seq = max((f for f in segments(path) if f <= start), default=0)
        while True:
            descriptor = open_file(os.path.join(path, segment_name(seq)))
            sealed = descriptor is not None
            if descriptor is None:
                descriptor = open_file(os.path.join(path, ACTIVE))
            if descriptor is None:
                return
            before = seq
            for found, _ in blocks(descriptor):
                yield from found[max(start - seq, 0) :]
                seq += len(found)
            if not sealed or seq == before:
                return
    except NotAFileError as error:
        raise LedgerError(f"{error} is a symbolic link or no plain file") from error
    except OSError as error:
        raise LedgerError(f"cannot read {error.filename}: {error.strerror}") from error


def _file(path: str, start: int) -> Iterator[bytes]:
    descriptor = open_file(path)
    if descriptor is None:
        raise LedgerError(f"no ledger at {path}")
    seq = 0
    for found, _ in blocks(descriptor):
        yield from found[max(start - seq, 0) :]
        seq += len(found)


def parsed(line: bytes) -> dict[str, Any] | None:
    """Return a line's record; None where it is no JSON object."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def count(path: str) -> int:
    """Return the number of complete lines, without reading the sealed segments."""
    try:
        last = max(segments(path), default=0) if os.path.isdir(path) else 0
    except OSError as error:
        raise LedgerError(f"cannot read {path}: {error.strerror}") from error
    return last + sum(1 for _ in lines(path, last))
