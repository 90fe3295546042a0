"""Print the first N lines of the published ES6 number file, written by our encoder."""

from __future__ import annotations

import itertools
import struct
import sys
from collections.abc import Iterator
from hashlib import sha256
from math import isfinite
from pathlib import Path

from carbon_ops.ledger.canonical import number


def words() -> Iterator[int]:
    """Yield the IEEE 754 words of the published sequence, without end."""
    edges = (Path(__file__).parent / "es6_edges.txt").read_text(encoding="ascii")
    yield from (int(word, 16) for word in edges.split())
    yield from range(0x0010000000000000, 0x0010000000000000 + 2_000)
    block = bytes(32)
    while True:
        block = sha256(block).digest()
        for word, value in zip(
            struct.unpack("<4Q", block), struct.unpack("<4d", block), strict=True
        ):
            if value != 0 and isfinite(value):
                yield word


def lines() -> Iterator[bytes]:
    """Yield ``hex,expected`` lines with their line feeds."""
    for word in words():
        value = struct.unpack("<d", struct.pack("<Q", word))[0]
        yield f"{word:x},{number(value)}\n".encode()


if __name__ == "__main__":
    sys.stdout.buffer.writelines(itertools.islice(lines(), int(sys.argv[1])))
