"""Measure the cgroup of one Slurm job on this node until SIGTERM; write one record.

    job_energy.py JOB FOLDER

The cgroup appears after the prolog and is gone before the epilog, so it is read every
second: what the job used in the last second of its life may be missing, and a job that
lives for less than that is not seen. The record is in the ledger FOLDER/ledger, with the
job's number; what the ranks write themselves has to be compared with it, not added.
"""

from __future__ import annotations

import os
import signal
import sys

from carbon_ops import EnergyLogger
from carbon_ops.errors import CarbonOpsError, InvalidInputError
from carbon_ops.sources.cgroup import ROOT, CgroupClock

EVERY_S = 1.0


class JobClock:
    """CPU time of the job's cgroup, remembered when the cgroup has gone."""

    leader = None

    def __init__(self, job: str, root: str) -> None:
        self.name = f"slurm_job:{job}"
        self._job = f"job_{job}"
        self._root = root
        self._clock: CgroupClock | None = None
        self._last = 0

    def read(self) -> int:
        """Return the CPU time seen so far [ns]."""
        try:
            if self._clock is None:
                self._clock = self._found()
            if self._clock is not None:
                self._last = max(self._last, self._clock.read())
        except (OSError, ValueError):
            self._clock = None  # gone; another step of the job may bring it back
        return self._last

    def pids(self) -> list[int]:
        return [] if self._clock is None else self._clock.pids()

    def _found(self) -> CgroupClock | None:
        for folder, below, _ in os.walk(self._root):
            if self._job in below:
                try:
                    return CgroupClock(os.path.join(folder, self._job))
                except InvalidInputError:
                    continue  # another controller's
        return None


def main(job: str, folder: str, root: str = ROOT) -> str | int:
    """Measure until SIGTERM; return the exit status, or what went wrong."""
    if not (job.isascii() and job.isdigit()):
        return f"job_energy: {job!r} is no job number"
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    clock = JobClock(job, root)
    path = os.path.join(folder, "ledger")
    try:
        with EnergyLogger(ledger=path, scope=clock) as logger:
            span = logger.span("slurm_job", slurm_job_id=job, node=os.uname().nodename)
            with span:
                while signal.sigtimedwait(ends, EVERY_S) is None:
                    clock.read()
    except CarbonOpsError as error:
        return f"job_energy: {error} {error.hint}"
    return 0


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
