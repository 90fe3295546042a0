"""``carbon-ops run``: what a command used, without touching what it does."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import click

from carbon_ops.cli import measurement, recording
from carbon_ops.errors import CarbonOpsError
from carbon_ops.meter.launch import (
    CommandNotStarted,
    Ended,
    Supervisor,
    die_of_interrupt,
)

if TYPE_CHECKING:
    from carbon_ops.ledger.store import Ledger
    from carbon_ops.meter.span import Span

OWN_FAILURE = 125  # as env(1), nice(1) and timeout(1) have it


class OwnFailureError(CarbonOpsError):
    """Something of ours failed before the command was started."""

    exit_code = OWN_FAILURE


class WrongUsageError(click.UsageError):
    """Wrong usage, told apart from a status 2 of the command."""

    exit_code = OWN_FAILURE


class Wrapper(click.Command):
    """A command whose own failures never look like a status of what it runs."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        try:
            return super().make_context(*args, **kwargs)
        except click.UsageError as error:
            raise WrongUsageError(error.format_message(), error.ctx) from error

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CommandNotStarted:
            raise
        except CarbonOpsError as error:
            raise OwnFailureError(str(error), hint=error.hint) from error
        except OSError as error:
            raise OwnFailureError(str(error)) from error
        except click.UsageError as error:
            raise WrongUsageError(error.format_message(), error.ctx or ctx) from error


@click.command(
    "run",
    cls=Wrapper,
    context_settings={"allow_interspersed_args": False},
)
@click.option(
    "--region",
    metavar="CODE",
    help="Electricity grid whose factors are used, e.g. DE, FRA, US-CA. Without it: a "
    "world-wide distribution with its wide interval.",
)
@click.option(
    "--ledger",
    metavar="DIR",
    help="Append the measurement and its estimate to this ledger; made if missing.",
)
@click.option("--label", metavar="NAME", help="Operation name; default: the command's.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="One JSON object instead of text: the last line on standard error.",
)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Write the summary to FILE instead of standard error; /dev/fd/3 works too.",
)
@click.argument("argv", metavar="-- COMMAND...", nargs=-1, type=click.UNPROCESSED)
def command(
    region: str | None,
    ledger: str | None,
    label: str | None,
    as_json: bool,
    output: str | None,
    argv: tuple[str, ...],
) -> int:
    """Run COMMAND, then say what energy it used and what carbon that stands for.

    COMMAND keeps standard input, output and error, the terminal and its signals; what it
    prints is not touched. The summary comes after it, on standard error, so that a
    pipeline reads COMMAND's output alone; a program reads it with --json --output FILE.

    Energy is the command's share, by CPU time, of what the governor's counters saw; with
    no governor it comes from a model of CPU load. The summary says which. CPU time is
    that of COMMAND and everything it started. Carbon is in grams, with a 95 % interval.

    \b
    examples:
      carbon-ops run -- python train.py
      carbon-ops run --region GB --ledger ./ledger -- make bench
      carbon-ops run --json --output energy.json -- ./job | sort

    \b
    exit status:
      that of COMMAND; 128 + n when signal n ended it
      125  carbon-ops failed before the start (region, ledger, usage)
      126  COMMAND cannot be executed
      127  COMMAND was not found
    """
    if not argv:
        raise click.UsageError(
            "no command given; try: carbon-ops run -- python train.py"
        )
    from carbon_ops.estimate.estimator import CarbonEstimator
    from carbon_ops.meter.logger import EnergyLogger

    estimator = CarbonEstimator(region=region)
    report = _open_output(output)
    book = None if ledger is None else recording.open_or_make(ledger)
    name = label or os.path.basename(argv[0]) or argv[0]
    with EnergyLogger(estimator=estimator, scope="children") as logger:
        span = logger.span(name, settle=True)
        with Supervisor() as supervisor:
            span.begin()
            supervisor.start(argv)
            ended = supervisor.wait()
            span.info.update(_facts(ended))
            span.end(status="ok" if ended.status == 0 else "error")
    _report(span, ended, book, ledger, report, as_json=as_json)
    if ended.interrupted:
        die_of_interrupt()
    return ended.status


def _facts(ended: Ended) -> dict[str, Any]:
    facts: dict[str, Any] = {"exit_status": ended.status}
    if ended.signal is not None:
        facts["signal"] = ended.signal
    if ended.left_running:
        facts["left_running"] = ended.left_running
    return facts


def _report(
    span: Span,
    ended: Ended,
    book: Ledger | None,
    path: str | None,
    output: int | None,
    *,
    as_json: bool,
) -> None:
    metric, record = span.metric, span.estimate
    if metric is None:  # end() always gives one
        return
    estimate = None if record is None else record.to_dict()
    notes: list[str] = []
    if ended.left_running:
        notes.append(
            f"{ended.left_running} processes were still running; "
            "counted is what they had used when the command ended"
        )
    place: dict[str, Any] | None = None
    said = "not asked for (--ledger DIR)"
    if book is not None:
        written = recording.write(book, recording.records(metric, estimate))
        said = f"NOT WRITTEN: {written.trouble}"
        if written.receipts:
            first = written.receipts[0]
            kind = "signed" if book.signed else "unsigned"
            place = {"path": path, "seq": first.seq, "hash": first.hash, "state": kind}
            said = f"{path}, record {first.seq}, {kind}"
        if written.missing:
            notes.append("what is not in the ledger is on standard error, as JSON")
            _say("\n".join(json.dumps(one) for one in written.missing), None)
        trouble = written.trouble if written.receipts else None
        notes += filter(None, [trouble, recording.close(book)])
        if book.recovered is not None:
            notes.append(
                f"the ledger's end was damaged from record {book.recovered.seq} on; "
                f"it is kept in {book.recovered.quarantine}"
            )
        if not book.signed:
            notes.append(recording.UNSIGNED)
    if as_json:
        whole = measurement.as_json(metric, estimate, ended.status, place, notes)
        _say(json.dumps(whole), output)
    else:
        text = measurement.as_text(metric, estimate, ended.status, said, notes)
        _say(text, output)


def _open_output(path: str | None) -> int | None:
    """Open the file for the summary before the command runs, so that it can't fail late."""
    if path is None:
        return None
    try:
        return os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666
        )
    except OSError as error:
        raise CarbonOpsError(f"cannot write {path}: {error.strerror}") from error


def _say(text: str, output: int | None) -> None:
    """Write ``text``; a reader that went away or a full disk changes no exit status."""
    data = (text + "\n").encode("utf-8", "backslashreplace")
    descriptor = 2 if output is None else output
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except OSError:
            return
