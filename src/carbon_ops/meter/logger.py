"""``EnergyLogger``: what a task used, from the counters of its host.

No thread, no process, nothing between calls. Trouble while measuring becomes a reason
in the record; only wrong usage raises.
"""

from __future__ import annotations

import os
from _thread import RLock
from collections import deque
from typing import Any, ClassVar, Literal, overload

from carbon_ops import clock, config
from carbon_ops.errors import InvalidInputError
from carbon_ops.log import log
from carbon_ops.meter import loading
from carbon_ops.meter.process_tree import OwnThread
from carbon_ops.meter.readings import Readings, Used
from carbon_ops.meter.scope import clock_of, pool_of
from carbon_ops.meter.span import Span, current, new_id
from carbon_ops.meter.summary import Summary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import ParamSpec, TypeVar

    from carbon_ops.estimate.estimator import CarbonEstimator
    from carbon_ops.estimate.record import CarbonRecord
    from carbon_ops.ledger.store import Ledger
    from carbon_ops.meter.gpu import GpuMark
    from carbon_ops.meter.process_tree import CpuClock
    from carbon_ops.meter.readings import Mark
    from carbon_ops.meter.span import Ids
    from carbon_ops.meter.writer import Writer
    from carbon_ops.model import EnergySource, Metric, Policy

    P = ParamSpec("P")
    R = TypeVar("R")

POLICIES = ("proportional", "excluded")


class EnergyLogger:
    """Measures the energy of pieces of this program.

    >>> logger = EnergyLogger(model="off")
    >>> metric = logger.log_metrics("training_step", epoch=1)
    >>> metric["operation"], metric["additional_info"]
    ('training_step', {'epoch': 1})

    What is not given here comes from the environment or a settings file, see
    :mod:`carbon_ops.config`.

    Args:
        socket: Path of the governor's socket. Default: ``CARBON_OPS_SOCKET``, then
            ``/var/run/carbon-ops.sock``.
        ledger: Folder of a ledger, or an open one: every span is written to it with its
            estimate. A folder that does not exist is made. ``False``: none, whatever the
            settings say.
        estimator: Turns energy into carbon. Default with a ledger or a region:
            ``CarbonEstimator(region=region)``.
        region: Zone of the electricity grid, for the default estimator.
        policy: Who carries the host's idle energy: ``proportional``, every task its
            share (the default); ``excluded``, none (needs ``idle_w``).
        scope: Whose CPU time counts: ``tree``, this process and its children, living
            and reaped (the default); ``children``; ``process``; ``thread``, the one
            that makes the span; ``cgroup``, this process's; ``cgroup:PATH``; a process
            number, with its children; a clock of your own.
        model: ``on`` (the default): without counters, energy is modelled from CPU load
            and flagged; ``off``: it is null then.
        idle_w: Power of the idle host's packages [W], as measured.
        cpu_watts: For the model, all CPUs of this host at rest and at full load [W].
            Default: the shipped tables.
        source: Counters to read instead of a governor's.
        gpu_sampling: For GPUs without an energy counter: poll their power ten times a
            second, in a thread, from the first span on.
        history: How many metrics :attr:`metrics` keeps; default 256.

    Raises:
        InvalidInputError: an argument makes no sense.
        ConfigError: a settings file or variable cannot be used.
        UnknownRegionError: ``region`` is not known.
        LedgerError: the ledger cannot be opened.
    """

    # Called with each finished span of this process and its estimate, by the thread that
    # ends it; exporters put themselves here.
    observers: ClassVar[list[Callable[[Metric, CarbonRecord | None], None]]] = []

    def __init__(
        self,
        *,
        socket: str | None = None,
        ledger: str | os.PathLike[str] | Ledger | Literal[False] | None = None,
        estimator: CarbonEstimator | None = None,
        region: str | None = None,
        policy: Policy | None = None,
        scope: str | int | CpuClock | None = None,
        model: Literal["on", "off"] | None = None,
        idle_w: float | None = None,
        cpu_watts: tuple[float, float] | None = None,
        source: EnergySource | None = None,
        gpu_sampling: bool = False,
        history: int | None = None,
    ) -> None:
        settings = config.load()

        def chosen(name: str, argument: Any) -> Any:
            return settings[name].value if argument is None else argument

        self._policy: Policy = chosen("policy", policy)
        if self._policy not in POLICIES:
            raise InvalidInputError(
                f"unknown policy {policy!r}", hint=f"Use one of {', '.join(POLICIES)}."
            )
        self._clock = clock_of(chosen("scope", scope))
        idle_load_w = cpu_watts or (None, None)
        self._readings = Readings(
            source,
            chosen("socket", socket),
            chosen("powercap_root", None),
            switch=chosen("model", model),
            cpu_idle_w=chosen("cpu_idle_w", idle_load_w[0]),
            cpu_load_w=chosen("cpu_load_w", idle_load_w[1]),
            idle_w=chosen("idle_w", idle_w),
            idle_dram_w=chosen("idle_dram_w", None),
            gpu_sampling=gpu_sampling,
        )
        ledger = None if ledger is False else chosen("ledger", ledger)
        self._writer: Writer | None = None
        if ledger is not None or estimator is not None or region is not None:
            with loading.lock:
                from carbon_ops.meter.writer import Writer

            self._writer = Writer(ledger, estimator, chosen("region", region))
        history = chosen("history", history)
        if not isinstance(history, int) or history < 0:
            raise InvalidInputError(f"history must be 0 or more, got {history!r}")
        self._summary = Summary()
        self._trace_id = new_id(16)
        self.metrics: deque[Metric] = deque(maxlen=history)
        self._closed = False
        self._started(os.getpid())

    def _started(self, pid: int) -> None:
        """Set what belongs to one process: in a forked child it starts anew."""
        # Reentrant: a collected generator may end its span inside any of our lines.
        self._lock = RLock()
        self._mark = self._readings.take(self._clock)
        self._pid = pid

    def _check_fork(self) -> None:
        pid = os.getpid()
        if pid == self._pid:
            return
        if self._writer is not None:
            self._writer.forget()
        self._summary = Summary()
        self.metrics.clear()
        self._started(pid)

    # --- measuring ------------------------------------------------------------------

    def log_metrics(self, operation: str, /, **info: Any) -> Metric:
        """Return what was used since the last call, or since this logger was made.

        The end of one call is the start of the next: their time and CPU time adjoin
        without hole or overlap, from any number of threads. Their energy does so but
        for the ends, which lie past the last sample as a rule and are extrapolated; and
        while nobody on the host computes, its energy is no task's, so that many short
        pieces of a task that waits may sum to less than one span around them.

        Args:
            operation: What the work is called.
            info: Anything to keep with the record; what is not plain JSON becomes text.
        """
        _check_name(operation)
        self._check_fork()
        with self._lock:
            begin = self._mark
            self._mark = end = self._readings.take(self._clock)
        parent = current.get()
        used = Used(end.cpu_ns - begin.cpu_ns, (1, 1), begin.flags + end.flags)
        ids = (
            (new_id(), None, self._trace_id)
            if parent is None
            else (new_id(), parent.span_id, parent.trace_id)
        )
        at_ns = end.host.at_ns
        return self._finish(
            operation, "ok", ids, begin, at_ns, used, self._clock, info, end.gpu
        )[0]

    def span(
        self,
        operation: str,
        /,
        *,
        settle: bool = False,
        scope: str | int | CpuClock | None = None,
        sync: Callable[[], object] | None = None,
        **info: Any,
    ) -> Span:
        """Return a span to be used with ``with``, ``async with`` or begin() and end().

        Each span is billed for its own window: an idle second that lies in two spans
        that overlap is in both, so that their joules may add up to more than the
        process's own. Their CPU time does not.

        Args:
            operation: What the work is called.
            settle: Wait at the end for the next sample of the counters, at most one
                interval (0.1 s), so that the bounds are tight.
            scope: As for the logger; default: the logger's.
            sync: Called at the beginning and at the end, to wait for work that was
                queued, such as ``torch.cuda.synchronize``: what a GPU does later is then
                no other span's. What it raises is a flag, ``sync_failed``.
            info: Anything to keep with the record.
        """
        _check_name(operation)
        self._check_fork()
        chosen = self._clock if scope is None else clock_of(scope)
        if isinstance(chosen, OwnThread):
            chosen = OwnThread()  # the one that is here now
        return Span(
            *(self, operation, chosen, info),
            settle=settle,
            pool=pool_of(chosen),
            sync=sync,
        )

    def _stepped_span(self, operation: str, kind: str) -> Span:
        span = self.span(operation)
        span._kind = kind
        return span

    @overload
    def track(self, operation: Callable[P, R], /) -> Callable[P, R]: ...
    @overload
    def track(
        self, operation: str | None = None
    ) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
    def track(self, operation: Callable[..., Any] | str | None = None) -> Any:
        """Measure each call of the decorated function; bare, or with a name.

        Functions, coroutines, generators and async generators; the name of the span is
        ``operation``, or the function's own.
        """
        with loading.lock:
            from carbon_ops.meter.track import track, tracked

        if callable(operation):
            return tracked(operation, lambda: self, None)
        return track(operation, logger=self)

    # --- results --------------------------------------------------------------------

    def summary(self) -> Mapping[str, Mapping[str, float | int | None]]:
        """Return per operation: calls, errors, seconds, joules, grams, p50 and p95.

        ``joules`` is the sum over calls whose energy is known, ``joules_known`` how many
        those are; ``p50_s`` and ``p95_s`` are durations of the last 1,024 calls.
        """
        return self._summary.report()

    def flush(self) -> None:
        """Write what waits to the ledger. Failures are logged, not raised."""
        if self._writer is not None and self._pid == os.getpid():
            self._writer.flush()

    def close(self) -> None:
        """Write what waits and let the counters and the ledger go. Twice is fine."""
        if self._closed or self._pid != os.getpid():
            return
        self._closed = True
        if self._writer is not None:
            self._writer.close()
        self._readings.close()

    def __enter__(self) -> EnergyLogger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- inside ---------------------------------------------------------------------

    def _end_span(
        self,
        span: Span,
        begin: Mark,
        cpu_s: float | None,
        status: Literal["ok", "error"],
    ) -> Metric:
        forked = os.getpid() != span._pid
        self._check_fork()
        t1 = clock.monotonic_ns()
        used = self._readings.used(span, begin, forked)
        gpu = self._readings.gpu_mark(clock.wall_ns())
        if cpu_s is not None:
            used = used._replace(cpu_ns=round(cpu_s * 1e9), part=(1, 1))
        if span._sync_failed:
            used = used._replace(flags=(*used.flags, "sync_failed"))
        metric, span.estimate = self._finish(
            span.operation,
            status,
            (span.span_id, span.parent_id, span.trace_id),
            begin,
            t1,
            used,
            span._clock,
            span.info,
            gpu,
            synchronised=span._sync is not None and not span._sync_failed,
            settle=span._settle,
        )
        return metric

    def _finish(
        self,
        operation: str,
        status: Literal["ok", "error"],
        ids: Ids,
        begin: Mark,
        t1: int,
        used: Used,
        clock_: CpuClock,
        info: dict[str, Any],
        gpu: GpuMark | None,
        *,
        synchronised: bool = False,
        settle: bool = False,
    ) -> tuple[Metric, CarbonRecord | None]:
        built = self._readings.built(
            (operation, status, *ids),
            begin,
            t1,
            used,
            clock_,
            info,
            gpu,
            policy=self._policy,
            synchronised=synchronised,
            settle=settle,
        )
        metric = built.metric
        record = None if self._writer is None else self._writer.write(metric)
        with self._lock:
            self._summary.add(built, record)
            self.metrics.append(metric)
        for observe in self.observers:
            try:
                observe(metric, record)
            except Exception as error:  # noqa: BLE001 - somebody else's
                log().warning("an observer of spans failed: %s", error)
        return metric, record


def _check_name(operation: object) -> None:
    if not isinstance(operation, str) or not operation:
        raise InvalidInputError(
            f"operation must be a name, got {operation!r}",
            hint='For example log_metrics("training_step").',
        )
