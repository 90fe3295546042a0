"""``carbon-ops monitor``: the host's energy and load, for as long as it runs."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from carbon_ops import clock
from carbon_ops.cli import options, output, recording
from carbon_ops.cli.output import figure

HEAD = (
    f"{'time (UTC)':<14} {'watts':>7} {'joules':>9} {'cpu %':>5} {'mem %':>5} "
    f"{'gpu W':>6}  source"
)
HEAD_EVERY = 20
KEPT = 1_000  # records that wait for a ledger that cannot be written now


@click.command("monitor")
@options.intervals(0.2, 86_400, 10.0, "go on")
@options.ledger("each interval")
@options.socket
@options.as_json("One JSON object a line instead.")
def command(
    interval: float,
    count: int | None,
    ledger: str | None,
    socket: str | None,
    as_json: bool,
) -> int:
    """Record the whole host continuously: power, CPU, memory, GPUs, every zone.

    Joules are those of packages and DRAM during the interval, from the governor's
    counters, or from a model of CPU load where there is none; watts are their average.
    Intervals join without a hole. A governor, GPU or disk that goes away is noted and
    looked for again; records that a ledger cannot take wait for it.

    \b
    examples:
      carbon-ops monitor
      carbon-ops monitor --interval 60 --json >> host.jsonl
      carbon-ops monitor --interval 300 --ledger /var/lib/carbon-ops/host

    \b
    exit status:
      0  ended by --count, Ctrl-C or SIGTERM; everything measured is written
      1  lines of the output are missing, or records of the ledger; those are on
         standard error, as JSON
      2  wrong usage, or the ledger cannot be opened
    """
    from carbon_ops import config
    from carbon_ops.meter.telemetry import Telemetry

    path = config.chosen("ledger", ledger)
    book = None if path is None else recording.Book(path)
    host = Telemetry(options.host_counter(socket), str(config.chosen("socket", socket)))
    looks = lost = 0
    try:
        with _told_to_end() as ends:
            due = clock.monotonic_ns()
            while count is None or looks < count:
                # The next moment of the grid that lies ahead: suspend skips some.
                step = round(interval * 1e9)
                due += step * max(1, -(-(clock.monotonic_ns() - due) // step))
                ended = _wait(ends, due)
                record = host.look()
                if book is not None:
                    lost += _keep(book, record)
                text = json.dumps(record) if as_json else line(record)
                if looks % HEAD_EVERY == 0 and not as_json:
                    text = f"{HEAD}\n{text}"
                _print(f"{text}\n")
                looks += 1
                if ended:
                    break
        if not _print(""):  # what waits for room on the disk finds none any more
            lost += 1
            output.give_up()
    finally:
        host.close()
        lost += 0 if book is None else _closed(book)
    return 1 if lost else 0


def _keep(book: recording.Book, record: Mapping[str, Any]) -> int:
    """Write ``record`` after those that wait; return how many wait no longer, unwritten.

    What changes is said at once: whoever waits for the end waits for months.
    """
    waited, book.missing = book.missing, []
    given_up = waited[:-KEPT]
    for one in given_up:
        click.echo(json.dumps(one), err=True)
    book.write([*waited[-KEPT:], record])
    if book.missing and not waited:
        said = "the ledger cannot be written now; records wait until it can"
        click.echo(f"carbon-ops: {said}: {book.trouble}", err=True)
    elif waited and not book.missing:
        click.echo("carbon-ops: the ledger is written again", err=True)
    return len(given_up)


def _print(text: str) -> bool:
    """Print, and return whether it could be; a disk that is full now may have room for
    it with the next line."""
    try:
        output.put(text)
    except OSError as error:
        click.echo(f"carbon-ops: output not written: {error.strerror}", err=True)
        return False
    return True


def _closed(book: recording.Book) -> int:
    """Close the ledger and say what is wrong; return how many records are not in it."""
    for note in book.close():
        click.echo(f"carbon-ops: {note}", err=True)
    for missing in book.missing:
        click.echo(json.dumps(missing), err=True)
    return len(book.missing)


def line(record: Mapping[str, Any]) -> str:
    """Return one interval as a line under :data:`HEAD`."""
    energy = record["energy"]
    powers = [gpu["power_w"] for gpu in record["gpu"]]
    known = powers and None not in powers  # a sum without one looks like the whole
    source = energy["source"]
    if energy["reason"] is not None:
        source += f": {energy['reason']}"
    return (
        f"{record['timestamp_end'][5:19].replace('T', ' ')} "
        f"{figure(energy['power_w'], 7, 2)} {figure(energy['energy_j'], 9, 2)} "
        f"{figure(record['cpu']['percent'], 5, 1)} "
        f"{figure(record['memory']['percent'], 5, 1)} "
        f"{figure(sum(powers) if known else None, 6, 1)}  {source}"
    )


@contextmanager
def _told_to_end() -> Iterator[set[signal.Signals]]:
    """Hold back the signals that end this, so that they come between two intervals."""
    ends = {
        number
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) != signal.SIG_IGN  # nohup
    }
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ends | {signal.SIGCONT})
    try:
        yield ends
    finally:
        while signal.sigtimedwait(ends, 0):
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _wait(ends: set[signal.Signals], until_ns: int) -> bool:
    """Wait until ``until_ns``; return whether a signal came that ends this.

    SIGCONT is waited for as well: without it a wait that was stopped beyond its time
    returns a number that is no signal (CPython, signal.sigtimedwait after EINTR).
    """
    while True:
        left = max(0, until_ns - clock.monotonic_ns())
        info = signal.sigtimedwait(ends | {signal.SIGCONT}, left / 1e9)
        if info is None:
            return False
        if info.si_signo in ends:
            return True
