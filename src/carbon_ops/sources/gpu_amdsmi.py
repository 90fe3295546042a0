"""AMD GPUs through AMD's own ``amdsmi``, which comes with ROCm, where it imports.

Sources
    ROCm documentation, "AMD SMI Python API": amdsmi_get_energy_count (accumulator x
    resolution [µJ]; the key was ``power`` before ROCm 6.1), amdsmi_get_power_info [W],
    amdsmi_get_gpu_activity [%], amdsmi_get_gpu_memory_usage [bytes].
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carbon_ops.errors import SourceUnavailableError
from carbon_ops.sources.gpu import NOT_ON_DEVICE, WHOLE_DEVICE, GpuDevice, GpuReading

if TYPE_CHECKING:
    from collections.abc import Callable


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
        self._handles: list[Any] = self._ask(amdsmi.amdsmi_get_processor_handles) or []
        self.devices = tuple(
            GpuDevice(
                number=number,
                uuid=self._ask(amdsmi.amdsmi_get_gpu_device_uuid, handle),
                name="amd",
                vendor="amd",
                mig=False,
            )
            for number, handle in enumerate(self._handles)
        )
        if not self.devices:
            self.close()
            raise SourceUnavailableError("amdsmi shows no device")

    def _ask(self, function: Callable[..., Any], *arguments: object) -> Any:
        """Return what the library answers, or None where it cannot."""
        try:
            return function(*arguments)
        except Exception as error:  # noqa: BLE001 - its classes differ by release
            self._last_error = str(error)
            return None

    def read(self, device: GpuDevice) -> GpuReading:
        """Return the counters of ``device``; what it lacks is None."""
        smi, handle = self._smi, self._handles[device.number]
        self._last_error = ""
        power = self._ask(smi.amdsmi_get_power_info, handle) or {}
        activity = self._ask(smi.amdsmi_get_gpu_activity, handle) or {}
        vram = smi.AmdSmiMemoryType.VRAM
        memory = self._ask(smi.amdsmi_get_gpu_memory_usage, handle, vram)
        count = self._ask(smi.amdsmi_get_energy_count, handle) or {}
        ticks = _number(count.get("energy_accumulator", count.get("power")))
        unit = _number(count.get("counter_resolution"))
        known = ticks is not None and unit is not None
        watts = _number(power.get("current_socket_power"))
        if watts is None:
            watts = _number(power.get("average_socket_power"))
        return GpuReading(
            energy_uj=round(ticks * unit) if ticks is not None and unit else None,
            power_w=watts,
            utilization_percent=_number(activity.get("gfx_activity")),
            memory_used_bytes=memory if isinstance(memory, int) else None,
            source="amdsmi" if known else "none",
            reason=None if known else f"no_energy_counter: {self._last_error}",
        )

    def busy_share(
        self, device: GpuDevice, pids: frozenset[int], since_us: int
    ) -> tuple[float | None, str | None]:
        """Return the whole device if nobody else is on it, or says that nobody knows."""
        del since_us
        handle = self._handles[device.number]
        running = self._ask(self._smi.amdsmi_get_gpu_process_list, handle)
        if running is None:
            return 1.0, WHOLE_DEVICE
        on_it = {_pid(process) for process in running}
        if not on_it - pids:
            return 1.0, None if on_it else WHOLE_DEVICE
        return None, "shared_no_utilisation" if on_it & pids else NOT_ON_DEVICE

    def close(self) -> None:
        """Release the library."""
        self._ask(self._smi.amdsmi_shut_down)


def _number(value: object) -> float | None:
    """Return a number; the library writes "N/A" where it has none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value)


def _pid(process: object) -> int:
    return int(process["pid"]) if isinstance(process, dict) else -1
