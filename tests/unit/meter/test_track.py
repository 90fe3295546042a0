"""What a decorated function is to its callers: the same as before, in every respect."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from typing import Any

import pytest

from carbon_ops import EnergyLogger


@pytest.fixture
def logger() -> EnergyLogger:
    return EnergyLogger(socket="/nonexistent/carbon-ops.sock", model="off")


def names(logger: EnergyLogger) -> list[str]:
    return [metric["operation"].rpartition(".")[2] for metric in logger.metrics]


def plain(a: int, b: int = 2) -> int:
    """Add."""
    return a + b


async def coroutine(a: int) -> int:
    return a


def generator(a: int) -> Iterator[int]:
    yield a


async def async_generator(a: int) -> AsyncIterator[int]:
    yield a


@pytest.mark.parametrize(
    "function", [plain, coroutine, generator, async_generator], ids=lambda f: f.__name__
)
def test_a_decorated_function_looks_as_it_did(
    logger: EnergyLogger, function: Callable[..., Any]
) -> None:
    tracked = logger.track(function)

    assert inspect.unwrap(tracked) is function
    assert inspect.signature(tracked) == inspect.signature(function)
    assert (tracked.__name__, tracked.__doc__) == (function.__name__, function.__doc__)
    for kind in (
        inspect.iscoroutinefunction,
        inspect.isgeneratorfunction,
        inspect.isasyncgenfunction,
    ):
        assert kind(tracked) == kind(function)


def test_every_kind_of_method_is_measured_above_and_below_its_decorator(
    logger: EnergyLogger,
) -> None:
    class Model:
        @logger.track
        def own(self, x: int) -> tuple[object, int]:
            return self, x

        @staticmethod
        @logger.track
        def static_below(x: int) -> int:
            return x

        @logger.track
        @staticmethod
        def static_above(x: int) -> int:
            return x

        @classmethod
        @logger.track("class_below")
        def class_below(cls, x: int) -> tuple[object, int]:
            return cls, x

        @logger.track("class_above")
        @classmethod
        def class_above(cls, x: int) -> tuple[object, int]:
            return cls, x

        @property
        @logger.track
        def value(self) -> int:
            return 7

    model = Model()

    assert model.own(1) == (model, 1)
    assert (model.static_below(2), Model.static_above(3), model.static_above(4)) == (
        *(2, 3, 4),
    )
    assert (model.class_below(5), model.class_above(6)) == ((Model, 5), (Model, 6))
    assert model.value == 7
    assert names(logger) == [
        *("own", "static_below", "static_above", "static_above"),
        *("class_below", "class_above", "value"),
    ]


def test_an_object_that_is_called_has_the_name_of_its_class(
    logger: EnergyLogger,
) -> None:
    class Model:
        async def __call__(self, x: int) -> int:
            await asyncio.sleep(0)
            with logger.span("inside"):
                return x

    assert asyncio.run(logger.track(Model())(3)) == 3
    assert logger.track(functools.partial(plain, 1))(3) == 4
    assert names(logger) == ["inside", "Model", "partial"]
    assert logger.metrics[0]["parent_id"] == logger.metrics[1]["span_id"]


def test_a_generator_that_can_be_awaited_still_can(logger: EnergyLogger) -> None:
    @logger.track
    @types.coroutine
    def nap() -> Generator[None, None, int]:
        yield
        return 4

    async def main(sleeper: Callable[[], Awaitable[int]]) -> int:
        return await sleeper()

    assert asyncio.run(main(nap)) == 4
    assert names(logger) == ["nap"]


@pytest.mark.parametrize("left", ["kept", "dropped", "cancelled"])
def test_an_async_generator_left_unfinished_makes_no_noise(
    logger: EnergyLogger, left: str, caplog: pytest.LogCaptureFixture
) -> None:
    """asyncio closes what it knows of at its end, and complains of what it cannot."""
    caplog.set_level(logging.ERROR)
    kept: list[object] = []

    @logger.track("items")
    async def items() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            kept.append("closed")

    async def main() -> None:
        made = items()
        await made.__anext__()
        if left == "kept":
            kept.append(made)
        elif left == "cancelled":
            reached = asyncio.Event()

            async def consume() -> None:
                async for _ in made:
                    reached.set()
                    await asyncio.Event().wait()

            task = asyncio.create_task(consume())
            await reached.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())

    assert [record.getMessage() for record in caplog.records] == []
    if left == "kept":
        assert kept[1:] == ["closed"]
        assert names(logger) == ["items"]
