"""Bounded series that only grow and together are everything that was counted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from carbon_ops.export.accounts import Accounts, Carry

NAMES = "abcdef"
LOOK = st.tuples(
    st.dictionaries(st.sampled_from(NAMES), st.integers(0, 10**9)),
    st.integers(0, 10**9),  # what nobody used
    st.sets(st.sampled_from(NAMES)),  # who ends
    st.floats(0.1, 3600),
)


@given(limit=st.integers(0, 4), looks=st.lists(LOOK, max_size=20))
def test_no_series_falls_and_their_growth_is_the_hosts_energy(
    limit: int, looks: list[tuple[dict[str, int], int, set[str], float]]
) -> None:
    accounts = Accounts(limit)
    for used, nobody, ended, seconds in looks:
        before, rest = dict(accounts.shown), accounts.rest
        host = sum(used.values()) + nobody
        accounts.add(used, host, seconds, set(NAMES) - ended)
        assert len(accounts.shown) <= limit
        assert not ended & accounts.shown.keys()
        assert all(
            accounts.shown[n] in (0, uj + used.get(n, 0))
            for n, uj in before.items()
            if n in accounts.shown
        )
        assert all(uj == 0 for n, uj in accounts.shown.items() if n not in before)
        grown = (
            accounts.rest
            - rest
            + sum(uj - before.get(name, 0) for name, uj in accounts.shown.items() if uj)
        )
        assert grown == host


def test_the_biggest_are_shown_from_the_look_after_they_appeared() -> None:
    accounts = Accounts(2)
    for _ in range(2):
        accounts.add({"a": 5, "b": 10, "c": 1}, 20, 1.0, {"a", "b", "c"})
    assert accounts.shown == {"b": 10, "a": 5}
    assert accounts.rest == 20 + 5


def test_a_newcomer_has_to_be_clearly_bigger_than_the_least() -> None:
    accounts = Accounts(1)
    accounts.add({"a": 10}, 10, 1.0, {"a", "b"})
    accounts.add({"a": 10, "b": 15}, 25, 1.0, {"a", "b"})
    assert accounts.shown == {"a": 10}
    accounts.add({"a": 10, "b": 90}, 100, 1.0, {"a", "b"})
    assert accounts.shown == {"b": 0}


def test_what_is_idle_keeps_its_series_as_long_as_nobody_needs_the_place() -> None:
    accounts = Accounts(1)
    accounts.add({"a": 10}, 10, 1.0, {"a"})
    for _ in range(100):
        accounts.add({}, 3, 600.0, {"a"})
    assert accounts.shown == {"a": 0}
    accounts.add({"b": 1}, 1, 1.0, {"a", "b"})
    assert accounts.shown == {"b": 0}


def test_totals_go_on_when_who_counts_begins_anew() -> None:
    carry = Carry()
    assert carry.epoch("one")
    assert not carry.epoch("one")
    assert carry.on("a", 7) == 7
    assert carry.epoch("two")
    assert (carry.on("a", 2), carry.on("b", 1)) == (9, 1)
    carry.epoch("three")
    assert carry.on("a", 1) == 10
