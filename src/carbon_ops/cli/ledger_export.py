"""``carbon-ops ledger export`` and ``schema``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from carbon_ops.ledger import tables


@click.command("export")
@click.argument("ledger", type=click.Path(exists=True))
@click.argument("output", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "csv", "parquet", "tiles"]),
    help="Default: by the ending of OUTPUT's name.",
)
@click.option("--type", "kind", help="Only records of this type (csv, parquet).")
def export(ledger: str, output: Path, form: str | None, kind: str | None) -> None:
    """Write LEDGER's records to a new file OUTPUT, or tiles to a new folder.

    jsonl is the records as they are; with OUTPUT.checkpoint beside it, it verifies like
    the ledger itself. csv and parquet are tables for reading: one column per member,
    nested names joined by dots, lists as JSON text. They prove nothing. In csv, text
    that a spreadsheet could take for a formula has an apostrophe in front, and so has
    text that begins with one: take off one to have it back. parquet needs pyarrow or
    duckdb. tiles is a folder with the checkpoint, the records it covers and
    the hash tree over them, as clients of transparency logs read it (c2sp.org/tlog-tiles).
    Verify first: the others take the lines as they are.

    \b
    examples:
      carbon-ops ledger export audit audit.jsonl
      carbon-ops ledger export audit grams.csv --type carbon_estimate

    \b
    exit status:
      0  written
      2  wrong usage, a line that is no record, OUTPUT is there already, or, for
         tiles, the records are not those signed
    """
    form = form or output.suffix.lstrip(".").lower()
    writers = {"csv": tables.to_csv, "parquet": tables.to_parquet}
    if form == "jsonl" and kind is None:
        count = tables.to_jsonl(ledger, output)
    elif form == "tiles" and kind is None:
        from carbon_ops.ledger.tiles import to_tiles

        count = to_tiles(ledger, output)
    elif form in writers:
        count = writers[form](ledger, output, kind)
    else:
        raise click.UsageError(
            f"--type chooses rows of csv and parquet, not of {form}"
            if form in ("jsonl", "tiles")
            else f"the name {output} does not say which format: give --format"
        )
    click.echo(f"{count} records written to {output}", err=True)


@click.command("schema")
@click.argument("kind", required=False)
def schema(kind: str | None) -> int:
    """Print the JSON Schema of records of type KIND, or list the types.

    Published with the documentation and never changed: a new form of a record gets a
    new number in its `$id`.

    \b
    example:
      carbon-ops ledger schema carbon_estimate > carbon_estimate.json

    \b
    exit status:
      0  printed
      2  no such type
    """
    from carbon_ops.ledger.schema import KINDS, schema_of

    if kind is None:
        click.echo("\n".join(KINDS))
        return 0
    if kind not in KINDS:
        click.echo(f"no record type {kind!r}: {', '.join(KINDS)}", err=True)
        return 2
    click.echo(json.dumps(schema_of(kind), indent=2))
    return 0
