"""AMD and Intel GPUs through the kernel's hwmon files; no library needed.

Sources
    Linux kernel, Documentation/hwmon/sysfs-interface.rst (``energy*_input`` in µJ,
    ``power*_average`` in µW); Documentation/gpu/amdgpu (``gpu_busy_percent``,
    ``mem_info_vram_used``); the i915 and xe drivers' hwmon files.
"""

from __future__ import annotations

import os

from carbon_ops.errors import SourceUnavailableError
from carbon_ops.sources import gpu_present
from carbon_ops.sources.gpu import WHOLE_DEVICE, GpuDevice, GpuReading, GpuSource

_VENDORS = {"0x1002": "amd", "0x8086": "intel"}


class HwmonGpus:
    """Every AMD or Intel GPU that shows a hwmon directory below ``drm_root``
    (default: the kernel's).

    Raises:
        SourceUnavailableError: there is none.
    """

    def __init__(self, drm_root: str | None = None) -> None:
        drm_root = drm_root or gpu_present.DRM_ROOT
        found: list[GpuDevice] = []
        self._paths: list[tuple[str, str]] = []  # device directory, hwmon directory
        for card in gpu_present.cards(drm_root):
            device = os.path.join(drm_root, card, "device")
            vendor = _VENDORS.get(_line(os.path.join(device, "vendor")) or "")
            hwmon = _hwmon(device)
            if vendor is None or hwmon is None:
                continue
            found.append(
                GpuDevice(
                    number=len(found),
                    uuid=_line(os.path.join(device, "unique_id")),
                    name=_line(os.path.join(hwmon, "name")) or vendor,
                    vendor=vendor,
                    mig=False,
                )
            )
            self._paths.append((device, hwmon))
        if not found:
            raise SourceUnavailableError(
                f"no AMD or Intel GPU with hwmon files below {drm_root}"
            )
        self.devices = tuple(found)

    def read(self, device: GpuDevice) -> GpuReading:
        """Return the counters of ``device``; what it lacks is None."""
        base, hwmon = self._paths[self.devices.index(device)]
        energy = _number(os.path.join(hwmon, "energy1_input"))
        power = _number(os.path.join(hwmon, "power1_average"))
        if power is None:
            power = _number(os.path.join(hwmon, "power1_input"))
        busy = _number(os.path.join(base, "gpu_busy_percent"))
        return GpuReading(
            energy_uj=energy,
            power_w=None if power is None else power / 1e6,
            utilization_percent=None if busy is None else float(busy),
            memory_used_bytes=_number(os.path.join(base, "mem_info_vram_used")),
            source="none" if energy is None else "amd_hwmon",
            reason="no_energy_counter" if energy is None else None,
        )

    def busy_share(
        self, device: GpuDevice, pids: frozenset[int], since_us: int
    ) -> tuple[float | None, str | None]:
        """Return the whole device, and say so: hwmon does not tell who used it."""
        del device, pids, since_us
        return 1.0, WHOLE_DEVICE

    def close(self) -> None:
        """Nothing is held open."""


def best() -> GpuSource:
    """Return AMD's own library where it is installed and works, else the hwmon files.

    Only cards whose hwmon files lack an energy counter need it.

    Raises:
        SourceUnavailableError: there is neither.
    """
    hwmon = None
    try:
        hwmon = HwmonGpus()
        if all(hwmon.read(d).energy_uj is not None for d in hwmon.devices):
            return hwmon
    except SourceUnavailableError:
        pass
    from carbon_ops.sources.gpu_amdsmi import AmdsmiGpus

    try:
        return AmdsmiGpus()
    except SourceUnavailableError:
        if hwmon is None:
            raise
        return hwmon


def _hwmon(device: str) -> str | None:
    folder = os.path.join(device, "hwmon")
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return None
    return os.path.join(folder, names[0]) if names else None


def _line(path: str) -> str | None:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read(256).strip() or None
    except OSError:
        return None


def _number(path: str) -> int | None:
    text = _line(path)
    return int(text) if text is not None and text.isdigit() else None
