"""Checkpoints that were kept where the ledger's writer cannot change them."""

from __future__ import annotations

import os
from collections.abc import Sequence

from carbon_ops.errors import InvalidInputError
from carbon_ops.ledger.note import MAX_NOTE_BYTES, Checkpoint, Note, parse_note

Anchor = str | os.PathLike[str] | bytes  # a file's name, or what is in it


class Kept:
    """One of them: a signed note, or its three lines alone."""

    def __init__(self, data: bytes, name: str) -> None:
        self.name = name
        self.note: Note | None = parse_note(data) if b"\n\n" in data else None
        self.checkpoint = Checkpoint.parse(self.note.body if self.note else data)
        self.seen_by: list[str] = []  # witnesses whose lines in it were checked

    @classmethod
    def read(cls, anchor: Anchor) -> Kept:
        """Read an anchor from a file, or take the bytes given.

        Raises:
            NoteError: it is no checkpoint.
            InvalidInputError: the file cannot be read.
        """
        if isinstance(anchor, bytes):
            return cls(anchor, "anchor")
        name = os.fspath(anchor)
        try:
            with open(name, "rb") as file:
                data = file.read(MAX_NOTE_BYTES + 1)
        except OSError as error:
            raise InvalidInputError(
                f"cannot read the anchor {name}: {error.strerror}"
            ) from error
        return cls(data, name)


def read_all(anchor: Anchor | Sequence[Anchor] | None) -> list[Kept]:
    """Return what the caller keeps: nothing, one or several; see :meth:`Kept.read`."""
    if anchor is None:
        return []
    if isinstance(anchor, (str, bytes, os.PathLike)):
        anchor = (anchor,)
    return [Kept.read(one) for one in anchor]
