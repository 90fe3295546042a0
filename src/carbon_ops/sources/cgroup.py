"""CPU time, CPU limit and members of a control group, version 2 or 1.

What a cgroup counts includes processes that ended, whoever reaped them, and those whose
parent is gone. That is why it is the scope for services and batch jobs.

Sources
    Linux, Documentation/admin-guide/cgroup-v2.rst (``cpu.stat``: ``usage_usec``;
    ``cpu.max``: quota and period [us]), cgroup-v1/cpuacct.rst (``cpuacct.usage`` [ns]) and
    scheduler/sched-bwc.rst (``cpu.cfs_quota_us``, ``cpu.cfs_period_us``).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

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


def _hierarchies(cgroup: str) -> list[tuple[list[str], str]]:
    """Return controllers and path per line of a ``/proc/PID/cgroup``; version 2 has ""."""
    try:
        lines = os.fsdecode(_read(cgroup, 1 << 16)).splitlines()
    except OSError:
        return []
    parts = [line.partition(":")[2].partition(":") for line in lines]
    return [(controllers.split(","), path) for controllers, _, path in parts]


def own_path(cgroup: str = "/proc/self/cgroup") -> str:
    """Return the path of this process's cgroup: version 2's, else of ``cpuacct``.

    Raises:
        InvalidInputError: the kernel does not tell.
    """
    unified = None
    for controllers, path in _hierarchies(cgroup):
        if "cpuacct" in controllers:
            return path
        if controllers == [""]:
            unified = path
    if unified is None:
        raise InvalidInputError("this process is in no cgroup that counts CPU time")
    return unified


class CpuLimit(NamedTuple):
    """A limit on the CPU time of a cgroup and of all below it."""

    cpus: float  # CPU seconds per second
    clock: CgroupClock  # counts what is used of it


def cpu_limit(cgroup: str = "/proc/self/cgroup", root: str = ROOT) -> CpuLimit | None:
    """Return the lowest CPU limit a process or a cgroup is under, None without one.

    Limits of the cgroups around its own bind it too; of equal ones the outermost is
    returned, because all that is in there shares it. None also where the limited
    cgroup's CPU time cannot be read.

    Args:
        cgroup: The process's own file of that name; or the folder of a cgroup.
        root: Where the hierarchies are mounted. In a container that is often its own
            cgroup, and the path, which is the host's, is not there: the root counts.
    """
    below = cgroup.startswith(f"{root}/")
    hierarchies = _around(cgroup, root) if below else _hierarchies(cgroup)
    lowest: tuple[float, str, str] | None = None
    for controllers, path in hierarchies:
        if controllers == [""]:
            mounts = [root, f"{root}/unified"]
        elif "cpu" in controllers:
            mounts = [f"{root}/cpu", f"{root}/{','.join(controllers)}"]
        else:
            continue
        for mount in mounts:
            for inside in _upwards(path):
                cpus = _quota(mount + inside)
                if cpus is not None and (lowest is None or cpus <= lowest[0]):
                    lowest = cpus, mount + inside, inside
    if lowest is None:
        return None
    cpus, folder, inside = lowest
    # Mounted apart, the cgroup of the same name counts, if it is one around the process.
    apart = [
        f"{root}/cpuacct{inside}"
        for controllers, path in hierarchies
        if "cpuacct" in controllers and f"{path}/".startswith(f"{inside}/")
    ]
    for place in (folder, *apart):
        try:
            return CpuLimit(cpus, CgroupClock(place, root))
        except InvalidInputError:
            continue
    return None


def _around(folder: str, root: str) -> list[tuple[list[str], str]]:
    """Return what a ``/proc/PID/cgroup`` would say about a process in ``folder``."""
    path = folder[len(root) :]
    _, mount, *rest = path.split("/")
    if os.path.exists(f"{root}/cgroup.controllers"):  # the root is that of version 2
        return [([""], path)]
    inside = "/".join(["", *rest])
    return [([""] if mount == "unified" else ["cpu", "cpuacct"], inside)]


def _upwards(path: str) -> Iterator[str]:
    """Yield ``path`` and those above it, up to "" for the root.

    Nothing for a cgroup outside the root that this process sees (``/../x``).
    """
    path = path.rstrip("/")
    if ".." in path.split("/"):
        return
    while path:
        yield path
        path = path.rpartition("/")[0]
    yield ""


def _quota(folder: str) -> float | None:
    """Return the limit set on one cgroup [CPUs], None without one or for nonsense."""
    try:
        try:
            quota, period = map(int, _read(f"{folder}/cpu.max", 64).split())
        except FileNotFoundError:
            quota = int(_read(f"{folder}/cpu.cfs_quota_us", 64))
            period = int(_read(f"{folder}/cpu.cfs_period_us", 64))
    except (OSError, ValueError):  # "max" is no number
        return None
    return quota / period if quota > 0 and period > 0 else None
