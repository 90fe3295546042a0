"""NVIDIA GPUs through the vendor's own ``nvidia-ml-py`` (extra ``gpu``).

Sources
    NVML API reference: nvmlDeviceGetTotalEnergyConsumption [mJ since driver load, Volta
    and later], nvmlDeviceGetPowerUsage [mW], nvmlDeviceGetProcessUtilization (SM
    utilisation is the share of time in which a kernel ran, not of the work done).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carbon_ops.errors import SourceUnavailableError
from carbon_ops.sources.gpu import NOT_ON_DEVICE, WHOLE_DEVICE, GpuDevice, GpuReading

if TYPE_CHECKING:
    from collections.abc import Callable


class NvidiaGpus:
    """Every NVIDIA GPU of the host.

    Raises:
        SourceUnavailableError: no ``nvidia-ml-py``, no driver, or no device; the message
            says which.
    """

    def __init__(self) -> None:
        try:
            import pynvml
        except ImportError as error:
            raise SourceUnavailableError(
                "the package nvidia-ml-py is not installed",
                hint="Install the extra: pip install '.[gpu]'",
            ) from error
        self._nvml: Any = pynvml
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise SourceUnavailableError(
                f"the NVIDIA driver does not answer: {error}",
                hint="Check that nvidia-smi works in the same environment.",
            ) from error
        self._handles: list[Any] = []
        found: list[GpuDevice] = []
        for index in range(self._ask(pynvml.nvmlDeviceGetCount) or 0):
            handle = self._ask(pynvml.nvmlDeviceGetHandleByIndex, index)
            if handle is None:
                continue  # a device that fell off the bus
            mig = self._ask(pynvml.nvmlDeviceGetMigMode, handle)
            found.append(
                GpuDevice(
                    number=index,
                    uuid=_text(self._ask(pynvml.nvmlDeviceGetUUID, handle)),
                    name=_text(self._ask(pynvml.nvmlDeviceGetName, handle)) or "",
                    vendor="nvidia",
                    mig=bool(mig and mig[0]),
                )
            )
            self._handles.append(handle)
        self.devices = tuple(found)
        if not found:
            self.close()
            raise SourceUnavailableError("the NVIDIA driver shows no device")

    def _ask(self, function: Callable[..., Any], *arguments: object) -> Any:
        """Return what NVML answers, or None where it cannot (old card, lost device)."""
        try:
            return function(*arguments)
        except self._nvml.NVMLError as error:
            self._last_error = str(error)
            return None

    def read(self, device: GpuDevice) -> GpuReading:
        """Return the counters of ``device``; what it lacks is None."""
        nvml, handle = self._nvml, self._handle(device)
        self._last_error = ""
        power = self._ask(nvml.nvmlDeviceGetPowerUsage, handle)
        utilization = self._ask(nvml.nvmlDeviceGetUtilizationRates, handle)
        memory = self._ask(nvml.nvmlDeviceGetMemoryInfo, handle)
        energy = self._ask(nvml.nvmlDeviceGetTotalEnergyConsumption, handle)
        return GpuReading(
            energy_uj=None if energy is None else int(energy) * 1_000,
            power_w=None if power is None else power / 1_000,
            utilization_percent=None if utilization is None else float(utilization.gpu),
            memory_used_bytes=None if memory is None else int(memory.used),
            source="nvml_energy" if energy is not None else "none",
            reason=None if energy is not None else f"no_energy_counter: {self._why()}",
        )

    def _why(self) -> str:
        return self._last_error or "not supported"

    def _handle(self, device: GpuDevice) -> Any:
        return self._handles[self.devices.index(device)]

    def busy_share(
        self, device: GpuDevice, pids: frozenset[int], since_us: int
    ) -> tuple[float | None, str | None]:
        """Return the share of the busy time of ``device`` that ``pids`` had.

        SM utilisation is time occupancy: two processes at 50 % need not have done half
        of the work each, which is why callers add at least 30 % of uncertainty.
        """
        if device.mig:
            return None, "mig_not_attributable"
        nvml, handle = self._nvml, self._handle(device)
        self._last_error = ""
        running = self._ask(nvml.nvmlDeviceGetComputeRunningProcesses, handle)
        if running is None:
            return None, f"no_process_list: {self._why()}"
        on_it = {process.pid for process in running}
        if not on_it - pids:
            return 1.0, None if on_it else WHOLE_DEVICE
        if not on_it & pids:
            return None, NOT_ON_DEVICE
        try:
            samples = nvml.nvmlDeviceGetProcessUtilization(handle, since_us)
        except nvml.NVMLError as error:
            return None, f"shared_no_utilisation: {error}"
        mine = sum(s.smUtil for s in samples if s.pid in pids)
        total = sum(s.smUtil for s in samples)
        if total == 0:
            return None, "shared_no_utilisation: no sample in this span"
        return mine / total, "shared_time_occupancy"

    def close(self) -> None:
        """Release NVML."""
        self._ask(self._nvml.nvmlShutdown)


def _text(value: object) -> str | None:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value if isinstance(value, str) else None
