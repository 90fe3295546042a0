"""What is counted in the host total, and why."""

from __future__ import annotations

import pytest

from carbon_ops.counters.wrap import unit_of_range
from carbon_ops.counters.zones import (
    RawZone,
    bound_of,
    mirrored,
    ordered,
    parse_name,
    suspects,
    tree,
)

UNIT = unit_of_range(262_143_328_850)


def raw(ident: str, name: str, power_w: float = 0.0) -> RawZone:
    parent = ident.rsplit(":", 1)[0] if ident.count(":") > 1 else None
    return RawZone(ident.split(":", 1)[0], ident, parent, name, UNIT, power_w)


SERVER = [
    raw("intel-rapl:0", "package-0"),
    raw("intel-rapl:0:0", "core"),
    raw("intel-rapl:0:1", "dram"),
    raw("intel-rapl:0:2", "uncore"),
    raw("intel-rapl:1", "package-1"),
    raw("intel-rapl:1:0", "dram"),
    raw("intel-rapl:2", "psys"),
    raw("intel-rapl-mmio:0", "package-0"),
    raw("intel-rapl-mmio:0:0", "dram"),
]


def test_the_host_is_packages_and_their_dram() -> None:
    zones = tree(SERVER)

    assert [z.key for z in zones if z.counted] == [
        "intel-rapl/package-0",
        "intel-rapl/package-0/dram",
        "intel-rapl/package-1",
        "intel-rapl/package-1/dram",
    ]
    assert all(z.why for z in zones)


def test_dram_belongs_to_the_package_above_it() -> None:
    assert [z.package for z in tree(SERVER) if z.kind == "dram"] == [0, 1, 0]


def test_ten_sockets_and_more_are_numbers() -> None:
    raws = [raw(f"intel-rapl:{n}", f"package-{n}") for n in range(12)]

    zones = tree(ordered(sorted(raws, key=lambda r: r.id)))

    assert [z.package for z in zones] == list(range(12))
    assert all(z.counted for z in zones)


def test_dies_of_a_package_are_counted_each() -> None:
    zones = tree(
        [raw(f"intel-rapl:{n}", f"package-0-die-{n}") for n in range(2)]
        + [raw("intel-rapl:1:0", "dram")]
    )

    assert [z.counted for z in zones] == [True, True, True]
    assert [z.package for z in zones] == [0, 0, 0]


def test_a_twin_and_what_is_below_it_is_shown_and_not_added() -> None:
    raws = [raw(f"intel-rapl:{n}", f"package-0-die-{n}") for n in range(2)]

    zones = tree([*raws, raw("intel-rapl:1:0", "dram")], {"intel-rapl:1"})

    assert [z.counted for z in zones] == [True, False, False]
    assert "same counter twice" in zones[1].why


def test_keys_are_unique_and_made_of_names() -> None:
    zones = tree([*SERVER, raw("intel-rapl:7", "package-0")])

    assert len({z.key for z in zones}) == len(zones)
    assert zones[-1].key == "intel-rapl/package-0@intel-rapl:7"


def test_psys_may_draw_what_all_packages_may() -> None:
    zones = tree(SERVER)

    assert next(z for z in zones if z.kind == "psys").bound_w == 2000.0
    (alone,) = tree([raw("intel-rapl:0", "psys", power_w=700.0)])
    assert alone.bound_w == 1400.0


@pytest.mark.parametrize(
    ("limit_w", "bound_w"),
    [(0, 1000), (165, 1000), (500, 1000), (700, 1400), (1e12, 1000)],
)
def test_the_bound_is_twice_the_largest_constraint(
    limit_w: float, bound_w: float
) -> None:
    assert bound_of(limit_w) == bound_w


@pytest.mark.parametrize(
    "name", ["", "package", "package-", "package-x", "package-0-die", "psys-x", "dtpm"]
)
def test_unknown_names_are_counted_nowhere(name: str) -> None:
    assert parse_name(name).kind == "other"
    assert not tree([raw("intel-rapl:0", name)])[0].counted


def test_counters_that_start_close_together_are_not_twins() -> None:
    a = [1_000_000 + 5_000 * n for n in range(10)]
    b = [1_000_003 + 5_000 * n + n % 3 * 11 for n in range(10)]

    assert mirrored(a, b, 2**32) is False


def test_counters_that_move_together_are_twins_whatever_their_values() -> None:
    a = [(2**32 - 20_000 + 5_000 * n) % 2**32 for n in range(10)]
    b = [5_000 * n for n in range(10)]
    b[-1] += 60  # one look fell on either side of an update after all

    assert mirrored(a, b, 2**32) is True


def test_counters_that_move_alike_now_and_then_are_not_one() -> None:
    a = [5_000 * n for n in range(11)]
    b = [5_000 * n + (n > 6) * 40 * n for n in range(11)]  # six equal steps of ten

    assert mirrored(a, b, 2**32) is False


def test_one_look_and_counters_at_rest_decide_nothing() -> None:
    assert mirrored([7], [7], 2**32) is None
    assert mirrored([7] * 20, [7] * 20, 2**32) is None


def test_only_domains_of_one_package_are_suspect() -> None:
    dies = [raw(f"intel-rapl:{n}", f"package-0-die-{n}") for n in range(2)]
    sockets = [raw(f"intel-rapl:{n}", f"package-{n}") for n in range(2)]

    assert suspects(dies) == [["intel-rapl:0", "intel-rapl:1"]]
    assert suspects(sockets) == []


def test_memory_of_no_package_is_shown_and_not_added() -> None:
    (zone,) = tree([raw("intel-rapl:7", "dram")])

    assert (zone.package, zone.counted) == (None, False)


def test_a_package_shown_through_another_interface_is_no_suspect() -> None:
    raws = [raw("intel-rapl:0", "package-0"), raw("intel-rapl-mmio:0", "package-0")]

    assert suspects(raws) == []
