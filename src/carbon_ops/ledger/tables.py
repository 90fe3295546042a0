"""Copies of a ledger for other programs: JSON lines that verify, tables that read well.

Constant memory: a table is read twice, once for its columns and once for its rows. Its
columns are the members of all records, nested names joined by dots.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import IO, Any

from carbon_ops.errors import InvalidInputError, LedgerError, MissingDependencyError
from carbon_ops.ledger.lines import lines, parsed
from carbon_ops.ledger.note import MAX_NOTE_BYTES
from carbon_ops.ledger.reader import read_checkpoint

_BATCH = 4_096  # rows that go to Parquet together


@contextmanager
def _new(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that must not exist; remove it again if writing fails."""
    try:
        file = open(path, "xb")  # noqa: SIM115, closed below
    except OSError as error:
        raise InvalidInputError(f"cannot write {path}: {error.strerror}") from error
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise


def to_jsonl(ledger: str, output: Path) -> int:
    """Write the lines as they are, and the checkpoint as ``<output>.checkpoint``.

    Returns:
        The number of records.
    """
    note = read_checkpoint(ledger, MAX_NOTE_BYTES)  # first: the lines then cover it
    count = 0
    with _new(output) as file:
        for line in lines(ledger):
            file.write(line + b"\n")
            count += 1
    if note is not None:
        with _new(output.with_name(output.name + ".checkpoint")) as file:
            file.write(note)
    return count


def flat(record: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return one level of members, nested names joined by dots, lists as JSON.

    >>> flat({"a": {"b": 1}, "c": [1, 2]})
    {'a.b': 1, 'c': '[1, 2]'}
    """
    row: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, dict) and value:
            row |= flat(value, f"{prefix}{name}.")
        elif isinstance(value, (dict, list)):
            row[prefix + name] = json.dumps(value, ensure_ascii=False)
        else:
            row[prefix + name] = value
    return row


def rows(ledger: str, kind: str | None) -> Iterator[dict[str, Any]]:
    """Yield flat records, all or those of one type.

    Raises:
        LedgerError: a line is no JSON object.
    """
    for number, line in enumerate(lines(ledger)):
        record = parsed(line)
        if record is None:
            raise LedgerError(
                f"line {number} of {ledger} is no record",
                hint="`carbon-ops ledger verify` says what is wrong.",
            )
        if kind is None or record.get("type") == kind:
            yield flat(record)


_FIRST = ("seq", "type", "prev_hash")


def columns(ledger: str, kind: str | None) -> dict[str, type]:
    """Return the columns in order, each with the type that holds all its values."""
    found: dict[str, type] = dict.fromkeys(_FIRST, str) | {"seq": int}
    for row in rows(ledger, kind):
        for name, value in row.items():
            if value is None:
                found.setdefault(name, type(None))
                continue
            old, new = found.get(name, type(None)), type(value)
            if old is type(None) or old is new:
                found[name] = new
            else:
                found[name] = float if {old, new} == {int, float} else str
    return found


def to_csv(ledger: str, output: Path, kind: str | None) -> int:
    """Write a table as CSV (RFC 4180, UTF-8); null is an empty cell.

    Text is quoted and :func:`guarded`, numbers are bare.
    """
    names = list(columns(ledger, kind))
    count = 0
    with _new(output) as file:
        text = _Text(file)
        table = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\r\n")
        table.writerow(map(guarded, names))
        for row in rows(ledger, kind):
            table.writerow([_cell(row.get(name)) for name in names])
            count += 1
    return count


class _Text:
    """Lets the csv module write to a binary file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, text: str) -> int:
        return self._file.write(text.encode("utf-8"))


_FORMULA = tuple("=+-@\t\r\n＝＋－＠'")


def guarded(text: str) -> str:
    """Return text that no spreadsheet takes for a formula.

    A label may have been chosen by a stranger, and a cell that begins with ``=`` may
    start a program. Such text gets an apostrophe in front, and so does text that begins
    with one: whoever takes off one leading apostrophe has every cell as it was.

    Source: OWASP, "CSV Injection", owasp.org/www-community/attacks/CSV_Injection.

    >>> guarded("=1+1"), guarded("'tis"), guarded("1+1")
    ("'=1+1", "''tis", '1+1')
    """
    return "'" + text if text.startswith(_FORMULA) else text


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return guarded(value) if isinstance(value, str) else value


def _fitting(value: Any, kind: type) -> Any:
    if value is None or kind is type(None):
        return None
    if kind is str and not isinstance(value, str):
        return json.dumps(value)
    return float(value) if kind is float else value


def to_parquet(ledger: str, output: Path, kind: str | None) -> int:
    """Write a table as Parquet, with pyarrow or else duckdb.

    Raises:
        MissingDependencyError: neither is installed.
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        return _by_duckdb(ledger, output, kind)
    return _by_pyarrow(ledger, output, kind)


def _by_pyarrow(ledger: str, output: Path, kind: str | None) -> int:
    import pyarrow as pa
    from pyarrow import parquet

    types = {int: pa.int64(), float: pa.float64(), bool: pa.bool_(), str: pa.string()}
    kinds = columns(ledger, kind)
    schema = pa.schema([(name, types.get(k, pa.string())) for name, k in kinds.items()])
    count = 0
    with _new(output) as file, parquet.ParquetWriter(file, schema) as writer:
        source = rows(ledger, kind)
        while batch := list(islice(source, _BATCH)):
            table = {
                name: [_fitting(row.get(name), k) for row in batch]
                for name, k in kinds.items()
            }
            writer.write_table(pa.table(table, schema=schema))
            count += len(batch)
    return count


def _by_duckdb(ledger: str, output: Path, kind: str | None) -> int:
    try:
        import duckdb
    except ImportError as error:
        raise MissingDependencyError(
            "Parquet needs pyarrow or duckdb, and neither is installed",
            hint="Install one of them, or export csv.",
        ) from error
    types = {int: "BIGINT", float: "DOUBLE", bool: "BOOLEAN"}
    kinds = columns(ledger, kind)
    cells = ", ".join(
        '"{}" {}'.format(name.replace('"', '""'), types.get(k, "VARCHAR"))
        for name, k in kinds.items()
    )
    count = 0
    with _new(output), duckdb.connect() as base:
        base.execute(f"CREATE TABLE ledger ({cells})")
        marks = ", ".join("?" * len(kinds))
        source = rows(ledger, kind)
        while batch := list(islice(source, _BATCH)):
            base.executemany(
                f"INSERT INTO ledger VALUES ({marks})",  # nosec B608: marks, no values
                [[_fitting(row.get(n), k) for n, k in kinds.items()] for row in batch],
            )
            count += len(batch)
        place = str(output).replace("'", "''")
        base.execute(f"COPY ledger TO '{place}' (FORMAT parquet)")
    return count
