"""Power of the CPUs as a model of their load, for hosts whose counters nobody can read.

``P = idle + (load - idle) * utilisation``, utilisation = busy CPU time / (CPUs x time).
A model, not a measurement: published comparisons with meters find errors up to 40 %
(Fischer 2025, arXiv:2509.22092), which is the relative standard uncertainty recorded for
a CPU whose watts are known; 60 % where they are not. The watts and their sources are in
:mod:`carbon_ops.data.cpu`.
"""

from __future__ import annotations

import os
from typing import NamedTuple

KNOWN_CV = 0.40
UNKNOWN_CV = 0.60


class CpuModel(NamedTuple):
    """Watts of all CPUs of this host together, and how far to trust them."""

    name: str
    idle_w: float
    load_w: float
    cv: float  # relative standard uncertainty (k=1), lognormal
    known: bool
    source: str


def energy_uj(model: CpuModel, duration_ns: int, busy_ns: int, cpus: int) -> int:
    """Return the modelled energy of all CPUs [µJ].

    Args:
        model: Power when idle and when busy.
        duration_ns: Wall time [ns].
        busy_ns: Busy CPU time of the host [ns]; limited to ``cpus * duration_ns``.
        cpus: Logical CPUs.
    """
    busy_ns = min(busy_ns, cpus * duration_ns)
    spread = (model.load_w - model.idle_w) / cpus
    return round((model.idle_w * duration_ns + spread * busy_ns) / 1_000)


def cpu_name(cpuinfo: str = "/proc/cpuinfo") -> tuple[str, bool]:
    """Return the CPU's model name, ``unknown`` if it has none, and whether it is virtual.

    Only the first processor's entry is read: the file grows with their number.
    """
    name, virtual = "unknown", False
    try:
        with open(cpuinfo, encoding="utf-8", errors="replace") as file:
            for line in file:
                key, _, value = line.partition(":")
                if key.startswith("model name"):
                    name = value.strip() or name
                elif key.startswith("flags"):
                    virtual = "hypervisor" in value.split()
                elif not key.strip():
                    break
    except OSError:
        pass
    return name, virtual


def packages(root: str = "/sys/devices/system/cpu") -> int:
    """Return the number of CPU packages, 1 where the kernel does not say."""
    found = set()
    try:
        names = os.listdir(root)
    except OSError:
        return 1
    for name in names:
        if name.startswith("cpu") and name[3:].isdigit():
            try:
                with open(f"{root}/{name}/topology/physical_package_id") as file:
                    found.add(file.read().strip())
            except OSError:
                continue  # offline
    return max(1, len(found))


def of_this_host(cpus: int) -> CpuModel:
    """Return the model for the ``cpus`` logical CPUs of this host.

    Figures for a whole processor are scaled to the threads this host has. Where they do
    not say for how many threads they hold they are taken per package, and not at all in
    a virtual machine, which has an unknown part of one.
    """
    from carbon_ops.data import cpu

    name, virtual = cpu_name()
    found = cpu.watts(name)
    if found is None or (found.threads is None and virtual):
        found = cpu.generic(cpus)
    scale = cpus / found.threads if found.threads else packages()
    known = found.match != "generic"
    return CpuModel(
        name,
        found.idle_w * scale,
        found.max_w * scale,
        KNOWN_CV if known else UNKNOWN_CV,
        known,
        f"{found.source}, {found.year}",
    )
