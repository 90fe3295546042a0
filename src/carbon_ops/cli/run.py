"""``carbon-ops run``: what a command used, without touching what it does."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import click

from carbon_ops.cli import measurement, options, recording, repeats
from carbon_ops.cli.output import fit
from carbon_ops.cli.repeats import Run
from carbon_ops.errors import CarbonOpsError
from carbon_ops.meter.command import CommandNotStarted
from carbon_ops.meter.enclosure import Enclosure
from carbon_ops.meter.launch import (
    CommandClock,
    Ended,
    Supervisor,
    die_of_interrupt,
)
from carbon_ops.meter.process_tree import OwnTree

if TYPE_CHECKING:
    from carbon_ops.meter.logger import EnergyLogger
    from carbon_ops.meter.span import Span

_UNTOLD = "children_auto_reaped"
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
@options.region
@options.ledger("the measurement and its estimate")
@options.socket
@click.option("--label", metavar="NAME", help="Operation name; default: the command's.")
@options.as_json("One JSON object instead: the last line on standard error.")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Write the summary to FILE instead of standard error; /dev/fd/3 works too.",
)
@click.option(
    "--csv", "as_csv", is_flag=True, help="One CSV line for each run instead."
)
@click.option(
    "--repeat",
    metavar="N",
    type=click.IntRange(1, 100_000),
    default=1,
    help="Run COMMAND N times; say medians with their intervals. Stops at a failure.",
)
@click.option(
    "--warmup",
    metavar="K",
    type=click.IntRange(0, 100_000),
    default=0,
    help="Run COMMAND K times before that, unmeasured.",
)
@click.option(
    "--cgroup",
    "in_cgroup",
    is_flag=True,
    help="Count by a cgroup made for COMMAND, which nothing escapes; needs the right to "
    "make one.",
)
@click.argument("argv", metavar="-- COMMAND...", nargs=-1, type=click.UNPROCESSED)
def command(
    region: str | None,
    ledger: str | None,
    socket: str | None,
    label: str | None,
    as_json: bool,
    output: str | None,
    as_csv: bool,
    repeat: int,
    warmup: int,
    in_cgroup: bool,
    argv: tuple[str, ...],
) -> int:
    """Run COMMAND, then say what energy it used and what carbon that stands for.

    COMMAND keeps standard input, output and error, the terminal and its signals; what it
    prints is not touched. The summary comes after it, on standard error, so that a
    pipeline reads COMMAND's output alone; a program reads it with --json --output FILE.

    Energy is the command's share, by CPU time, of what the governor's counters saw; with
    no governor it comes from a model of CPU load. The summary says which. CPU time is
    that of COMMAND and everything it started. Carbon is in grams, with a 95 % interval.
    The arguments of COMMAND are not recorded.

    \b
    examples:
      carbon-ops run -- python train.py
      carbon-ops run --region GB --ledger ./ledger -- make bench
      carbon-ops run --json --output energy.json -- ./job | sort
      carbon-ops run --warmup 1 --repeat 10 --csv -o runs.csv -- ./bench

    \b
    exit status:
      that of COMMAND; 128 + n when signal n ended it
      125  carbon-ops failed before the start (region, ledger, usage)
      126  COMMAND cannot be executed
      127  COMMAND was not found
    """
    if not any(argv[:1]):  # "" is a variable of a script that was not set
        raise click.UsageError(
            "no command given; try: carbon-ops run -- python train.py"
        )
    if as_json and as_csv:
        raise click.UsageError("give --json or --csv, not both")
    from carbon_ops import config
    from carbon_ops.estimate.estimator import CarbonEstimator
    from carbon_ops.meter.logger import EnergyLogger

    estimator = CarbonEstimator(region=config.chosen("region", region))
    report = _Report(output)
    path = config.chosen("ledger", ledger)
    book = None if path is None else recording.Book(path)
    name = label or os.path.basename(argv[0]) or argv[0]
    name = os.fsencode(name).decode("utf-8", "replace")  # a record is UTF-8
    runs: list[Run] = []
    ended = Ended(0, None, False, 0, None)
    warmed = 0
    box = Enclosure() if in_cgroup else None
    try:
        with EnergyLogger(
            socket=socket or None, estimator=estimator, ledger=False
        ) as logger:
            for turn in range(warmup + repeat):
                span, ended = _measure(logger, name, argv, box)
                estimate = None if span.estimate is None else span.estimate.to_dict()
                if turn < warmup:
                    warmed += 1
                elif span.metric is not None:
                    runs.append(Run(span.metric, estimate, ended.status))
                    if book is not None:
                        book.keep(span.metric, estimate)
                if ended.status:
                    break
    finally:
        if box is not None:
            box.close()
    notes = _notes(ended, runs, repeat)
    if book is not None:
        notes += book.close()
        if book.missing:
            _STDERR.say("\n".join(json.dumps(one) for one in book.missing))
    if as_csv:  # which has no place for notes
        for note in notes:
            _STDERR.say(f"carbon-ops: {note}")
        report.say(repeats.as_csv(runs))
    else:
        said = _said(runs, (repeat, warmed), book, notes, as_json=as_json)
        report.say(said if as_json or output else fit(said, 2, 12))
    if ended.interrupted:
        die_of_interrupt()
    return ended.status


def _measure(
    logger: EnergyLogger, name: str, argv: tuple[str, ...], box: Enclosure | None
) -> tuple[Span, Ended]:
    """Run the command once; return its span, which has ended, and how it ended."""
    clock = CommandClock(OwnTree(with_self=False) if box is None else box.clock)
    span = logger.span(name, settle=True, scope=clock)
    with Supervisor() as supervisor:
        if box is not None:
            box.enter()
        try:
            span.begin()
            clock.saw(supervisor.start(argv))
        finally:
            if box is not None:
                box.leave()
        ended = supervisor.wait(clock.sample)
        clock.ended(ended)
        span.info.update(_facts(ended))
        span.end(status="ok" if ended.status == 0 else "error")
    return span, ended


def _notes(ended: Ended, runs: list[Run], wanted: int) -> list[str]:
    notes, done = [], len(runs)
    if any(_UNTOLD in run.metric["energy"]["quality"]["flags"] for run in runs):
        notes.append(
            "a process ignores SIGCHLD: what its children use goes untold when they end; "
            "--cgroup counts it"
        )
    if ended.left_running:
        notes.append(
            f"processes still running: {ended.left_running}; counted is what they had "
            "used when the command ended"
        )
    if done < wanted:
        last = "; the last is in no median" if done else ""
        when = f"after {done} run" + "s" * (done > 1) if done else "in the warm-up"
        notes.append(f"stopped by exit status {ended.status} {when}{last}")
    return notes


def _said(
    runs: list[Run],
    repeated: tuple[int, int],
    book: recording.Book | None,
    notes: list[str],
    *,
    as_json: bool,
) -> str:
    """Return the summary of one run, or the medians of several."""
    place = None if book is None else book.place
    repeat, warmup = repeated
    if repeat == 1 and runs:
        metric, estimate, status = runs[0]
        if as_json:
            return json.dumps(
                measurement.as_json(metric, estimate, status, place, notes)
            )
        said = "not asked for (--ledger DIR)" if book is None else book.said
        return measurement.as_text(metric, estimate, status, said, notes)
    if as_json:
        whole = {**repeats.as_json(runs, warmup), "ledger": place, "notes": notes}
        return json.dumps(whole)
    lines = [repeats.as_text(runs, warmup)]
    if runs:
        lines.append(f"  source    {measurement.source(runs[-1].metric)}")
    if book is not None:
        lines.append(f"  ledger    {book.said}")
    return "\n".join([*lines, *(f"  note      {note}" for note in notes)])


def _facts(ended: Ended) -> dict[str, Any]:
    facts: dict[str, Any] = {"exit_status": ended.status}
    if ended.signal is not None:
        facts["signal"] = ended.signal
    if ended.left_running:
        facts["left_running"] = ended.left_running
    return facts


class _Report:
    """Where the summary goes: a file, or standard error.

    The file is opened before the command runs, so that it can't fail late.
    """

    def __init__(self, path: str | None) -> None:
        self._path, self._descriptor = path, 2
        if path is None:
            return
        try:
            self._descriptor = os.open(
                path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666
            )
        except OSError as error:
            raise CarbonOpsError(f"cannot write {path}: {error.strerror}") from error

    def say(self, text: str) -> None:
        """Write ``text``; a reader that went away or a full disk changes no exit status."""
        data = (text + "\n").encode("utf-8", "backslashreplace")
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except OSError as error:
                if self._path is not None:  # better seen on standard error than nowhere
                    why = f"carbon-ops: cannot write {self._path}: {error.strerror}"
                    _STDERR.say(f"{why}\n{text}")
                return


_STDERR = _Report(None)
