"""Concurrent spans of one process: told apart, and never more than the process."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator

import pytest

from carbon_ops import EnergyLogger
from carbon_ops.meter.lanes import Pool
from carbon_ops.meter.span import Span
from carbon_ops.model import Metric

NOWHERE = "/nonexistent/carbon-ops.sock"


@pytest.fixture(autouse=True)
def no_collections() -> Iterator[None]:
    """Collecting a test runner's many objects takes longer than the work told apart."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def logger() -> EnergyLogger:
    return EnergyLogger(socket=NOWHERE)


def burn(seconds: float) -> None:
    """Use CPU time of this thread."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(500))


def cpu(metric: Metric | None) -> float:
    assert metric is not None
    return metric["cpu"]["process_s"]


def test_interleaved_coroutines_are_told_apart(logger: EnergyLogger) -> None:
    used: dict[float, float] = {}

    @logger.track("work")
    async def work(seconds: float) -> None:
        used[seconds] = 0.0
        for _ in range(30):
            before = time.thread_time()
            burn(seconds)
            used[seconds] += time.thread_time() - before
            await asyncio.sleep(0)

    async def main() -> None:
        with logger.span("all") as outer:
            await asyncio.gather(work(0.006), work(0.002))
        spans.append(outer.metric)

    spans: list[Metric | None] = []
    logger.log_metrics("first")  # loads the model's tables
    asyncio.run(main())
    small, large = sorted(cpu(m) for m in logger.metrics if m["operation"] == "work")
    whole = cpu(spans[0])

    assert small >= used[0.002]
    assert large >= used[0.006]
    assert large / small == pytest.approx(used[0.006] / used[0.002], rel=0.05)
    assert small + large <= whole


def test_a_coroutine_is_not_billed_for_the_loop_it_waits_in(
    logger: EnergyLogger,
) -> None:
    @logger.track("waits")
    async def waits() -> None:
        await asyncio.sleep(0.02)

    async def other() -> None:
        burn(0.1)

    async def main() -> None:
        await asyncio.gather(waits(), other())

    asyncio.run(main())

    assert cpu(logger.metrics[-1]) < 0.05


def test_threads_share_the_process_by_what_each_used(logger: EnergyLogger) -> None:
    start = threading.Barrier(2)
    spans: dict[float, Metric | None] = {}

    def work(seconds: float) -> None:
        start.wait()
        with logger.span("thread") as span:
            burn(seconds)
            start.wait()
        spans[seconds] = span.metric

    with logger.span("all") as outer:
        threads = [threading.Thread(target=work, args=(s,)) for s in (0.15, 0.05)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    large, small = cpu(spans[0.15]), cpu(spans[0.05])

    assert large == pytest.approx(0.15, rel=0.2)
    assert small == pytest.approx(0.05, rel=0.3)
    assert cpu(outer.metric) < large  # its own thread only waited; not their parent


def test_spans_of_several_loggers_share_one_process(logger: EnergyLogger) -> None:
    step = threading.Barrier(2)
    used: list[float] = []

    def work(one: EnergyLogger, seconds: float) -> None:
        with one.span("x") as span:
            step.wait()
            burn(seconds)
            step.wait()
        used.append(cpu(span.metric))

    before = time.process_time()
    threads = [
        threading.Thread(target=work, args=pair)
        for pair in ((logger, 0.15), (EnergyLogger(socket=NOWHERE), 0.05))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    small, large = sorted(used)

    assert small + large <= time.process_time() - before
    assert large / small == pytest.approx(3.0, rel=0.4)


def test_a_thread_is_not_taken_for_one_that_ended_inside_its_span() -> None:
    """A thread's number goes to the next one."""
    logger = EnergyLogger(socket=NOWHERE, model="off")
    numbers: list[int] = []
    ended: list[Metric | None] = []
    opened: list[Span] = []

    def leaves_it_open() -> None:
        numbers.append(threading.get_ident())
        opened.append(logger.span("left open").begin())

    def next_one() -> None:
        numbers.append(threading.get_ident())
        if numbers[-1] == numbers[0]:
            with logger.span("next") as span:
                burn(0.1)
            ended.append(span.metric)

    def run(work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    with logger.span("main") as main:
        run(leaves_it_open)
        while not ended and len(numbers) < 1_000:
            run(next_one)
    opened[0].end()

    assert cpu(ended[0]) >= 0.1
    assert cpu(main.metric) < 0.1


def test_a_span_holds_what_its_nested_spans_used(logger: EnergyLogger) -> None:
    with logger.span("outer") as outer:
        with logger.span("first") as first:
            burn(0.03)
        with logger.span("second") as second:
            burn(0.01)

    assert cpu(first.metric) + cpu(second.metric) <= cpu(outer.metric)
    assert cpu(first.metric) > 2 * cpu(second.metric)


def test_a_lone_span_has_the_threads_it_started(logger: EnergyLogger) -> None:
    with logger.span("pool") as span:
        thread = threading.Thread(target=burn, args=(0.1,))
        thread.start()
        thread.join()

    assert cpu(span.metric) >= 0.1


def test_tasks_no_clock_can_tell_apart_share_evenly_and_say_so(
    logger: EnergyLogger,
) -> None:
    async def work() -> Metric | None:
        async with logger.span("task") as span:
            await asyncio.sleep(0)
            burn(0.05)
            await asyncio.sleep(0)
        return span.metric

    async def main() -> list[Metric | None]:
        return list(await asyncio.gather(work(), work()))

    with logger.span("all") as outer:
        metrics = asyncio.run(main())

    assert sum(map(cpu, metrics)) <= cpu(outer.metric)
    assert sum(map(cpu, metrics)) >= 0.09
    for metric in metrics:
        assert metric is not None
        assert "cpu_time_divided" in metric["energy"]["quality"]["flags"]


def test_a_generator_is_billed_for_its_own_steps(logger: EnergyLogger) -> None:
    @logger.track("gen")
    def generator() -> Iterator[int]:
        for i in range(3):
            burn(0.02)
            yield i

    for _ in generator():
        burn(0.05)
        with logger.span("consumer") as consumer:
            pass
        assert consumer.parent_id is None
    used = cpu(logger.metrics[-1])

    assert used == pytest.approx(0.06, rel=0.3)


def test_an_async_generator_is_billed_for_its_own_steps(logger: EnergyLogger) -> None:
    @logger.track("gen")
    async def generator() -> AsyncIterator[int]:
        for i in range(3):
            burn(0.02)
            await asyncio.sleep(0)
            yield i

    async def main() -> None:
        async for _ in generator():
            burn(0.05)

    asyncio.run(main())

    assert cpu(logger.metrics[-1]) == pytest.approx(0.06, rel=0.3)


def test_values_exceptions_and_closing_pass_through_a_tracked_generator(
    logger: EnergyLogger,
) -> None:
    seen: list[object] = []

    @logger.track("echo")
    def echo() -> Iterator[object]:
        got: object = "first"
        try:
            while True:
                try:
                    got = yield got
                except KeyError as error:
                    got = f"caught {error.args[0]}"
        finally:
            seen.append("closed")

    generator = echo()
    assert next(generator) == "first"
    assert generator.send("x") == "x"  # type: ignore[attr-defined]
    assert generator.throw(KeyError("k")) == "caught k"  # type: ignore[attr-defined]
    generator.close()  # type: ignore[attr-defined]

    assert seen == ["closed"]
    assert logger.metrics[-1]["status"] == "ok"


def test_values_and_exceptions_pass_through_a_tracked_async_generator(
    logger: EnergyLogger,
) -> None:
    @logger.track("echo")
    async def echo():  # type: ignore[no-untyped-def]
        got: object = "first"
        while True:
            try:
                got = yield got
            except KeyError as error:
                got = f"caught {error.args[0]}"

    async def main() -> None:
        generator = echo()
        assert await generator.__anext__() == "first"
        assert await generator.asend("x") == "x"
        assert await generator.athrow(KeyError("k")) == "caught k"
        await generator.aclose()

    asyncio.run(main())
    assert logger.metrics[-1]["status"] == "ok"


def test_a_cancelled_coroutine_ends_its_span(logger: EnergyLogger) -> None:
    @logger.track("long")
    async def long() -> None:
        await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.create_task(long())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())

    assert logger.metrics[-1]["status"] == "error"
    assert logger.metrics[-1]["additional_info"]["error_type"] == "CancelledError"


def test_a_generator_collected_in_mid_run_does_not_hang_the_logger(
    logger: EnergyLogger,
) -> None:
    @logger.track("gen")
    def generator() -> Iterator[int]:
        yield 1
        yield 2

    class Cycle:
        pass

    for round_ in range(200):
        holder = Cycle()
        holder.me = holder  # type: ignore[attr-defined]
        holder.generator = generator()  # type: ignore[attr-defined]
        next(holder.generator)  # type: ignore[attr-defined]
        del holder
        logger.log_metrics("x")
        if round_ % 7 == 0:
            gc.collect(0)
    gc.collect()

    assert logger.summary()["gen"]["calls"] == 200


# Collecting all the time, on three threads, while generators that measure are garbage:
# CPython 3.10 and 3.11 crash where context variables are set inside such a collection.
COLLECTING = """
import gc, threading
from carbon_ops import EnergyLogger
gc.set_threshold(5, 2, 2)
logger = EnergyLogger(socket="/nonexistent/s", model="off")

@logger.track("generator")
def generator():
    try:
        with logger.span("inside"):
            yield 1
    finally:
        with logger.span("at last"):
            pass

class Cycle:
    pass

def work():
    for _ in range(300):
        holder = Cycle()
        holder.me, holder.generator = holder, generator()
        next(holder.generator)
        del holder
        with logger.span("beside"):
            pass

threads = [threading.Thread(target=work) for _ in range(2)]
for thread in threads: thread.start()
work()
for thread in threads: thread.join()
gc.collect()
calls = {name: line["calls"] for name, line in logger.summary().items()}
assert set(calls) == {"generator", "inside", "at last", "beside"}, calls
assert set(calls.values()) == {900}, calls
"""


def test_collections_at_any_moment_break_nothing_and_lose_no_span() -> None:
    done = subprocess.run(
        [sys.executable, "-c", COLLECTING], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr


def test_a_generator_closed_in_mid_run_leaves_its_caller_where_it_was(
    logger: EnergyLogger,
) -> None:
    @logger.track("generator")
    def generator() -> Iterator[int]:
        with logger.span("inside"):
            with logger.span("first"):
                yield 1
            with logger.span("second"):
                yield 2

    running = generator()
    next(running)
    next(running)
    running.close()  # type: ignore[attr-defined]
    with logger.span("after") as after:
        pass
    spans = {m["operation"]: m for m in logger.metrics}

    assert after.parent_id is None
    assert spans["inside"]["parent_id"] == spans["generator"]["span_id"]
    assert spans["second"]["parent_id"] == spans["inside"]["span_id"]


def test_spans_that_end_out_of_order_leave_nobody_inside_an_ended_one(
    logger: EnergyLogger,
) -> None:
    first = logger.span("first").begin()
    second = logger.span("second").begin()
    first.end()
    second.end()
    third = logger.span("third").begin()
    third.end()

    assert second.parent_id == first.span_id
    assert third.parent_id is None


def test_a_task_started_inside_a_span_counts_for_it_even_if_it_outlives_it(
    logger: EnergyLogger,
) -> None:
    @logger.track("child")
    async def child() -> None:
        for _ in range(4):
            burn(0.01)
            await asyncio.sleep(0)

    async def main() -> tuple[Metric | None, Metric | None]:
        with logger.span("grand") as grand:
            with logger.span("parent") as parent:
                task = asyncio.create_task(child())
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            await task
        return grand.metric, parent.metric

    grand, parent = asyncio.run(main())
    used = next(cpu(m) for m in logger.metrics if m["operation"] == "child")

    assert cpu(parent) <= cpu(grand)
    assert used <= cpu(grand)


def test_no_nanosecond_is_given_out_twice() -> None:
    """With a clock we control: lanes in threads, opened and closed in any order."""
    now = 0

    def read() -> int:
        return now

    pool = Pool(read)
    lane, account, process = pool.enter(None)
    start = (account, process)
    results: list[int] = []

    def other() -> None:
        nonlocal now
        mine, begin, _ = pool.enter(None)
        now += 10_000_000_000
        end, _ = pool.leave(mine)
        results.append(end - begin)

    now += 1_000_000_000
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    now += 1_000_000_000
    account, process = pool.leave(lane)
    results.append(account - start[0])

    assert process - start[1] == 12_000_000_000
    assert sum(results) <= 12_000_000_000
    assert sum(results) > 11_900_000_000
    assert results[0] == pytest.approx(5e9, rel=0.01)


def test_what_a_coroutine_used_is_counted_once_for_the_span_around_it(
    logger: EnergyLogger,
) -> None:
    @logger.track("inside")
    async def inside() -> None:
        burn(0.1)

    def beside() -> None:
        with logger.span("beside"):
            both.wait()
            burn(0.1)
            both.wait()

    both = threading.Barrier(2)
    with logger.span("outer") as outer:
        thread = threading.Thread(target=beside)
        thread.start()
        both.wait()
        asyncio.run(inside())
        both.wait()
        thread.join()

    assert cpu(outer.metric) == pytest.approx(0.1, abs=0.06)


FORKED = """
import os, sys, time
from carbon_ops import EnergyLogger
with EnergyLogger(socket="/nonexistent/s").span("outer"):
    child = os.fork()
    if child == 0:
        with EnergyLogger(socket="/nonexistent/s").span("inner") as inner:
            end = time.thread_time() + 0.05
            while time.thread_time() < end: sum(range(500))
        os._exit(0 if inner.metric["cpu"]["process_s"] >= 0.05 else 1)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_child_forked_inside_a_span_has_spans_of_its_own() -> None:
    subprocess.run([sys.executable, "-c", FORKED], check=True, timeout=100)


class Forever:
    """What a coroutine waits for that nobody ever wakes."""

    def __await__(self) -> Generator[None, None, None]:
        while True:
            yield


@pytest.mark.parametrize("thread", [False, True], ids=["here", "in-another-thread"])
def test_a_coroutine_that_is_dropped_unfinished_ends_its_span_and_its_account(
    logger: EnergyLogger, thread: bool
) -> None:
    """Driven by hand and then collected, as a framework does that gives up a request."""

    @logger.track("dropped")
    async def work() -> None:
        with logger.span("inside"):
            burn(0.02)
            await Forever()

    kept = [work()]
    kept[0].send(None)
    if thread:
        collector = threading.Thread(target=kept.clear)
        collector.start()
        collector.join()
    else:
        kept.clear()
    gc.collect()
    with logger.span("after") as after:
        burn(0.05)
    spans = {m["operation"]: m for m in logger.metrics}

    assert list(spans) == ["inside", "dropped", "after"]
    assert spans["inside"]["parent_id"] == spans["dropped"]["span_id"]
    assert spans["dropped"]["status"] == "ok"  # its caller wanted no more of it
    assert 0.02 <= cpu(spans["dropped"]) < 0.05
    assert 0.05 <= cpu(after.metric) < 0.1  # alone again: nothing is divided
    assert "cpu_time_divided" not in spans["after"]["energy"]["quality"]["flags"]


def test_a_coroutine_closed_before_its_first_step_has_no_span(
    logger: EnergyLogger,
) -> None:
    @logger.track("never")
    async def work() -> None: ...

    work().close()
    assert not logger.metrics


def test_a_span_of_another_scope_counts_for_itself(logger: EnergyLogger) -> None:
    with logger.span("outer") as outer, logger.span("in", scope="process") as inner:
        burn(0.05)
    assert cpu(inner.metric) >= 0.05
    assert cpu(outer.metric) >= 0.05
