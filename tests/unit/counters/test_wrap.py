"""Units from ranges seen in the field."""

from __future__ import annotations

import pytest

from carbon_ops.counters.wrap import ENDLESS, Unit, ticks_of, unit_of_range


@pytest.mark.parametrize(
    ("range_uj", "unit"),
    [
        (65_532_610_987, (15_258, 1000)),
        (262_143_328_850, (61_035, 1000)),
        (65_712_999_613, (15_300, 1000)),
        (4_294_967_295_000_000, (1_000_000_000, 1000)),
        (262_143_999_938, (1_000_000, 16_384)),
        (65_535_999_984, (1_000_000, 65_536)),
    ],
)
def test_known_ranges_name_their_unit(range_uj: int, unit: tuple[int, int]) -> None:
    assert unit_of_range(range_uj) == Unit(*unit, 2**32)


def test_a_range_of_no_known_shape_wraps_one_unit_past_it() -> None:
    assert unit_of_range(200_000_000_001) == Unit(1, 1, 200_000_000_002)


@pytest.mark.parametrize("range_uj", [0, -1, 2**63, 10**200])
def test_no_range_means_no_wrap(range_uj: int) -> None:
    assert unit_of_range(range_uj) is ENDLESS


def test_the_top_of_the_range_is_the_last_tick() -> None:
    unit = unit_of_range(65_532_610_987)

    assert ticks_of(65_532_610_987, unit) == 2**32 - 1
