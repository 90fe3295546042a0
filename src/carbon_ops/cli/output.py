"""Printing to a reader that may go away, or a disk that may be full."""

from __future__ import annotations

import os
import sys
from typing import IO

LEAST_COLUMNS = 30  # narrower text is no easier to read in pieces
READER_GONE = 141  # 128 + SIGPIPE, as a shell shows it


def put(text: str) -> None:
    """Write ``text`` to standard output at once.

    Raises:
        SystemExit: the reader has gone; the status is that of a death by SIGPIPE.
        OSError: it cannot be written for another reason, such as a full disk.
    """
    if sys.stdout is None:  # closed by whoever started us
        return
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        give_up()
        raise SystemExit(READER_GONE) from None


def visible(text: str) -> str:
    """Return one line of what a stranger wrote: nothing in it moves the cursor or hides.

    >>> visible("a\x1b[2Jb\n# c\u202e")
    'a?[2Jb?# c?'
    """
    return "".join(c if c.isprintable() else "?" for c in text)


def figure(value: float | None, width: int, digits: int) -> str:
    """Return ``value`` for a column of a table; a dash where it is not known.

    >>> figure(1.25, 6, 1), figure(None, 4, 1)
    ('   1.2', '   -')
    """
    return f"{'-':>{width}}" if value is None else f"{value:{width}.{digits}f}"


def fit(text: str, descriptor: int, indent: int) -> str:
    """Return ``text`` broken between words for the terminal that ``descriptor`` is.

    What goes on in a next line begins ``indent`` columns to the right. Files and
    programs get whole lines.
    """
    try:
        width = os.get_terminal_size(descriptor).columns
    except OSError:  # no terminal, or closed
        return text
    if width < LEAST_COLUMNS:  # 0: a terminal that does not know its size
        return text
    from textwrap import fill

    return "\n".join(
        fill(
            line,
            width,
            subsequent_indent=" " * indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in text.split("\n")
    )


def is_terminal(stream: IO[str] | None) -> bool:
    """Return whether people read ``stream`` as it comes, on a terminal that moves."""
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


def coloured() -> bool:
    """Return whether a terminal may show colours (https://no-color.org)."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def give_up() -> None:
    """Let what is still to be printed go nowhere: Python flushes once more at its end."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), sys.stdout.fileno())
