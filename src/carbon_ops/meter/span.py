"""One measured stretch of work, and which one a piece of code is inside."""

from __future__ import annotations

import os
from _thread import get_ident
from contextvars import ContextVar
from typing import Any, Literal

from carbon_ops.errors import InvalidInputError
from carbon_ops.meter import loading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from types import TracebackType

    from carbon_ops.estimate.record import CarbonRecord
    from carbon_ops.meter.lanes import Lane, Pool
    from carbon_ops.meter.logger import EnergyLogger
    from carbon_ops.meter.process_tree import CpuClock
    from carbon_ops.meter.readings import Mark
    from carbon_ops.model import Metric

    Ids = tuple[str, str | None, str]  # of a span, of the one around it, of the trace

current: ContextVar[Span | None] = ContextVar("carbon_ops_span", default=None)
_entering: set[int] = set()  # threads inside the next function


def enter(span: Span | None) -> None:
    """Make ``span`` the one that this context is inside.

    Up to CPython 3.11 the garbage collector may run inside ``ContextVar.set``, which
    does not survive another one from a generator that is collected there: that one is
    left out.
    """
    ident = get_ident()
    if ident in _entering:
        return
    _entering.add(ident)
    try:
        current.set(span)
    finally:
        _entering.discard(ident)


def _running(span: Span | None) -> Span | None:
    """Return ``span``, or the innermost around it that has not ended."""
    while span is not None and not span._runs:
        span = span._outer
    return span


def new_id(size: int = 8) -> str:
    """Return ``size`` random bytes as hex digits (W3C Trace Context: 8 a span, 16 a trace)."""
    return os.urandom(size).hex()


class Span:
    """A measured stretch of work; made by :meth:`EnergyLogger.span`.

    Use it with ``with`` or ``async with``, or call :meth:`begin` and :meth:`end`.
    After the end :attr:`metric` holds the result.
    """

    __slots__ = (
        "_clock",
        "_inside",
        "_kind",
        "_lane",
        "_logger",
        "_mark",
        "_outer",
        "_pid",
        "_pool",
        "_runs",
        "_settle",
        "_sync",
        "_sync_failed",
        "estimate",
        "info",
        "metric",
        "operation",
        "parent_id",
        "span_id",
        "trace_id",
    )

    def __init__(
        self,
        logger: EnergyLogger,
        operation: str,
        clock: CpuClock,
        info: dict[str, Any],
        *,
        settle: bool = False,
        pool: Pool | None = None,
        sync: Callable[[], object] | None = None,
    ) -> None:
        self._logger = logger
        self._clock = clock
        self._pool = pool
        self._kind = "block"
        self._lane: Lane | None = None
        self._settle = settle
        self._sync = sync
        self._sync_failed = False
        self._mark: Mark | None = None
        self._runs = False
        self._outer: Span | None = None  # what to be inside of again after the end
        self._inside: Span | None = None  # a generator's innermost while it rests
        self.operation = operation
        self.info = info
        self.span_id = new_id()
        self.parent_id: str | None = None
        self.trace_id = ""
        self.metric: Metric | None = None
        self.estimate: CarbonRecord | None = None

    def begin(self) -> Span:
        """Start measuring. A span measures once: beginning it twice raises."""
        if self._mark is not None or self.metric is not None:
            raise InvalidInputError(
                f"span {self.operation!r} was begun before",
                hint="Make a new one with logger.span() for each measurement.",
            )
        self._synchronise()
        parent = current.get()
        self.parent_id = parent.span_id if parent is not None else None
        self.trace_id = parent.trace_id if parent is not None else new_id(16)
        within = parent._lane if parent is not None else None
        self._runs = True
        if parent is not None:  # so that spans that overlap for ever are no chain
            parent._outer = _running(parent._outer)
            self._outer = _running(parent)
        if self._kind != "generator":  # whose caller is not inside it between its steps
            enter(self)
        self._pid = os.getpid()
        try:
            self._mark = self._logger._readings.begin(self, within)
        except BaseException:  # Ctrl-C while a governor hangs: nobody is inside us
            self._leave()
            if self._pool is not None and self._lane is not None:
                self._pool.leave(self._lane)
            raise
        return self

    def end(
        self, *, cpu_s: float | None = None, status: Literal["ok", "error"] = "ok"
    ) -> Metric:
        """Stop measuring and return the metric.

        Args:
            cpu_s: CPU time of the work [s], when the caller knows better than the
                span's own clock, for instance from ``os.wait4``.
            status: ``error`` marks work that failed.

        Raises:
            InvalidInputError: the span was never begun, or has ended; ``cpu_s`` is
                negative.
        """
        if self._mark is None:
            raise InvalidInputError(
                f"span {self.operation!r} is not running",
                hint="Call begin() first, and end() once.",
            )
        if cpu_s is not None and not cpu_s >= 0:
            raise InvalidInputError(f"cpu_s must be 0 or more, got {cpu_s}")
        try:
            self._synchronise()
        except BaseException:  # Ctrl-C while it waits: the span ends all the same
            status = "error"
            raise
        finally:
            mark, self._mark = self._mark, None
            self._leave()
            self.metric = self._logger._end_span(self, mark, cpu_s, status)
        return self.metric

    def _leave(self) -> None:
        self._runs = False
        if current.get() is self:  # else ended out of order, or in another context
            enter(_running(self._outer))

    def _synchronise(self) -> None:
        if self._sync is not None and not self._sync_failed:
            try:
                self._sync()
            except BaseException as error:
                self._sync_failed = True
                if not isinstance(error, Exception):
                    raise
                # The program goes on; the record says so.

    def _step(self) -> AbstractContextManager[None]:
        """Return a context for one step of the coroutine or generator we measure."""
        with loading.lock:
            from carbon_ops.meter.coroutines import SpanStep

        return SpanStep(self)

    def __enter__(self) -> Span:
        return self.begin()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._mark is None:  # ended by hand inside the block
            return
        if kind is None or kind is GeneratorExit:  # its caller wanted no more of it
            self.end()
        else:
            self.info.setdefault("error_type", kind.__name__)
            self.end(status="error")

    async def __aenter__(self) -> Span:
        return self.begin()

    async def __aexit__(self, *raised: Any) -> None:
        self.__exit__(*raised)
