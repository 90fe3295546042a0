"""Laws of the timeline: the published bounds contain the truth."""

from __future__ import annotations

from itertools import accumulate, pairwise

from hypothesis import given
from hypothesis import strategies as st

from carbon_ops.counters.accumulator import UPDATE_NS, Bank
from carbon_ops.counters.timeline import edge, window
from carbon_ops.counters.wrap import unit_of_range
from carbon_ops.model import Sample, Zone

UNIT = unit_of_range(262_143_328_850)
BOUND_W = 1000.0
ZONE = Zone("z", "package-0", "package", 0, True, "", UNIT[:2], 2**32, BOUND_W)
MS = 1_000_000


class Truth:
    """Energy [µJ] of piecewise constant power, in tenths of a second, and of sleeps."""

    def __init__(self, watts: list[int]) -> None:
        self.watts = watts
        self.sleeps: list[int] = []  # when on CLOCK_MONOTONIC, which stands still then
        self.sums = [0, *accumulate(w * 100_000 for w in watts)]

    def uj(self, t_ns: int) -> int:
        index = min(t_ns // (100 * MS), len(self.watts) - 1)
        awake = self.sums[index] + self.watts[index] * (t_ns - index * 100 * MS) // 1000
        return awake + 5_000_000_000 * sum(at <= t_ns for at in self.sleeps)


profiles = st.lists(st.integers(0, 999), min_size=1, max_size=40)
readers = st.lists(
    st.tuples(
        st.integers(1, 400),  # ms to the next sample
        st.integers(0, 30 * MS),  # the reads take this long
        st.floats(0, 1),  # where in that time the register is read
        st.booleans() | st.just(True),  # does the read succeed?
        st.sampled_from(
            [False, False, False, True]
        ),  # does the machine sleep before it?
    ),
    min_size=1,
    max_size=40,
)


def sampled(
    truth: Truth, reader: list[tuple[int, int, float, bool, bool]]
) -> list[Sample]:
    bank, now, asleep, samples = Bank((ZONE,)), 5 * MS, 0, []
    for sequence, (wait_ms, read_ns, place, ok, sleeps) in enumerate(reader, 1):
        if sleeps:
            truth.sleeps.append(now + int(place * wait_ms * MS))
        now += wait_ms * MS
        asleep += sleeps * 10_000 * MS
        read_at = now + int(place * read_ns)
        ticks = truth.uj(read_at - read_at % UPDATE_NS) * UNIT[1] // UNIT[0]
        shown = (2**32 - 100_000 + ticks) % 2**32
        totals = bank.step([shown if ok else None], now, now + asleep, read_ns)
        samples.append(
            Sample(sequence, now, read_ns, now + asleep, 0, now, 0, 0, totals)
        )
        now += read_ns
    return samples


@given(
    watts=profiles,
    reader=readers,
    spans=st.lists(st.tuples(st.floats(0, 1.2), st.floats(0, 1.2)), max_size=20),
)
def test_bounds_contain_the_truth_of_every_window(
    watts: list[int],
    reader: list[tuple[int, int, float, bool, bool]],
    spans: list[tuple[float, float]],
) -> None:
    truth = Truth(watts)
    samples = sampled(truth, reader)
    first = samples[0].monotonic_ns
    length = samples[-1].monotonic_ns - first + 50 * MS
    for one, other in spans:
        t0, t1 = (first + int(part * length) for part in sorted((one, other)))

        found = window(
            edge(samples, [ZONE], t0), edge(samples, [ZONE], t1), [ZONE]
        ).zones[0]

        assert found.low_uj <= truth.uj(t1) - truth.uj(t0) <= found.high_uj
        assert 0 <= found.low_uj <= found.point_uj <= found.high_uj


@given(watts=profiles, reader=readers, cuts=st.lists(st.floats(0, 1), max_size=8))
def test_adjoining_windows_share_nothing_and_lose_nothing(
    watts: list[int],
    reader: list[tuple[int, int, float, bool, bool]],
    cuts: list[float],
) -> None:
    samples = sampled(Truth(watts), reader)
    start, stop = samples[0].monotonic_ns, samples[-1].monotonic_ns
    times = [start, *sorted(start + int(c * (stop - start)) for c in cuts), stop]
    edges = [edge(samples, [ZONE], t) for t in times]

    parts = [window(a, b, [ZONE]) for a, b in pairwise(edges)]

    points = [e.point_uj[0] for e in edges]
    assert points == sorted(points)
    assert sum(p.samples for p in parts) == len(samples) - 1
    assert sum(p.failures for p in parts) == (
        samples[-1].totals[0].failures - samples[0].totals[0].failures
    )
    assert sum(p.host_busy_ns for p in parts) == stop - start
