"""Power of the CPUs as a model of their load, for hosts whose counters nobody can read.

``P = idle + (load - idle) * utilisation``, utilisation = busy CPU time / (CPUs x time).
A model, not a measurement: published comparisons with meters find errors up to 40 %
(Fischer 2025, arXiv:2509.22092), which is the relative standard uncertainty recorded for
a CPU whose watts are known; 60 % where they are not.

Sources
    Cloud Carbon Footprint, methodology, "Energy Estimate (Watt-Hours)": average minimum
    and maximum watts per virtual CPU over the SPECpower_ssj2008 results of the
    processors in use at Amazon Web Services (2021), used for unknown CPUs.
"""

from __future__ import annotations

from typing import NamedTuple

GENERIC_IDLE_W = 0.74  # per logical CPU
GENERIC_LOAD_W = 3.50  # per logical CPU
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
        duration_ns: Wall time [ns].
        busy_ns: Busy CPU time of the host [ns]; limited to ``cpus * duration_ns``.
        cpus: Logical CPUs.
    """
    busy_ns = min(busy_ns, cpus * duration_ns)
    spread = (model.load_w - model.idle_w) / cpus
    return round((model.idle_w * duration_ns + spread * busy_ns) / 1_000)


def generic(cpus: int, name: str = "unknown") -> CpuModel:
    """Return the model of a CPU nobody has watts for."""
    return CpuModel(
        name,
        GENERIC_IDLE_W * cpus,
        GENERIC_LOAD_W * cpus,
        UNKNOWN_CV,
        False,
        "Cloud Carbon Footprint 2021, AWS average per vCPU",
    )


def cpu_name() -> str:
    """Return the CPU's model name, ``unknown`` where the kernel does not say."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip() or "unknown"
    except OSError:
        pass
    return "unknown"


def of_this_host(cpus: int) -> CpuModel:
    """Return the model for the CPUs of this host."""
    return generic(cpus, cpu_name())
