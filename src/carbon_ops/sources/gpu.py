"""What a GPU source gives, and which devices a process was given. Pure.

Sources
    CUDA C++ Programming Guide, "CUDA Environment Variables" (CUDA_VISIBLE_DEVICES: the
    list ends at its first invalid entry; an index counts in CUDA_DEVICE_ORDER).
    AMD ROCm documentation, "GPU isolation techniques" (ROCR_, HIP_VISIBLE_DEVICES).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from carbon_ops.model import ComponentSource

WHOLE_DEVICE = "whole_device"  # a share of 1 because nobody can say who used it
NOT_ON_DEVICE = "only_other_processes_on_device"


class GpuDevice(NamedTuple):
    """One physical GPU."""

    number: int  # the vendor library's own index
    uuid: str | None
    name: str
    vendor: str  # "nvidia", "amd", "intel"
    mig: bool  # partitioned: its energy cannot be divided among the partitions


class GpuReading(NamedTuple):
    """One look at one GPU. ``None`` means not readable; ``reason`` says why."""

    energy_uj: int | None  # since the driver was loaded
    power_w: float | None
    utilization_percent: float | None
    memory_used_bytes: int | None
    source: ComponentSource
    reason: str | None


class GpuSource(Protocol):
    """A vendor's counters. ``read`` and ``shares`` never raise."""

    devices: tuple[GpuDevice, ...]

    def read(self, device: GpuDevice) -> GpuReading: ...

    def busy_share(
        self, device: GpuDevice, pids: frozenset[int], since_us: int
    ) -> tuple[float | None, str | None]:
        """Return the share of ``device`` that ``pids`` kept busy, or None and why not.

        1.0 when nobody else had it. ``since_us`` is a wall clock time [µs].
        """

    def close(self) -> None: ...


class Visible(NamedTuple):
    """The devices a process may use."""

    devices: tuple[GpuDevice, ...]
    flags: tuple[str, ...]


def visible_devices(
    devices: Sequence[GpuDevice], environ: Mapping[str, str], vendor: str
) -> Visible:
    """Return which of ``devices`` the environment gives to this process.

    Eight ranks of one job each see their own device, so that the host's energy is
    counted once. Entries may be indices, unique beginnings of a UUID, or (NVIDIA) MIG
    names of the form ``MIG-GPU-<uuid>/<gi>/<ci>``; a bare ``MIG-<uuid>`` cannot be traced
    to its device without the driver and is flagged.
    """
    mine = [d for d in devices if d.vendor == vendor]
    flags: list[str] = []
    if vendor != "nvidia" and "ROCR_VISIBLE_DEVICES" in environ:
        mine = _chosen(mine, environ["ROCR_VISIBLE_DEVICES"], environ, flags)
    # HIP counts what ROCr has left.
    names = ["CUDA_VISIBLE_DEVICES"]
    if vendor != "nvidia":
        names.insert(0, "HIP_VISIBLE_DEVICES")
    value = next((environ[name] for name in names if name in environ), None)
    if value is not None:
        mine = _chosen(mine, value, environ, flags)
    return Visible(tuple(mine), tuple(dict.fromkeys(flags)))


def _chosen(
    mine: Sequence[GpuDevice], value: str, environ: Mapping[str, str], flags: list[str]
) -> list[GpuDevice]:
    """Return those of ``mine`` that one variable's ``value`` names; add to ``flags``."""
    chosen: list[GpuDevice] = []
    for entry in (part.strip() for part in value.split(",")):
        found = _device(mine, entry)
        if found is None:
            if entry.startswith("MIG-"):
                flags.append("mig_device_unknown")
            break  # as CUDA does: nothing after an invalid entry is visible
        if entry.isdigit() and _order_matters(mine, environ):
            flags.append("cuda_device_order_assumed")
        if found not in chosen:
            chosen.append(found)
    return chosen


def _device(devices: Sequence[GpuDevice], entry: str) -> GpuDevice | None:
    if entry.isdigit():  # which is true of "²" too, that is no number
        numbers = {str(index): device for index, device in enumerate(devices)}
        return numbers.get(entry.lstrip("0") or "0")
    if entry.startswith("MIG-GPU-"):
        entry = entry[len("MIG-") :].split("/", maxsplit=1)[0]
    if not entry.startswith("GPU-"):
        return None
    matches = [d for d in devices if d.uuid is not None and d.uuid.startswith(entry)]
    return matches[0] if len(matches) == 1 else None


def _order_matters(devices: Sequence[GpuDevice], environ: Mapping[str, str]) -> bool:
    """CUDA counts the fastest GPU first unless told otherwise; NVML counts by bus."""
    different = len({d.name for d in devices}) > 1
    return different and environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID"
