"""Each step by name: first, advanced, wrapped, gap, reset, failed."""

from __future__ import annotations

import pytest

from carbon_ops.counters.accumulator import Bank, judge
from carbon_ops.counters.wrap import ENDLESS, Unit, unit_of_range
from carbon_ops.model import Zone

SECOND = 1_000_000_000
TENTH = SECOND // 10
ESU16 = unit_of_range(65_532_610_987)
ESU14 = unit_of_range(262_143_328_850)


def zone(unit: Unit = ESU14, bound_w: float = 1000.0, key: str = "a") -> Zone:
    return Zone(key, key, "package", 0, True, "", unit[:2], unit.wrap_ticks, bound_w)


def test_the_first_reading_counts_nothing() -> None:
    totals = Bank((zone(),)).step([123_456], 0, 0)[0]

    assert totals == (0, 0, 0, 0, 0, 0, True)


def test_a_wrap_keeps_every_tick() -> None:
    bank = Bank((zone(),))
    bank.step([2**32 - 10], 0, 0)

    totals = bank.step([15], TENTH, TENTH)[0]

    assert totals.total_uj == 25 * 61_035 // 1000
    assert (totals.wraps, totals.resets, totals.gaps) == (1, 0, 0)


def test_200_w_for_an_hour_at_10_hz_is_720_kj_to_the_tick() -> None:
    bank, ticks = Bank((zone(ESU16),)), 0
    bank.step([0], 0, 0)
    for n in range(1, 36_001):
        ticks = n * 20 * 1_000_000 * 1000 // 15_258
        totals = bank.step([ticks % 2**32], n * TENTH, n * TENTH)[0]

    assert totals.total_uj == ticks * 15_258 // 1000
    assert totals.total_uj == pytest.approx(720_000e6, abs=16)
    assert totals.wraps == 10


def test_a_decrease_that_no_power_explains_is_a_reset_and_an_interval() -> None:
    bank = Bank((zone(),))
    bank.step([3_000_000_000], 0, 0)

    totals = bank.step([1_000], TENTH, TENTH)[0]

    assert (totals.total_uj, totals.resets, totals.wraps) == (0, 1, 0)
    assert totals.slack_uj == 101_000_000  # 1,000 W for 100 ms and one update


def test_a_jump_ahead_that_no_power_explains_is_a_reset_too() -> None:
    bank = Bank((zone(),))
    bank.step([0], 0, 0)

    totals = bank.step([4_000_000_000], TENTH, TENTH)[0]

    assert (totals.total_uj, totals.resets) == (0, 1)


def test_a_jump_is_judged_by_the_time_since_the_last_good_read() -> None:
    bank = Bank((zone(),))
    bank.step([0], 0, 0)
    for n in range(1, 11):
        failed = bank.step([None], n * TENTH, n * TENTH)[0]
        assert (failed.total_uj, failed.failures, failed.fresh) == (0, n, False)

    ticks = 500 * 1_000_000 * 1000 // 61_035  # 500 J in 1.1 s
    totals = bank.step([ticks], 11 * TENTH, 11 * TENTH)[0]

    assert totals.total_uj == ticks * 61_035 // 1000
    assert (totals.failures, totals.resets, totals.fresh) == (10, 0, True)


def test_a_reader_paused_in_the_middle_is_no_reset() -> None:
    bank = Bank((zone(),))
    bank.step([0], 0, 0)
    ticks = 300 * 1_000_000 * 1000 // 61_035  # 300 J, read a second after the stamp

    totals = bank.step([ticks], TENTH, TENTH, read_ns=SECOND)[0]

    assert totals.resets == 0
    assert totals.total_uj == ticks * 61_035 // 1000


def test_a_pause_longer_than_a_wrap_is_an_interval() -> None:
    bank = Bank((zone(ESU16),))  # wraps after 65.5 s at the bound
    bank.step([0], 0, 0)

    totals = bank.step([1_000_000], 140 * SECOND, 140 * SECOND)[0]

    assert totals.total_uj == 1_000_000 * 15_258 // 1000
    assert totals.slack_uj == -(-2 * 2**32 * 15_258 // 1000)
    assert (totals.gaps, totals.wraps) == (1, 0)


def test_a_reader_paused_in_the_middle_for_longer_than_a_wrap_is_an_interval() -> None:
    bank = Bank((zone(ESU16),))
    bank.step([0], 0, 0)

    totals = bank.step([1_000], TENTH, TENTH, read_ns=70 * SECOND)[0]

    assert (totals.gaps, totals.slack_uj) == (1, -(-(2**32) * 15_258 // 1000))


def test_suspend_is_a_gap_however_plausible_the_counter_looks() -> None:
    bank = Bank((zone(),))
    bank.step([1_000], 0, 0)
    hour = 3600 * SECOND

    totals = bank.step([2_000], TENTH, TENTH + hour)[0]

    assert (totals.total_uj, totals.gaps) == (0, 1)
    assert totals.slack_uj == pytest.approx(3600.1 * 1000 * 1e6, rel=1e-5)
    after = bank.step([3_000], 2 * TENTH, 2 * TENTH + hour)[0]
    assert (after.total_uj, after.gaps) == (1_000 * 61_035 // 1000, 1)


def test_a_pause_between_two_clock_reads_is_no_suspend() -> None:
    bank = Bank((zone(),))
    bank.step([1_000], 0, 0)

    assert bank.step([2_000], TENTH, TENTH + 40_000_000)[0].gaps == 0


def test_bits_above_the_register_are_not_energy() -> None:
    bank = Bank((zone(),))
    bank.step([0xDEAD_0000_0000_0010], 0, 0)

    totals = bank.step([0xBEEF_0000_0000_0020], TENTH, TENTH)[0]

    assert totals.total_uj == 16 * 61_035 // 1000


def test_without_a_known_top_every_decrease_is_a_reset() -> None:
    step = judge(zone(ENDLESS), 5_000, 4_000, TENTH)

    assert (step.kind, step.ticks) == ("reset", 0)


def test_one_tick_of_a_joule_is_no_jump() -> None:
    unit = unit_of_range(4_294_967_295_000_000)

    assert judge(zone(unit, bound_w=100.0), 4, 5, 1_000_000).kind == "advanced"


def test_zones_do_not_share_their_fate() -> None:
    bank = Bank((zone(key="a"), zone(key="b")))
    bank.step([0, 0], 0, 0)

    a, b = bank.step([None, 1_000], TENTH, TENTH)

    assert (a.failures, a.fresh) == (1, False)
    assert (b.failures, b.total_uj) == (0, 61_035)


def test_the_number_of_readings_is_checked() -> None:
    with pytest.raises(ValueError, match="1 readings for 2 zones"):
        Bank((zone(key="a"), zone(key="b"))).step([1], 0, 0)
