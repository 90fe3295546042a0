"""``carbon-ops ledger init`` and what else changes a ledger."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import click

from carbon_ops.ledger import keys
from carbon_ops.ledger.note import Signer


def default_origin(path: str) -> str:
    """Return host and directory as a name that can be a key's name."""
    plain = [
        "".join(c if c.isalnum() or c in "-._" else "-" for c in part).strip("-")
        for part in (socket.gethostname(), os.path.basename(os.path.abspath(path)))
    ]
    return "/".join(part or "ledger" for part in plain)


@click.command("init")
@click.argument("ledger", type=click.Path())
@click.option("--origin", help="Name of the ledger (default: host/directory).")
@click.option(
    "--key-file",
    type=click.Path(path_type=Path),
    help="Where the private key lies or is put (default: below ~/.config).",
)
@click.option("--unsigned", is_flag=True, help="No key: a cut tail will not show.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def init(
    ledger: str,
    origin: str | None,
    key_file: Path | None,
    unsigned: bool,
    as_json: bool,
) -> None:
    """Make a new ledger at LEDGER, and a key for it, and print the public key.

    The private key (mode 0600) lies outside the ledger; an existing key file is used as
    it is. Give the printed vkey to whoever is to check the ledger, by another way than
    the ledger itself.

    \b
    Exit status: 0 made, 2 wrong usage, or something is in the way.
    """
    from carbon_ops.ledger.store import Ledger

    name = origin or default_origin(ledger)
    signer: Signer | None = None
    place = key_file or keys.key_path(name)
    made = False
    if not unsigned:
        made = not place.exists()
        signer = Signer.generate(name) if made else keys.load(place)
        if made:
            keys.save(signer, place)
    try:
        Ledger.init(ledger, origin=name, signer=signer).close()
    except BaseException:
        if made:
            place.unlink(missing_ok=True)
        raise
    result = {
        "ledger": ledger,
        "origin": name,
        "vkey": signer.vkey if signer else None,
        "key_file": str(place) if signer else None,
    }
    if as_json:
        click.echo(json.dumps(result, indent=2))
        return
    click.echo(f"ledger   {ledger}\norigin   {name}")
    if signer is None:
        click.echo("unsigned: that its end was cut off will not show")
    else:
        click.echo(f"key      {place} (secret)\nvkey     {signer.vkey}")
