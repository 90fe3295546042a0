"""The decorator ``track``: one span per call of a function.

Bare (``@track``) or with arguments (``@track("name", logger=...)``). Plain functions,
coroutine functions, generators and async generators; exceptions pass through and mark
the span as failed.
"""

from __future__ import annotations

import atexit
import functools
import inspect
import sys
import types
from typing import Any, ParamSpec, TypeVar, cast, overload

from carbon_ops.errors import InvalidInputError
from carbon_ops.meter.coroutines import Stepped, as_coroutine, drive
from carbon_ops.meter.logger import EnergyLogger

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")

_shared: list[EnergyLogger] = []  # the first one is it


def shared_logger() -> EnergyLogger:
    """Return the logger that ``@track`` uses when it is given none; made on first use.

    Without a lock, which a process forked meanwhile would find locked for ever.
    """
    if not _shared:
        made = EnergyLogger()
        _shared.append(made)
        if made is _shared[0]:
            atexit.register(made.close)
        else:  # another thread was faster
            made.close()
    return _shared[0]


@overload
def track(operation: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def track(
    operation: str | None = None, /, *, logger: EnergyLogger | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def track(
    operation: Callable[..., Any] | str | None = None,
    /,
    *,
    logger: EnergyLogger | None = None,
) -> Any:
    """Measure every call of the decorated function.

    Args:
        operation: Name of the span; default: the function's qualified name.
        logger: Where to measure; default: one shared by the whole program.

    >>> @track
    ... def work(n):
    ...     return n + 1
    >>> work(1)
    2
    """
    if callable(operation):
        return tracked(operation, shared_logger, None)
    if operation is not None and not isinstance(operation, str):
        raise InvalidInputError(f"@track takes a name or a function, got {operation!r}")

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        return tracked(
            function, shared_logger if logger is None else lambda: logger, operation
        )

    return decorate


def tracked(
    function: Callable[P, R],
    logger: Callable[[], EnergyLogger],
    operation: str | None,
) -> Callable[P, R]:
    """Return ``function``, measured at every call by ``logger()``."""
    if isinstance(function, (staticmethod, classmethod)):  # decorated below us
        inside = tracked(function.__func__, logger, operation)
        return cast("Callable[P, R]", type(function)(inside))
    if not callable(function):
        raise InvalidInputError(f"cannot track {function!r}: it is not a function")
    call: Any = function
    named = call if hasattr(call, "__qualname__") else type(call)
    name = operation or str(named.__qualname__)

    def has(kind: Callable[[object], bool]) -> bool:
        return kind(call) or kind(type(call).__call__)

    if has(inspect.iscoroutinefunction):

        @functools.wraps(function)
        async def coroutine(*args: Any, **kwargs: Any) -> Any:
            with logger()._stepped_span(name, "steps") as span:
                return await Stepped(call(*args, **kwargs), span._step)

        return cast("Callable[P, R]", coroutine)
    if has(inspect.isgeneratorfunction):

        @functools.wraps(function)
        def generator(*args: Any, **kwargs: Any) -> Any:
            with logger()._stepped_span(name, "generator") as span:
                return (yield from drive(call(*args, **kwargs), span._step))

        code = getattr(call, "__code__", None)
        if code is not None and code.co_flags & inspect.CO_ITERABLE_COROUTINE:
            generator = types.coroutine(generator)  # can be awaited, too
        return cast("Callable[P, R]", generator)
    if has(inspect.isasyncgenfunction):

        @functools.wraps(function)
        async def async_generator(*args: Any, **kwargs: Any) -> Any:
            with logger()._stepped_span(name, "generator") as span:
                inner = call(*args, **kwargs)
                # We close it. An event loop that did so as well would be in our way.
                hooks = sys.get_asyncgen_hooks()
                sys.set_asyncgen_hooks(None, None)
                try:
                    ask = inner.__anext__()
                finally:
                    sys.set_asyncgen_hooks(*hooks)
                try:
                    while True:
                        try:
                            out = await Stepped(as_coroutine(ask), span._step)
                        except StopAsyncIteration:
                            return
                        try:
                            ask = inner.asend((yield out))
                        except GeneratorExit:
                            raise
                        except BaseException as error:  # noqa: BLE001 - goes inside
                            ask = inner.athrow(error)
                finally:
                    if not inner.ag_running:  # else given up in the middle of a step
                        await inner.aclose()

        return cast("Callable[P, R]", async_generator)

    @functools.wraps(function)
    def plain(*args: P.args, **kwargs: P.kwargs) -> R:
        with logger().span(name):
            return function(*args, **kwargs)

    return plain
