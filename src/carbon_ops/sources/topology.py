"""Which CPUs form a package: what the kernel says below ``/sys/devices/system/cpu``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple


class Place(NamedTuple):
    """Where a CPU sits."""

    package: int
    die: int


def places(
    sys_cpu_root: str, fallback: Mapping[int, int] | None = None
) -> dict[int, Place]:
    """Return the place of every online CPU, by CPU number.

    Args:
        sys_cpu_root: ``/sys/devices/system/cpu`` or a directory laid out like it.
        fallback: Package id by CPU, for a root without topology (``/proc/cpuinfo``).
    """
    found: dict[int, Place] = {}
    try:
        entries = os.listdir(sys_cpu_root)
    except OSError:
        entries = []
    for entry in entries:
        number = entry[3:]
        if not entry.startswith("cpu") or not number.isdecimal():
            continue
        topology = os.path.join(sys_cpu_root, entry, "topology")
        package = _integer(os.path.join(topology, "physical_package_id"))
        if package is not None:  # an offline CPU has no topology
            die = _integer(os.path.join(topology, "die_id"))
            found[int(number)] = Place(package, max(die or 0, 0))
    if not found and fallback:
        found = {cpu: Place(package, 0) for cpu, package in fallback.items()}
    return found


def online(sys_cpu_root: str) -> str:
    """Return which CPUs are online, as a text that changes when they do."""
    try:
        with open(os.path.join(sys_cpu_root, "online"), encoding="ascii") as file:
            return file.read(4096)
    except OSError:
        pass
    try:
        return " ".join(sorted(os.listdir(sys_cpu_root)))
    except OSError:
        return ""


def _integer(path: str) -> int | None:
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read(32))
    except (OSError, ValueError):
        return None
