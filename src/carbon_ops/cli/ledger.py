"""``carbon-ops ledger``: the group. Its commands are imported when they are named."""

from __future__ import annotations

from importlib import import_module

import click

# Name of the command: (module below carbon_ops.cli, name in it).
COMMANDS = {
    "init": ("ledger_keep", "init"),
    "show": ("ledger_show", "show"),
    "verify": ("ledger_verify", "verify"),
    "anchor": ("ledger_prove", "anchor"),
    "prove": ("ledger_prove", "prove"),
    "check-proof": ("ledger_prove", "check_proof"),
    "export": ("ledger_export", "export"),
    "schema": ("ledger_export", "schema"),
    "audit-report": ("ledger_report", "audit_report"),
    "heartbeat": ("ledger_keep", "heartbeat"),
    "rotate-key": ("ledger_keep", "rotate_key"),
    "repair": ("ledger_keep", "repair"),
}


class LedgerGroup(click.Group):
    """A group that imports a command only when it is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(
        self, ctx: click.Context, cmd_name: str  # noqa: ARG002
    ) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name]
        command = getattr(import_module(f"carbon_ops.cli.{module}"), name)
        if not isinstance(command, click.Command):
            raise TypeError(f"carbon_ops.cli.{module} defines no command {name}")
        return command


@click.group(cls=LedgerGroup)
def command() -> None:
    """Keep records that cannot be changed unseen, and check those of others.

    A ledger is a directory of JSON lines, each holding the hash of the one before; with a
    key, a signed checkpoint covers all of them. Whoever has the public key (vkey) can
    check it without trusting the writer's machine.
    """
