"""Rows and rest are the host's energy, to the microjoule."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from carbon_ops.cli import ranking
from carbon_ops.cli.ranking import Ranking, Table

SECOND = 1_000_000_000


def table(
    used: dict[str, int],
    host_uj: int | None,
    busy_ns: int | None,
    *,
    rows: int = 10,
    known: Ranking | None = None,
) -> Table:
    """Return one look of a second."""
    return (known or Ranking(500.0)).table(
        used,
        {key: f"name {key}" for key in used},
        host_uj,
        busy_ns,
        SECOND,
        rows=rows,
        mode="governor",
        source="simulated",
        reason=None,
        processes=len(used),
    )


@given(
    used=st.dictionaries(
        st.text("abc", min_size=1, max_size=3), st.integers(1, 10**10), max_size=9
    ),
    host_uj=st.integers(0, 10**10),
    busy_ns=st.integers(0, 10**11),
    rows=st.integers(1, 9),
)
def test_what_is_shown_and_the_rest_are_the_hosts_energy_exactly(
    used: dict[str, int], host_uj: int, busy_ns: int, rows: int
) -> None:
    found = table(used, host_uj, busy_ns, rows=rows)
    assert found.rows_uj is not None
    assert found.rest_uj is not None
    assert found.rows_uj + found.rest_uj == host_uj
    assert 0 <= found.rows_uj <= host_uj
    assert len(found.rows) == min(rows, len(used))


def test_a_share_is_of_what_the_host_was_busy_for() -> None:
    found = table({"a": SECOND // 4, "b": SECOND // 8}, 40_000_000, SECOND)
    assert [(row.power_w, row.share) for row in found.rows] == [
        (10.0, 0.25),
        (5.0, 0.125),
    ]
    assert found.rest_w == 25.0
    assert found.rows[0].carbon_g_per_h == 5.0


def test_the_last_line_is_the_balance_of_the_host() -> None:
    found = table({"a": SECOND // 4, "b": SECOND // 8}, 40_000_000, SECOND)
    last = ranking.as_text(found, "process", 200)[-1]
    assert last.startswith("   40.00 W host = 15.00 W shown + 25.00 W others")


def test_joules_add_up_over_looks_and_bars_remember_them() -> None:
    known = Ranking(None)
    for watts in (0, 10, 20):
        found = table({"a": SECOND}, watts * 1_000_000, SECOND, known=known)
    assert found.rows[0].energy_j == 30.0
    assert found.rows[0].recent == (0.0, 10.0, 20.0) or found.rows[0].recent[-2:] == (
        10.0,
        20.0,
    )
    assert found.rows[0].carbon_g_per_h is None


def test_unknown_energy_stays_unknown() -> None:
    found = table({"a": SECOND}, None, None)
    assert found.host_w is None
    assert found.rest_w is None
    assert "unknown" in ranking.as_text(found, "process", 200)[-1]
    said = ranking.as_json(found, "process", "t")
    host, row = said["host"], said["rows"][0]
    assert [host[name] for name in ("energy_uj", "rows_uj", "rest_uj")] == [None] * 3
    assert [row[name] for name in ("power_w", "energy_j", "share")] == [None] * 3
    assert ranking.as_text(found, "process", 200)[1].split()[:3] == ["-", "-", "-"]


def test_joules_known_before_stay_known_while_the_host_is_not() -> None:
    known = Ranking(None)
    table({"a": SECOND}, 3_000_000, SECOND, known=known)
    found = table({"a": SECOND}, None, None, known=known)
    assert (found.rows[0].power_w, found.rows[0].energy_j) == (None, 3.0)


def test_a_narrow_terminal_shows_names_instead_of_bars() -> None:
    found = table({"a": SECOND}, 3_000_000, SECOND)
    assert ranking.as_text(found, "process", 60)[1].endswith(" a")
    assert "█" not in ranking.as_text(found, "process", 60)[1]
    assert "█" in ranking.as_text(found, "process", 80)[1]
    assert ranking.as_text(found, "process", 30)[:2] == [
        "   watts  share  process",
        "    3.00 100.0%  name a",
    ]


def test_a_name_cannot_command_the_terminal() -> None:
    found = Ranking(None).table(
        {"1": 5},
        {"1": "evil\x1b[2J\n"},
        100,
        5,
        SECOND,
        rows=1,
        mode="governor",
        source="simulated",
        reason=None,
        processes=1,
    )
    assert "\x1b" not in "".join(ranking.as_text(found, "process", 200))


def test_bars_fit_any_terminal() -> None:
    assert ranking.spark([]) == ""
    assert ranking.spark([0.0, 0.0]) == "▁▁"
    assert ranking.spark([1.0, 4.0], plain=True).isascii()


def test_a_number_that_went_to_another_process_begins_at_nothing() -> None:
    known = Ranking(500.0)
    table({"7": SECOND}, 10_000_000, SECOND, known=known)
    known.forget(["7", "8"])
    found = table({"7": SECOND}, 4_000_000, SECOND, known=known)
    assert found.rows[0].energy_j == 4.0
