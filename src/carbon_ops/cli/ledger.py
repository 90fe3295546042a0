"""``carbon-ops ledger``: the group. Its commands are imported when they are named."""

from __future__ import annotations

import click

from carbon_ops.cli.group import LazyGroup

# Name of the command: (module below carbon_ops.cli, name in it).
COMMANDS = {
    "init": ("ledger_keep", "init"),
    "show": ("ledger_show", "show"),
    "verify": ("ledger_verify", "verify"),
    "anchor": ("ledger_prove", "anchor"),
    "prove": ("ledger_prove", "prove"),
    "check-proof": ("ledger_prove", "check_proof"),
    "witness-request": ("ledger_prove", "witness_request"),
    "export": ("ledger_export", "export"),
    "schema": ("ledger_export", "schema"),
    "audit-report": ("ledger_report", "audit_report"),
    "heartbeat": ("ledger_keep", "heartbeat"),
    "rotate-key": ("ledger_keep", "rotate_key"),
    "repair": ("ledger_keep", "repair"),
}


@click.group(cls=LazyGroup, lazy=COMMANDS)
def command() -> None:
    """Keep records that cannot be changed unseen, and check those of others.

    A ledger is a directory of JSON lines, each holding the hash of the one before; with a
    key, a signed checkpoint covers all of them. Whoever has the public key (vkey) can
    check it without trusting the writer's machine.

    \b
    examples:
      carbon-ops ledger init audit                       prints the vkey
      carbon-ops run --ledger audit -- make bench
      carbon-ops ledger verify audit --vkey "$VKEY"
      carbon-ops ledger anchor audit /mnt/elsewhere --vkey "$VKEY"
    """
