"""``carbon-ops ledger init`` and what else changes a ledger."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import click

from carbon_ops.errors import InvalidInputError
from carbon_ops.ledger import keys
from carbon_ops.ledger.note import Signer

_KEY_FILE = click.option(
    "--key-file",
    type=click.Path(path_type=Path),
    help="Private key of the ledger (default: $CARBON_OPS_LEDGER_KEY, or the ledger's "
    "below ~/.config/carbon-ops/keys).",
)


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
@_KEY_FILE
@click.option(
    "--unsigned",
    is_flag=True,
    help="Without a key: that newest records were cut off will not show.",
)
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
    examples:
      carbon-ops ledger init audit
      carbon-ops ledger init audit --origin host.example/audit --json

    \b
    exit status:
      0  made
      2  wrong usage, or something is in the way
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


@click.command("rotate-key")
@click.argument("ledger", type=click.Path())
@_KEY_FILE
@click.option(
    "--new-key-file",
    type=click.Path(path_type=Path),
    help="Keep the new key there instead; writers do not look there by themselves.",
)
def rotate_key(ledger: str, key_file: Path | None, new_key_file: Path | None) -> None:
    """Hand LEDGER over to a new key; both keys sign the record that says so.

    The new key takes the old one's place, where programs look for it: those that are
    running take it up with their next record. The old one is kept beside it under a name
    that ends in .retired-ID, and signs nothing any more; delete it when all is well.
    Verifiers who hold the old public key follow by themselves; give them the new one all
    the same. If it is interrupted, run it again.

    \b
    example:
      carbon-ops ledger rotate-key audit

    \b
    exit status:
      0  done
      2  wrong usage, no ledger, no key
    """
    from carbon_ops.ledger.store import Ledger

    with Ledger.open(ledger, key_file=key_file) as opened:
        place = key_file or keys.key_path(opened.origin)
        waiting = new_key_file or keys.successor(place)
        made = not waiting.exists()
        new = Signer.generate(opened.origin) if made else keys.load(waiting)
        if new.name != opened.origin:
            raise InvalidInputError(
                f"{waiting} is a key of {new.name}, the ledger is {opened.origin}"
            )
        if made:
            keys.save(new, waiting)
        kept: list[Path] = []

        def install() -> None:
            kept.append(keys.install(place))

        if new_key_file is not None:
            receipt = opened.rotate_key(new)
            place = new_key_file
        elif opened.vkey == new.vkey:  # interrupted before it was put in its place
            receipt = None
            install()
        else:
            receipt = opened.rotate_key(new, install)
    click.echo(f"record   {receipt.seq}" if receipt else "finished an earlier change")
    click.echo(f"key      {place} (secret)")
    if kept:
        click.echo(f"old key  {kept[0]} (retired)")
    click.echo(f"vkey     {new.vkey}")
    if new_key_file is not None:
        click.echo(f"Name {place} in {keys.ENV} for every writer.", err=True)


@click.command("heartbeat")
@click.argument("ledger", type=click.Path())
@_KEY_FILE
def heartbeat(ledger: str, key_file: Path | None) -> None:
    """Write a record that says LEDGER was alive now; for a timer.

    With it `ledger verify --max-age` tells a ledger that has nothing to say from one
    that was stopped, or cut and continued elsewhere. Programs that write to a ledger do
    so by themselves, once an hour. Prints the record's number and hash.

    \b
    example, for a crontab:
      @hourly carbon-ops ledger heartbeat /var/lib/audit

    \b
    exit status:
      0  written
      2  it could not be
    """
    from carbon_ops.ledger.store import Ledger

    with Ledger.open(ledger, key_file=key_file) as opened:
        receipt = opened.heartbeat()
    click.echo(f"record {receipt.seq} {receipt.hash}")


@click.command("repair")
@click.argument("ledger", type=click.Path())
@_KEY_FILE
def repair(ledger: str, key_file: Path | None) -> None:
    """Cut damaged bytes off the end of LEDGER, beyond the last checkpoint.

    They are kept in a quarantine file of its directory, and a record says so. Nothing
    under the checkpoint is touched: damage there is refused, and `ledger verify` names
    the record. Programs that open a signed ledger do this by themselves; in an unsigned
    one, where nothing shows which records were committed, only this command cuts off
    records that follow the damage.

    \b
    example:
      carbon-ops ledger repair audit

    \b
    exit status:
      0  whole, or whole again
      1  damaged under the checkpoint, and left as it was
      2  it cannot be read or written
    """
    from carbon_ops.ledger.store import Ledger

    with Ledger.open(ledger, key_file=key_file, repair=True) as opened:
        found = opened.recovered
    if found is None:
        click.echo("nothing to repair")
        return
    click.echo(
        f"cut at record {found.seq}: {found.torn_bytes} bytes moved to {found.quarantine}"
    )
