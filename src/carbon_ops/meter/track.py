"""The decorator ``track``: one span per call of a function.

Bare (``@track``) or with arguments (``@track("name", logger=...)``). Plain functions,
coroutine functions, generators and async generators; exceptions pass through and mark
the span as failed.
"""

from __future__ import annotations

import atexit
import functools
import inspect
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
    if not callable(function):
        raise InvalidInputError(f"cannot track {function!r}: it is not a function")
    name = operation or str(getattr(function, "__qualname__", type(function)))
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def coroutine(*args: Any, **kwargs: Any) -> Any:
            with logger()._stepped_span(name, "steps") as span:
                return await Stepped(function(*args, **kwargs), span._step)

        return cast("Callable[P, R]", coroutine)
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def generator(*args: Any, **kwargs: Any) -> Any:
            with logger()._stepped_span(name, "generator") as span:
                return (yield from drive(function(*args, **kwargs), span._step))

        return cast("Callable[P, R]", generator)
    if inspect.isasyncgenfunction(function):

        @functools.wraps(function)
        async def async_generator(*args: Any, **kwargs: Any) -> Any:
            with logger()._stepped_span(name, "generator") as span:
                inner = function(*args, **kwargs)
                ask = inner.__anext__()
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
                    await inner.aclose()

        return cast("Callable[P, R]", async_generator)

    @functools.wraps(function)
    def plain(*args: P.args, **kwargs: P.kwargs) -> R:
        with logger().span(name):
            return function(*args, **kwargs)

    return plain
