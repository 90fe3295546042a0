"""E(t) between, at and past samples, and what a window says about trouble."""

from __future__ import annotations

import pytest

from carbon_ops.counters.timeline import edge, window
from carbon_ops.errors import OutOfWindowError
from carbon_ops.model import Sample, Window, Zone, ZoneTotals

MS = 1_000_000
TENTH = 100 * MS
J = 1_000_000
UNIT = (61_035, 1000)
PACKAGE = Zone("p", "package-0", "package", 0, True, "", UNIT, 2**32, 1000.0)
CORE = Zone("c", "core", "core", 0, False, "", UNIT, 2**32, 1000.0)


def good(
    total_uj: int,
    *,
    slack_uj: int = 0,
    gaps: int = 0,
    resets: int = 0,
    failures: int = 0,
) -> ZoneTotals:
    return ZoneTotals(total_uj, slack_uj, 0, gaps, resets, failures, True)


def bad(total_uj: int, failures: int) -> ZoneTotals:
    return ZoneTotals(total_uj, 0, 0, 0, 0, failures, False)


def samples(*totals: ZoneTotals, read_ns: int = 0) -> list[Sample]:
    return [
        Sample(
            n + 1, n * TENTH, read_ns, n * TENTH, 0, n * TENTH // 2, 0, 0, (zone, zone)
        )
        for n, zone in enumerate(totals)
    ]


def between(kept: list[Sample], t0: int, t1: int) -> Window:
    zones = (PACKAGE, CORE)
    return window(edge(kept, zones, t0), edge(kept, zones, t1), zones)


STEADY = samples(good(0), good(10 * J), good(20 * J), good(30 * J))


def test_between_samples_energy_is_a_straight_line() -> None:
    found = between(STEADY, 50 * MS, 250 * MS)

    assert found.zones[0].point_uj == 20 * J
    assert found.host_busy_ns == 100 * MS
    assert (found.samples, found.flags) == (2, ())


def test_at_samples_the_bounds_are_one_update_wide_on_each_side() -> None:
    zone = between(STEADY, TENTH, 3 * TENTH).zones[0]

    assert zone.point_uj == 20 * J
    # 1,000 W x 1 ms = 1 J per edge, and a tick of rounding.
    assert zone.low_uj == pytest.approx(18 * J, abs=200)
    assert zone.high_uj == pytest.approx(22 * J, abs=200)


def test_between_samples_the_neighbours_bound_it() -> None:
    zone = between(STEADY, 150 * MS, 250 * MS).zones[0]

    assert zone.low_uj == 0
    assert zone.high_uj == pytest.approx(22 * J, abs=200)


def test_the_time_of_the_reads_widens_the_bounds() -> None:
    kept = samples(good(0), good(10 * J), good(20 * J), read_ns=2 * MS)

    zone = between(kept, 0, 2 * TENTH).zones[0]

    assert zone.low_uj == pytest.approx(14 * J, abs=200)
    assert zone.high_uj == pytest.approx(26 * J, abs=200)


def test_past_the_last_sample_the_last_power_goes_on_and_says_so() -> None:
    found = between(STEADY, 2 * TENTH, 350 * MS)

    assert found.zones[0].point_uj == 15 * J
    assert found.host_busy_ns == 75 * MS
    assert found.zones[0].high_uj == pytest.approx(62 * J, abs=200)  # its age counts
    assert found.flags == ("extrapolated",)


def test_a_window_past_a_lone_sample_is_bounded_and_flagged() -> None:
    found = between(samples(good(0)), 0, 5 * MS)

    assert (found.zones[0].point_uj, found.zones[0].high_uj) == (0, 5 * J)
    assert "extrapolated" in found.flags


def test_before_the_first_sample_nothing_is_known() -> None:
    with pytest.raises(OutOfWindowError, match="older than every sample"):
        edge(STEADY[1:], (PACKAGE, CORE), 0)
    with pytest.raises(OutOfWindowError):
        edge([], (PACKAGE, CORE), 0)


def test_a_window_does_not_run_backwards() -> None:
    with pytest.raises(ValueError, match="before it starts"):
        between(STEADY, 2 * TENTH, TENTH)


def test_a_failed_read_is_bridged_by_its_good_neighbours() -> None:
    kept = samples(good(0), bad(0, 1), good(20 * J, failures=1), good(30 * J))

    found = between(kept, 0, TENTH)

    assert found.zones[0].point_uj == 10 * J
    assert found.flags == ("read_failed",)


def test_reads_that_fail_one_after_the_other_are_bridged_from_the_first_sample() -> (
    None
):
    kept = samples(good(0), bad(0, 1), bad(0, 2), good(30 * J, failures=2))

    assert edge(kept, (PACKAGE, CORE), 2 * TENTH).point_uj == (20 * J, 20 * J)


def test_a_zone_that_was_read_within_the_window_is_not_unread() -> None:
    found = between(samples(good(0), good(10 * J), bad(10 * J, 1)), 0, 2 * TENTH)

    assert set(found.flags) == {"read_failed", "extrapolated"}


def test_a_zone_that_fails_until_now_is_unknown_since_then() -> None:
    kept = samples(good(0), good(10 * J), bad(10 * J, 1), bad(10 * J, 2))

    found = between(kept, 2 * TENTH, 3 * TENTH)

    assert set(found.flags) == {"read_failed", "extrapolated", "unread"}
    assert found.zones[0].high_uj == 100 * J


def test_a_zone_that_was_never_read_is_unknown_not_zero() -> None:
    found = between(samples(bad(0, 1), bad(0, 2), bad(0, 3)), 0, 2 * TENTH)

    assert (found.zones[0].low_uj, found.zones[0].high_uj) == (0, 200 * J)
    assert "unread" in found.flags
    assert found.failures == 2


def test_what_a_zone_did_since_it_died_before_the_samples_is_bounded_by_power() -> None:
    # The span began long before the two samples that are left.
    kept = samples(*(bad(5 * J, n + 1) for n in range(602)))
    # The machine slept for ten seconds in between.
    left = [s._replace(boottime_ns=s.boottime_ns + 10_000 * MS) for s in kept[-2:]]
    zones = (PACKAGE, CORE)

    start, end = edge(kept[:1], zones, 0), edge(left, zones, 601 * TENTH)
    zone = window(start, end, zones).zones[0]

    assert (zone.low_uj, zone.high_uj) == (0, 70_100 * J)


def test_a_pause_between_two_clock_reads_takes_nothing_off_the_bounds() -> None:
    kept = samples(good(0), bad(0, 1), bad(0, 2))
    kept[0] = kept[0]._replace(boottime_ns=40 * MS)

    found = between(kept, 0, 2 * TENTH)

    assert found.zones[0].high_uj == 200 * J


def test_a_search_for_a_good_read_ends_at_the_last_one() -> None:
    kept = samples(bad(0, 1), good(9 * J, failures=1), bad(9 * J, 2), bad(9 * J, 3))

    found = between(kept, 0, 3 * TENTH)

    assert found.zones[0].point_uj == 0  # no power was seen yet
    assert edge(kept, (PACKAGE, CORE), TENTH).point_uj == (9 * J, 9 * J)


def test_a_gap_is_an_interval_of_the_windows_that_touch_it_only() -> None:
    kept = samples(
        good(0),
        good(10 * J),
        good(15 * J, slack_uj=500 * J, gaps=1),
        good(25 * J, slack_uj=500 * J, gaps=1),
        good(35 * J, slack_uj=500 * J, gaps=1),
    )

    # The machine slept for a second before the third sample.
    kept[2:] = [s._replace(boottime_ns=s.boottime_ns + 1000 * MS) for s in kept[2:]]

    across, after = between(kept, TENTH, 3 * TENTH), between(kept, 3 * TENTH, 4 * TENTH)

    assert (across.gaps, across.flags) == (1, ("gap",))
    assert across.zones[0].high_uj >= 515 * J
    assert across.zones[0].low_uj <= 15 * J
    assert (after.gaps, after.flags) == (0, ())
    assert after.zones[0].high_uj < 13 * J


def test_an_edge_inside_the_step_of_a_reset_flags_both_windows() -> None:
    kept = samples(
        good(0),
        good(10 * J),
        good(10 * J, slack_uj=101 * J, resets=1),
        good(20 * J, slack_uj=101 * J, resets=1),
    )

    first, second = between(kept, 0, 150 * MS), between(kept, 150 * MS, 3 * TENTH)

    assert (first.flags, second.flags) == (("reset",), ("reset",))
    assert first.resets + second.resets == 1  # counted once
    # 50 ms of the step lie on each side, at 1,000 W and with 1 ms of doubt.
    assert first.zones[0].high_uj == pytest.approx(62 * J, abs=200)
    assert second.zones[0].high_uj == pytest.approx(113 * J, abs=300)


def test_trouble_of_a_zone_that_is_not_counted_is_not_the_hosts() -> None:
    kept = samples(good(0), good(10 * J))
    kept[1] = kept[1]._replace(totals=(good(10 * J), bad(0, 1)))

    found = between(kept, 0, TENTH)

    assert (found.failures, found.flags) == (0, ())


def test_a_load_that_starts_between_two_samples_is_found_where_it_starts() -> None:
    # 10 W until 130 ms, then 110 W.
    kept = samples(
        good(0), good(J), good(J * 300 // 1000 + J + 77 * J // 10), good(20 * J)
    )

    found = between(kept, TENTH, 130 * MS)

    assert found.zones[0].point_uj == 300_000


def test_a_load_that_ends_between_two_samples_is_found_where_it_ends() -> None:
    # 110 W until 130 ms, then 10 W.
    kept = samples(good(0), good(11 * J), good(15 * J), good(16 * J))

    found = between(kept, TENTH, 130 * MS)

    assert found.zones[0].point_uj == 3_300_000


def test_a_peak_between_two_samples_stays_a_straight_line() -> None:
    kept = samples(good(0), good(J), good(21 * J), good(22 * J))

    assert between(kept, TENTH, 150 * MS).zones[0].point_uj == 10 * J


def test_a_neighbour_that_is_no_measurement_bends_no_line() -> None:
    reset = [
        good(0),
        good(J),
        good(9 * J),
        good(19 * J, slack_uj=101 * J, resets=1),
    ]
    failed = [bad(0, 1), good(J), good(9 * J), good(19 * J)]

    for totals in (reset, failed):
        found = between(samples(*totals), TENTH, 150 * MS)
        assert found.zones[0].point_uj == 4 * J


def test_past_the_last_sample_what_preceded_it_follows() -> None:
    kept = samples(good(0), good(10 * J), good(10 * J), good(30 * J))
    last = 3 * TENTH

    ages = (0, 50, 100, 150, 200, 300, 600)
    points = [between(kept, last, last + a * MS).zones[0].point_uj // J for a in ages]

    assert points == [0, 10, 20, 20, 20, 30, 60]


def test_a_window_that_ends_while_the_machine_slept_is_not_bound_by_its_length() -> (
    None
):
    hours = 3_600_000 * J  # an hour at the bound, in no time of this clock
    kept = samples(good(0), good(10 * J), good(10 * J, slack_uj=hours, gaps=1))
    kept[2] = kept[2]._replace(boottime_ns=kept[2].boottime_ns + 3_600_000 * MS)

    found = between(kept, 0, 150 * MS)

    assert found.zones[0].high_uj >= hours
    assert found.flags == ("gap",)


def test_the_lower_bound_looks_back_from_the_next_sample() -> None:
    """90 J in 100 ms: 10 ms before the end at most 10 J, an update and a tick lack."""
    kept = samples(good(0), good(90 * J))

    found = edge(kept, (PACKAGE, CORE), 90 * MS)

    assert found.low_uj[0] == 90 * J - 10 * J - 1 * J - 63
    assert found.high_uj[0] == 90 * J + 1 * J + 63


def test_a_load_step_is_found_however_late_in_the_day() -> None:
    totals = good(0), good(1 * J), good(6 * J), good(16 * J)
    kept = [
        one._replace(monotonic_ns=one.monotonic_ns + 3_600_000 * MS)
        for one in samples(*totals)
    ]

    at = 3_600_000 * MS + 150 * MS

    # 10 W before, 100 W after, 50 W on average: still 10 W in the middle.
    assert edge(kept, (PACKAGE, CORE), at).point_uj[0] == pytest.approx(
        1_500_000, abs=2
    )
