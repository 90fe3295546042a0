"""``carbon-ops ledger show``."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import click

from carbon_ops.cli.output import visible
from carbon_ops.ledger.lines import count, lines, parsed


@click.command("show")
@click.argument("ledger", type=click.Path())
@click.argument("seq", type=click.IntRange(0), required=False)
@click.option(
    "--last", type=click.IntRange(1), default=10, help="How many records (default 10)."
)
@click.option("--json", "as_json", is_flag=True, help="Print the records' own lines.")
def show(ledger: str, seq: int | None, last: int, as_json: bool) -> int:
    """List the last records of LEDGER, or print record SEQ.

    Shows what is written there and checks nothing: `ledger verify` does. A line has the
    record's number, type, time (UTC), energy [J] or carbon [gCO2e], and what it is about.

    \b
    examples:
      carbon-ops ledger show audit --last 3
      carbon-ops ledger show audit 17 --json

    \b
    exit status:
      0  shown
      2  no such ledger or record
    """
    if seq is not None:
        line = next(lines(ledger, seq), None)
        if line is None:
            click.echo(f"carbon-ops: no record {seq} in {ledger}", err=True)
            return 2
        record = _read(line)
        text = line.decode("utf-8", "replace")
        if as_json:
            click.echo(text)
            return 0
        for shown in json.dumps(record, indent=2, ensure_ascii=False).split("\n"):
            click.echo(visible(shown))
        return 0
    size = count(ledger)
    if not size:
        click.echo(f"carbon-ops: no records in {ledger}", err=True)
        return 2
    for line in lines(ledger, max(size - last, 0)):
        click.echo(line.decode("utf-8", "replace") if as_json else _row(_read(line)))
    return 0


def _read(line: bytes) -> dict[str, Any]:
    return parsed(line) or {"type": "unreadable", "bytes": len(line)}


def _row(record: dict[str, Any]) -> str:
    energy = record.get("energy")
    at = str(record.get("timestamp_end", record.get("ts", "")))
    cells = [f"{record.get('seq', '?')!s:>8}", f"{record.get('type', '?')!s:<16}"]
    cells.append(f"{at:<27}")
    joules = energy.get("energy_j_total") if isinstance(energy, dict) else None
    for value, digits, unit in (
        (joules, 3, "J"),
        (record.get("carbon_gco2e"), 6, "g"),
    ):
        with suppress(
            TypeError, ValueError, OverflowError
        ):  # no number, or a strange one
            cells.append(f"{value:12.{digits}f} {unit}")
    cells.append(str(record.get("operation", record.get("span_id", ""))))
    return visible("  ".join(cells)).rstrip()
