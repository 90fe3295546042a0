"""The simulated registers behave like real ones and say the truth when asked."""

from __future__ import annotations

import pytest

from carbon_ops.counters.accumulator import Bank
from carbon_ops.errors import InvalidInputError
from carbon_ops.sources.simulated import Load, Power, Script, SimulatedSource

SECOND = 1_000_000_000


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.ns = 5 * SECOND

    def __call__(self) -> int:
        return self.ns


def test_a_scripted_profile_is_counted_to_the_tick_through_its_wrap() -> None:
    clock = Clock()
    profile = {"package-0": Script(((0.43, 224.0), (0.44, 48.0)))}
    source = SimulatedSource(profile, clock=clock)
    bank = Bank(source.zones)
    bank.step(source.read(), clock.ns, clock.ns)

    for _ in range(300):
        clock.ns += SECOND // 10
        totals = bank.step(source.read(), clock.ns, clock.ns)[0]

    assert totals.wraps == 1
    assert abs(totals.total_uj - source.truth_uj()[0]) <= 62


def test_the_register_moves_once_a_millisecond() -> None:
    clock = Clock()
    source = SimulatedSource({"package-0": Script(((1.0, 100.0),))}, clock=clock)

    first = source.read()
    clock.ns += 999_999
    assert source.read() == first
    clock.ns += 1

    assert source.read() != first


def test_power_follows_the_hosts_load() -> None:
    clock, busy = Clock(), Clock()
    source = SimulatedSource({"package-0": Load(20.0, 12.0)}, clock=clock, busy=busy)

    clock.ns += 10 * SECOND
    busy.ns += 15 * SECOND

    assert source.truth_uj() == (10 * 20_000_000 + 15 * 12_000_000,)


def test_the_default_is_a_package_with_memory_on_this_host() -> None:
    source = SimulatedSource()

    assert [zone.key for zone in source.zones] == [
        "simulated/package-0",
        "simulated/package-0/dram",
    ]
    assert all(zone.counted for zone in source.zones)
    assert source.name == "simulated"
    assert None not in source.read()
    source.close()


@pytest.mark.parametrize(
    "power",
    [
        Load(-1.0, 0.0),
        Load(float("nan"), 1.0),
        Script(()),
        Script(((0.0, 5.0),)),
        Script(((1.0, float("inf")),)),
    ],
)
def test_a_profile_without_sense_is_refused(power: Power) -> None:
    with pytest.raises(InvalidInputError, match="zone package-0"):
        SimulatedSource({"package-0": power})
