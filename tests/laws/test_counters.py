"""Laws of the accumulator: energy is neither lost nor made, nor hidden in a 0."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from carbon_ops.counters.accumulator import UPDATE_NS, Bank, bound_uj, judge
from carbon_ops.counters.wrap import Unit, ticks_of, unit_of_range
from carbon_ops.model import Zone, ZoneTotals

TOP = 2**32 - 1
# max_energy_range_uj as seen in the field: 15.258, 61.035 and 15.3 µJ, 1 J, older
# kernels' exact 2**-14 J, and one of no known shape.
RANGES = (
    65_532_610_987,
    262_143_328_850,
    65_712_999_613,
    4_294_967_295_000_000,
    262_143_999_938,
    123_456_789_012,
)
SECOND = 1_000_000_000


def zone(unit: Unit, bound_w: float = 1000.0) -> Zone:
    return Zone(
        "z", "package-0", "package", 0, True, "", unit[:2], unit.wrap_ticks, bound_w
    )


def kernel_uj(ticks: int, unit: Unit) -> int:
    return ticks * unit.numerator // unit.denominator


units = st.sampled_from([unit_of_range(top) for top in RANGES])


@given(unit=units, data=st.data())
def test_the_kernels_microjoules_give_back_the_registers_ticks(
    unit: Unit, data: st.DataObject
) -> None:
    ticks = data.draw(st.integers(0, unit.wrap_ticks - 1))

    assert ticks_of(kernel_uj(ticks, unit), unit) == ticks


steps = st.lists(
    st.tuples(
        st.integers(1_000_000, 20 * SECOND),  # ns since the last reading
        st.floats(0, 1),  # power, as a part of the bound
        st.booleans(),  # does the read succeed?
    ),
    max_size=40,
)


@given(unit=units, start=st.floats(0, 1), steps=steps)
def test_the_sum_of_steps_is_the_true_energy_through_wraps_and_failures(
    unit: Unit, start: float, steps: list[tuple[int, float, bool]]
) -> None:
    shown = int(start * (unit.wrap_ticks - 1))
    longest_ns = unit.wrap_ticks * unit.numerator // unit.denominator  # at 1000 W
    bank, now, true, silent_ns = Bank((zone(unit),)), 0, 0, 0
    totals = bank.step([shown], 0, 0)[0]
    for elapsed, part, ok in steps:
        if silent_ns + elapsed + 2 * UPDATE_NS >= longest_ns:
            continue  # longer than a wrap at the bound: another law
        now += elapsed
        silent_ns = 0 if ok else silent_ns + elapsed
        ticks = int(part * elapsed * unit.denominator // unit.numerator)
        true += ticks
        shown = (shown + ticks) % unit.wrap_ticks
        totals = bank.step([shown if ok else None], now, now)[0]
        assert totals.fresh is ok
        if ok:
            assert totals.total_uj == kernel_uj(true, unit)

    assert (totals.gaps, totals.resets, totals.slack_uj) == (0, 0, 0)
    assert totals.failures <= len(steps)


@given(
    unit=units,
    steps=st.lists(
        st.tuples(
            st.integers(1_000_000, 3_000 * SECOND),
            st.floats(0, 1),
            st.booleans(),
            st.booleans(),  # does the machine sleep, counters at rest?
        ),
        max_size=30,
    ),
)
def test_gaps_of_any_length_hold_the_truth_between_total_and_slack(
    unit: Unit, steps: list[tuple[int, float, bool, bool]]
) -> None:
    bank, now, asleep, true, shown = Bank((zone(unit),)), 0, 0, 0, 0
    bank.step([0], 0, 0)
    for elapsed, part, ok, sleeps in steps:
        now += elapsed
        asleep += 3600 * SECOND * sleeps
        true += (ticks := int(part * elapsed * unit.denominator // unit.numerator))
        shown = (shown + ticks) % unit.wrap_ticks
        totals = bank.step([shown if ok else None], now, now + asleep)[0]
        if ok:
            low, high = totals.total_uj, totals.total_uj + totals.slack_uj
            assert low <= kernel_uj(true, unit) <= high


readings = st.one_of(
    st.none(), st.integers(-5, 2**64), st.sampled_from([0, TOP, TOP + 1])
)


@given(
    unit=units,
    script=st.lists(
        st.tuples(readings, st.integers(0, 400 * SECOND), st.integers(-5, 5)),
        max_size=60,
    ),
)
def test_no_sequence_of_readings_lowers_a_total_or_beats_the_bound(
    unit: Unit, script: list[tuple[int | None, int, int]]
) -> None:
    bank, now, since = Bank((zone(unit),)), 0, 0
    before = ZoneTotals(0, 0, 0, 0, 0, 0, True)
    for reading, elapsed, jitter in script:
        now += elapsed
        totals = bank.step([reading], now, now + jitter)[0]
        rise = totals.total_uj - before.total_uj
        assert rise >= 0
        assert totals.slack_uj >= before.slack_uj
        assert totals.fresh == (reading is not None and reading >= 0)
        limit = bound_uj(1000.0, now - since + UPDATE_NS + 10)
        assert rise <= limit + 2 * unit.numerator // unit.denominator + 2
        if not totals.fresh:  # never a silent 0
            assert rise == 0
            assert totals.failures == before.failures + 1
        else:
            since = now
        before = totals


@given(
    unit=units,
    bound_w=st.sampled_from((0.5, 1000.0, 1e9)),
    jump=st.floats(0, 1),
    turns=st.floats(0, 3),
    read_ns=st.integers(0, SECOND),
    asleep_ns=st.sampled_from((0, 40_000_000, 60_000_000, 10 * SECOND)),
)
def test_the_short_way_of_a_plain_step_is_the_long_way(
    unit: Unit, bound_w: float, jump: float, turns: float, read_ns: int, asleep_ns: int
) -> None:
    it = zone(unit, bound_w)
    turn_ns = unit.wrap_ticks * unit.numerator / unit.denominator / bound_w * 1_000
    mono = int(turns * turn_ns)
    # Near the bound as well as anywhere.
    now = int(jump * min(unit.wrap_ticks - 1, 2 * turns * unit.wrap_ticks))
    step = judge(it, 0, now, mono + asleep_ns + read_ns, suspended=asleep_ns > 5e7)
    bank = Bank((it,))

    bank.step((0,), 0, 0)
    (totals,) = bank.step((now,), mono, mono + asleep_ns, read_ns)

    assert totals == ZoneTotals(
        kernel_uj(step.ticks, unit),
        step.slack_uj,
        int(step.kind == "wrapped"),
        int(step.kind == "gap"),
        int(step.kind == "reset"),
        0,
        True,
    )
