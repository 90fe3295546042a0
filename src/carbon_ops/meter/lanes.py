"""Which part of a process's CPU time belongs to which of its concurrent spans.

A *lane* is one thread of execution that spans run in: an operating-system thread, a
coroutine measured step by step, an asyncio task. Spans of one lane nest, and the outer
one contains the inner one. Lanes run beside each other: a *pool* holds those of one
process and divides every nanosecond of its CPU time at most once:

* What a thread or a coroutine's step used itself belongs to its lane.
* What is left (worker threads, child processes) belongs in equal parts to the innermost
  open lanes. One open lane gets all of it, which is the common case.
* A lane that was opened inside a span of another one counts for that one too.

Tasks measured with ``async with`` cannot be told apart by a clock: what their thread
used is divided equally among them. Generators have only what their own steps used,
because while they rest somebody else works.
"""

from __future__ import annotations

import os
import sys
import time
from _thread import RLock, _local, get_ident

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable


class Lane:
    """The account of one lane; see :class:`Pool`."""

    __slots__ = (
        "base",
        "closed_ns",
        "kids",
        "leaf",
        "lock",
        "own_ns",
        "parent",
        "resting",
        "share_from",
        "share_ns",
        "spans",
        "task",
        "thread",
    )

    def __init__(
        self, lock: RLock, parent: Lane | None, *, resting: bool = False
    ) -> None:
        self.lock = lock  # its pool's; a forked child's pool has another one
        self.parent = parent
        self.resting = resting  # a generator: has its steps and nothing else
        self.kids: set[Lane] = set()
        self.spans = 0  # open spans; a lane without any is closed
        self.own_ns = 0
        self.share_ns = 0  # from times in which this was an innermost lane
        self.share_from = 0
        self.leaf = False
        self.closed_ns = 0  # of lanes opened inside this one
        self.base = 0  # what its former parent has counted already
        self.thread: _Thread | None = None
        self.task: Hashable | None = None  # the asyncio task that it is


class _Thread:
    __slots__ = ("clock", "lane", "last_ns", "stepped_ns", "tasks", "users")

    def __init__(self) -> None:
        self.clock = time.pthread_getcpuclockid(get_ident())
        self.lane: Lane | None = None
        self.last_ns = 0
        self.stepped_ns = 0  # since `last_ns`, already given to the lanes that stepped
        self.tasks = 0  # lanes in it that no clock can tell apart
        self.users = 0

    def advance(self) -> int:
        try:
            now = time.clock_gettime_ns(self.clock)
        except OSError:  # the thread ended inside its span
            now = self.last_ns
        used = max(0, now - self.last_ns - self.stepped_ns)
        self.last_ns, self.stepped_ns = now, 0
        return used


class Pool:
    """The lanes of one process, and its CPU time divided among them.

    Args:
        read: CPU time of the whole process [ns].
    """

    def __init__(self, read: Callable[[], int]) -> None:
        self._read = read
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        # Reentrant: a collected generator may end its span inside any of our lines.
        self._lock = RLock()
        self._last = 0
        self._debt = 0  # the clocks are not read at quite the same time
        self._per_leaf = 0  # what one innermost lane has been given since the start
        self._divided = 0  # what had to be divided, not measured
        self._leaves = 0
        self._lanes = 0
        self._fine = False  # threads are read one by one
        self._steps = 0
        self._threads: dict[int, _Thread] = {}
        self._tasks: dict[Hashable, Lane] = {}

    def enter(self, within: Lane | None, kind: str = "block") -> tuple[Lane, int, int]:
        """Begin a span.

        Args:
            within: Lane of the span around it, if any.
            kind: ``block``, ``steps`` (a coroutine) or ``generator``.

        Returns:
            The lane of the span, the lane's account now [ns], the process's [ns].
        """
        if os.getpid() != self._pid:
            self._reset()
        with self._lock:
            if self._lanes == 0:
                self._last, self._debt, self._steps = self._read(), 0, 0
            else:
                self._account()
            lane = self._lane(within, kind)
            lane.spans += 1
            return lane, self._of(lane), self._last

    def leave(self, lane: Lane) -> tuple[int, int]:
        """End a span; return the lane's account [ns] and the process's [ns]."""
        with self._lock:
            self._account()
            now = self._of(lane)
            lane.spans -= 1
            if lane.spans == 0:
                self._close(lane)
            return now, self._last

    def account(self, lane: Lane) -> int:
        """Return the account of an open lane now [ns]."""
        with self._lock:
            self._account()
            return self._of(lane)

    @property
    def divided_ns(self) -> int:
        """CPU time so far that was divided evenly, because no clock told more."""
        return self._divided

    def step(self, lane: Lane) -> Step:
        """Return a context in which this thread works for ``lane``."""
        return Step(self, lane)

    # --- inside; the lock is held -----------------------------------------------------

    def _lane(self, within: Lane | None, kind: str) -> Lane:
        within = self._open_here(within)
        stepping = self._open_here(getattr(_here, "lane", None))
        if kind == "block" and stepping is not None:
            return stepping
        ident = get_ident()
        task = _task() if kind == "block" else None
        if task is not None:
            lane = self._tasks.get(task)
            if lane is None:
                lane = self._tasks[task] = Lane(self._lock, within)
                lane.task = task
                lane.thread = self._thread(ident)
                lane.thread.tasks += 1
                self._open(lane)
            return lane
        thread = self._threads.get(ident)
        if thread is not None and thread.clock != time.pthread_getcpuclockid(ident):
            del self._threads[ident]  # it ended inside a span; its number goes on
            thread = None
        if kind == "block" and thread is not None and thread.lane is not None:
            return thread.lane
        lane = Lane(self._lock, within, resting=kind == "generator")
        if kind != "generator":
            lane.thread = thread = self._thread(ident)
            if kind == "block":
                thread.lane = lane
        self._open(lane)
        return lane

    def _open_here(self, lane: Lane | None) -> Lane | None:
        """Return ``lane``, unless its spans have ended, or are those of another scope
        or of the process that forked this one."""
        if lane is None or lane.spans == 0 or lane.lock is not self._lock:
            return None
        return lane

    def _thread(self, ident: int) -> _Thread:
        thread = self._threads.get(ident)
        if thread is None:
            thread = self._threads[ident] = _Thread()
            thread.advance()
        thread.users += 1
        return thread

    def _open(self, lane: Lane) -> None:
        self._lanes += 1
        parent = lane.parent
        if parent is not None:
            parent.kids.add(lane)
        if not lane.resting:
            if parent is not None and parent.leaf:
                self._set_leaf(parent, False)
            self._set_leaf(lane, True)
        fine = self._lanes > 1 or lane.thread is None or lane.thread.lane is not lane
        if fine and not self._fine:
            for thread in tuple(self._threads.values()):
                thread.advance()
        self._fine = fine

    def _close(self, lane: Lane) -> None:
        total = self._of(lane)
        parent = lane.parent
        if lane.leaf:
            self._set_leaf(lane, False)
        for kid in tuple(lane.kids):  # it goes on, inside what was around this one
            kid.base = self._of(kid)
            kid.parent = parent
            if parent is not None:
                parent.kids.add(kid)
        lane.kids = set()
        if parent is not None:
            parent.kids.discard(lane)
            parent.closed_ns += total - lane.base
            if (
                parent.spans
                and not parent.leaf
                and not parent.resting
                and all(kid.resting for kid in parent.kids)
            ):
                self._set_leaf(parent, True)
        self._lanes -= 1
        thread = lane.thread
        if thread is not None:
            thread.users -= 1
            if thread.lane is lane:
                thread.lane = None
            elif lane.task is not None:
                del self._tasks[lane.task]
                lane.task = None  # a span that ended keeps no task alive
                thread.tasks -= 1
            if thread.users == 0:
                self._threads = {
                    ident: t for ident, t in self._threads.items() if t is not thread
                }

    def _set_leaf(self, lane: Lane, leaf: bool) -> None:
        if leaf:
            lane.share_from = self._per_leaf
            self._leaves += 1
        else:
            lane.share_ns += self._per_leaf - lane.share_from
            self._leaves -= 1
        lane.leaf = leaf

    def _of(self, lane: Lane) -> int:
        total = lane.own_ns + lane.share_ns + lane.closed_ns
        if lane.leaf:
            total += self._per_leaf - lane.share_from
        for kid in tuple(lane.kids):
            total += self._of(kid) - kid.base
        return total

    def _account(self) -> None:
        """Give out what the process used since the last time."""
        own, self._steps = self._steps, 0
        opaque = False
        if self._fine:
            for thread in tuple(self._threads.values()):
                used = thread.advance()
                if thread.tasks:
                    opaque = True
                    continue
                own += used
                if thread.lane is not None:
                    thread.lane.own_ns += used
        now = max(self._last, self._read())
        spare = now - self._last - own + self._debt
        self._last = now
        self._debt = min(0, spare)
        if spare > 0 and self._leaves:
            each = spare // self._leaves
            self._per_leaf += each
            if self._leaves > 1 or opaque:
                self._divided += spare

    def _stepped(self, lane: Lane, own_ns: int, whole_ns: int, outermost: bool) -> None:
        if os.getpid() != self._pid or lane.lock is not self._lock:
            return  # begun by the process that forked this one, which counts it
        with self._lock:
            lane.own_ns += own_ns
            self._steps += own_ns
            if outermost:
                thread = self._threads.get(get_ident())
                if thread is not None:
                    thread.stepped_ns += whole_ns


class Step:
    """One step of a coroutine or generator: its thread works for its lane."""

    __slots__ = ("_before", "_inner", "_lane", "_pool", "_start")

    def __init__(self, pool: Pool, lane: Lane) -> None:
        self._pool, self._lane = pool, lane

    def __enter__(self) -> None:
        self._before: Lane | None = getattr(_here, "lane", None)
        self._inner: int = getattr(_here, "inner_ns", 0)
        _here.lane, _here.inner_ns = self._lane, 0
        self._start = time.thread_time_ns()

    def __exit__(self, *_: object) -> None:
        whole = time.thread_time_ns() - self._start
        own = whole - _here.inner_ns
        _here.lane, _here.inner_ns = self._before, self._inner + whole
        self._pool._stepped(self._lane, own, whole, self._before is None)


_here = _local()  # .lane: whose step this thread is in; .inner_ns: steps inside it


def _task() -> Hashable | None:
    """Return the running asyncio task, if this thread is inside one."""
    asyncio = sys.modules.get("asyncio")
    running = getattr(asyncio, "_get_running_loop", None)  # None while it loads
    if asyncio is None or running is None or running() is None:
        return None
    task: Hashable | None = asyncio.current_task()
    return task
