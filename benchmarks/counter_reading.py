"""What does one reading of eight zones cost, part by part, in microseconds of CPU?

The powercap tree and the registers are files on the temporary file system: the kernel's
own work (one inter-processor interrupt for each register on real hardware) is not in
these numbers. Each part is timed in batches that take turns, and the median batch
counts, so that a busy neighbour disturbs all parts alike. ``bare read`` opens, reads and
closes the eight files anew, as a simple reader would.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable

from carbon_ops.counters.accumulator import Bank
from carbon_ops.counters.timeline import edge, window
from carbon_ops.governor.sampler import Sampler
from carbon_ops.sources.msr import MsrSource
from carbon_ops.sources.powercap import PowercapSource
from carbon_ops.testing.msr import FakeMsr
from carbon_ops.testing.powercap import server

BATCH = 200


def medians(parts: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return µs of CPU per call of each part."""
    times: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(rounds):
        for name, call in parts.items():
            start = time.thread_time_ns()
            for _ in range(BATCH):
                call()
            times[name].append((time.thread_time_ns() - start) / BATCH / 1000)
    return {name: statistics.median(batches) for name, batches in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as base:
        fake = server(base)
        source = PowercapSource(fake.root)
        files = [os.path.join(fake.root, ident, "energy_uj") for ident in fake.ticks]
        registers = FakeMsr(base, [0, 1])
        for package in (0, 1):
            for register in (0x64D, 0x641, 0x639, 0x619, 0x611, 0x606):
                registers.set(package, register, 0xE03)
        msr = MsrSource(
            dev_root=registers.dev_root,
            sys_cpu_root=registers.sys_cpu_root,
            cpuinfo=registers.cpuinfo,
        )
        bank, ticks = Bank(source.zones), source.read()
        sampler = Sampler(source)
        for _ in range(600):
            sampler.take()
        samples, zones = list(sampler.samples), source.zones
        first, last = samples[40].monotonic_ns + 1, samples[-40].monotonic_ns + 1

        def bare() -> list[int]:
            values = []
            for path in files:
                with open(path, encoding="ascii") as file:
                    values.append(int(file.read()))
            return values

        def step() -> object:
            now = time.monotonic_ns()
            return bank.step(ticks, now, now)

        def answer() -> object:
            return window(
                edge(samples, zones, first), edge(samples, zones, last), zones
            )

        costs = medians(
            {
                f"bare read ({len(files)} files)": bare,
                f"powercap read ({len(zones)} zones)": source.read,
                f"msr read ({len(msr.zones)} zones)": msr.read,
                f"accumulate ({len(zones)} zones)": step,
                "whole sample": sampler.take,
                "look for changed zones": source.changed,
                "answer one window": answer,
            },
            rounds,
        )
        msr.close()
        sampler.close()
    for name, cost in costs.items():
        print(f"{name:32} {cost:8.1f} µs")
    whole = costs["whole sample"]
    print(f"at 10 Hz a whole sample is {whole * 10 / 1e6:.4%} of one core")


if __name__ == "__main__":
    main()
