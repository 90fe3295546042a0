"""Energy of GPUs that only tell their power: polled ten times a second, in a thread.

The only thread of this package in a measured program, and only where it was asked for.
Trapezoids between the polls, and the readings at the ends of spans, give the energy; a
hole of more than a second (a stopped process, a driver that hangs) is not bridged.
"""

from __future__ import annotations

import os
import threading

from carbon_ops.clock import monotonic_ns
from carbon_ops.meter.gpu import POLLED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from carbon_ops.model import ComponentSource
    from carbon_ops.sources.gpu import GpuDevice, GpuReading, GpuSource

INTERVAL_S = 0.1
HOLE_NS = 1_000_000_000


_SOURCES: dict[str, ComponentSource] = {"nvidia": "nvml_power"}


class _Sum:
    """Energy of one device since its power was first known."""

    __slots__ = ("at_ns", "holes", "power_w", "uj")

    def __init__(self) -> None:
        self.at_ns = self.holes = 0
        self.power_w = self.uj = 0.0

    def add(self, at_ns: int, power_w: float) -> None:
        passed = at_ns - self.at_ns
        if passed <= 0:
            return  # another thread was faster with a newer one
        if passed > HOLE_NS:
            self.holes += 1
        else:
            self.uj += (self.power_w + power_w) / 2 * passed / 1_000  # W x ns / 1000
        self.at_ns, self.power_w = at_ns, power_w


class PolledPower:
    """Polls those of ``devices`` whose energy nobody counts; see the module."""

    def __init__(self, devices: Sequence[tuple[GpuSource, GpuDevice]]) -> None:
        self._devices = tuple(devices)
        self._started()

    def _started(self) -> None:
        self._pid = os.getpid()
        self._sums = [_Sum() for _ in self._devices]
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def filled(self, readings: Sequence[GpuReading]) -> list[GpuReading]:
        """Return ``readings`` of all devices, taken now, with energy where it lacked."""
        if self._pid != os.getpid():  # the thread did not follow us through the fork
            self._started()
        found = [self._fill(i, reading) for i, reading in enumerate(readings)]
        if self._thread is None and any(r.reason == POLLED for r in found):
            self._thread = threading.Thread(
                target=self._run, name="carbon-ops-gpu", daemon=True
            )
            self._thread.start()
        return found

    def _fill(self, index: int, reading: GpuReading) -> GpuReading:
        if reading.energy_uj is not None or reading.power_w is None:
            return reading
        with self._lock:
            total = self._sums[index]
            total.add(monotonic_ns(), reading.power_w)
            uj = round(total.uj)
        return reading._replace(
            energy_uj=uj,
            source=_SOURCES.get(self._devices[index][1].vendor, "amd_hwmon"),
            reason=POLLED,
        )

    @property
    def holes(self) -> int:
        """How often no power was known for too long, so far."""
        return sum(total.holes for total in self._sums)

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL_S):
            for index, (source, device) in enumerate(self._devices):
                self._fill(index, source.read(device))

    def close(self) -> None:
        """Stop the thread and wait until it has stopped."""
        self._stop.set()
        if self._thread is not None and self._pid == os.getpid():
            self._thread.join()
