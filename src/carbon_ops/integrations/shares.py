"""Many short pieces of work that share the energy of a longer time by their CPU time.

A counter sampled at 10 Hz says nothing about a request of 5 ms, but much about the
second in which it happened. So the joules of this process in windows of at least one
second are divided among the names of the pieces (routes, kinds of tasks) in proportion
to their CPU time, and only the totals of names are ever told.

CPU time is counted as spans of the meter count it, see :mod:`carbon_ops.meter.lanes`:
what a thread or a coroutine's steps used is its piece's; what worker threads used
belongs in equal parts to the pieces that were open. The rest (outside pieces, and tasks
that an event loop ran beside them) stays with :data:`REST`. All shares of a window and
the rest are its energy.
"""

from __future__ import annotations

import os
import time
from _thread import RLock

from carbon_ops.integrations.figures import SHORT_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carbon_ops.meter.lanes import Lane
    from carbon_ops.meter.logger import EnergyLogger

WINDOW_NS = 1_000_000_000  # 10 Hz counters tell a second within 3.5 %
NAMES = 200  # names told apart; later ones are counted as OTHERS
OTHERS = "(others)"
REST = "(outside)"


class Piece:
    """One piece of work that has begun."""

    __slots__ = ("began_ns", "first_ns", "joules", "known_ns", "lane", "last_ns")

    def __init__(self, lane: Lane, account_ns: int) -> None:
        self.lane = lane
        self.began_ns = time.monotonic_ns()
        self.first_ns = self.last_ns = (
            account_ns  # CPU time: at its begin, the window's
        )
        self.joules, self.known_ns = 0.0, 0  # of windows that ended meanwhile


class _Total:
    __slots__ = ("calls", "cpu_ns", "joules", "known_ns", "wall_ns", "window_ns")

    def __init__(self) -> None:
        self.calls = self.cpu_ns = self.wall_ns = self.window_ns = self.known_ns = 0
        self.joules = 0.0


class Shares:
    """Totals by name; see the module's docstring.

    Args:
        operation: What the windows are called in the logger's records.
        logger: Where to measure; its :meth:`log_metrics` has to be left to this object.
            Default: one of its own, for this process without its children.
    """

    def __init__(self, operation: str, logger: EnergyLogger | None = None) -> None:
        from carbon_ops.meter.logger import EnergyLogger
        from carbon_ops.meter.scope import clock_of, pool_of

        pool = pool_of(clock_of("process"))
        if pool is None:
            raise AssertionError("spans of a whole process share a pool")
        self.pool = pool
        self.operation = operation
        self.logger = logger or EnergyLogger(scope="process")
        self._lock = RLock()
        self._reset()

    def _reset(self) -> None:
        """Begin anew, also in a forked child, which has nothing of its parent's."""
        self._pid = os.getpid()
        self._open: set[Piece] = set()
        self._totals: dict[str, _Total] = {}
        self._rest, self._rest_ns, self._known = 0.0, 0, False
        self._began_ns = time.monotonic_ns()

    def begin(self, kind: str = "block") -> Piece:
        """Begin a piece: ``block``, this thread's, or ``steps``, a coroutine's."""
        if os.getpid() != self._pid:
            self._reset()
        lane, account_ns, _ = self.pool.enter(None, kind)
        piece = Piece(lane, account_ns)
        with self._lock:
            self._open.add(piece)
        return piece

    def end(self, piece: Piece, name: str) -> None:
        """End a piece and count it to ``name``."""
        if os.getpid() != self._pid:  # begun in the parent: its account is there
            return
        account_ns, _ = self.pool.leave(piece.lane)
        now = time.monotonic_ns()
        with self._lock:
            self._open.discard(piece)
            total = self._total(name)
            total.calls += 1
            total.wall_ns += now - piece.began_ns
            total.cpu_ns += account_ns - piece.first_ns
            total.joules += piece.joules
            total.known_ns += piece.known_ns
            total.window_ns += account_ns - piece.last_ns
            if now - self._began_ns >= WINDOW_NS:
                self._close(now)

    def add(self, name: str, cpu_ns: int, *, calls: int, wall_ns: int = 0) -> None:
        """Count work of this process that somebody else has measured.

        Args:
            name: What to count it to.
            cpu_ns: Its CPU time since the last call for this name [ns].
            calls: How many pieces it was.
            wall_ns: How long they took together [ns].
        """
        with self._lock:
            total = self._total(name)
            total.calls += calls
            total.wall_ns += wall_ns
            total.cpu_ns += cpu_ns
            total.window_ns += cpu_ns

    def _total(self, name: str) -> _Total:
        if name not in self._totals and len(self._totals) >= NAMES:
            name = OTHERS
        return self._totals.setdefault(name, _Total())

    def _close(self, now: int) -> None:
        """End the window and divide its energy; the lock is held."""
        self._began_ns = now
        accounts = [(p, self.pool.account(p.lane)) for p in self._open]
        parts = {name: t.window_ns for name, t in self._totals.items() if t.window_ns}
        metric = self.logger.log_metrics(
            self.operation, cpu_s={name: ns / 1e9 for name, ns in parts.items()}
        )
        joules = metric["energy"]["energy_j_total"]
        known = joules is not None and metric["duration_s"] >= SHORT_S
        used = sum(parts.values()) + sum(a - p.last_ns for p, a in accounts)
        each = 0.0  # J per ns of CPU time
        if joules is not None and known:
            self._known = True
            spare = round(metric["cpu"]["process_s"] * 1e9) - used
            if (
                spare < 0
            ):  # work of earlier windows, told only now: its joules are there
                late = min(1.0, -spare / max(1, self._rest_ns))
                part = late * self._rest
                self._rest_ns -= round(late * self._rest_ns)
            else:
                part = -joules * spare / max(1, used + spare)
                self._rest_ns += spare
            self._rest -= part
            each = (joules + part) / max(1, used)
        for name, ns in parts.items():
            total = self._totals[name]
            total.window_ns = 0
            if known:
                total.joules += each * ns
                total.known_ns += ns
        for piece, account_ns in accounts:
            ns, piece.last_ns = account_ns - piece.last_ns, account_ns
            if known:
                piece.joules += each * ns
                piece.known_ns += ns

    def totals(self) -> dict[str, dict[str, float | int | None]]:
        """Return by name: calls, seconds, CPU seconds, joules and their uncertainty.

        ``joules`` stands for ``joules_cpu_s`` of the ``cpu_s``: those of windows that
        have ended and whose energy is known; None where that is nothing. A window that
        is old enough is ended now. :data:`REST` has what belongs to no piece.
        """
        with self._lock:
            if os.getpid() != self._pid:
                self._reset()
            now = time.monotonic_ns()
            if now - self._began_ns >= SHORT_S * 1e9:
                self._close(now)
            line = self.logger.summary().get(self.operation, {})
            relative = (line.get("joules_u") or 0.0) / (line.get("joules") or 1.0)
            found: dict[str, dict[str, float | int | None]] = {}
            for name, total in self._totals.items():
                known = total.known_ns > 0
                found[name] = {
                    "calls": total.calls,
                    "seconds": total.wall_ns / 1e9,
                    "cpu_s": total.cpu_ns / 1e9,
                    "joules": total.joules if known else None,
                    "joules_u": total.joules * relative if known else None,
                    "joules_cpu_s": total.known_ns / 1e9,
                }
            found[REST] = {
                "joules": self._rest if self._known else None,
                "joules_u": self._rest * relative if self._known else None,
            }
            return found
