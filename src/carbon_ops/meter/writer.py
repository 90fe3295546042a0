"""Metrics to estimates, and both to the ledger.

Records wait until a second has passed since the last write, and are written together
then, by the call that measures; :meth:`Writer.close` writes the rest, at exit at the
latest. A ledger that cannot be written is reported to the log, once per failure, and
the records are kept for the next try, up to a limit.
"""

from __future__ import annotations

import atexit
import os
from _thread import RLock
from typing import Any

from carbon_ops.clock import monotonic_ns
from carbon_ops.errors import CarbonOpsError, InvalidInputError
from carbon_ops.log import log
from carbon_ops.meter import loading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carbon_ops.estimate.estimator import CarbonEstimator
    from carbon_ops.estimate.record import CarbonRecord
    from carbon_ops.ledger.store import Ledger, Receipt
    from carbon_ops.model import Metric

EVERY_NS = 1_000_000_000
LIMIT = 4_096  # records kept while the ledger cannot be written


class Writer:
    """Estimates metrics and writes them to a ledger, if there is one.

    Args:
        ledger: Folder of a ledger (made when it does not exist), or an open one.
        estimator: Default: ``CarbonEstimator(region=region)``.
        region: Zone for the default estimator.
    """

    def __init__(
        self,
        ledger: str | os.PathLike[str] | Ledger | None,
        estimator: CarbonEstimator | None,
        region: str | None,
    ) -> None:
        if estimator is None:
            with loading.lock:
                from carbon_ops.estimate.estimator import CarbonEstimator as Estimator

                estimator = Estimator(region=region)  # reads tables: loads more
        self._estimator = estimator
        self._ledger: Ledger | None = None
        self._ours = False  # a ledger we opened is one we close
        if isinstance(ledger, (str, os.PathLike)):
            with loading.lock:
                from carbon_ops.ledger.store import Ledger as Store

            path = os.fspath(ledger)
            self._ledger = Store.open_or_init(path)
            self._ours = True
        else:
            self._ledger = ledger
        self._lock = RLock()
        self._waiting: list[dict[str, Any]] = []
        self._doubtful: list[Receipt] = []  # of the first that wait: written or not
        self._written_ns = monotonic_ns()
        self.lost = 0  # records dropped because the ledger could not be written
        if self._ledger is not None:
            atexit.register(self.close)
        self._pid = os.getpid()

    def write(self, metric: Metric) -> CarbonRecord | None:
        """Estimate ``metric``, queue both records, write when it is time. Never raises."""
        record = None
        try:
            record = self._estimator.estimate_metric(metric)
        except Exception as error:  # noqa: BLE001 - a provider of somebody else's too
            log().warning("no estimate for span %s: %s", metric["span_id"], error)
        if self._ledger is None:
            return record
        from carbon_ops.meter.record import records

        # Copies: the caller may change what it was given before it is written.
        kept = records(metric, None if record is None else record.to_dict())
        with self._lock:
            self._waiting += kept
            if monotonic_ns() - self._written_ns >= EVERY_NS:
                self._write_waiting()
        return record

    def flush(self) -> None:
        """Write what waits. Failures are logged, not raised."""
        with self._lock:
            self._write_waiting()

    def forget(self) -> None:
        """Drop what a parent process has to write itself; for a forked child."""
        self._lock = RLock()
        self._waiting, self._doubtful = [], []
        self._pid = os.getpid()

    def close(self) -> None:
        """Write what waits and close the ledger if we opened it."""
        if self._ledger is None or self._pid != os.getpid():
            return
        self.flush()
        atexit.unregister(self.close)
        if self._ours:
            try:
                self._ledger.close()
            except (CarbonOpsError, OSError) as error:
                log().error("ledger not closed: %s", error)
        self._ledger = None

    def _write_waiting(self) -> None:
        if not self._waiting or self._ledger is None:
            return
        self._written_ns = monotonic_ns()
        try:
            self._settle(self._ledger)
            try:
                self._ledger.append_many(self._waiting)
                self._waiting = []
            except InvalidInputError:
                self._write_singly(self._ledger)
            self._ledger.flush()
        except (CarbonOpsError, OSError) as error:
            # Some may be on the disk all the same; they must not be written twice.
            del self._waiting[: len(getattr(error, "durable", ()))]
            self._doubtful = list(getattr(error, "attempted", self._doubtful))
            log().error("%d records not written: %s", len(self._waiting), error)
            excess = max(0, len(self._waiting) - LIMIT)
            self.lost += excess
            del self._waiting[:excess], self._doubtful[:excess]

    def _settle(self, ledger: Ledger) -> None:
        """Drop what the disk kept after a failure that could not say so."""
        while self._doubtful:
            if not ledger.holds(self._doubtful[0]):
                self._doubtful = []
                return
            del self._waiting[0], self._doubtful[0]

    def _write_singly(self, ledger: Ledger) -> None:
        """Write all but what the ledger will never take, so that it stops nothing else."""
        while self._waiting:
            try:
                ledger.append(self._waiting[0])
            except InvalidInputError as error:
                self.lost += 1
                log().error("a record cannot be written: %s", error)
            del self._waiting[0]
