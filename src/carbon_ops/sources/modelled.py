"""Power of the CPUs as a model of their load, for hosts whose counters nobody can read.

``P = idle + (load - idle) * utilisation``, utilisation = busy CPU time / (CPUs x time).
A model, not a measurement: published comparisons with meters find errors up to 40 %
(Fischer 2025, arXiv:2509.22092), which is the relative standard uncertainty recorded for
a CPU whose watts are known; 60 % where they are not. 40 % too where they are those of its
microarchitecture: published servers lie around the median of theirs by 21 % (rms of the
logarithm) at full load, 22 % at half and 36 % at rest, and their figures are of the whole
server. The watts and their sources are in :mod:`carbon_ops.data.cpu`.
"""

from __future__ import annotations

import os
from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carbon_ops.data.cpu import Ids

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

    def energy(
        self,
        duration_ns: int,
        busy_ns: int,
        cpus: int,
        limit: tuple[float, int] | None = None,
    ) -> tuple[int, int, int]:
        """Return the host's busy time [ns], its energy [µJ] and that of a task's part.

        Under a limit of ``L`` of ``N`` CPUs a task is billed from ``L / N`` of the power
        at rest and from what the limited cgroup used: its share is of that cgroup's CPU
        time, no longer of the host's. What a CPU second costs above rest stays the same;
        the power at rest that the task carries no longer depends on what strangers on
        the host do. Everything else stays in the host's rest. Limits may add up to more
        than the CPUs: then so may the shares of the power at rest of different cgroups.
        Without a limit the part is the host; it never has more energy than that.

        Args:
            duration_ns: Wall time [ns].
            busy_ns: Busy CPU time of the host [ns]; counts up to ``cpus * duration_ns``.
            cpus: Logical CPUs of the host.
            limit: CPUs that the task's cgroup may use, and the CPU time it did use [ns].
        """
        most_ns = cpus * duration_ns
        per_cpu_w = (self.load_w - self.idle_w) / cpus

        def uj(part: float, used_ns: int) -> int:
            rest = self.idle_w * part * duration_ns
            return round((rest + per_cpu_w * min(used_ns, most_ns)) / 1_000)

        if limit is None:
            total = uj(1.0, busy_ns)
            return busy_ns, total, total
        allowed, used_ns = limit
        busy_ns = max(busy_ns, used_ns)  # /proc/stat counts in ticks
        return busy_ns, uj(1.0, busy_ns), uj(allowed / cpus, used_ns)


# Keys of x86, then of ARM; in the order of Ids.
_IDS = (
    ("vendor_id", "cpu family", "model", "stepping"),
    ("CPU implementer", "CPU architecture", "CPU part", "CPU revision"),
)


def processor(cpuinfo: str = "/proc/cpuinfo") -> tuple[str, bool, Ids | None]:
    """Return the CPU's model name, whether it is virtual, and its numbers.

    The name is ``unknown`` where there is none, as on ARM. Only the first processor's
    entry is read: the file grows with their number.
    """
    from carbon_ops.data.cpu import Ids

    said: dict[str, str] = {}
    try:
        with open(cpuinfo, encoding="utf-8", errors="replace") as file:
            for line in file:
                key, colon, value = line.partition(":")
                if not colon:
                    break
                said.setdefault(key.strip(), value.strip())
    except OSError:
        pass
    ids = None
    for vendor, *numbers in _IDS:
        try:
            ids = Ids(said[vendor], *(int(said[key], 0) for key in numbers))
        except (KeyError, ValueError):
            continue
    virtual = "hypervisor" in said.get("flags", "").split()
    return said.get("model name") or "unknown", virtual, ids


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
    a virtual machine, which has an unknown part of one: there, as for a model that no
    table has, those of the microarchitecture are next, then typical ones.
    """
    from carbon_ops.data import cpu

    name, virtual, ids = processor()
    found = cpu.watts(name)
    if found is None or (found.threads is None and virtual):
        found = None if ids is None else cpu.by_microarchitecture(ids)
    found = found or cpu.generic(cpus)
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
