"""``carbon-ops top``: who uses the host's power now."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import sys
from collections.abc import Iterator
from types import FrameType

import click

from carbon_ops import clock
from carbon_ops.cli import options, ranking
from carbon_ops.cli.measurement import REASONS, SOURCES
from carbon_ops.cli.output import is_terminal, put
from carbon_ops.meter.counter import HostCounter, HostMark
from carbon_ops.meter.everyone import Everyone

MIN_INTERVAL_S = 0.2  # two samples of the governor
_ENTER = b"\x1b[?1049h\x1b[?25l"  # alternate screen, no cursor
_LEAVE = b"\x1b[?25h\x1b[?1049l"


@click.command("top")
@click.option(
    "--by",
    type=click.Choice(["process", "cgroup"]),
    default="process",
    show_default=True,
    help="What a row is.",
)
@options.intervals(
    MIN_INTERVAL_S, 3600, 2.0, "go on, or 1 when the output is no terminal"
)
@click.option("--rows", type=click.IntRange(1, 1000), metavar="N", help="Most rows.")
@options.region
@options.socket
@options.as_json("One JSON object for each look.")
def command(
    by: str,
    interval: float,
    count: int | None,
    rows: int | None,
    region: str | None,
    socket: str | None,
    as_json: bool,
) -> int:
    """Show the power of each process or cgroup, live. Needs no root.

    The host's package power is divided by CPU time: watts now, joules since top began,
    share of the host, grams of CO2 per hour at this power (marginal factor of the grid),
    and the recent past as bars, each row to its own highest. The last line is the
    balance: what is shown and the rest are the host's power exactly. Without a governor
    the power is a model of CPU load; the lines above the table say so, and why. Memory
    and GPUs are not in it.

    Keys: q ends; c changes between processes and cgroups.

    \b
    examples:
      carbon-ops top
      carbon-ops top --by cgroup --region FR
      carbon-ops top --json --count 1 --interval 5

    \b
    exit status:
      0  ended by q, Ctrl-C or --count
      2  wrong usage
    """
    from carbon_ops import config

    factor = _factor(config.chosen("region", region))
    counter = options.host_counter(socket)
    live = is_terminal(sys.stdout) and not as_json
    if count is None and (sys.stdout is None or not sys.stdout.isatty()):
        count = 1
    view = View(counter, factor, by)
    with contextlib.ExitStack() as stack:
        stack.callback(counter.close)
        keys = stack.enter_context(_screen()) if live else None
        stack.enter_context(contextlib.suppress(KeyboardInterrupt))
        looks = 0
        while count is None or looks < count:
            if not _pause(view, interval, keys):
                break
            columns, lines = shutil.get_terminal_size((120, 40))
            # Some terminals do not know their size: 0, until Python 3.11 minds it.
            table = view.look(rows or (max(1, (lines or 40) - 6) if live else 20))
            looks += 1
            if as_json:
                when = clock.rfc3339(clock.wall_ns())
                put(json.dumps(ranking.as_json(table, view.by, when)) + "\n")
            else:
                _show(table, view.by, (columns or 120) if live else 1_000, live=live)
    return 0


class View:
    """What is looked at, and everything that lasts from one look to the next."""

    def __init__(self, counter: HostCounter, factor: float | None, by: str) -> None:
        self._counter = counter
        self._factor = factor
        self._everyone = Everyone()
        self._everyone.used()
        self._mark: HostMark = counter.mark(None)
        self.choose(by)

    def choose(self, by: str) -> None:
        """Let rows be processes or cgroups; totals begin anew."""
        self.by = by
        self._ranking = ranking.Ranking(self._factor)

    def look(self, rows: int) -> ranking.Table:
        """Return what was used since the last look."""
        mark, self._mark = self._mark, self._counter.mark(None)
        now = self._mark.at_ns  # looks join without hole or overlap
        used = self._everyone.used()
        self._ranking.forget(map(str, self._everyone.ended))  # no cgroup is a number
        host = self._counter.since(mark, now, pid=None)
        names: dict[str, str] = {}
        by_key: dict[str, int] = {}
        for pid, ns in used.items():
            if self.by == "cgroup":
                key = name = self._everyone.group(pid)
            else:
                key, name = str(pid), ""
            by_key[key] = by_key.get(key, 0) + ns
            names[key] = name
        if self.by == "process":  # names of those alone that can be shown
            for key in sorted(by_key, key=lambda k: -by_key[k])[:rows]:
                names[key] = f"{self._everyone.name(int(key))} [{key}]"
        return self._ranking.table(
            by_key,
            names,
            None if host.cpu is None else host.cpu.total,
            host.busy_ns,
            max(1, now - mark.at_ns),
            rows=rows,
            mode=host.mode,
            source=host.source,
            reason=host.cpu_reason or host.reason,
            processes=len(self._everyone),
        )


def _factor(region: str | None) -> float | None:
    """Return the grid's marginal factor [g/kWh]; None where there is none."""
    from carbon_ops.estimate.estimator import CarbonEstimator

    now = clock.wall_ns() / 1e9
    found = CarbonEstimator(region=region).estimate_over_span(now, now, 1_000.0)
    return found.carbon_gco2e


def _show(table: ranking.Table, by: str, width: int, *, live: bool) -> None:
    encoding = str(getattr(sys.stdout, "encoding", None)).lower()
    source = SOURCES.get(table.source, table.source)
    head = [
        f"carbon-ops top  {clock.rfc3339(clock.wall_ns())[:19]}Z  "
        f"{table.processes} processes",
        f"energy from {source}",
    ]
    if table.reason is not None:
        head.append(f"  {REASONS.get(table.reason, table.reason)}")
    lines = [line[:width] for line in head]
    lines += ranking.as_text(table, by, width, plain=not encoding.startswith("utf"))
    if live:
        put("\x1b[H" + "\x1b[K\n".join(lines) + "\x1b[K\x1b[J")
    else:
        put("\n".join(lines) + "\n")


def _pause(view: View, interval: float, keys: int | None) -> bool:
    """Wait for the next look, minding the keys; return whether to go on."""
    until = clock.monotonic_ns() + round(interval * 1e9)
    while (left := until - clock.monotonic_ns()) > 0:
        ready = select.select([] if keys is None else [keys], [], [], left / 1e9)[0]
        if not ready:
            break
        pressed = os.read(ready[0], 64)
        if not pressed or b"q" in pressed:
            return False
        if b"c" in pressed:
            view.choose("cgroup" if view.by == "process" else "process")
    return True


@contextlib.contextmanager
def _screen() -> Iterator[int | None]:
    """Take the terminal, and give it back as it was, however this ends."""
    import termios
    import tty

    def end(number: int, frame: FrameType | None) -> None:
        del frame
        raise SystemExit(128 + number)

    def stop(number: int, frame: FrameType | None) -> None:
        """Ctrl-Z: the shell gets its terminal as it was; after ``fg`` it is ours."""
        del frame
        give()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)  # stops here
        signal.signal(number, stop)
        take()

    def take() -> None:
        os.write(out, _ENTER)
        if keys is not None:
            tty.setcbreak(keys)

    def give() -> None:
        if keys is not None and before is not None:
            termios.tcsetattr(keys, termios.TCSADRAIN, before)
        os.write(out, _LEAVE)

    out = sys.stdout.fileno()
    keys = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
    before = None if keys is None else termios.tcgetattr(keys)
    old = {n: signal.signal(n, end) for n in (signal.SIGTERM, signal.SIGHUP)}
    old[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, stop)
    try:
        take()
        yield keys
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
        give()
