"""Reads the files of a ledger, whoever wrote them: no symbolic links, bounded memory.

Decides nothing about what the bytes mean. Writes nothing.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from carbon_ops.ledger.chain import MAX_RECORD_BYTES
from carbon_ops.ledger.files import CHECKPOINT, segment_start

CHUNK_BYTES = 1 << 18  # one read; a segment of 256 records of 1 kB
_LONGEST_SEARCH = 1 << 24  # bytes without a line feed after which none is looked for


class NotAFileError(Exception):
    """A name of the ledger leads to a link, a directory, a pipe or a device."""


def segments(directory: str) -> list[int]:
    """Return the first records of the sealed segments, by name, in order."""
    found = (segment_start(name) for name in os.listdir(directory))
    return sorted(first for first in found if first is not None)


def open_file(path: str) -> int | None:
    """Open a regular file for reading; None where there is none.

    Raises:
        NotAFileError: it is something else, a symbolic link above all.
        OSError: it cannot be read.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        state = os.stat(path, follow_symlinks=False)
        if not stat.S_ISREG(state.st_mode):
            raise NotAFileError(path)
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotAFileError(path)
    return descriptor


def read_small(path: str, limit: int) -> bytes | None:
    """Return a small file's bytes, at most ``limit`` + 1; None where there is none."""
    descriptor = open_file(path)
    if descriptor is None:
        return None
    with open(descriptor, "rb") as file:
        return file.read(limit + 1)


def read_checkpoint(path: str, limit: int) -> bytes | None:
    """Return the checkpoint of a ledger's directory, or the one beside a plain file."""
    directory = os.path.isdir(path)
    name = os.path.join(path, CHECKPOINT) if directory else path + ".checkpoint"
    return read_small(name, limit)


class Block(NamedTuple):
    """Some complete lines; in the last block of a file also what follows them."""

    lines: list[bytes]  # without line feeds; one that is too long is cut, but too long
    tail: bytes | None  # None: more blocks follow; else the bytes after the last LF


def blocks(descriptor: int) -> Iterator[Block]:
    """Yield the lines of a file in constant memory, and close it.

    A line that goes on for ever (a sparse file of terabytes) is given up as too long.
    """
    with open(descriptor, "rb", buffering=0) as file:
        rest, searched = b"", 0
        while searched < _LONGEST_SEARCH:
            chunk = file.read(CHUNK_BYTES)
            if not chunk:
                yield Block([], rest)
                return
            lines = (rest + chunk).split(b"\n")
            rest = lines.pop()[: MAX_RECORD_BYTES + 1]
            searched += len(chunk)
            if lines:
                searched = 0
                yield Block(lines, None)
        yield Block([rest], None)
