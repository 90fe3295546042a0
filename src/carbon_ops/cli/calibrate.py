"""``carbon-ops calibrate``: the power of this host when nobody uses it."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from math import sqrt
from statistics import fmean, stdev
from typing import NamedTuple

import click

from carbon_ops import clock
from carbon_ops.cli import options
from carbon_ops.cli.measurement import REASONS, number
from carbon_ops.cli.output import is_terminal
from carbon_ops.errors import CarbonOpsError, SourceUnavailableError
from carbon_ops.meter import baseline
from carbon_ops.meter.counter import HostCounter

IDLE_PERCENT = 3.0  # busier than this is not idle
SLICES = 10


@click.command("calibrate")
@click.option(
    "-s",
    "--seconds",
    type=options.Seconds(2, 3600),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to measure.",
)
@options.socket
@click.option("--force", is_flag=True, help="Store it although the host was busy.")
@options.as_json()
def command(seconds: float, socket: str | None, force: bool, as_json: bool) -> int:
    """Measure the idle power of this host, for the policy "excluded".

    Leave the machine alone meanwhile. With a stored baseline the energy of a task is
    divided into idle and dynamic; under CARBON_OPS_POLICY=excluded it is billed for the
    dynamic part alone. The figure is the mean power of packages and DRAM with its
    standard uncertainty, the scatter between ten slices. It is kept with the date and
    holds for this host, this kernel and this source of counters only; a model of CPU
    load cannot be calibrated.

    \b
    examples:
      carbon-ops calibrate
      carbon-ops calibrate --seconds 300

    \b
    exit status:
      0  measured and stored
      1  the host was too busy: nothing was stored
      2  no counter to measure with, no place to store it, or wrong usage
    """
    counter = options.host_counter(socket)
    try:
        quiet = as_json or not is_terminal(sys.stderr)
        slices, source = _measure(counter, seconds, quiet=quiet)
    finally:
        counter.close()
    found = rest(slices, counter.cpus)
    system = os.uname()
    idle = baseline.Idle(
        host=system.nodename,
        kernel=system.release,
        source=source,
        date=clock.rfc3339(clock.wall_ns()),
        seconds=sum(one.duration_ns for one in slices) / 1e9,
        **found._asdict(),
    )
    file = failure = None
    if found.idle or force:
        try:
            file = baseline.save(idle)
        except OSError as error:  # said below: what was measured is shown all the same
            failure = CarbonOpsError(
                f"cannot store it in {baseline.path()}: {error.strerror}",
                hint="XDG_CONFIG_HOME names another folder for settings.",
            )
    if as_json:
        facts = {
            "idle_enough": found.idle,
            "limit_percent": IDLE_PERCENT,
            "stored": file,
        }
        click.echo(
            json.dumps(
                {"schema": "carbon-ops/idle/1", **idle._asdict(), **facts}, indent=2
            )
        )
    else:
        dram = "not counted" if idle.dram_w is None else f"{number(idle.dram_w)} W"
        simulated = " (SIMULATED)" if idle.source == "simulated" else ""
        click.echo(
            f"idle power: packages {number(idle.cpu_w)} W ± {number(idle.cpu_u_w)} W "
            f"(k=1), DRAM {dram}, from {idle.source}{simulated}, {idle.seconds:.0f} s"
        )
        click.echo(
            f"the host was {idle.busy_percent:.1f} % busy: "
            + ("idle enough" if found.idle else f"not idle (limit {IDLE_PERCENT} %)")
        )
        if file is not None:
            click.echo(f"stored in {file}")
        elif failure is None:
            click.echo("not stored; stop what runs (carbon-ops top), or use --force")
    if failure is not None:
        raise failure
    return 0 if file is not None else 1


class Slice(NamedTuple):
    """What the host's counters said of one part of the measurement."""

    duration_ns: int
    cpu_uj: int
    dram_uj: int | None
    busy_ns: int  # CPU time of all CPUs


class Rest(NamedTuple):
    """The power of packages and memory over all slices [W], and how idle they were."""

    cpu_w: float
    cpu_u_w: float  # standard uncertainty (k=1): scatter between slices
    dram_w: float | None
    busy_percent: float

    @property
    def idle(self) -> bool:
        return self.busy_percent <= IDLE_PERCENT


def rest(slices: Sequence[Slice], cpus: int) -> Rest:
    """Return what two slices or more say together."""
    cpu_w = [one.cpu_uj / one.duration_ns * 1e3 for one in slices]
    dram_w = [
        one.dram_uj / one.duration_ns * 1e3 for one in slices if one.dram_uj is not None
    ]
    return Rest(
        fmean(cpu_w),
        stdev(cpu_w) / sqrt(len(slices)),
        fmean(dram_w) if len(dram_w) == len(slices) else None,
        100.0
        * sum(one.busy_ns for one in slices)
        / (sum(one.duration_ns for one in slices) * cpus),
    )


def _measure(
    counter: HostCounter, seconds: float, *, quiet: bool
) -> tuple[list[Slice], str]:
    """Return slices that join, and their source.

    Raises:
        SourceUnavailableError: no counter, or it went away.
    """
    slices: list[Slice] = []
    source = ""
    mark = counter.mark(None)
    try:
        for turn in range(SLICES):
            if not quiet:
                said = f"\rmeasuring {turn * 100 // SLICES:3d} %"
                click.echo(said, err=True, nl=False)
            time.sleep(seconds / SLICES)
            end = counter.mark(None)
            host = counter.since(mark, end.at_ns, settle=True, pid=None)
            if host.cpu is None or host.model_cv is not None or host.busy_ns is None:
                why = REASONS.get(host.reason or "", host.reason or "unknown")
                raise SourceUnavailableError(
                    f"no counter to calibrate with: {why}",
                    hint="`carbon-ops doctor` says what is missing and what mends it.",
                )
            source = host.source
            dram = None if host.dram is None else host.dram.total
            duration = end.at_ns - mark.at_ns
            slices.append(Slice(duration, host.cpu.total, dram, host.busy_ns))
            mark = end
    finally:
        if not quiet:  # the line, and what a key pressed meanwhile shows on it
            click.echo("\r\x1b[K", err=True, nl=False)
    return slices, source
