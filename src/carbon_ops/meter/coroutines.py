"""Coroutines and generators driven step by step, so that each step's work is known.

What goes through is untouched: values sent in, exceptions thrown in, closing, and what
is returned or raised.
"""

from __future__ import annotations

from carbon_ops.meter.lanes import Step
from carbon_ops.meter.span import Span, current, enter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator
    from contextlib import AbstractContextManager
    from typing import Any

    Driven = Generator[Any, Any, Any] | Coroutine[Any, Any, Any]
    StepMaker = Callable[[], AbstractContextManager[None]]


class SpanStep:
    """One step of what a span measures: CPU time goes to its lane, spans begun are its."""

    __slots__ = ("_caller", "_span", "_step")

    def __init__(self, span: Span) -> None:
        self._span = span
        self._step: Step | None = None
        self._caller: Span | None = None

    def __enter__(self) -> None:
        span = self._span
        if span._kind == "generator":
            self._caller = current.get()
            enter(span._inside or span)
        if span._pool is not None and span._lane is not None:
            self._step = span._pool.step(span._lane)
            self._step.__enter__()

    def __exit__(self, *_: object) -> None:
        if self._step is not None:
            self._step.__exit__()
        span = self._span
        if span._kind == "generator":
            span._inside = current.get()  # a span of its own that is still open
            enter(self._caller)


def drive(inner: Driven, step: StepMaker) -> Generator[Any, Any, Any]:
    """Run ``inner`` to its end, each of its steps inside ``step()``."""
    value: Any = None
    thrown: BaseException | None = None
    while True:
        try:
            with step():
                if thrown is None:
                    out = inner.send(value)
                else:
                    error, thrown = thrown, None
                    out = inner.throw(error)
        except StopIteration as stop:
            return stop.value
        try:
            value = yield out
        except GeneratorExit:
            # Not a step: this may run inside the garbage collector, where CPython 3.10
            # does not survive a change of context variables.
            inner.close()
            raise
        except BaseException as error:  # noqa: BLE001 - whatever it is, it goes inside
            thrown = error


class Stepped:
    """An awaitable that runs ``inner`` to its end, each of its steps inside ``step()``."""

    def __init__(self, inner: Coroutine[Any, Any, Any], step: StepMaker) -> None:
        self._inner, self._step = inner, step

    def __await__(self) -> Generator[Any, Any, Any]:
        return drive(self._inner, self._step)


async def as_coroutine(awaitable: Awaitable[Any]) -> Any:
    """Return ``awaitable`` as a coroutine, which can be driven step by step."""
    return await awaitable
