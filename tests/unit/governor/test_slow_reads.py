"""A read that was paused in the middle is made again, but not for ever."""

from __future__ import annotations

import time

from carbon_ops.governor.sampler import Sampler
from carbon_ops.sources.simulated import Script, SimulatedSource


class Slow(SimulatedSource):
    """Simulated counters whose first reads take longer than a few milliseconds."""

    def __init__(self, slow_reads: int) -> None:
        super().__init__({"package-0": Script(((1.0, 100.0),))})
        self.slow_reads, self.reads, self.longest_ns = slow_reads, 0, 0

    def read(self) -> tuple[int | None, ...]:
        start = time.monotonic_ns()
        self.reads += 1
        if self.reads <= self.slow_reads:
            time.sleep(0.5)
        ticks = super().read()
        self.longest_ns = max(self.longest_ns, time.monotonic_ns() - start)
        return ticks


def test_the_sample_is_the_read_that_was_not_paused() -> None:
    source = Slow(1)
    sampler = Sampler(source)

    sample = sampler.take()

    assert source.reads >= 2
    assert sample.read_ns < source.longest_ns
    sampler.close()


def test_a_source_that_is_always_slow_is_read_three_times_at_most() -> None:
    source = Slow(3)
    sampler = Sampler(source)

    sample = sampler.take()

    assert source.reads == 3
    assert sample.read_ns >= 4_000_000
    sampler.close()
