"""CPU time of every container and service of the host, ended processes included.

A unit is a container, a systemd service or scope, a Slurm job, or a leaf: the first of
these on the way down, so that units do not contain one another.

Sources
    Linux, Documentation/admin-guide/cgroup-v2.rst (``cpu.stat``) and
    cgroup-v1/cpuacct.rst. Names of cgroups: Kubernetes' kubelet (``kubepods``, with the
    cgroupfs and the systemd driver), containerd, CRI-O, Docker, Podman; Slurm's
    cgroup/v1 and cgroup/v2 plugins (``job_<id>``). Folders of a pod's logs:
    ``/var/log/pods/<namespace>_<name>_<uid>``, kubelet.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from carbon_ops.errors import InvalidInputError
from carbon_ops.sources.cgroup import ROOT, CgroupClock

_CONTAINER = re.compile(r"(?:^|[-:])([0-9a-f]{64})(?:\.scope)?$")
_MONITOR = re.compile(r"(?:^|-)conmon-")  # the runtime's own process, not the container
_POD = re.compile(
    r"(?:^|-)pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})"
    r"(?:\.slice)?$"
)
_JOB = re.compile(r"job_\d+$")
_DEEPEST = 12
# How many links a folder has, and what is in it: whether that is a unit. In the kernel's
# tree links are two more than the folders inside, so it is listed anew when they change,
# and everywhere when something is gone (fs/kernfs/inode.c, kernfs_refresh_inode).
_Folder = tuple[int, list[tuple[str, bool]]]


class Unit(NamedTuple):
    """Whose energy a series is; texts that are not known are empty."""

    container_id: str  # or the cgroup's path, where it is no container
    pod: str  # its name where the logs' folder tells, else its uid
    namespace: str


def name(path: str) -> Unit:
    """Return what a cgroup's path tells.

    >>> name("/kubepods/burstable/pod0dc5b5c6-3a5f-4f2b-9c1e-0123456789ab/" + 64 * "a")
    ... # doctest: +ELLIPSIS
    Unit(container_id='aaa...', pod='0dc5b5c6-3a5f-4f2b-9c1e-0123456789ab', namespace='')
    """
    container = pod = ""
    for part in path.split("/"):
        if found := _POD.search(part):
            pod = found[1].replace("_", "-")
        if found := _container(part):
            container = found[1]
    return Unit(container or path, pod, "")


def _container(part: str) -> re.Match[str] | None:
    return None if _MONITOR.search(part) else _CONTAINER.search(part)


def is_unit(part: str) -> bool:
    """Return whether a cgroup of this name stands for itself and all below it."""
    if part.endswith("slurmstepd.scope"):
        return False  # all jobs of the node
    return bool(
        part.endswith((".service", ".scope")) or _container(part) or _JOB.match(part)
    )


def pods(folder: str) -> dict[str, tuple[str, str]]:
    """Return namespace and name of each pod, by uid, from the names of log folders."""
    found: dict[str, tuple[str, str]] = {}
    try:
        entries = os.listdir(folder)
    except OSError:
        return found
    for entry in entries:
        parts = entry.split("_")
        if len(parts) == 3:  # none of the three may contain the separator
            found[parts[2]] = (parts[0], parts[1])
    return found


class Cgroups:
    """What every unit used between two looks.

    Args:
        root: Where the cgroup file system of the host is.
        pod_logs: Folder whose names tell the pods' names.
    """

    def __init__(self, root: str = ROOT, pod_logs: str = "/var/log/pods") -> None:
        v1 = os.path.join(root, "cpuacct")
        self._root = v1 if os.path.isdir(v1) else root
        self._pod_logs = pod_logs
        self._clocks: dict[str, tuple[CgroupClock, int]] = {}
        self._folders: dict[str, _Folder] = {}
        self._gone = False
        self._pods: dict[str, tuple[str, str]] = {}
        self._first = True

    def used(self) -> dict[str, int]:
        """Return the CPU time [ns] of each cgroup since the last call; nothing at first."""
        clocks = self._read()
        if self._gone:  # others may have come in its place, as many as before
            self._folders = {}
            clocks = self._read()
        used: dict[str, int] = {}
        for path, (_, now) in clocks.items():
            before = self._clocks[path][1] if path in self._clocks else 0
            if now < before:  # another one of the same name
                before = 0
            if now > before and not self._first:
                used[path] = now - before
        self._clocks, self._first = clocks, False
        return used

    def _read(self) -> dict[str, tuple[CgroupClock, int]]:
        clocks: dict[str, tuple[CgroupClock, int]] = {}
        folders, self._folders, self._gone = self._folders, {}, False
        for path in self._units(self._root, 0, folders):
            known = self._clocks.get(path)
            try:
                clock = CgroupClock(path) if known is None else known[0]
                clocks[path] = clock, clock.read()
            except (InvalidInputError, OSError, ValueError):
                # Removed meanwhile, or it does not count.
                self._gone = self._gone or (known is not None and bool(folders))
        return clocks

    def __iter__(self) -> Iterator[str]:
        return iter(self._clocks)

    def unit(self, path: str) -> Unit:
        """Return the names for the cgroup at ``path``."""
        unit = name(path[len(self._root) :])
        if unit.pod and unit.pod not in self._pods:
            self._pods = pods(self._pod_logs)
        if unit.pod in self._pods:
            namespace, pod = self._pods[unit.pod]
            return Unit(unit.container_id, pod, namespace)
        return unit

    def _units(
        self, folder: str, depth: int, known: dict[str, _Folder]
    ) -> Iterator[str]:
        try:
            links = os.stat(folder).st_nlink
            found = known.get(folder)
            if found is None or found[0] != links or links < 2:
                with os.scandir(folder) as entries:
                    below = [e for e in entries if e.is_dir(follow_symlinks=False)]
                found = links, [(entry.path, is_unit(entry.name)) for entry in below]
        except OSError:
            self._gone = self._gone or folder in known
            return
        self._folders[folder] = found
        if depth and not found[1]:
            yield folder
        elif depth < _DEEPEST:
            for path, unit in found[1]:
                if unit:
                    yield path
                else:
                    yield from self._units(path, depth + 1, known)
