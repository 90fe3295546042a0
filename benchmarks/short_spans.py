"""How well is the energy of a short span known from ten samples a second?

    python benchmarks/short_spans.py [--trials 1000] [--seed 1]

A bursty load, 20 W and 80 W by turns, each for an exponentially distributed time of 0.25 s
on average, behind a simulated register on a virtual clock. Spans begin anywhere. Prints
the 95th percentile of the relative error of a span's energy, by its length: at 10 Hz with
the governor's own interpolation, with the nearest samples instead, and with looks every
15 s on a straight line between them. No time passes; the same seed prints the same figures.
"""

from __future__ import annotations

import argparse
import random
from bisect import bisect
from itertools import accumulate

from carbon_ops.counters.accumulator import Bank
from carbon_ops.counters.timeline import edge, window
from carbon_ops.model import Sample
from carbon_ops.sources.simulated import Script, SimulatedSource

SECOND = 1_000_000_000
LENGTHS_S = (0.02, 0.05, 0.1, 0.3, 1.0, 5.0, 30.0)
MEAN_S, POWERS_W = 0.25, (20.0, 80.0)
RUN_S, SPANS = 90.0, 20  # of one run of the load, spans of each length in it


class Run:
    """One run of the load, sampled at 10 Hz."""

    def __init__(self, draw: random.Random) -> None:
        count = round(RUN_S / MEAN_S * 1.5)
        self.steps = [
            (draw.expovariate(1 / MEAN_S), POWERS_W[i % 2]) for i in range(count)
        ]
        self.ends = list(accumulate(seconds for seconds, _ in self.steps))
        self.sums = list(accumulate(seconds * watts for seconds, watts in self.steps))
        now_ns = 0
        source = SimulatedSource(
            {"package-0": Script(tuple(self.steps))}, clock=lambda: now_ns
        )
        self.zones, bank = source.zones, Bank(source.zones)
        self.samples: list[Sample] = []
        offset_ns = draw.randrange(SECOND // 10)
        for i in range(round(RUN_S * 10)):
            now_ns = offset_ns + i * SECOND // 10
            totals = bank.step(source.read(), now_ns, now_ns)
            sample = Sample(i + 1, now_ns, 0, now_ns, now_ns, 0, 0, 0, totals)
            self.samples.append(sample)

    def joules(self, seconds: float) -> float:
        """Return the true energy since the beginning [J]."""
        i = bisect(self.ends, seconds)
        if i == 0:
            return seconds * self.steps[0][1]
        return self.sums[i - 1] + (seconds - self.ends[i - 1]) * self.steps[i][1]

    def interpolated(self, a: float, b: float) -> float:
        edges = [edge(self.samples, self.zones, round(t * SECOND)) for t in (a, b)]
        return window(edges[0], edges[1], self.zones).zones[0].point_uj / 1e6

    def nearest(self, a: float, b: float) -> float:
        first_s = self.samples[0].monotonic_ns / SECOND
        chosen = [self.samples[round((t - first_s) * 10)] for t in (a, b)]
        return (chosen[1].totals[0].total_uj - chosen[0].totals[0].total_uj) / 1e6

    def scraped(self, a: float, b: float) -> float:
        def line(t: float) -> float:
            looks, part = divmod(t, 15.0)
            before, after = self.joules(looks * 15), self.joules((looks + 1) * 15)
            return before + (after - before) * part / 15

        return line(b) - line(a)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=1_000, help="spans of a length")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    draw = random.Random(given.seed)
    errors: dict[float, list[tuple[float, ...]]] = {length: [] for length in LENGTHS_S}
    for _ in range(max(1, given.trials // SPANS)):
        run = Run(draw)
        for length in LENGTHS_S:
            for _ in range(SPANS):
                a = draw.uniform(1.0, RUN_S - 2.0 - length)
                b = a + length
                true = run.joules(b) - run.joules(a)
                found = (run.interpolated(a, b), run.nearest(a, b), run.scraped(a, b))
                errors[length].append(tuple(abs(j - true) / true for j in found))
    print("95th percentile of the error; bursts and pauses of 0.25 s on average")
    print("span        10 Hz   nearest 10 Hz   every 15 s")
    for length, rows in errors.items():
        worst = [
            sorted(column)[int(0.95 * len(rows))] for column in zip(*rows, strict=True)
        ]
        ours, nearest, scraped = (f"{part:.1%}" for part in worst)
        print(f"{length:5g} s {ours:>9} {nearest:>15} {scraped:>12}")


if __name__ == "__main__":
    main()
