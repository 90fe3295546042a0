"""What a scraper that looks every 15 s loses of an energy counter, and why.

With energy counters (a governor that reads RAPL; as root one is started if none runs) this
runs a CPU-bound loop for --duration seconds, logs its energy over the governor's Unix
socket and compares, on the real counters. Without, the simulated source runs on a virtual
clock with several units and powers, and only two seconds of the real loop are measured.

Each loss stands on its own, observed beside predicted:

  reset      a wrap taken for a counter reset, as Prometheus' rate() and increase() do
  dropped    the sample after a wrap thrown away
  masked     microjoules cut to 32 bits before they are subtracted
  outages    several wraps between two looks
  edges      the start and the end of a task between two looks
  peaks      flattened to the mean of 15 s

A reader that looks every 15 s and knows where the counter wraps loses nothing to wraps:
the fault is in how a decrease is read, not in the 15 s.

Sources
  prometheus.io/docs/prometheus/latest/querying/functions: increase() adjusts for counter
    resets. (It also extrapolates to the edges of its window; that is left out here.)
  Linux drivers/powercap/intel_rapl_common.c: the unit, and where energy_uj wraps.

examples:
  python examples/aliasing_demo.py --duration 120
  python examples/aliasing_demo.py --duration 120 --plot aliasing.svg
  sudo .venv/bin/python examples/aliasing_demo.py --duration 120
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

from aliasing.picture import CONVERTER, draw, write
from aliasing.readers import (
    FAULTY,
    SCRAPE_S,
    Pair,
    Picture,
    believed,
    decreases,
    masked_error,
    turn_uj,
)
from aliasing.simulated import simulate
from carbon_ops import EnergyLogger
from carbon_ops.counters.wrap import Unit
from carbon_ops.errors import CarbonOpsError, GovernorUnavailableError
from carbon_ops.governor.client import GovernorClient
from carbon_ops.model import Sample
from carbon_ops.sources.open import open_source
from carbon_ops.testing.governor import GovernorProcess


@contextmanager
def real_governor(path: str | None) -> Iterator[str | None]:
    """Yield the socket of a governor: the one at ``path``, the one that runs here, or,
    for root, one of our own on RAPL. ``None`` where there are no counters."""
    client = GovernorClient(path)
    try:
        source = client.layout.source
    except GovernorUnavailableError as error:
        print(f"no governor: {error}")
    else:
        client.close()
        print(f"the governor at {client.path} reads: {source}")
        yield client.path if path or source != "simulated" else None
        return
    try:
        open_source("sysfs").close()
        readable = True
    except CarbonOpsError as error:
        print(f"no counters to read ourselves: {error}")
        readable = False
    if not readable:
        yield None
        return
    with GovernorProcess("--rapl-mode=sysfs") as governor:
        governor.wait_ready().close()
        yield governor.path


def worked(path: str, seconds: float) -> list[Picture]:
    """Keep a CPU busy under a logger; return what happened to each zone's counter.

    The counter is rebuilt from the governor's totals: where it wrapped, to 0.1 s; where
    it did not, from 0, which none of the readers can tell.
    """
    client = GovernorClient(path)
    samples: list[Sample] = [client.mark()]
    with EnergyLogger(socket=path) as logger, logger.span("loop", settle=True) as span:
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            while time.monotonic() < min(end, now + 5.0):
                sum(i * i for i in range(20_000))
            last = samples[-1]
            samples += [s for s in client.since(last) if s.sequence > last.sequence]
    assert span.metric is not None
    energy = span.metric["energy"]
    bounds = " to ".join(f"{j:.1f}" for j in energy["bounds_j"] or [])
    print(
        f"{seconds:.0f} s of a CPU-bound loop, logged over {path}: host "
        f"{energy['host']['total_j']:.1f} J,\n  of which the loop "
        f"{energy['energy_j_total']:.1f} J (bounds {bounds} J), "
        f"{energy['attribution_mode']}, {energy['components']['cpu']['source']}, "
        f"{len(samples)} samples"
    )
    pictures = []
    for i, zone in enumerate(client.layout.zones):
        if not zone.counted:
            continue
        totals = [sample.totals[i] for sample in samples]
        wrapped = (a.total_uj for a, b in pairwise(totals) if b.wraps > a.wraps)
        offset = next(wrapped, totals[0].total_uj)
        turn = turn_uj(Unit(*zone.unit, zone.wrap_ticks))
        curve = [
            (
                (s.monotonic_ns - samples[0].monotonic_ns) / 1e9,
                (total.total_uj - offset) % turn,
            )
            for s, total in zip(samples, totals, strict=True)
        ]
        picture = Picture(curve, turn, zone.key)
        report(picture, zone.key, totals[-1].wraps - totals[0].wraps)
        pictures.append(picture)
    client.close()
    return pictures


def report(picture: Picture, key: str, wraps: int) -> None:
    curve, turn, looks = picture.curve, picture.turn, picture.looks()
    truth, seconds = believed("wrap-aware", [r for _, r in curve], turn), curve[-1][0]
    mean = truth / seconds if seconds else 0.0
    print(f"\n{key}: {truth:,.1f} J in {seconds:.1f} s, {mean:.1f} W, wraps: {wraps}")
    if not wraps:
        print(
            f"  No wrap happened: the chance of one was {100 * truth * 1e6 / turn:.1f} %. "
            "Nothing could be lost\n  to wraps in this run."
        )
    if len(looks) < 2:
        print(
            f"  Shorter than two looks {SCRAPE_S:.0f} s apart: a scraper sees nothing."
        )
        return
    raws = [raw for _, raw in looks]
    aware, between = believed("wrap-aware", raws, turn), decreases(raws)
    missed = Pair(truth - aware, mean * (seconds - looks[-1][0] + looks[0][0]))
    print(
        f"  15 s, wrap-aware, between its looks: {aware:,.1f} J; it misses the edges: "
        f"{missed:,.1f} J\n  wraps between its looks: {between}; what a reader loses that "
        "does not know of them, observed / predicted mean:"
    )
    step = mean * SCRAPE_S
    plain, at_wrap = (masked_error(step, turn / 1e6, wrap) for wrap in (False, True))
    masked = (len(raws) - 1 - between) * plain + between * at_wrap
    predicted = (-between * step / 2, -between * step, masked)
    for reader, error in zip(FAULTY, predicted, strict=True):
        found = Pair(believed(reader, raws, turn) - aware, error)
        print(f"  {reader:8} {found:+,.1f} J")
    fine, coarse = (
        max((b - a) % turn / 1e6 / (t1 - t0) for (t0, a), (t1, b) in pairwise(points))
        for points in (curve, looks)
    )
    print(f"  peaks    highest power {fine:.1f} W at 10 Hz, {coarse:.1f} W every 15 s")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--duration", type=float, default=120.0, help="seconds")
    parser.add_argument("--plot", metavar="FILE", help="draw into FILE.svg or FILE.png")
    parser.add_argument("--socket", help="of the governor; default: the usual place")
    options = parser.parse_args()
    if not 2 * SCRAPE_S <= options.duration <= 86_400:
        parser.error("--duration: from 30 s (two looks of a scraper) to 86400 s")
    if options.plot and not options.plot.endswith((".svg", ".png")):
        parser.error("--plot: give a name that ends in .svg or .png")
    if (options.plot or "").endswith(".png") and not shutil.which(CONVERTER[0]):
        parser.error("--plot: PNG needs rsvg-convert or ImageMagick; SVG needs nothing")
    with real_governor(options.socket) as path:
        if path is not None:
            picture = worked(path, options.duration)[0]
        else:
            picture = simulate(options.duration)
            print("\nThe way of the data, for two seconds, with a governor of its own:")
            with GovernorProcess("--rapl-mode=simulated") as governor:
                governor.wait_ready().close()
                worked(governor.path, 2.0)
    if options.plot:
        write(draw(picture), options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
