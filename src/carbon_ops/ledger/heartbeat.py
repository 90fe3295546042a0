"""When a ledger last said that it was alive, and the record that says so again."""

from __future__ import annotations

from carbon_ops.clock import boottime_ns, monotonic_ns, rfc3339, wall_ns
from carbon_ops.ledger.chain import Draft, draft

INTERVAL_NS = 3_600_000_000_000  # 1 h: a longer silence shows as one


class Heartbeat:
    """The newest heartbeat, ours or another writer's, by two clocks."""

    def __init__(self) -> None:
        self._monotonic_ns = monotonic_ns()  # when we wrote or saw it
        self._wall = ""  # time in the record

    def due(self) -> bool:
        """Say whether a heartbeat is due, by the clock on the wall or by our own."""
        if monotonic_ns() - self._monotonic_ns >= INTERVAL_NS:
            return True
        return bool(self._wall) and self._wall <= rfc3339(wall_ns() - INTERVAL_NS)

    def record(self) -> Draft:
        """Return a record that says: this ledger was alive at this time."""
        self._monotonic_ns, self._wall = monotonic_ns(), rfc3339(wall_ns())
        return draft(
            {
                "type": "heartbeat",
                "ts": self._wall,
                "monotonic_ns": str(self._monotonic_ns),
                "boottime_ns": str(boottime_ns()),
            }
        )

    def look(self, lines: bytes) -> None:
        """Remember the newest heartbeat in lines that another writer wrote."""
        at = lines.rfind(b'"type":"heartbeat"')
        start = lines.rfind(b"\n", 0, at) + 1
        before, _, found = lines[start:at].rpartition(b'"ts":"')
        if at >= 0 and before:
            self._wall = found[:27].decode("ascii", "replace")
            self._monotonic_ns = monotonic_ns()
