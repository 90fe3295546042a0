"""Open the counters of this machine: which source, with which root."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from carbon_ops.errors import InvalidInputError
from carbon_ops.sources import powercap
from carbon_ops.sources.base import Source
from carbon_ops.sources.simulated import Power, SimulatedSource

MODES = ("sysfs", "msr", "simulated")


def open_source(
    mode: str,
    *,
    powercap_root: str = powercap.DEFAULT_ROOT,
    dev_root: str = "/dev/cpu",
    sys_cpu_root: str = "/sys/devices/system/cpu",
    cpuinfo: str = "/proc/cpuinfo",
    msr_cpus: Sequence[int] | None = None,
    profile: Mapping[str, Power] | None = None,
) -> Source:
    """Return the open source for ``mode``, one of :data:`MODES`.

    Args:
        mode: ``sysfs`` (powercap), ``msr`` (``/dev/cpu/N/msr``) or ``simulated``.
        powercap_root: Where powercap's zones are.
        dev_root: Where the MSR devices are.
        sys_cpu_root: Where the CPU topology is.
        cpuinfo: Vendor, family and model of the CPU.
        msr_cpus: CPUs to read instead of the lowest of each package.
        profile: Power of each zone in simulated mode.

    Raises:
        SourceUnavailableError: there is no such counter, or it may not be read.
        InvalidInputError: ``mode`` or ``profile`` means nothing.
    """
    if mode == "simulated":
        return SimulatedSource(profile)
    if mode == "sysfs":
        if (
            powercap_root != powercap.DEFAULT_ROOT
        ):  # another machine, as far as is known
            return powercap.PowercapSource(powercap_root)
        from carbon_ops.sources.msr import energy_filtering

        filtered = energy_filtering(dev_root)
        return powercap.PowercapSource(powercap_root, filtered=filtered)
    if mode == "msr":
        from carbon_ops.sources.msr import MsrSource

        return MsrSource(
            dev_root=dev_root,
            sys_cpu_root=sys_cpu_root,
            cpuinfo=cpuinfo,
            cpus=msr_cpus,
        )
    raise InvalidInputError(
        f"unknown RAPL mode {mode!r}", hint=f"Use one of: {', '.join(MODES)}."
    )
