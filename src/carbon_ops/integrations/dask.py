"""Energy of Dask tasks by name, on every worker.

::

    from carbon_ops.integrations.dask import energy_plugin, totals

    client.register_plugin(energy_plugin())
    ...
    totals(client)  # {"inc": {"calls": ..., "cpu_s": ..., "joules": ...}, ...}

The CPU time of tasks is Dask's own measurement, by the prefix of their keys; the energy
of a worker's process in windows of a second or more is divided by it, see
:mod:`carbon_ops.integrations.shares`.

What this cannot know
    The joules of one task. CPU time is that of the task's own thread: what a task does
    in threads and processes of its own (BLAS, subprocesses) and coroutines stay outside
    of it. Hosts that run the scheduler and the client only. Dask tells CPU time when a
    task has ended: until then its energy is nobody's, and a long task that ends among
    short ones is billed at the mean power of the time before.
"""

from __future__ import annotations

import time
from typing import Any

from carbon_ops.integrations.shares import REST, WINDOW_NS, Shares

NAME = "carbon-ops-energy"
_RUNNING = ("executing", "long-running")


class EnergyTasks:
    """What :func:`energy_plugin` adds to ``distributed.WorkerPlugin``."""

    name = NAME

    def __init__(self, **options: Any) -> None:
        self._options = options

    def setup(self, worker: Any) -> None:
        from carbon_ops.meter.logger import EnergyLogger

        options = {"scope": "process", **self._options}
        self._shares = Shares("dask tasks", EnergyLogger(**options))
        self._worker = worker
        self._calls: dict[str, int] = {}
        self._cpu_s = self._digests()
        self._due = time.monotonic_ns() + WINDOW_NS

    def _digests(self) -> dict[str, float]:
        """Return the CPU time of ended tasks by prefix [s], as Dask has counted it."""
        found: dict[str, float] = {}
        for key, value in list(self._worker.digests_total.items()):
            if isinstance(key, tuple) and key[:1] + key[3:] == (
                *("execute", "thread-cpu", "seconds"),
            ):
                found[key[2]] = found.get(key[2], 0.0) + value
        return found

    def transition(self, key: Any, start: str, finish: str, **kw: Any) -> None:
        if start not in _RUNNING or finish in _RUNNING:
            return
        from distributed.utils import key_split

        name = key_split(key)
        self._calls[name] = self._calls.get(name, 0) + 1
        if time.monotonic_ns() >= self._due:
            self.totals()

    def totals(self) -> dict[str, dict[str, float | int | None]]:
        """Return this worker's totals, as :meth:`Shares.totals` does."""
        self._due = time.monotonic_ns() + WINDOW_NS
        calls, self._calls = self._calls, {}
        before, self._cpu_s = self._cpu_s, self._digests()
        for name in calls.keys() | self._cpu_s.keys():
            used = self._cpu_s.get(name, 0.0) - before.get(name, 0.0)
            if used > 0 or name in calls:
                self._shares.add(name, round(used * 1e9), calls=calls.get(name, 0))
        return self._shares.totals()

    def teardown(self, worker: Any) -> None:
        self.totals()
        self._shares.logger.close()


def energy_plugin(**options: Any) -> Any:
    """Return a ``WorkerPlugin`` for ``client.register_plugin``.

    Args:
        options: As for :class:`carbon_ops.EnergyLogger`, on each worker.
    """
    from distributed import WorkerPlugin

    return type("EnergyPlugin", (EnergyTasks, WorkerPlugin), {})(**options)


def _of_worker(dask_worker: Any) -> Any:
    return dask_worker.plugins[NAME].totals()


def totals(client: Any) -> dict[str, dict[str, float | None]]:
    """Return calls, CPU seconds and joules by name, summed over all workers.

    ``joules`` stands for ``joules_cpu_s`` of the ``cpu_s``; None where that is nothing.
    """
    found: dict[str, dict[str, float | None]] = {}
    for of_worker in client.run(_of_worker).values():
        of_worker.pop(REST)  # several workers of one process would count it each
        for name, total in of_worker.items():
            line = found.setdefault(name, {})
            for key in ("calls", "cpu_s", "joules", "joules_cpu_s"):
                parts = [v for v in (line.get(key), total[key]) if v is not None]
                line[key] = sum(parts) if parts else None
    return found
