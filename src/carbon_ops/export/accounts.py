"""Running totals for the biggest few and for the rest, as counters that only grow. Pure.

A counter whose owner joins the few starts at 0, and what it used until then stays with
the rest; so no series ever jumps, none falls, and each microjoule is in exactly one.
Who leaves the few, or is gone, loses its series; when it comes back it starts at 0 again,
which Prometheus takes for the reset that it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

HALF_LIFE_S = 60.0  # of the memory that decides who is big
CLEARLY = 2.0  # how much bigger a newcomer has to be, so that series do not flicker


class Accounts:
    """Totals [µJ] of at most ``limit`` names."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._score: dict[str, float] = {}
        self.shown: dict[str, int] = {}
        self.rest = 0

    def add(
        self,
        used: Mapping[str, int],
        host_uj: int,
        duration_s: float,
        alive: Set[str],
    ) -> None:
        """Choose who is shown from now on, and book one interval.

        Args:
            used: Energy of each [µJ].
            host_uj: Energy of all and of nobody [µJ], at least the sum of ``used``.
            duration_s: Length of the interval [s].
            alive: Who is still there; others lose their series.
        """
        keep = 0.5 ** (duration_s / HALF_LIFE_S)
        score = {
            name: self._score.get(name, 0.0) * keep + used.get(name, 0)
            for name in self._score.keys() | used.keys()
            if name in alive
        }
        self._score = {name: points for name, points in score.items() if points >= 1}
        chosen = {name for name in self.shown if name in alive}
        others = sorted(
            self._score.keys() - chosen, key=lambda name: (-self._score[name], name)
        )
        for name in others[: self._limit]:
            if len(chosen) >= self._limit:
                least = min(chosen, key=lambda n: (self._score.get(n, 0.0), n))
                if self._score[name] <= CLEARLY * self._score.get(least, 0.0):
                    break
                chosen.remove(least)
            chosen.add(name)
        # Who joins or leaves in this look has used it for the rest: each microjoule is
        # seen to arrive somewhere.
        stay = {name: self.shown[name] for name in self.shown if name in chosen}
        for name in stay.keys() & used.keys():
            stay[name] += used[name]
            host_uj -= used[name]
        self.rest += host_uj
        self.shown = dict.fromkeys(sorted(chosen), 0) | stay


class Carry:
    """Totals that go on across restarts of who counts."""

    def __init__(self) -> None:
        self._epoch = ""
        self._last: dict[str, int] = {}
        self._before: dict[str, int] = {}

    def epoch(self, name: str) -> bool:
        """Begin a new run of who counts, unless ``name`` goes on; return whether."""
        if name == self._epoch:
            return False
        for key, value in self._last.items():
            self._before[key] = self._before.get(key, 0) + value
        self._epoch, self._last = name, {}
        return True

    def on(self, key: str, total: int) -> int:
        """Return ``total`` on top of what earlier runs counted."""
        self._last[key] = total
        return self._before.get(key, 0) + total
