"""How far are windows of energy from the simulated truth, and do the bounds hold it?

Without arguments a scripted power profile runs behind simulated registers in this
process, and the governor's own sampler reads them at 10 Hz.

With ``--socket`` a running governor is asked instead. It has to read a virtual machine
whose power is scripted; ``--machine`` is that machine's configuration (JSON: domains
with zone, name and profile) and ``--truth`` a file that tells, as JSON, ``t0_ns``: the
instant of CLOCK_MONOTONIC at which the scripts began.

Prints the errors of three kinds of windows: from sample to sample over 10 s, between
arbitrary instants 10 s apart, and random ones of 5 ms to 20 s, for which it counts how
often the published bounds contain the truth.

exit status: 0 if all three are within their limits (0.05 %, 0.3 %, every time), else 1.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from carbon_ops.counters.timeline import edge, window
from carbon_ops.governor.client import GovernorClient
from carbon_ops.governor.sampler import Sampler
from carbon_ops.model import Sample, Window, Zone
from carbon_ops.sources.simulated import Script, SimulatedSource, energy_uj

MS, SECOND = 1_000_000, 1_000_000_000
LIMIT_SAMPLED, LIMIT_ARBITRARY = 0.0005, 0.003
MOST_SECONDS = 58.0  # of samples that are all still in the ring when they are asked for
# Two sockets with memory; periods that no number of 0.1 s fits.
PROFILE = {
    "package-0": Script(((0.43, 224.0), (0.44, 48.0))),
    "package-0/dram": Script(((1.0, 24.0),)),
    "package-1": Script(((0.31, 120.0), (0.73, 72.0))),
    "package-1/dram": Script(((1.0, 20.0),)),
}


class Recording(NamedTuple):
    """A minute of samples, and what is true of any time within it."""

    zones: Sequence[Zone]
    samples: Sequence[Sample]
    ask: Callable[[int, int], Window]
    t0_ns: int
    scripts: dict[str, Script]  # by zone key

    def truth(self, zone: Zone, t0_ns: int, t1_ns: int) -> int:
        script = self.scripts[zone.key]
        return energy_uj(script, t1_ns - self.t0_ns, 0) - energy_uj(
            script, t0_ns - self.t0_ns, 0
        )


def record_here(seconds: float) -> Recording:
    """Sample simulated registers in this process."""
    began = time.monotonic_ns()
    source = SimulatedSource(PROFILE)
    sampler = Sampler(source)
    due = time.monotonic()
    while time.monotonic_ns() - began < seconds * SECOND:
        sampler.take()
        due += 0.1
        time.sleep(max(0.0, due - time.monotonic()))
    samples = list(sampler.samples)
    zones = source.zones
    scripts = {zone.key: PROFILE[zone.key.split("/", 1)[1]] for zone in zones}

    def ask(t0: int, t1: int) -> Window:
        return window(edge(samples, zones, t0), edge(samples, zones, t1), zones)

    sampler.close()
    return Recording(zones, samples, ask, source.t0_ns, scripts)


def record_governor(socket: str, machine: str, truth: str, seconds: float) -> Recording:
    """Ask a governor that reads a virtual machine."""
    with open(machine, encoding="utf-8") as file:
        domains = json.load(file)["domains"]
    with open(truth, encoding="utf-8") as file:
        t0_ns = json.load(file)["t0_ns"]
    client = GovernorClient(socket)
    mark = client.mark()
    samples: dict[int, Sample] = {}
    stop = time.monotonic_ns() + int(seconds * SECOND)
    while time.monotonic_ns() < stop:
        sample = client.latest()
        samples[sample.sequence] = sample
        time.sleep(0.04)
    names = {domain["zone"]: domain["name"] for domain in domains}
    by_key: dict[str, Script] = {}
    for domain in domains:
        ident = domain["zone"]
        above = names.get(ident.rsplit(":", 1)[0])
        path = f"{above}/{domain['name']}" if above else domain["name"]
        script = Script(tuple((s, w) for s, w in domain["profile"]))
        by_key[f"{ident.split(':')[0]}/{path}"] = script
        by_key.setdefault(f"msr/{path}", script)

    def ask(t0: int, t1: int) -> Window:
        return client.window(mark, t0, t1)

    return Recording(client.layout.zones, list(samples.values()), ask, t0_ns, by_key)


def errors(
    run: Recording, spans: Sequence[tuple[int, int]]
) -> tuple[float, float, int]:
    """Return the worst and the mean relative error of the host's energy over
    ``spans``, and how many zones' bounds missed the truth."""
    parts, missed = [], 0
    for t0, t1 in spans:
        found = run.ask(t0, t1)
        point = sum(e.point_uj for e in found.zones if e.zone.counted)
        true = sum(run.truth(e.zone, t0, t1) for e in found.zones if e.zone.counted)
        parts.append(abs(point - true) / true)
        for energy in found.zones:
            exact = run.truth(energy.zone, t0, t1)
            missed += not energy.low_uj <= exact <= energy.high_uj
    return max(parts), sum(parts) / len(parts), missed


def report(run: Recording, count: int, seed: int) -> int:
    """Print the three kinds of windows; return the exit status."""
    draw = random.Random(seed)
    first, last = run.samples[0].monotonic_ns, run.samples[-1].monotonic_ns
    times = [sample.monotonic_ns for sample in run.samples]
    sampled = [
        (a, b) for a in times for b in times if abs(b - a - 10 * SECOND) < 100 * MS
    ]
    sampled = draw.sample(sampled, min(count, len(sampled)))
    starts = [draw.randint(first, last - 10 * SECOND) for _ in range(count)]
    arbitrary = [(t, t + 10 * SECOND) for t in starts]
    anyhow = []
    for _ in range(count):
        length = draw.randint(5 * MS, min(20 * SECOND, last - first))
        start = draw.randint(first, last - length)
        anyhow.append((start, start + length))
    worst_read = max(sample.read_ns for sample in run.samples) / 1e6
    print(
        f"{len(run.samples)} samples of {len(run.zones)} zones; reads took at most {worst_read:.2f} ms"
    )
    status = 0
    for name, spans, limit in (
        ("sample to sample, 10 s", sampled, LIMIT_SAMPLED),
        ("arbitrary 10 s", arbitrary, LIMIT_ARBITRARY),
        ("random 5 ms to 20 s", anyhow, None),
    ):
        worst, mean, missed = errors(run, spans)
        status |= missed > 0 or (limit is not None and worst > limit)
        allowed = f" (limit {limit:.2%})" if limit else ""
        print(
            f"{name}: {len(spans)} windows, host error mean {mean:.4%}, worst "
            f"{worst:.4%}{allowed}; bounds missed the truth {missed} times"
        )
    return int(status)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=MOST_SECONDS)
    parser.add_argument("--windows", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--socket")
    parser.add_argument("--machine")
    parser.add_argument("--truth")
    given = parser.parse_args()
    if given.socket:
        if not (given.machine and given.truth):
            parser.error("--socket needs --machine and --truth")
        if given.seconds > MOST_SECONDS:
            parser.error(
                f"--seconds {given.seconds:g}: the governor keeps a minute of samples; "
                f"ask for at most {MOST_SECONDS:g}"
            )
        run = record_governor(given.socket, given.machine, given.truth, given.seconds)
    else:
        run = record_here(given.seconds)
    return report(run, given.windows, given.seed)


if __name__ == "__main__":
    sys.exit(main())
