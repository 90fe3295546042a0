"""Deadlines: the mean rate is the nominal one, and every lapse is counted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from carbon_ops.governor.sampler import Schedule

INTERVAL = 1_000


@given(st.lists(st.integers(0, 10 * INTERVAL), max_size=100))
def test_samples_and_missed_deadlines_make_up_the_time(delays: list[int]) -> None:
    schedule = Schedule(0, INTERVAL)

    for delay in delays:
        schedule.taken(schedule.due_ns + delay)

    assert schedule.due_ns == (len(delays) + schedule.missed) * INTERVAL
    assert schedule.late <= len(delays)


@given(st.lists(st.integers(0, INTERVAL // 2), min_size=1, max_size=100))
def test_small_delays_do_not_add_up(delays: list[int]) -> None:
    schedule = Schedule(0, INTERVAL)

    for delay in delays:
        schedule.taken(schedule.due_ns + delay)

    assert (schedule.late, schedule.missed) == (0, 0)
    assert schedule.due_ns == len(delays) * INTERVAL


def test_later_than_half_an_interval_is_late() -> None:
    schedule = Schedule(0, INTERVAL)

    schedule.taken(INTERVAL // 2 + 1)

    assert (schedule.due_ns, schedule.late, schedule.missed) == (INTERVAL, 1, 0)


def test_an_extra_sample_moves_no_deadline() -> None:
    schedule = Schedule(INTERVAL, INTERVAL)

    schedule.taken(10)

    assert (schedule.due_ns, schedule.late, schedule.missed) == (INTERVAL, 0, 0)
