"""AMD GPUs through AMD's own ``amdsmi``, which comes with ROCm, where it imports.

Sources
    ROCm documentation, "AMD SMI Python API": amdsmi_get_energy_count (accumulator x
    resolution [µJ]; the key was ``power`` before ROCm 6.1), amdsmi_get_power_info [W]
    (``socket_power`` since ROCm 7.0, which is whichever of the other two the device
    has), amdsmi_get_gpu_activity [%], amdsmi_get_gpu_memory_usage [bytes].
"""

from __future__ import annotations

from math import isfinite
from typing import Any

from carbon_ops.errors import SourceUnavailableError
from carbon_ops.sources.gpu import NOT_ON_DEVICE, WHOLE_DEVICE, GpuDevice, GpuReading

_POWER = ("socket_power", "current_socket_power", "average_socket_power")


class AmdsmiGpus:
    """Every AMD GPU of the host.

    Raises:
        SourceUnavailableError: no ``amdsmi``, no driver, or no device.
    """

    def __init__(self) -> None:
        try:
            import amdsmi  # type: ignore[import-not-found,unused-ignore]
        except Exception as error:  # without its C library the import fails in any way
            raise SourceUnavailableError(
                f"amdsmi does not import: {error}",
                hint="It comes with ROCm, in /opt/rocm/share/amd_smi.",
            ) from error
        self._smi: Any = amdsmi
        self._last_error = ""
        try:
            amdsmi.amdsmi_init()
        except Exception as error:
            raise SourceUnavailableError(f"amdsmi does not start: {error}") from error
        self._handles: list[Any] = self._ask("get_processor_handles") or []
        self.devices = tuple(
            GpuDevice(
                number=number,
                uuid=self._ask("get_gpu_device_uuid", handle),
                name="amd",
                vendor="amd",
                mig=False,
            )
            for number, handle in enumerate(self._handles)
        )
        if not self.devices:
            self.close()
            raise SourceUnavailableError("amdsmi shows no device")

    def _ask(self, function: str, *arguments: object) -> Any:
        """Return what the library answers, or None where it cannot."""
        try:
            return getattr(self._smi, f"amdsmi_{function}")(*arguments)
        except Exception as error:  # noqa: BLE001 - its classes differ by release
            self._last_error = str(error)
            return None

    def read(self, device: GpuDevice) -> GpuReading:
        """Return the counters of ``device``; what it lacks is None."""
        handle = self._handles[device.number]
        power = self._ask("get_power_info", handle) or {}
        activity = self._ask("get_gpu_activity", handle) or {}
        memory = None
        if hasattr(self._smi, "AmdSmiMemoryType"):
            vram = self._smi.AmdSmiMemoryType.VRAM
            memory = self._ask("get_gpu_memory_usage", handle, vram)
        self._last_error = ""
        count = self._ask("get_energy_count", handle) or {}
        ticks = _number(count.get("energy_accumulator", count.get("power")))
        unit = _number(count.get("counter_resolution"))
        why = self._last_error or "not supported"
        shown = (_number(power.get(key)) for key in _POWER)
        known = ticks is not None and unit is not None and unit > 0
        return GpuReading(
            energy_uj=round(ticks * unit) if known else None,  # type: ignore[operator]
            power_w=next((w for w in shown if w is not None), None),
            utilization_percent=_number(activity.get("gfx_activity")),
            memory_used_bytes=memory if isinstance(memory, int) else None,
            source="amdsmi" if known else "none",
            reason=None if known else f"no_energy_counter: {why}",
        )

    def busy_share(
        self, device: GpuDevice, pids: frozenset[int], since_us: int
    ) -> tuple[float | None, str | None]:
        """Return the whole device if nobody else is on it, or says that nobody knows."""
        del since_us
        handle = self._handles[device.number]
        running = self._ask("get_gpu_process_list", handle)
        if running is None or not all(isinstance(p, dict) for p in running):
            return 1.0, WHOLE_DEVICE  # before ROCm 6.0 the list held bare handles
        on_it = {process.get("pid") for process in running}
        if not on_it - pids:
            return 1.0, None if on_it else WHOLE_DEVICE
        return None, "shared_no_utilisation" if on_it & pids else NOT_ON_DEVICE

    def close(self) -> None:
        """Release the library."""
        self._ask("shut_down")


def _number(value: object) -> float | None:
    """Return a number; the library writes "N/A" where it has none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if isfinite(value) else None
