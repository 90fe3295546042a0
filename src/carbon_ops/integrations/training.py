"""What the training frameworks share: a run, its epochs, its steps, one reporter a host.

Steps are measured in groups of at least 0.3 s, because counters sampled at 10 Hz say
little about less: a step of a second stands alone, steps of 10 ms stand together and
each gets its part. Run, epochs and groups are ordinary spans, so a logger with a ledger
records them.

Ranks
    A launcher (torchrun, accelerate, mpirun, srun) starts one process per device. On
    each host the process with local rank 0 reports, and measures the launcher with all
    its children: every rank of the host is in it once, and the others report nothing.
    Several hosts make several reports, which may be added up.
"""

from __future__ import annotations

import os
import time
from typing import Any

from carbon_ops.integrations.figures import SHORT_S, figures, origin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Literal

    from carbon_ops.estimate.record import CarbonRecord
    from carbon_ops.meter.logger import EnergyLogger
    from carbon_ops.meter.span import Span
    from carbon_ops.model import Metric

# What launchers tell a process: its rank on this host, and how many there are on it.
# torchrun and accelerate; Open MPI; MPICH and Intel MPI; Slurm.
_LOCAL_RANK = ("LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID")  # fmt: skip
_LOCAL_SIZE = ("LOCAL_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "SLURM_NTASKS_PER_NODE")  # fmt: skip


def ranks(environ: Mapping[str, str] = os.environ) -> tuple[int, int | None]:
    """Return this process's rank on its host, and how many ranks the host has.

    Without a launcher ``(0, 1)``; None where the launcher names no number.
    """

    def first(names: tuple[str, ...]) -> int | None:
        found = (environ.get(name, "") for name in names)
        return next((int(text) for text in found if text.isdecimal()), None)

    rank = first(_LOCAL_RANK)
    return (0, 1) if rank is None else (rank, first(_LOCAL_SIZE))


class Training:
    """The spans of one training.

    Args:
        logger: Where to measure; default: one of its own. Give one with a region for
            grams, with a ledger for a record.
    """

    def __init__(self, logger: EnergyLogger | None = None) -> None:
        rank, self.local_ranks = ranks()
        self.reports = rank == 0
        self._scope = None if self.local_ranks == 1 else os.getppid()
        self._logger = logger
        self._run: Span | None = None
        self._epoch: Span | None = None
        self._group: Span | None = None
        self._reset()

    def _reset(self) -> None:
        self.metric: Metric | None = None  # of the last run that ended
        self.estimate: CarbonRecord | None = None
        self.run: dict[str, Any] = {}  # its figures
        self.epochs: list[dict[str, Any]] = []
        self.last: dict[str, Any] = {}  # figures of the last group of steps
        self._steps = self._samples = 0  # in the whole run
        self._at_epoch = self._at_group = (0, 0)
        self._group_began = 0.0

    def _begin(self, operation: str, **info: Any) -> Span:
        if self._logger is None:
            from carbon_ops.meter.logger import EnergyLogger

            self._logger = EnergyLogger()
        return self._logger.span(
            operation, scope=self._scope, ranks=self.local_ranks, **info
        ).begin()

    def _end(
        self,
        span: Span,
        since: tuple[int, int],
        status: Literal["ok", "error"] = "ok",
    ) -> dict[str, Any]:
        steps, samples = self._steps - since[0], self._samples - since[1]
        span.info.update(steps=steps, samples=samples)
        metric = span.end(status=status)
        found: dict[str, Any] = figures(metric, span.estimate, samples=samples)
        if steps and "energy_j" in found:
            found["energy_j_per_step"] = found["energy_j"] / steps
        found.update(steps=steps, samples=samples, energy_origin=origin(metric))
        return found

    def begin(self, **info: Any) -> None:
        """The run begins; one that was cut short by an exception is ended as failed."""
        if not self.reports:
            return
        self.end("error")
        self._reset()
        self._run = self._begin("training_run", **info)

    def begin_epoch(self, epoch: int) -> None:
        if self._run is not None:
            self.end_epoch()
            self._at_epoch = self._steps, self._samples
            self._epoch = self._begin("training_epoch", epoch=epoch)

    def begin_step(self) -> None:
        if self._run is not None and self._group is None:
            self._at_group = self._steps, self._samples
            self._group_began = time.monotonic()
            self._group = self._begin("training_steps")

    def end_step(self, samples: int, *, pause: bool = False) -> None:
        """One step ended.

        Args:
            samples: How many samples the ranks of this host worked on.
            pause: Something that is no training follows: the group ends here.
        """
        if self._group is None:
            return
        self._steps += 1
        self._samples += samples
        if pause or time.monotonic() - self._group_began >= SHORT_S:
            self._end_group()

    def _end_group(self, status: Literal["ok", "error"] = "ok") -> None:
        group, self._group = self._group, None
        if group is not None:
            found = self._end(group, self._at_group, status)
            if found["energy_seconds"] >= SHORT_S or not self.last:
                self.last = found

    def end_epoch(self, status: Literal["ok", "error"] = "ok") -> None:
        self._end_group(status)
        epoch, self._epoch = self._epoch, None
        if epoch is not None:
            self.epochs.append(self._end(epoch, self._at_epoch, status))

    def end(self, status: Literal["ok", "error"] = "ok") -> None:
        """The run ended; its figures are in :attr:`run`."""
        self.end_epoch(status)
        run, self._run = self._run, None
        if run is None:
            return
        self.run = self._end(run, (0, 0), status)
        self.metric, self.estimate = run.metric, run.estimate
        self.run.update(
            epochs=self.epochs, ranks=self.local_ranks, host=os.uname().nodename
        )
        if self._logger is not None:
            self._logger.flush()
