"""The readers on simulated counters, whose true energy and first value are chosen.

The source, the unit, the wrap and the accumulator are the ones that the governor uses; the
clock is virtual, so that two minutes take no time and every error is exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise, product
from typing import NamedTuple

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
from carbon_ops.counters.accumulator import Bank
from carbon_ops.counters.wrap import REGISTER_TICKS, Unit
from carbon_ops.model import ZoneTotals
from carbon_ops.sources.simulated import Script, SimulatedSource

UNITS = {
    "61.0 µJ": Unit(1_000_000, 1 << 14, REGISTER_TICKS),
    "15.3 µJ": Unit(15_258, 1_000, REGISTER_TICKS),
}
POWERS_W = (65.0, 200.0, 400.0, 1_000.0)
STARTS = 1_500  # first values of the register, spread evenly over it


class Counter:
    """The simulated source with a clock that is set, read as the kernel shows it [µJ]."""

    def __init__(self, unit: Unit, power: float | Script, start_ticks: int = 0) -> None:
        self.now_ns, self.unit, self.turn = 0, unit, turn_uj(unit)
        script = power if isinstance(power, Script) else Script(((1.0, power),))
        self.source = SimulatedSource(
            {"package-0": script},
            clock=lambda: self.now_ns,
            start_ticks=start_ticks % REGISTER_TICKS,
            units={"package-0": unit},
        )

    def at(self, seconds: float) -> int:
        self.now_ns = round(seconds * 1e9)
        ticks = self.source.read()[0] or 0
        return ticks * self.unit.numerator // self.unit.denominator

    def looks(self, last: float, every: float = SCRAPE_S) -> list[int]:
        return [self.at(i * every) for i in range(math.floor(last / every + 1e-9) + 1)]

    def governed(self, seconds: float, every: float = 0.1) -> ZoneTotals:
        """Return what the governor's accumulator counts in that time."""
        bank = Bank(self.source.zones)
        for i in range(round(seconds / every) + 1):
            self.now_ns = round(i * every * 1e9)
            totals = bank.step(self.source.read(), self.now_ns, self.now_ns)
        return totals[0]


def wraps_at(unit: Unit, joules: float) -> int:
    """Return the first value [ticks] of a register that wraps after so much energy."""
    return -round(joules * 1e6 * unit.denominator / unit.numerator)


class Wrapped(NamedTuple):
    """One run with a wrap in its middle: energies and the readers' errors [J]."""

    truth: float
    governor: float
    aware: float
    errors: dict[str, Pair]


def one_wrap(name: str, watts: float, duration: float) -> Wrapped:
    """Let the counter wrap once, a third into the look interval nearest to half-time."""
    unit, count, since_look = UNITS[name], math.floor(duration / SCRAPE_S), SCRAPE_S / 3
    wrap_s = count // 2 * SCRAPE_S + since_look
    counter = Counter(unit, watts, wraps_at(unit, watts * wrap_s))
    looks = counter.looks(duration)
    step, turn_j = watts * SCRAPE_S, counter.turn / 1e6
    truth = step * count
    predicted = (
        -watts * since_look,
        -step,
        (count - 1) * masked_error(step, turn_j, False)
        + masked_error(step, turn_j, True),
    )
    return Wrapped(
        truth,
        counter.governed(count * SCRAPE_S).total_uj / 1e6,
        believed("wrap-aware", looks, counter.turn),
        {
            reader: Pair(believed(reader, looks, counter.turn) - truth, error)
            for reader, error in zip(FAULTY, predicted, strict=True)
        },
    )


def any_start(name: str, watts: float, duration: float) -> tuple[Pair, Pair, Pair]:
    """Return means over many first values: wraps in a run, and what the readers that
    take a wrap for a reset, or drop it, lose [%]."""
    unit = UNITS[name]
    turn = turn_uj(unit)
    truth = watts * math.floor(duration / SCRAPE_S) * SCRAPE_S
    wraps, lost = 0, [0.0, 0.0]
    for i in range(STARTS):
        counter = Counter(unit, watts, REGISTER_TICKS * (2 * i + 1) // (2 * STARTS))
        looks = counter.looks(duration)
        wraps += decreases(looks)
        for j, reader in enumerate(FAULTY[:2]):
            lost[j] += 1 - believed(reader, looks, turn) / truth
    share = 100 * watts * SCRAPE_S * 1e6 / turn
    return (
        Pair(wraps / STARTS, truth * 1e6 / turn),
        Pair(100 * lost[0] / STARTS, share / 2),
        Pair(100 * lost[1] / STARTS, share),
    )


def edges(watts: float, duration: float) -> tuple[Pair, Pair, float]:
    """Return the share lost by looks inside a task amid other work of 40 W, the share
    added by looks around it (means of 150 offsets), and the most 10 Hz is off [%]."""
    inside = around = worst = 0.0
    rest_w, tries, truth = 40.0, 150, watts * duration
    for i in range(tries):
        start = SCRAPE_S + (i + 0.37) / tries * SCRAPE_S
        script = Script(((start, rest_w), (duration, watts), (60.0, rest_w)))
        counter, end = Counter(UNITS["61.0 µJ"], script), start + duration
        first, last = start / SCRAPE_S, end / SCRAPE_S

        def between(a: float, b: float, of: Counter = counter) -> float:
            return (of.at(b) - of.at(a)) / 1e6 if b > a else 0.0

        inside += truth - between(
            math.ceil(first) * SCRAPE_S, math.floor(last) * SCRAPE_S
        )
        around += (
            between(math.floor(first) * SCRAPE_S, math.ceil(last) * SCRAPE_S) - truth
        )
        a, b = (math.floor(t * 10 + 1e-9) / 10 for t in (start, end))
        worst = max(worst, abs(between(a, b) - truth))
    percent, share = 100 / tries / truth, 100 * SCRAPE_S / duration
    return (
        Pair(inside * percent, share),
        Pair(around * percent, share * rest_w / watts),
        100 * worst / truth,
    )


def peak() -> tuple[float, float, float]:
    """Return the highest power [W] of a pulse of 1 s: true, at 10 Hz, every 15 s."""
    script = Script(((37.0, 50.0), (1.0, 350.0), (22.0, 50.0)))
    counter = Counter(UNITS["61.0 µJ"], script)
    fast, slow = (
        max(b - a for a, b in pairwise(counter.looks(60, every))) / 1e6 / every
        for every in (0.1, SCRAPE_S)
    )
    return 350.0, fast, slow


def table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    print(f"\n{title}\n")
    for row in (heads, *rows):
        print("  " + "  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)))


def simulate(duration: float) -> Picture:
    print(
        "SIMULATED counters on a virtual clock: the source, the unit, the wrap and the\n"
        "accumulator are the ones the governor uses; the power is scripted, not measured."
    )
    cases = list(product(UNITS, POWERS_W))
    table(
        f"Any run of {duration:.0f} s: means over {STARTS} first values of the counter,\n"
        "observed / predicted (P T/M wraps; P dt/2M and P dt/M of the energy).\n"
        "Where wraps are few, most runs meet none and lose nothing to them:",
        ["unit", "W", "wraps", "reset loses %", "dropped loses %"],
        [
            [unit, f"{w:.0f}", *(f"{p:.3f}" for p in any_start(unit, w, duration))]
            for unit, w in cases
        ],
    )
    rows = []
    for name, watts in cases:
        run = one_wrap(name, watts, duration)
        off = (f"{j - run.truth:+.2f}" for j in (run.governor, run.aware))
        errors = (f"{error:+,.0f}" for error in run.errors.values())
        rows.append([name, f"{watts:.0f}", f"{run.truth:,.0f}", *off, *errors])
    table(
        "One run with a wrap in its middle: error in J, observed / predicted. 'masked' "
        "creates\nmost of its error itself: 4,294.97 J for each time a 15 s step holds that "
        "much (from\n286 W on, wrap or not), and minus the counter's turn modulo that at "
        "every wrap:",
        ["unit", "W", "truth J", "10 Hz", "15 s aware", *FAULTY],
        rows,
    )
    rows = []
    for name, (watts, outage) in product(
        UNITS, ((200.0, 75.0), (200.0, 600.0), (1_000.0, 600.0))
    ):
        counter, truth = Counter(UNITS[name], watts), watts * outage
        turn_j = counter.turn / 1e6
        seen = believed("wrap-aware", counter.looks(outage, outage), counter.turn)
        ours = counter.governed(outage, outage)
        lost = Pair(truth - seen, truth // turn_j * turn_j)
        low, high = ours.total_uj / 1e6, (ours.total_uj + ours.slack_uj) / 1e6
        told = [f"{watts:.0f}", f"{outage:.0f}", f"{truth:,.0f}", f"{lost:,.0f}"]
        rows.append([name, *told, f"{low:,.0f} to {high:,.0f}"])
    table(
        "Outages: no look for a while. Not even a wrap-aware reader can tell how often the\n"
        "counter went round (lost: whole turns). carbon-ops reports an interval and a gap, "
        "from\nthe zone's power bound of 1,000 W, where more than one turn was possible:",
        ["unit", "W", "s", "truth J", "15 s aware loses", "carbon-ops says"],
        rows,
    )
    inside, around, worst = edges(200.0, duration)
    true, fast, slow = peak()
    print(
        f"\nEdges, a task of {duration:.0f} s at 200 W between looks, mean of 150 offsets, "
        f"observed / predicted:\n  looks inside it lose {inside:.2f} %; looks around it add "
        f"{around:.2f} %,\n  of other work at 40 W. The nearest 10 Hz samples are off by at "
        f"most {worst:.2f} %.\nPeaks, a pulse of 1 s at {true:.0f} W over 50 W: {fast:.0f} W "
        f"at 10 Hz, {slow:.0f} W every 15 s\n  (predicted {50 + 300 / SCRAPE_S:.0f} W). Its "
        "energy is in both: only the shape is lost."
    )
    unit = UNITS["15.3 µJ"]
    counter = Counter(unit, 400.0, wraps_at(unit, 400.0 * duration / 2))
    curve = [(i / 10, raw) for i, raw in enumerate(counter.looks(duration, 0.1))]
    return Picture(curve, counter.turn, "SIMULATED: 400 W, counter of 15.3 µJ")
