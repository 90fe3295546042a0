"""When silence shows."""

from __future__ import annotations

import pytest

from carbon_ops.ledger import heartbeat
from carbon_ops.ledger.heartbeat import INTERVAL_NS, Heartbeat

BEAT = b'{"monotonic_ns":"1","seq":%d,"ts":"2026-01-0%dT00:00:00.000000Z","type":"heartbeat"}\n'
NOTE = b'{"seq":9,"ts":"2020-01-01T00:00:00.000000Z","type":"note"}\n'


@pytest.mark.parametrize(
    ("lines", "newest"),
    [
        (b"", ""),
        (NOTE, ""),
        (NOTE * 3, ""),
        (b'{"seq":1,"type":"heartbeat"}\n' + NOTE, ""),
        (NOTE + b'{"seq":1,"type":"heartbeat"}\n', ""),
        (BEAT % (1, 1), "2026-01-01T00:00:00.000000Z"),
        (BEAT % (1, 1) + NOTE, "2026-01-01T00:00:00.000000Z"),
        (NOTE + BEAT % (1, 1) + BEAT % (2, 2) + NOTE, "2026-01-02T00:00:00.000000Z"),
    ],
)
def test_the_newest_heartbeat_of_others_counts_and_nothing_else(
    lines: bytes, newest: str
) -> None:
    beat = Heartbeat()
    beat.look(lines)
    assert beat._wall == newest


def test_one_is_due_an_hour_after_the_last_and_not_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [10**15, 10**18]  # our clock, and the one on the wall
    monkeypatch.setattr(heartbeat, "monotonic_ns", lambda: now[0])
    monkeypatch.setattr(heartbeat, "wall_ns", lambda: now[1])
    beat = Heartbeat()
    assert not beat.due()
    now[0] += INTERVAL_NS - 1
    assert not beat.due()
    now[0] += 1
    assert beat.due()
    beat.record()
    assert not beat.due()
    now[1] += INTERVAL_NS  # our clock stands still while the machine sleeps
    assert beat.due()
    now[1] -= 2 * INTERVAL_NS  # and the other may be set back
    assert not beat.due()
    assert INTERVAL_NS == 3600 * 10**9
