"""A group of commands that imports one only when it is named."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from carbon_ops.cli import output


class LazyGroup(click.Group):
    """Args: lazy: name of each command: (module below carbon_ops.cli, name in it)."""

    def __init__(
        self, *args: Any, lazy: Mapping[str, tuple[str, str]], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self.lazy)

    def get_command(
        self, ctx: click.Context, cmd_name: str  # noqa: ARG002
    ) -> click.Command | None:
        if cmd_name not in self.lazy:
            return None
        module, name = self.lazy[cmd_name]
        command = getattr(import_module(f"carbon_ops.cli.{module}"), name)
        if not isinstance(command, click.Command):
            raise TypeError(f"carbon_ops.cli.{module} defines no command {name}")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches

            path, wanted = ctx.command_path, args[0]
            near = [f"{path} {name}" for name in get_close_matches(wanted, self.lazy)]
            for inner in self.lazy:
                command = self.get_command(ctx, inner)
                known = isinstance(command, click.Group) and command.list_commands(ctx)
                if known and wanted in known:
                    near.append(f"{path} {inner} {wanted}")
            if not near:
                raise
            said = f"{error.message} Did you mean: {', '.join(near)}?"
            raise click.UsageError(said, ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # click would make it a 1, which means something else
            output.give_up()
            raise SystemExit(output.READER_GONE) from None

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """List the commands with their whole first sentence."""
        rows = []
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                rows.append((name, command.get_short_help_str(limit=200)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)
