"""A control group made for one command: nothing that it starts can leave the account.

Even children that the kernel reaps by itself (``SIGCHLD`` ignored) and daemons that cut
every tie are counted, because a cgroup counts whoever was in it. Needs the right to make
a cgroup: root, or a delegated one (``systemd-run --user --scope -p Delegate=yes``).

Sources
    Linux, Documentation/admin-guide/cgroup-v2.rst, "Delegation", and
    cgroup-v1/cgroups.rst; writing a PID to ``cgroup.procs`` moves that process.
"""

from __future__ import annotations

import os

from carbon_ops.errors import InvalidInputError
from carbon_ops.sources.cgroup import CgroupClock, own_path


class Enclosure:
    """A new cgroup below this process's own.

    Raises:
        InvalidInputError: this process may not make one.
    """

    def __init__(self) -> None:
        self._own = CgroupClock(own_path()).folder
        self.path = os.path.join(self._own, f"carbon-ops-run-{os.getpid()}")
        try:
            os.mkdir(self.path)
            self.clock = CgroupClock(self.path)
        except OSError as error:
            raise InvalidInputError(
                f"cannot make a cgroup in {self._own}: {error.strerror}",
                hint="Start it where cgroups may be made: systemd-run --user --scope "
                "-p Delegate=yes carbon-ops run --cgroup -- ...",
            ) from error

    def enter(self) -> None:
        """Move this process in, so that what it starts is in from its first moment.

        Raises:
            InvalidInputError: the kernel refuses.
        """
        self._move(self.path)

    def leave(self) -> None:
        """Move this process back to where it was."""
        self._move(self._own)

    def _move(self, folder: str) -> None:
        try:
            fd = os.open(os.path.join(folder, "cgroup.procs"), os.O_WRONLY)
            try:
                os.write(fd, b"0")
            finally:
                os.close(fd)
        except OSError as error:
            raise InvalidInputError(
                f"cannot move into the cgroup {folder}: {error.strerror}"
            ) from error

    def close(self) -> None:
        """Remove the cgroup; one with processes left in it stays until they end."""
        try:
            os.rmdir(self.path)
        except OSError:
            return
