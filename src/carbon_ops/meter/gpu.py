"""A task's energy on GPUs: which devices it was given, and its share of each.

Nothing is opened until the first span. Trouble becomes a reason in the record.

Uncertainties (k=1)
    5 % of an energy counter, and power x 0.1 s / sqrt(6) because NVML's counter moves
    about every 100 ms (ML.ENERGY, Zeus documentation); 15 % of polled power, which
    misses bursts (Yang, Adamek, Armour 2023, arXiv:2312.02741); 30 % of a share by SM
    utilisation, which is time occupancy and not work, and of a whole device that nobody
    can say who else used.
"""

from __future__ import annotations

import os
import resource
from math import hypot, sqrt
from typing import NamedTuple

from carbon_ops.clock import monotonic_ns
from carbon_ops.errors import SourceUnavailableError
from carbon_ops.meter import loading
from carbon_ops.model import Component, ComponentSource, Gpu
from carbon_ops.sources import gpu_amd, gpu_nvidia, gpu_present
from carbon_ops.sources.gpu import NOT_ON_DEVICE, visible_devices

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from carbon_ops.meter.gpu_power import PolledPower
    from carbon_ops.sources.gpu import GpuDevice, GpuReading, GpuSource

COUNTER_CV = 0.05
POLLED_CV = 0.15
SHARED_CV = 0.30
UPDATE_S = 0.1
POLLED = "polled_power"  # the reason of a reading whose energy is polled power


class GpuMark(NamedTuple):
    """Where the devices' counters stood at one moment."""

    wall_us: int
    at_ns: int
    readings: tuple[GpuReading, ...]
    holes: int = 0  # in the polled power


class GpuMeter:
    """Reads the GPUs that this process was given.

    Args:
        sampling: Poll the power of devices without an energy counter, in a thread.
        environ: The environment that says which devices are visible.
        sources: For tests and unusual hosts; default: every vendor whose driver shows.
    """

    def __init__(
        self,
        *,
        sampling: bool = False,
        environ: Mapping[str, str] | None = None,
        sources: tuple[GpuSource, ...] | None = None,
    ) -> None:
        self._environ = os.environ if environ is None else environ
        self._sources = sources
        self._sampling = sampling
        self._polled: PolledPower | None = None
        self._devices: list[tuple[GpuSource, GpuDevice]] = []
        self._opened = False
        self.reason = "no_gpu"
        self.flags: tuple[str, ...] = ()

    def _open(self) -> None:
        sources = list(self._sources or ())
        if self._sources is None:
            openers: list[Callable[[], GpuSource]] = []
            if gpu_present.nvidia():
                openers.append(gpu_nvidia.NvidiaGpus)
            if gpu_present.cards():
                openers.append(gpu_amd.best)
            for opener in openers:
                try:
                    sources.append(opener())
                except SourceUnavailableError as error:
                    self.reason = str(error)
        flags: list[str] = []
        found: list[tuple[GpuSource, GpuDevice]] = []
        for source in sources:
            for vendor in dict.fromkeys(d.vendor for d in source.devices):
                seen = visible_devices(source.devices, self._environ, vendor)
                flags += seen.flags
                found += [(source, device) for device in seen.devices]
        self.flags = tuple(dict.fromkeys(flags))
        if sources and not found:
            self.reason = "no_visible_gpu"
        if self._sampling and found:
            from carbon_ops.meter.gpu_power import PolledPower

            self._polled = PolledPower(found)
        self._devices, self._opened = found, True

    def mark(self, wall_us: int) -> GpuMark:
        """Return where the counters stand. Never raises."""
        if not self._opened:
            with loading.lock:  # the vendors' libraries load
                if not self._opened:
                    self._open()
        readings = [source.read(device) for source, device in self._devices]
        if self._polled is not None:
            readings = self._polled.filled(readings)
        holes = 0 if self._polled is None else self._polled.holes
        return GpuMark(wall_us, monotonic_ns(), tuple(readings), holes)

    def between(
        self,
        start: GpuMark,
        end: GpuMark,
        pids: frozenset[int],
        *,
        synchronised: bool,
        part: float = 1.0,
    ) -> tuple[Component, list[Gpu]]:
        """Return the task's energy on all its devices, and each device. Never raises.

        Args:
            start: What :meth:`mark` returned at the beginning,
            end: and at the end.
            pids: The processes of the task.
            synchronised: Whether the caller waited for the devices' queued work.
            part: The task's part of what these processes used.
        """
        if not self._devices or len(start.readings) != len(end.readings):
            return _missing(self.reason), []
        seconds = (end.at_ns - start.at_ns) / 1e9
        total = common = 0.0
        unknown: list[str] = []
        names: list[ComponentSource] = []
        rows: list[Gpu] = []
        for (source, device), before, now in zip(
            self._devices, start.readings, end.readings, strict=True
        ):
            joules, reason = None, now.reason or before.reason
            if now.energy_uj is not None and before.energy_uj is not None:
                delta = now.energy_uj - before.energy_uj
                if delta < 0:
                    reason = "counter_reset"  # the driver was loaded anew
                elif now.reason == POLLED and start.holes != end.holes:
                    reason = "power_unknown_for_a_while"
                else:
                    share, reason = source.busy_share(device, pids, start.wall_us)
                    if reason == NOT_ON_DEVICE and _knows_all(pids):
                        share = 0.0
                    if share is not None:
                        joules = delta / 1e6 * share * part
                        common += _uncertainty(
                            *(delta / 1e6, share * part, seconds, now),
                            sure=part == 1 and reason is None,
                        )
                        reason = reason or now.reason
            if joules is None:
                unknown.append(f"gpu {device.number}: {reason}")
            else:
                total += joules
                names.append(now.source)
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
        if unknown:
            # A sum that leaves a device out would be taken for the whole.
            return _missing("; ".join(unknown)), rows
        # Polled power is the less sure of two sources: where both are in, it is named.
        source_name = "nvml_power" if "nvml_power" in names else names[0]
        return (
            Component(j=total, source=source_name, uncertainty_j=common, reason=None),
            rows,
        )

    def close(self) -> None:
        """Let the drivers go."""
        if self._polled is not None:
            self._polled.close()
        for source in {id(source): source for source, _ in self._devices}.values():
            source.close()
        self._polled, self._devices, self._opened = None, [], False


def _knows_all(pids: frozenset[int]) -> bool:
    """Return whether nobody but ``pids`` can have worked for the task on a device.

    Not where children have ended, nor where drivers and we number processes
    differently: in any PID namespace but the first (PROC_PID_INIT_INO,
    ``include/linux/proc_ns.h``).
    """
    if os.getpid() not in pids:
        return False
    try:
        first = os.stat("/proc/self/ns/pid").st_ino == 0xEFFFFFFC
    except OSError:
        return False
    return first and resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss == 0


def _uncertainty(
    device_j: float, share: float, duration_s: float, now: GpuReading, *, sure: bool
) -> float:
    """Return the standard uncertainty of ``share`` of ``device_j`` [J]."""
    gain = POLLED_CV if now.reason == POLLED else COUNTER_CV
    power = device_j / duration_s if duration_s > 0 else 0.0
    edge = power * UPDATE_S / sqrt(6) if now.source == "nvml_energy" else 0.0
    return share * hypot(gain * device_j, edge, 0.0 if sure else SHARED_CV * device_j)


def _missing(reason: str) -> Component:
    return Component(j=None, source="none", uncertainty_j=None, reason=reason)
