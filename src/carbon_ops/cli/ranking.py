"""Who uses what part of the host's power now: division, totals, text. Pure.

Energy is divided by CPU time in whole microjoules, and what nobody shown used stays with
the rest, so that rows and rest sum to the host's counters exactly.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from carbon_ops.cli.output import figure, visible
from carbon_ops.meter.attribution import divide

KEPT = 12  # intervals in a spark line
WIDE = 80  # columns from which there is room for one beside a name
NARROW = 50  # columns below which joules and grams leave their room to the name
BARS = "▁▂▃▄▅▆▇█"
PLAIN_BARS = "_.:-=+*#"


class Row(NamedTuple):
    """One process or cgroup during the last interval."""

    key: str
    name: str
    power_w: float | None
    energy_j: float | None  # since it was first seen, as far as known
    share: float | None  # of the host's energy in the interval
    carbon_g_per_h: float | None  # at this power
    recent: tuple[float, ...]  # watts, oldest first


class Table(NamedTuple):
    """One look: ``sum(rows) + rest_w = host_w``, or all three unknown."""

    rows: tuple[Row, ...]
    host_w: float | None
    rest_w: float | None  # not shown, ended meanwhile, interrupts, nobody
    rows_uj: int | None
    rest_uj: int | None
    host_uj: int | None
    seconds: float
    grams_per_h: float | None
    mode: str
    source: str
    reason: str | None
    processes: int


class Ranking:
    """Turns what each one used into rows, and remembers totals and the recent past."""

    def __init__(self, g_per_kwh: float | None) -> None:
        self._g_per_kwh = g_per_kwh
        self._total: dict[str, int] = {}
        self._recent: dict[str, deque[float]] = {}

    def table(
        self,
        used: Mapping[str, int],
        names: Mapping[str, str],
        host_uj: int | None,
        busy_ns: int | None,
        duration_ns: int,
        *,
        rows: int,
        mode: str,
        source: str,
        reason: str | None,
        processes: int,
    ) -> Table:
        """Divide ``host_uj`` by CPU time.

        Args:
            used: CPU time of each one in the interval [ns].
            names: What to call them.
            host_uj: Energy of the host's packages in the interval [µJ].
            busy_ns: Busy CPU time of the host in the interval [ns].
            duration_ns: Length of the interval [ns], above 0.
            rows: How many to show, of ``processes``.
            mode, source, reason: As in a metric.
        """
        uj_per_w = duration_ns / 1e3
        shares = {} if host_uj is None else divide(host_uj, used, busy_ns)
        for key, uj in shares.items():
            self._total[key] = self._total.get(key, 0) + uj
        for key in self._recent.keys() | shares.keys():
            recent = self._recent.setdefault(key, deque(maxlen=KEPT))
            recent.append(shares.get(key, 0) / uj_per_w)
        self._recent = {key: past for key, past in self._recent.items() if any(past)}
        order = sorted(used, key=lambda key: (-used[key], key))[:rows]
        shown = sum(shares[key] for key in order) if shares else 0
        rest = None if host_uj is None else host_uj - shown

        def row(key: str) -> Row:
            uj, total = shares.get(key), self._total.get(key)
            watts = None if uj is None else uj / uj_per_w
            return Row(
                key,
                names[key],
                watts,
                None if total is None else total / 1e6,
                None if uj is None else uj / host_uj if host_uj else 0.0,
                self._grams(watts),
                tuple(self._recent.get(key, ())),
            )

        watts = None if host_uj is None else host_uj / uj_per_w
        return Table(
            rows=tuple(map(row, order)),
            host_w=watts,
            rest_w=None if rest is None else rest / uj_per_w,
            rows_uj=None if rest is None else shown,
            rest_uj=rest,
            host_uj=host_uj,
            seconds=duration_ns / 1e9,
            grams_per_h=self._grams(watts),
            mode=mode,
            source=source,
            reason=reason,
            processes=processes,
        )

    def forget(self, keys: Iterable[str]) -> None:
        """Begin anew for ``keys``: what they name next is somebody else."""
        for key in keys:
            self._total.pop(key, None)

    def _grams(self, watts: float | None) -> float | None:
        if watts is None or self._g_per_kwh is None:
            return None
        return watts * self._g_per_kwh / 1_000


def spark(values: Sequence[float], *, plain: bool = False) -> str:
    """Return ``values`` as small bars; the highest is full.

    >>> spark([0.0, 1.0, 2.0])
    '▁▄█'
    """
    bars = PLAIN_BARS if plain else BARS
    top = max(values, default=0.0)
    if top <= 0:
        return bars[0] * len(values)
    return "".join(bars[int(value / top * (len(bars) - 1))] for value in values)


def as_text(table: Table, by: str, width: int, *, plain: bool = False) -> list[str]:
    """Return the lines of a table at most ``width`` wide; narrow ones say less."""
    room = KEPT + 2 if width >= WIDE else 0

    def columns(watts: str, joules: str, share: str, grams: str) -> str:
        return (
            f"{watts} {share}"
            if width < NARROW
            else f"{watts} {joules} {share} {grams}"
        )

    head = columns(f"{'watts':>8}", f"{'joules':>10}", f"{'share':>6}", f"{'g/h':>8}")
    lines = [f"{head}  {'':{room}}{by}"]
    for row in table.rows:
        bars = f"{spark(row.recent, plain=plain):>{KEPT}}  " if room else ""
        share = None if row.share is None else 100 * row.share
        numbers = columns(
            figure(row.power_w, 8, 2),
            figure(row.energy_j, 10, 1),
            figure(share, 5, 1) + (" " if share is None else "%"),
            figure(row.carbon_g_per_h, 8, 3),
        )
        lines.append(f"{numbers}  {bars}{visible(row.name)}")
    if table.host_w is None or table.rest_w is None:
        lines.append(f"host energy unknown ({table.reason})")
    else:
        shown = table.host_w - table.rest_w
        lines.append(
            f"{table.host_w:8.2f} W host = {shown:.2f} W shown + {table.rest_w:.2f} W "
            "others, ended and nobody's"
        )
    return [line[:width] for line in lines]


def as_json(table: Table, by: str, when: str) -> dict[str, Any]:
    """Return one look as a plain object."""
    return {
        "schema": "carbon-ops/top/1",
        "timestamp": when,
        "by": by,
        "interval_s": table.seconds,
        "attribution_mode": table.mode,
        "reason": table.reason,
        "source": table.source,
        "processes": table.processes,
        "host": {
            "power_w": table.host_w,
            "energy_uj": _text(table.host_uj),
            "rows_uj": _text(table.rows_uj),
            "rest_uj": _text(table.rest_uj),
            "rest_w": table.rest_w,
            "carbon_g_per_h": table.grams_per_h,
        },
        "rows": [
            {name: item for name, item in row._asdict().items() if name != "recent"}
            for row in table.rows
        ],
    }


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)
