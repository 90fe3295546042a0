"""Energy of Celery tasks: one span per task, totals by task name.

::

    from carbon_ops.integrations.celery import EnergySignals

    energy = EnergySignals(ledger="/var/lib/app/ledger")
    energy.connect()  # in the module that defines the app

A process measures the tasks that it runs; ``energy.logger.summary()`` has its totals, and
the ledger has those of all. Nothing is opened before a process runs its first task; what a
module measured before the pool forked stays with the process that measured it. A record
is on the disk when its task ends, those of tasks under 0.3 s within a second of work or
when the process shuts down.

Seen to work in eager mode, with a solo worker and with the prefork pool: failed and
retried tasks, children that are replaced, a warm shutdown.

What this cannot know
    Tasks that are killed (hard time limit, ``revoke(terminate=True)``, lost worker) leave
    no record, and may take those of short tasks of the last second along. Tasks revoked
    or expired before they began used nothing and have none. Each try of a retried task is
    a span of its own, with its number in ``retries``. Greenlets of one thread (eventlet,
    gevent) cannot be told apart: their CPU time is divided among the tasks that are open.
    Time in the queue costs no CPU time here; the broker's and the worker's main process
    are other processes. Single tasks below 0.3 s say little, their sum says more.
"""

from __future__ import annotations

from typing import Any

from carbon_ops.integrations.figures import SHORT_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carbon_ops.meter.logger import EnergyLogger
    from carbon_ops.meter.span import Span


class EnergySignals:
    """Measures all tasks that this process runs, once :meth:`connect` was called.

    Args:
        options: As for :class:`carbon_ops.EnergyLogger`.
    """

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._logger: EnergyLogger | None = None
        self._spans: dict[str, Span] = {}

    @property
    def logger(self) -> EnergyLogger:
        """The logger of this process; made when first needed."""
        if self._logger is None:
            from carbon_ops.meter.logger import EnergyLogger

            self._logger = EnergyLogger(**self._options)
        return self._logger

    def connect(self) -> None:
        """Listen to Celery's signals; twice is once."""
        for signal, receiver in self._receivers():
            signal.connect(receiver, weak=False)

    def disconnect(self) -> None:
        """Listen no more."""
        for signal, receiver in self._receivers():
            signal.disconnect(receiver)

    def _receivers(self) -> tuple[tuple[Any, Any], ...]:
        from celery import signals

        return (
            (signals.task_prerun, self._before),
            (signals.task_postrun, self._after),
            (signals.worker_process_shutdown, self._flush),
            (signals.worker_shutdown, self._flush),
        )

    def _before(self, task_id: str, task: Any, **kw: Any) -> None:
        retries = getattr(task.request, "retries", 0)
        span = self.logger.span(task.name, task_id=task_id, retries=retries)
        self._spans[task_id] = span.begin()

    def _after(self, task_id: str, state: str | None = None, **kw: Any) -> None:
        span = self._spans.pop(task_id, None)
        if span is not None:
            span.info["state"] = state
            metric = span.end(status="error" if state == "FAILURE" else "ok")
            if metric["duration_s"] >= SHORT_S:  # a child may be killed at any time
                self.logger.flush()

    def _flush(self, **kw: Any) -> None:
        if self._logger is not None:
            self._logger.flush()
