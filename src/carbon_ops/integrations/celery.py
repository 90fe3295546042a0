"""Energy of Celery tasks: one span per task, totals by task name.

::

    from carbon_ops.integrations.celery import EnergySignals

    energy = EnergySignals(ledger="/var/lib/app/ledger")
    energy.connect()  # in the module that defines the app

A process measures the tasks that it runs; ``energy.logger.summary()`` has its totals.
Nothing is opened before a process runs its first task.

Tested in eager mode and with a solo worker. With the prefork pool it has not been seen
to work: use ``--pool=solo`` where the record matters.

What this cannot know
    Tasks that are killed (hard time limit, lost worker) leave no record. Greenlets of
    one thread (eventlet, gevent) cannot be told apart: their CPU time is divided among
    the tasks that are open. Time in the queue costs no CPU time here; the broker's is
    another process. Single tasks below 0.3 s say little, their sum says more.
"""

from __future__ import annotations

from typing import Any

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
        from celery import signals

        signals.task_prerun.connect(self._before, weak=False)
        signals.task_postrun.connect(self._after, weak=False)
        signals.worker_process_shutdown.connect(self._flush, weak=False)
        signals.worker_shutdown.connect(self._flush, weak=False)

    def disconnect(self) -> None:
        """Listen no more."""
        from celery import signals

        signals.task_prerun.disconnect(self._before)
        signals.task_postrun.disconnect(self._after)
        signals.worker_process_shutdown.disconnect(self._flush)
        signals.worker_shutdown.disconnect(self._flush)

    def _before(self, task_id: str, task: Any, **kw: Any) -> None:
        retries = getattr(task.request, "retries", 0)
        span = self.logger.span(task.name, task_id=task_id, retries=retries)
        self._spans[task_id] = span.begin()

    def _after(self, task_id: str, state: str | None = None, **kw: Any) -> None:
        span = self._spans.pop(task_id, None)
        if span is not None:
            span.info["state"] = state
            span.end(status="error" if state == "FAILURE" else "ok")

    def _flush(self, **kw: Any) -> None:
        if self._logger is not None:
            self._logger.flush()
