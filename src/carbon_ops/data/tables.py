"""The shipped tables, read when they are asked for and then kept.

A file begins with ``# key: value`` lines (unit, year, source, licence and what else
holds for all its rows), then one line of column names, then the rows. Cells are separated
by commas; only the last one may hold a comma itself, so nothing is quoted. This module
converts nothing and knows nothing about regions.
"""

from __future__ import annotations

import os

_FOLDER = os.path.dirname(__file__)
_kept: dict[str, Table] = {}


class Table:
    """One file of figures.

    ``meta`` holds the facts about the whole file, ``rows`` the cells by the first column
    without that column, ``columns`` their names. ``sha256`` is the file's own, in hex,
    and makes a figure taken from it recomputable.
    """

    __slots__ = ("columns", "meta", "rows", "sha256")

    def __init__(self, raw: bytes) -> None:
        from hashlib import sha256

        self.sha256 = sha256(raw).hexdigest()
        self.meta: dict[str, str] = {}
        lines = iter(raw.decode().splitlines())
        for line in lines:
            if not line.startswith("# "):
                break
            key, _, value = line[2:].partition(": ")
            self.meta[key] = value
        names = line.split(",")
        self.columns = tuple(names[1:])
        last = len(names) - 1
        self.rows: dict[str, tuple[str, ...]] = {}
        for line in lines:
            key, *cells = line.split(",", last)
            self.rows[key] = tuple(cells)


def load(name: str) -> Table:
    """Return the table ``name`` (without ``.csv``), reading it once per process.

    Raises:
        FileNotFoundError: the package ships no such table.
    """
    table = _kept.get(name)
    if table is None:
        with open(os.path.join(_FOLDER, name + ".csv"), "rb") as file:
            table = _kept[name] = Table(file.read())
    return table
