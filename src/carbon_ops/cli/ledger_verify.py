"""``carbon-ops ledger verify``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

import click

from carbon_ops.cli.output import visible
from carbon_ops.errors import InvalidInputError, LedgerError
from carbon_ops.ledger.lines import count
from carbon_ops.ledger.reader import segments
from carbon_ops.ledger.report import Report
from carbon_ops.ledger.verify import verify_ledger

_Command = TypeVar("_Command", bound=Callable[..., object])


def trusted_keys(command: _Command) -> _Command:
    """Add the options that name the trusted keys and the ledger's origin."""
    for option in (
        click.option(
            "--origin", help="Name that the ledger must have (default: the key's)."
        ),
        click.option(
            "--vkey-file",
            multiple=True,
            type=click.Path(),
            help="File with such keys, one a line; may be repeated.",
        ),
        click.option(
            "--vkey",
            multiple=True,
            help="Public key that you trust, the ledger's or a witness's; may be repeated.",
        ),
    ):
        command = option(command)
    return command


jobs_option = click.option(
    "--jobs",
    type=click.IntRange(1, 64),
    help="Processes that work side by side (default: one per CPU for a large ledger).",
)

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SEGMENTS_WORTH_A_PROCESS = 64  # below, starting processes costs more than it saves


def seconds(text: str | None) -> float | None:
    """Read a duration like 90, 90s, 15m, 2h or 7d [s].

    Raises:
        InvalidInputError: it is none.
    """
    if text is None:
        return None
    unit = _UNITS.get(text[-1:])
    try:
        value = float(text if unit is None else text[:-1]) * (unit or 1.0)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise InvalidInputError(f"{text!r} is no duration like 90s, 15m, 2h or 7d")
    return value


def read_vkeys(given: tuple[str, ...], files: tuple[str, ...]) -> list[str]:
    """Return the keys given as text and those in files, one a line, # for comments.

    Raises:
        InvalidInputError: a file cannot be read.
    """
    keys = list(given)
    for name in files:
        try:
            with open(name, encoding="utf-8") as file:
                lines = [line.strip() for line in file.read(1 << 20).splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInputError(
                f"cannot read the keys in {name}: {error}"
            ) from error
        keys += [line for line in lines if line and not line.startswith("#")]
    return keys


def processes(path: str, jobs: int | None) -> int:
    """Return how many processes to use: as told, or the CPUs, if there is work."""
    if jobs is not None:
        return jobs
    try:
        found = len(segments(path))
    except OSError:
        return 1
    if found < _SEGMENTS_WORTH_A_PROCESS:
        return 1
    return min(len(os.sched_getaffinity(0)), 8)


@contextmanager
def progress_on_terminal(ledger: str) -> Iterator[Callable[[int], None] | None]:
    """Give a callback that shows records done, where somebody can see it."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    total = None
    if os.path.isdir(ledger):
        with suppress(LedgerError):
            total = count(ledger)
    columns = (
        BarColumn(),
        TextColumn("{task.completed:,} records"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("verify", total=total)
        yield lambda done: bar.update(task, completed=done)


def print_verdict(report: Report) -> None:
    """Print the verdict, its code and what is wrong, on one line."""
    code = f" {report.code}" if report.code else ""
    click.echo(visible(f"{report.verdict}{code}  {report.detail}".rstrip()))


@click.command("verify")
@click.argument("ledger", type=click.Path())
@trusted_keys
@click.option(
    "--anchor",
    multiple=True,
    type=click.Path(),
    help="File with a checkpoint kept elsewhere (`ledger anchor`), which must still hold; "
    "may be repeated.",
)
@click.option(
    "--min-size",
    type=click.IntRange(0),
    help="Number of records that a checkpoint is known to have covered.",
)
@click.option(
    "--max-age", help="Greatest age of the newest covered record: 90s, 2h, 7d."
)
@click.option(
    "--strict",
    is_flag=True,
    help="Exit with 1 if no checkpoint covers the newest records.",
)
@click.option(
    "--recompute", is_flag=True, help="Derive the grams of every estimate anew."
)
@click.option(
    "--links-only",
    is_flag=True,
    help="Quick: check the signature and the hashes that link the records, no more; "
    "takes no --anchor.",
)
@jobs_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def verify(
    ledger: str,
    vkey: tuple[str, ...],
    vkey_file: tuple[str, ...],
    origin: str | None,
    anchor: tuple[str, ...],
    min_size: int | None,
    max_age: str | None,
    strict: bool,
    recompute: bool,
    links_only: bool,
    jobs: int | None,
    as_json: bool,
) -> int:
    """Check LEDGER, a directory or a file of chained JSON lines; change nothing.

    The key comes from you, never from the ledger. What one look cannot show, a rollback
    of everything or a second history signed by the key's holder, a checkpoint kept
    elsewhere shows (--anchor). An unsigned ledger is checked as far as a chain goes:
    that its end was cut off does not show.

    The first line is the verdict, with a code and the record's number where something is
    wrong. Four lines follow: integrity (nothing changed since it was signed), anchor
    (agrees with what was kept elsewhere), attestation and completeness (whether the
    writer told the truth, and all of it: NOT CHECKED, no ledger shows that by itself).

    \b
    examples:
      carbon-ops ledger verify audit --vkey "$VKEY"
      carbon-ops ledger verify audit --vkey-file keys --anchor kept.checkpoint \\
          --max-age 2h --recompute

    \b
    exit status:
      0  OK, or OK_PENDING: the newest records are not under a checkpoint yet
      1  TAMPERED; with --strict OK_PENDING too
      2  NOT_CHECKED: unreadable, or signed and no --vkey given; or wrong usage
      3  TORN_TAIL: an unfinished write beyond the checkpoint; see `ledger repair`
    """
    with progress_on_terminal(ledger) as progress:
        report = verify_ledger(
            ledger,
            vkeys=read_vkeys(vkey, vkey_file),
            origin=origin,
            anchor=anchor,
            min_size=min_size,
            max_age=seconds(max_age),
            strict=strict,
            recompute=recompute,
            links_only=links_only,
            jobs=processes(ledger, jobs),
            progress=progress,
        )
    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=2))
        return report.exit_code
    print_verdict(report)
    for line in report.lines:
        click.echo(f"  {visible(line)}")
    if report.code == "E_KEY_UNKNOWN" and report.verdict == "NOT_CHECKED":
        click.echo(
            "Give the ledger's public key with --vkey 'NAME+ID+KEY' or --vkey-file FILE; "
            "`ledger init` printed it.\nTake it from whoever keeps the ledger, not from "
            "the ledger itself.",
            err=True,
        )
    return report.exit_code
