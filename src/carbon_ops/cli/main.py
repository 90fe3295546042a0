"""The command group. Each command lives in a file of its own, loaded when it is used."""

from __future__ import annotations

import signal
import sys
from io import TextIOWrapper

import click

import carbon_ops
from carbon_ops.cli import output
from carbon_ops.cli.group import LazyGroup
from carbon_ops.errors import CarbonOpsError

CANNOT_WRITE = 2  # as for other input and output that fails

# Each is called ``command`` in a module of its name, with _ for -.
COMMANDS = (
    "calibrate", "demo", "doctor", "estimate", "export", "install-governor", "intensity",
    "ledger", "monitor", "run", "sci", "top", "what-if",
)  # fmt: skip


@click.group(
    cls=LazyGroup,
    lazy={name: (name.replace("-", "_"), "command") for name in COMMANDS},
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        "color": None if output.coloured() else False,
    },
)
@click.version_option(carbon_ops.__version__, prog_name="carbon-ops")
def cli() -> None:
    """Energy and carbon of Python tasks, with an interval, in a record that can be checked.

    Energy comes from the governor when its socket answers, otherwise from counters this
    process may read, otherwise from a model of CPU load; every result says which.
    """


def _terminated(number: int, _frame: object) -> None:
    """Unwind on SIGTERM, so that whatever was started is ended and nothing is lost."""
    raise SystemExit(128 + number)


def main() -> int:
    """Run the command line; return the exit status. Own failures print no traceback."""
    signal.signal(signal.SIGTERM, _terminated)
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal's encoding lacks is no reason to fail.
        if isinstance(stream, TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
    try:
        code = cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show(file=sys.stderr)
        return error.exit_code
    except click.Abort:
        click.echo("interrupted", err=True)
        return 130
    except CarbonOpsError as error:
        click.echo(f"carbon-ops: {error}", err=True)
        if error.hint:
            click.echo(f"  {error.hint}", err=True)
        return error.exit_code
    except OSError as error:  # a full disk, mostly
        output.give_up()
        click.echo(f"carbon-ops: {error.strerror or error}", err=True)
        return CANNOT_WRITE
    return code if isinstance(code, int) else 0
