"""The pool of lanes, with the process's clock in our hands and the threads' at rest."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Callable

from carbon_ops import EnergyLogger
from carbon_ops.meter.lanes import Lane, Pool
from carbon_ops.model import Metric

SECOND = 1_000_000_000
NOISE = 50_000_000  # what the threads of a test use themselves [ns]


class Clocked(Pool):
    """A pool whose process uses what we say."""

    def __init__(self) -> None:
        self.used_ns = 0
        super().__init__(lambda: self.used_ns)

    def enter_elsewhere(self, within: Lane | None) -> Lane:
        """Open a lane in a thread of its own."""
        found: list[Lane] = []
        thread = threading.Thread(target=lambda: found.append(self.enter(within)[0]))
        thread.start()
        thread.join()
        return found[0]


def test_a_lane_keeps_what_it_was_given_before_and_after_one_inside_it() -> None:
    pool = Clocked()
    outer, _, _ = pool.enter(None)
    pool.used_ns += 4 * SECOND
    inner = pool.enter_elsewhere(outer)
    pool.used_ns += 2 * SECOND
    inside, _ = pool.leave(inner)
    pool.used_ns += 3 * SECOND
    account, process = pool.leave(outer)

    assert process == 9 * SECOND
    assert abs(account - process) < NOISE
    assert abs(inside - 2 * SECOND) < NOISE


def test_a_lane_that_outlives_the_one_around_it_counts_once_for_the_outermost() -> None:
    pool = Clocked()
    outermost, _, _ = pool.enter(None)
    around = pool.enter_elsewhere(outermost)
    inside = pool.enter_elsewhere(around)
    pool.used_ns += 2 * SECOND
    middle, _ = pool.leave(around)
    pool.used_ns += 3 * SECOND
    innermost, _ = pool.leave(inside)
    account, process = pool.leave(outermost)

    assert process == 5 * SECOND
    assert abs(account - process) < NOISE
    assert abs(middle - 2 * SECOND) < NOISE
    assert abs(innermost - 5 * SECOND) < NOISE


def test_what_a_threads_clock_showed_first_is_not_given_out_again() -> None:
    """The process's clock is read after the threads', and may be behind them."""
    pool = Clocked()
    here, _, _ = pool.enter(None)
    other = pool.enter_elsewhere(None)
    end = time.thread_time_ns() + 200_000_000
    while time.thread_time_ns() < end:
        pass
    pool.account(here)
    pool.used_ns += 200_000_000
    accounts = pool.leave(other)[0] + pool.leave(here)[0]

    assert 200_000_000 <= accounts < 200_000_000 + NOISE


def test_a_task_is_forgotten_with_its_span_and_many_cost_no_more_each() -> None:
    logger = EnergyLogger(socket="/nonexistent/carbon-ops.sock", model="off")
    kept = []
    tasks: list[weakref.ref[asyncio.Task[None]]] = []

    async def work() -> None:
        async with logger.span("task") as span:
            await asyncio.sleep(0)
        kept.append(span)

    async def main(count: int) -> float:
        start = time.thread_time()
        made = [asyncio.create_task(work()) for _ in range(count)]
        tasks.extend(map(weakref.ref, made))
        await asyncio.gather(*made)
        return (time.thread_time() - start) / count

    few = min(asyncio.run(main(500)) for _ in range(3))
    assert asyncio.run(main(8_000)) < 4 * few
    gc.collect()
    assert [task() for task in tasks if task() is not None] == []


def test_a_thread_that_had_a_task_is_told_apart_again_once_that_ended() -> None:
    logger = EnergyLogger(socket="/nonexistent/carbon-ops.sock", model="off")
    opened, close = threading.Event(), threading.Event()
    metrics: list[Metric | None] = []

    async def task() -> None:
        async with logger.span("task"):
            await asyncio.sleep(0)

    def waits() -> None:
        with logger.span("waits") as span:
            opened.set()
            close.wait()
        metrics.append(span.metric)

    def burn(wanted: Callable[[], bool]) -> None:
        while not wanted():
            pass

    thread = threading.Thread(target=waits)
    with logger.span("outer") as outer:
        asyncio.run(task())
        thread.start()
        opened.wait()
        end = time.thread_time() + 0.2
        burn(lambda: time.thread_time() >= end)
        close.set()
        thread.join()
    metrics.append(outer.metric)

    waited, worked = (m["cpu"]["process_s"] for m in metrics if m is not None)
    assert waited < 0.1
    assert worked >= 0.2
