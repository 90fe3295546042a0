"""CPU time and members of a control group, version 2 or 1.

What a cgroup counts includes processes that ended, whoever reaped them, and those whose
parent is gone. That is why it is the scope for services and batch jobs.

Sources
    Linux, Documentation/admin-guide/cgroup-v2.rst (``cpu.stat``: ``usage_usec``) and
    cgroup-v1/cpuacct.rst (``cpuacct.usage`` [ns]).
"""

from __future__ import annotations

import os

from carbon_ops.errors import InvalidInputError

ROOT = "/sys/fs/cgroup"


def _read(path: str, size: int = 4096) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, size)
    finally:
        os.close(fd)


class CgroupClock:
    """CPU time of everything that ever ran in one cgroup and in those below it.

    Args:
        path: Folder of the cgroup; one that does not exist as given is looked for
            below ``root``, ``root/unified`` and ``root/cpuacct``.
        root: Where the hierarchies are mounted.

    Raises:
        InvalidInputError: there is no such cgroup, or it does not account for CPU time.
    """

    def __init__(self, path: str, root: str = ROOT) -> None:
        inside = path.lstrip("/")
        tried = [
            os.path.join(place, inside) if place else path
            for place in ("", root, f"{root}/cpuacct", f"{root}/unified")
        ]
        for folder in tried:
            for file, read in (
                ("cpu.stat", self._read_v2),
                ("cpuacct.usage", self._read_v1),
            ):
                self._path = os.path.join(folder, file)
                try:
                    read()
                except (OSError, ValueError):
                    continue
                self.read = read
                self.folder = folder
                self.name = f"cgroup:{folder}"
                return
        raise InvalidInputError(
            f"no cgroup {path!r} that counts CPU time",
            hint="Name its folder, such as /sys/fs/cgroup/system.slice; on cgroup v1 "
            "the one of the cpuacct controller.",
        )

    def _read_v2(self) -> int:
        text = _read(self._path)
        at = text.index(b"usage_usec ") + len(b"usage_usec ")
        return int(text[at : text.index(b"\n", at)]) * 1_000

    def _read_v1(self) -> int:
        return int(_read(self._path, 64))

    def pids(self) -> list[int]:
        """Return the living processes of the cgroup and those below it."""
        found: list[int] = []
        for folder, _, files in os.walk(self.folder):
            if "cgroup.procs" in files:
                try:
                    text = _read(os.path.join(folder, "cgroup.procs"), 1 << 20)
                except OSError:
                    continue  # removed meanwhile, or threaded: its root lists them
                found += map(int, text.split())
        return found


def own_path(cgroup: str = "/proc/self/cgroup") -> str:
    """Return the path of this process's cgroup: version 2's, else of ``cpuacct``.

    Raises:
        InvalidInputError: the kernel does not tell.
    """
    unified = None
    try:
        lines = _read(cgroup).decode().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if "cpuacct" in controllers.split(","):
            return path
        if not controllers:
            unified = path
    if unified is None:
        raise InvalidInputError("this process is in no cgroup that counts CPU time")
    return unified
