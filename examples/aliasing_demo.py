"""What a scraper that looks every 15 s loses of an energy counter, and why.

With energy counters (a governor that reads RAPL; start one with sudo, see below) this runs
a CPU-bound loop for --duration seconds, logs its energy over the governor's Unix socket
and compares, on the real counters. Without, the simulated source runs on a virtual clock
with several units and powers, and only two seconds of the real loop are measured.

Each loss stands on its own line, observed beside predicted:

  reset      a wrap taken for a counter reset, as Prometheus' rate() and increase() do
  dropped    the sample after a wrap thrown away
  masked     microjoules cut to 32 bits before they are subtracted
  outage     several wraps between two looks
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

As root it starts a governor of its own if none runs and RAPL can be read.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import NamedTuple

from carbon_ops import EnergyLogger
from carbon_ops.counters.accumulator import Bank
from carbon_ops.counters.wrap import REGISTER_TICKS, Unit
from carbon_ops.errors import CarbonOpsError, GovernorUnavailableError
from carbon_ops.governor.client import GovernorClient
from carbon_ops.model import Sample, Zone
from carbon_ops.sources.open import open_source
from carbon_ops.sources.simulated import Script, SimulatedSource
from carbon_ops.testing.governor import GovernorProcess

SCRAPE_S = 15.0
MASK_UJ = 1 << 32  # where microjoules cut to 32 bits start again: 4,294.97 J
UNITS = {
    "61.0 µJ": Unit(1_000_000, 1 << 14, REGISTER_TICKS),
    "15.3 µJ": Unit(15_258, 1_000, REGISTER_TICKS),
}
POWERS_W = (65.0, 200.0, 400.0, 1_000.0)
STARTS = 1_500  # first values of the register, spread evenly over it


# --- the readers: what each makes of the same looks at one counter [µJ] --------------


def wrap_aware(looks: Sequence[int], turn: int) -> int:
    return sum((b - a) % turn for a, b in pairwise(looks))


def reset(looks: Sequence[int], _turn: int) -> int:
    return sum(b - a if b >= a else b for a, b in pairwise(looks))


def dropped(looks: Sequence[int], _turn: int) -> int:
    return sum(max(b - a, 0) for a, b in pairwise(looks))


def masked(looks: Sequence[int], _turn: int) -> int:
    return sum((b - a) % MASK_UJ for a, b in pairwise(looks))


Reader = Callable[[Sequence[int], int], int]
READERS: dict[str, Reader] = {"reset": reset, "dropped": dropped, "masked": masked}


class Picture(NamedTuple):
    curve: list[tuple[float, int]]  # 10 Hz: seconds, counter [µJ]
    turn: int
    title: str


# --- simulated counters on a virtual clock -------------------------------------------


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.ns = 0

    def __call__(self) -> int:
        return self.ns


class Counter:
    """The simulated source at one constant power, read as the kernel shows it [µJ]."""

    def __init__(self, unit: Unit, power: float | Script, start_ticks: int) -> None:
        script = power if isinstance(power, Script) else Script(((1.0, power),))
        self.clock, self.unit = Clock(), unit
        self.source = SimulatedSource(
            {"package-0": script},
            clock=self.clock,
            start_ticks=start_ticks,
            units={"package-0": unit},
        )
        self.turn = turn_uj(unit)

    def at(self, seconds: float) -> int:
        self.clock.ns = round(seconds * 1e9)
        ticks = self.source.read()[0] or 0
        return ticks * self.unit.numerator // self.unit.denominator

    def looks(self, first: float, last: float, every: float) -> list[int]:
        count = math.floor((last - first) / every + 1e-9)
        return [self.at(first + i * every) for i in range(count + 1)]

    def governed(self, seconds: float, every: float = 0.1) -> tuple[int, int, int]:
        """Return energy [µJ], wraps and hidden energy [µJ] as the governor counts them."""
        bank, totals = Bank(self.source.zones), None
        for i in range(round(seconds / every) + 1):
            self.clock.ns = round(i * every * 1e9)
            totals = bank.step(self.source.read(), self.clock.ns, self.clock.ns)
        if totals is None:
            return 0, 0, 0
        return totals[0].total_uj, totals[0].wraps, totals[0].slack_uj


def turn_uj(unit: Unit) -> int:
    return unit.wrap_ticks * unit.numerator // unit.denominator


def before_top(unit: Unit, joules: float) -> int:
    """Return the register's value [ticks] that far below its top."""
    ticks = round(joules * 1e6 * unit.denominator / unit.numerator)
    return (REGISTER_TICKS - ticks) % REGISTER_TICKS


def masked_error(step_j: float, turn_j: float, wrap: bool) -> float:
    """Return what masking adds to one step [J]: the true step, less its remainder."""
    mask = MASK_UJ / 1e6
    return (step_j - (turn_j if wrap else 0.0)) % mask - step_j


# --- the sections ----------------------------------------------------------------------


def table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    print(f"\n{title}\n")
    for row in (heads, *rows):
        print("  " + "  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)))


def pair(observed: float, predicted: float, form: str = ",.0f") -> str:
    return f"{observed:{form}} / {predicted:{form}}"


class Wrapped(NamedTuple):
    """One run with a wrap in its middle: errors of each reader [J]."""

    unit: str
    watts: float
    truth: float
    governor: float
    aware: float
    observed: dict[str, float]
    predicted: dict[str, float]


def one_wrap(name: str, watts: float, duration: float) -> Wrapped:
    """Let the counter wrap once, a third into the look interval nearest to half-time."""
    unit = UNITS[name]
    count = math.floor(duration / SCRAPE_S)
    since_look = SCRAPE_S / 3
    wrap_at = count // 2 * SCRAPE_S + since_look
    counter = Counter(unit, watts, before_top(unit, watts * wrap_at))
    looks = counter.looks(0, duration, SCRAPE_S)
    truth, step, turn = watts * count * SCRAPE_S, watts * SCRAPE_S, counter.turn / 1e6
    plain = masked_error(step, turn, False)
    return Wrapped(
        name,
        watts,
        truth,
        counter.governed(count * SCRAPE_S)[0] / 1e6,
        wrap_aware(looks, counter.turn) / 1e6,
        {key: read(looks, counter.turn) / 1e6 - truth for key, read in READERS.items()},
        {
            "reset": -watts * since_look,
            "dropped": -step,
            "masked": (count - 1) * plain + masked_error(step, turn, True),
        },
    )


class Spread(NamedTuple):
    """Means over many first values of the register."""

    wraps: tuple[float, float]  # per run: observed, predicted
    reset: tuple[float, float]  # loss in per cent
    dropped: tuple[float, float]


def any_start(name: str, watts: float, duration: float) -> Spread:
    unit = UNITS[name]
    count = math.floor(duration / SCRAPE_S)
    truth, lost_r, lost_d, wraps = watts * count * SCRAPE_S, 0.0, 0.0, 0
    for i in range(STARTS):
        counter = Counter(unit, watts, REGISTER_TICKS * (2 * i + 1) // (2 * STARTS))
        looks = counter.looks(0, duration, SCRAPE_S)
        wraps += sum(b < a for a, b in pairwise(looks))
        lost_r += truth - reset(looks, counter.turn) / 1e6
        lost_d += truth - dropped(looks, counter.turn) / 1e6
    turn = turn_uj(unit) / 1e6
    share = 100 * watts * SCRAPE_S / turn
    return Spread(
        (wraps / STARTS, truth / turn),
        (100 * lost_r / STARTS / truth, share / 2),
        (100 * lost_d / STARTS / truth, share),
    )


def edges(watts: float, duration: float) -> tuple[float, float, float, float]:
    """Return the mean share lost [%] by looks inside a task and added by looks around
    it, and the greatest error of the 10 Hz line; then the prediction for the first two.
    """
    inside = around = worst = 0.0
    rest_w, tries = 40.0, 150
    for i in range(tries):
        before = SCRAPE_S + (i + 0.37) / tries * SCRAPE_S  # idle until the task starts
        script = Script(((before, rest_w), (duration, watts), (60.0, rest_w)))
        counter = Counter(UNITS["61.0 µJ"], script, 0)
        first, last = before / SCRAPE_S, (before + duration) / SCRAPE_S

        def between(a: float, b: float, of: Counter = counter) -> float:
            return (of.at(b) - of.at(a)) / 1e6 if b > a else 0.0

        truth = watts * duration
        inside += truth - between(
            math.ceil(first) * SCRAPE_S, math.floor(last) * SCRAPE_S
        )
        around += (
            between(math.floor(first) * SCRAPE_S, math.ceil(last) * SCRAPE_S) - truth
        )
        tenth = [math.floor(t * 10 + 1e-9) / 10 for t in (before, before + duration)]
        worst = max(worst, abs(between(tenth[0], tenth[1]) - truth))
    lost = 100 * inside / tries / (watts * duration)
    added = 100 * around / tries / (watts * duration)
    return lost, added, 100 * worst / (watts * duration), 100 * SCRAPE_S / duration


def peak() -> tuple[float, float, float]:
    """Return the highest power [W] of a pulse of 1 s: true, at 10 Hz, every 15 s."""
    script = Script(((37.0, 50.0), (1.0, 350.0), (22.0, 50.0)))
    counter = Counter(UNITS["61.0 µJ"], script, 0)

    def highest(every: float) -> float:
        looks = counter.looks(0, 60, every)
        return max(b - a for a, b in pairwise(looks)) / 1e6 / every

    return 350.0, highest(0.1), highest(SCRAPE_S)


def simulate(duration: float) -> Picture:
    print(
        "SIMULATED counters on a virtual clock: the source, the unit, the wrap and the\n"
        "accumulator are the ones the governor uses; the power is scripted, not measured."
    )
    heads = ["unit", "W", "wraps", "reset loses %", "dropped loses %"]
    rows = []
    for unit in UNITS:
        for watts in POWERS_W:
            spread = any_start(unit, watts, duration)
            rows.append(
                [
                    unit,
                    f"{watts:.0f}",
                    pair(*spread.wraps, ".3f"),
                    pair(*spread.reset, ".3f"),
                    pair(*spread.dropped, ".3f"),
                ]
            )
    table(
        f"Any run of {duration:.0f} s: means over {STARTS} first values of the counter,\n"
        "observed / predicted (P T/M wraps; P dt/2M and P dt/M of the energy).\n"
        "Where wraps are few, most runs meet none and lose nothing to them:",
        heads,
        rows,
    )
    heads = ["unit", "W", "truth J", "10 Hz", "15 s aware", *READERS]
    rows = []
    for unit in UNITS:
        for watts in POWERS_W:
            run = one_wrap(unit, watts, duration)
            errors = [
                pair(run.observed[key], run.predicted[key], "+,.0f") for key in READERS
            ]
            rows.append(
                [
                    unit,
                    f"{watts:.0f}",
                    f"{run.truth:,.0f}",
                    f"{run.governor - run.truth:+.2f}",
                    f"{run.aware - run.truth:+.2f}",
                    *errors,
                ]
            )
    table(
        "One run with a wrap in its middle: error in J, observed / predicted. 'masked' "
        "creates\nmost of its error itself: 4,294.97 J for each time a 15 s step holds that "
        "much (from\n286 W on, wrap or not), and minus the counter's turn modulo that at "
        "every wrap:",
        heads,
        rows,
    )
    rows = []
    for name, unit_ in UNITS.items():
        for watts, outage in ((200.0, 75.0), (200.0, 600.0), (1_000.0, 600.0)):
            counter = Counter(unit_, watts, 0)
            looks = [counter.at(0), counter.at(outage)]
            truth, turn = watts * outage, counter.turn / 1e6
            lost = truth - wrap_aware(looks, counter.turn) / 1e6
            low, _, hidden = counter.governed(outage, outage)
            rows.append(
                [
                    name,
                    f"{watts:.0f}",
                    f"{outage:.0f}",
                    f"{truth:,.0f}",
                    pair(lost, truth // turn * turn),
                    f"{low / 1e6:,.0f} to {(low + hidden) / 1e6:,.0f}",
                ]
            )
    table(
        "Outages: no look for a while. Not even a wrap-aware reader can tell how often the\n"
        "counter went round (lost: whole turns). carbon-ops reports an interval and a gap, "
        "from\nthe zone's power bound of 1,000 W, where more than one turn was possible:",
        ["unit", "W", "s", "truth J", "15 s aware loses", "carbon-ops says"],
        rows,
    )
    lost, added, worst, expected = edges(200.0, duration)
    true, fast, slow = peak()
    print(
        f"\nEdges, a task of {duration:.0f} s at 200 W between looks, mean of 150 offsets: "
        f"looks inside it\n  lose {lost:.2f} % (predicted {expected:.2f} %); looks around "
        f"it add {added:.2f} % of other work at 40 W\n  (predicted "
        f"{expected * 40 / 200:.2f} %). The nearest 10 Hz samples are off by at most "
        f"{worst:.2f} %."
        f"\nPeaks, a pulse of 1 s at {true:.0f} W over 50 W: {fast:.0f} W at 10 Hz, "
        f"{slow:.0f} W every 15 s\n  (predicted {50 + 300 / SCRAPE_S:.0f} W). Its energy is "
        "in both: only the shape is lost."
    )
    fine_unit = UNITS["15.3 µJ"]
    counter = Counter(fine_unit, 400.0, before_top(fine_unit, 400.0 * duration / 2))
    fine = [(i / 10, counter.at(i / 10)) for i in range(round(duration * 10) + 1)]
    return Picture(fine, counter.turn, "SIMULATED: 400 W on a counter of 15.3 µJ")


# --- real work, over the governor's socket ---------------------------------------------


def burn(until: float) -> int:
    """Keep one CPU busy until then."""
    n = 0
    while time.monotonic() < until:
        n += sum(i * i for i in range(20_000))
    return n


@contextmanager
def real_governor(path: str | None) -> Iterator[str | None]:
    """Yield the socket of a governor: the one at ``path``, the one that runs here, or,
    for root, one of our own on RAPL. ``None`` where there are no counters."""
    try:
        with_client = GovernorClient(path)
        source = with_client.layout.source
        with_client.close()
        print(f"the governor at {with_client.path} reads: {source}")
        yield with_client.path if path or source != "simulated" else None
        return
    except GovernorUnavailableError as error:
        print(f"no governor: {error}")
    try:
        open_source("sysfs").close()
    except CarbonOpsError as error:
        print(f"no counters to read ourselves: {error}")
        yield None
        return
    with GovernorProcess("--rapl-mode=sysfs") as governor:
        governor.wait_ready().close()
        yield governor.path


def worked(path: str, seconds: float) -> list[Picture]:
    """Run the loop under a logger; return what happened to each zone's counter.

    The counter is rebuilt from the governor's totals: where it wrapped, to 0.1 s; where
    it did not, from 0, which none of the readers can tell.
    """
    client = GovernorClient(path)
    mark = client.mark()
    samples: list[Sample] = [mark]
    with EnergyLogger(socket=path) as logger, logger.span("loop", settle=True) as span:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            burn(min(end, time.monotonic() + 5.0))
            samples += [
                s
                for s in client.since(samples[-1])
                if s.sequence > samples[-1].sequence
            ]
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
        offset = totals[0].total_uj
        for a, b in pairwise(totals):
            if b.wraps > a.wraps:
                offset = (a.total_uj + b.total_uj) // 2
                break
        turn = turn_uj(Unit(*zone.unit, zone.wrap_ticks))
        curve = [
            ((s.monotonic_ns - mark.monotonic_ns) / 1e9, (t.total_uj - offset) % turn)
            for s, t in zip(samples, totals, strict=True)
        ]
        report(zone, curve, totals[-1].wraps - totals[0].wraps, turn)
        pictures.append(Picture(curve, turn, f"{zone.key}, {client.layout.source}"))
    client.close()
    return pictures


def scraped(curve: Sequence[tuple[float, int]]) -> list[tuple[float, int]]:
    """Return the looks of a 15 s scraper whose first falls half an interval in."""
    looks, due = [], SCRAPE_S / 2
    for at, raw in curve:
        if at >= due:
            looks.append((at, raw))
            due += SCRAPE_S
    return looks


def report(zone: Zone, curve: list[tuple[float, int]], wraps: int, turn: int) -> None:
    truth = wrap_aware([raw for _, raw in curve], turn) / 1e6
    seconds = curve[-1][0]
    looks = scraped(curve)
    mean = truth / seconds if seconds else 0.0
    print(
        f"\n{zone.key}: {truth:,.1f} J in {seconds:.1f} s, {mean:.1f} W, wraps: {wraps}"
    )
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
    between = sum(b < a for a, b in pairwise(raws))
    aware = wrap_aware(raws, turn) / 1e6
    lost_s = seconds - (looks[-1][0] - looks[0][0])
    print(
        f"  15 s, wrap-aware, between its looks: {aware:,.1f} J; edges: it misses "
        f"{truth - aware:,.1f} J (predicted {mean * lost_s:,.1f} J)\n"
        f"  wraps between its looks: {between}; what these cost, observed / predicted mean:"
    )
    step = mean * SCRAPE_S
    expected = {
        "reset": -between * step / 2,
        "dropped": -between * step,
        "masked": (len(raws) - 1 - between) * masked_error(step, turn / 1e6, False)
        + between * masked_error(step, turn / 1e6, True),
    }
    for key, read in READERS.items():
        error = read(raws, turn) / 1e6 - aware
        print(f"  {key:8} {pair(error, expected[key], '+,.1f')} J")
    fine, coarse = highest(curve, turn), highest(looks, turn)
    print(f"  peaks    highest power {fine:.1f} W at 10 Hz, {coarse:.1f} W every 15 s")


def highest(points: Sequence[tuple[float, int]], turn: int) -> float:
    """Return the highest mean power [W] between two neighbours."""
    return max(
        (
            (b - a) % turn / 1e6 / (t1 - t0)
            for (t0, a), (t1, b) in pairwise(points)
            if t1 > t0
        ),
        default=0.0,
    )


# --- the picture -----------------------------------------------------------------------


PANEL = 230  # height of one


def draw(picture: Picture, path: str) -> None:
    """Write the counter with its looks, and below what each reader believes, as SVG."""
    curve, turn = picture.curve, picture.turn
    looks = scraped(curve)
    panels: list[tuple[str, list[tuple[str, str, list[tuple[float, float]]]]]] = [
        ("counter, kJ", [("10 Hz", "#888", [(t, raw / 1e9) for t, raw in curve])]),
        ("energy believed, kJ", []),
    ]
    colours = ["#0a0", "#d00", "#e80", "#80c"]
    believers = {"wrap-aware": wrap_aware, **READERS}
    for colour, (name, read) in zip(colours, believers.items(), strict=True):
        raws = [raw for _, raw in looks]
        line = [
            (looks[i][0], read(raws[: i + 1], turn) / 1e9) for i in range(len(looks))
        ]
        panels[1][1].append((f"15 s {name}", colour, line))
    out = [
        '<svg xmlns="http://www.w3.org/2000/svg" width="820" height="620" '
        'font-family="sans-serif" font-size="12"><rect width="820" height="620" '
        f'fill="#fff"/><text x="60" y="20" font-size="14">{picture.title}</text>'
    ]
    span = curve[-1][0] or 1.0
    for row, (label, lines) in enumerate(panels):
        top = 40 + row * 290
        most = max((y for _, _, line in lines for _, y in line), default=0.0) or 1.0
        out.append(
            f'<text x="60" y="{top + 10}">{label}</text><rect x="60" y="{top + 15}" '
            f'width="560" height="{PANEL}" fill="none" stroke="#ccc"/>'
            f'<text x="8" y="{top + 27}">{most:.2f}</text>'
            f'<text x="8" y="{top + 15 + PANEL}">0</text>'
            f'<text x="580" y="{top + 32 + PANEL}">{span:.0f} s</text>'
        )

        def place(t: float, y: float, of: tuple[int, float] = (top, most)) -> str:
            return (
                f"{60 + 560 * t / span:.1f},{of[0] + 15 + PANEL * (1 - y / of[1]):.1f}"
            )

        for i, (name, colour, line) in enumerate(lines):
            points = " ".join(place(*point) for point in line)
            out.append(
                f'<polyline points="{points}" fill="none" stroke="{colour}"/>'
                f'<text x="630" y="{top + 30 + 18 * i}" fill="{colour}">{name}</text>'
            )
        if row == 0:
            for t, raw in looks:
                x, y = place(t, raw / 1e9).split(",")
                out.append(f'<circle cx="{x}" cy="{y}" r="3.5" fill="#d00"/>')
            out.append(f'<text x="630" y="{top + 48}" fill="#d00">15 s looks</text>')
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join([*out, "</svg>\n"]))
    print(f"\npicture: {path}")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--duration", type=float, default=120.0, help="seconds")
    parser.add_argument("--plot", metavar="FILE.svg", help="draw counter and readers")
    parser.add_argument("--socket", help="of the governor; default: the usual place")
    options = parser.parse_args()
    if not 2 * SCRAPE_S <= options.duration <= 86_400:
        parser.error("--duration: from 30 s (two looks of a scraper) to 86400 s")
    if options.plot and not options.plot.endswith(".svg"):
        parser.error("--plot: the picture is SVG; give a name that ends in .svg")
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
        draw(picture, options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
