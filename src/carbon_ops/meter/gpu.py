"""A task's energy on GPUs: which devices it was given, and its share of each.

Nothing is opened until the first span, and nothing is imported unless a device seems to
be there. Trouble becomes a reason in the record.

Uncertainties (k=1)
    5 % of an energy counter, and power x 0.1 s / sqrt(6) because NVML's counter moves
    about every 100 ms (ML.ENERGY, Zeus documentation); 15 % of polled power, which
    misses bursts (Yang, Adamek, Armour 2023, arXiv:2312.02741); 30 % of a share by SM
    utilisation, which is time occupancy and not work.
"""

from __future__ import annotations

import os
from math import sqrt
from typing import NamedTuple

from carbon_ops.errors import SourceUnavailableError
from carbon_ops.model import Component, Gpu
from carbon_ops.sources import gpu_amd, gpu_nvidia

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from carbon_ops.sources.gpu import GpuDevice, GpuReading, GpuSource

COUNTER_CV = 0.05
POLLED_CV = 0.15
SHARED_CV = 0.30
UPDATE_S = 0.1


class GpuMark(NamedTuple):
    """The devices' counters at the beginning of a span."""

    wall_us: int
    readings: tuple[GpuReading, ...]


class GpuMeter:
    """Reads the GPUs that this process was given.

    Args:
        environ: The environment that says which devices are visible.
        sources: For tests and unusual hosts; default: every vendor whose driver shows.
    """

    def __init__(
        self,
        environ: Mapping[str, str] | None = None,
        sources: tuple[GpuSource, ...] | None = None,
    ) -> None:
        self._environ = os.environ if environ is None else environ
        self._sources = sources
        self._devices: list[tuple[GpuSource, GpuDevice]] = []
        self._opened = False
        self.reason = "no_gpu"
        self.flags: tuple[str, ...] = ()

    def _open(self) -> None:
        from carbon_ops.sources.gpu import visible_devices

        self._opened = True
        openers: list[Callable[[], GpuSource]] = []
        if self._sources is None:
            if gpu_nvidia.present():
                openers.append(gpu_nvidia.NvidiaGpus)
            if gpu_amd.present():
                openers.append(gpu_amd.HwmonGpus)
        sources = list(self._sources or ())
        for opener in openers:
            try:
                sources.append(opener())
            except SourceUnavailableError as error:
                self.reason = str(error)
        flags: list[str] = []
        for source in sources:
            for vendor in dict.fromkeys(d.vendor for d in source.devices):
                seen = visible_devices(source.devices, self._environ, vendor)
                flags += seen.flags
                self._devices += [(source, device) for device in seen.devices]
        self.flags = tuple(dict.fromkeys(flags))
        if sources and not self._devices:
            self.reason = "no_visible_gpu"

    def mark(self, wall_us: int) -> GpuMark:
        """Return where the counters stand. Never raises."""
        if not self._opened:
            self._open()
        return GpuMark(
            wall_us, tuple(source.read(device) for source, device in self._devices)
        )

    def since(
        self,
        mark: GpuMark,
        duration_s: float,
        pids: frozenset[int],
        *,
        synchronised: bool,
    ) -> tuple[Component, list[Gpu]]:
        """Return the task's energy on all its devices, and each device. Never raises.

        Args:
            mark: What :meth:`mark` returned at the beginning.
            duration_s: Length of the span [s].
            pids: The processes of the task.
            synchronised: Whether the caller waited for the devices' queued work.
        """
        if not self._devices:
            return _missing(self.reason), []
        total = common = 0.0
        unknown: list[str] = []
        source_name = None
        rows: list[Gpu] = []
        for (source, device), before in zip(self._devices, mark.readings, strict=True):
            now = source.read(device)
            joules, uncertainty, reason = None, 0.0, now.reason
            if now.energy_uj is not None and before.energy_uj is not None:
                delta = now.energy_uj - before.energy_uj
                if delta < 0:
                    reason = "counter_reset"  # the driver was loaded anew
                else:
                    share, note = source.busy_share(device, pids, mark.wall_us)
                    reason = note
                    if share is not None:
                        joules = delta / 1e6 * share
                        uncertainty = _uncertainty(
                            delta / 1e6, share, duration_s, now.source
                        )
            if joules is None:
                unknown.append(f"gpu {device.number}: {reason}")
            else:
                total += joules
                common += uncertainty
                source_name = now.source
            rows.append(
                Gpu(
                    index=device.number,
                    uuid=device.uuid,
                    utilization_percent=now.utilization_percent,
                    memory_used_bytes=now.memory_used_bytes,
                    power_w=now.power_w,
                    energy_j=joules,
                    synchronised=synchronised,
                    source=now.source,
                    reason=reason,
                )
            )
        if source_name is None or unknown:
            # A sum that leaves a device out would be taken for the whole.
            return _missing("; ".join(unknown)), rows
        return (
            Component(j=total, source=source_name, uncertainty_j=common, reason=None),
            rows,
        )

    def close(self) -> None:
        """Let the drivers go."""
        for source in {id(source): source for source, _ in self._devices}.values():
            source.close()
        self._devices = []


def _uncertainty(
    device_j: float, share: float, duration_s: float, source: str
) -> float:
    """Return the standard uncertainty of ``share`` of ``device_j`` [J]."""
    gain = POLLED_CV if source == "nvml_power" else COUNTER_CV
    power = device_j / duration_s if duration_s > 0 else 0.0
    edge = power * UPDATE_S / sqrt(6) if source == "nvml_energy" else 0.0
    shared = SHARED_CV * device_j * share if share < 1 else 0.0
    return sqrt((gain * device_j * share) ** 2 + (edge * share) ** 2 + shared**2)


def _missing(reason: str) -> Component:
    return Component(j=None, source="none", uncertainty_j=None, reason=reason)
