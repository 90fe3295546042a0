"""What the whole host did in each of many intervals. Whatever vanishes becomes a reason.

Intervals join without hole or overlap: each begins at the instant the last one ended,
by CLOCK_MONOTONIC; by the time of day too, unless somebody set that meanwhile.
"""

from __future__ import annotations

import os
from typing import Any

from carbon_ops import clock
from carbon_ops.errors import GovernorUnavailableError, SourceUnavailableError
from carbon_ops.governor.client import GovernorClient
from carbon_ops.meter import memory
from carbon_ops.meter.counter import HostCounter
from carbon_ops.meter.metric import Domain
from carbon_ops.model import Layout, Sample, ZoneTotals
from carbon_ops.sources import gpu_amd, gpu_nvidia, gpu_present
from carbon_ops.sources.gpu import GpuReading, GpuSource
from carbon_ops.units import NS_PER_S, joules

SCHEMA = "carbon-ops/host/1"
# By how much the time of day may move against CLOCK_MONOTONIC without having been set,
# besides the 500 ppm of adjtimex(2).
_SET_NS = 20_000_000


class Telemetry:
    """Looks at the host's counters, processors, memory and GPUs.

    Args:
        counter: The host's energy; closed with this.
        socket: Path of the governor's socket, for its zones one by one.
    """

    def __init__(self, counter: HostCounter, socket: str) -> None:
        self._counter = counter
        self._wall_ns = clock.wall_ns()  # before the mark: a governor may hang
        self._mark = self._counter.mark(None)
        self._zones = Zones(socket)
        self._gpus = Gpus()

    def look(self) -> dict[str, Any]:
        """Return what happened since the last look, as a ``host_sample`` record."""
        wall, self._wall_ns = self._wall_ns, clock.wall_ns()
        mark, self._mark = self._mark, self._counter.mark(None)
        duration = max(1, self._mark.at_ns - mark.at_ns)
        end = self._wall_ns
        if abs(end - wall - duration) > _SET_NS + duration // 1_000:
            end = wall + duration
        host = self._counter.since(mark, self._mark.at_ns, pid=None)
        cpus = self._counter.cpus
        total, used = memory.host_total(), memory.host_used()
        known = [d for d in (host.cpu, host.dram) if d is not None]
        whole_uj = sum(d.total for d in known) if known else None
        return {
            "type": "host_sample",
            "schema": SCHEMA,
            "timestamp_start": clock.rfc3339(wall),
            "timestamp_end": clock.rfc3339(end),
            "duration_s": duration / NS_PER_S,
            "energy": {
                "attribution_mode": host.mode,
                "reason": host.reason,
                "source": host.source,
                "energy_j": None if whole_uj is None else joules(whole_uj),
                "power_w": None if whole_uj is None else whole_uj / duration * 1e3,
                "model_cv": host.model_cv,  # relative, k=1; null for a counter
                "cpu": _component(host.cpu, host.cpu_reason, host.model_cv),
                "dram": _component(host.dram, host.dram_reason, None),
                "flags": list(host.flags),
            },
            "zones": self._zones.look(),
            "cpu": {
                "busy_s": None if host.busy_ns is None else host.busy_ns / NS_PER_S,
                "percent": (
                    None
                    if host.busy_ns is None
                    else min(100.0, 100.0 * host.busy_ns / (duration * cpus))
                ),
                "count": cpus,
                "load_1_min": os.getloadavg()[0],
            },
            "memory": {
                "used_bytes": used,
                "total_bytes": total,
                "percent": 100.0 * used / total if used is not None and total else None,
            },
            "gpu": self._gpus.look(),
        }

    def close(self) -> None:
        """Let go of the counters."""
        self._counter.close()
        self._zones.close()
        self._gpus.close()


def _component(
    domain: Domain | None, reason: str | None, model_cv: float | None
) -> dict[str, Any]:
    if domain is None:
        return {"j": None, "bounds_j": None, "reason": reason}
    return {
        "j": joules(domain.total),
        "bounds_j": (
            [joules(domain.low), joules(domain.high)] if model_cv is None else None
        ),
        "reason": None,
    }


class Zones:
    """The governor's zones one by one, those that are not counted too."""

    def __init__(self, socket: str) -> None:
        self._client = GovernorClient(socket)
        self._last: tuple[Layout, Sample] | None = None
        self.look()

    def look(self) -> list[dict[str, Any]]:
        """Return energy and power of each zone between the newest samples of two looks."""
        last = self._last
        try:
            sample = self._client.latest()
            layout = self._client.layout  # after it: of a governor that came anew
        except GovernorUnavailableError:
            self._last = None
            return []
        self._last = (layout, sample)
        if last is None or last[0].instance_id != layout.instance_id:
            return []
        duration = sample.monotonic_ns - last[1].monotonic_ns
        found = []
        for zone, before, after in zip(
            layout.zones, last[1].totals, sample.totals, strict=True
        ):
            reason = "no_new_sample" if duration <= 0 else _trouble(before, after)
            uj = after.total_uj - before.total_uj
            found.append(
                {
                    "zone": zone.key,
                    "kind": zone.kind,
                    "counted": zone.counted,
                    "energy_j": None if reason else joules(uj),
                    "power_w": None if reason else uj / duration * 1e3,
                    "fresh": after.fresh,
                    "reason": reason,
                }
            )
        return found

    def close(self) -> None:
        self._client.close()


def _trouble(before: ZoneTotals, after: ZoneTotals) -> str | None:
    """Return why the energy between two totals is not known, None if it is."""
    if not (before.fresh and after.fresh):
        return "read_failed"  # one of them is an older total
    if after.resets != before.resets:
        return "reset"
    return None if after.gaps == before.gaps else "gap"


class Gpus:
    """Every GPU of the host; drivers that die or come are found out at each look."""

    def __init__(self) -> None:
        self._sources: dict[str, GpuSource] = {}
        self._dead: set[str] = set()  # none of their devices told anything

    def look(self) -> list[dict[str, Any]]:
        """Return what each device shows now."""
        openers = (
            ("nvidia", gpu_present.nvidia, gpu_nvidia.NvidiaGpus),
            ("amd", gpu_present.cards, gpu_amd.best),
        )
        for name, present, opener in openers:
            old = self._sources.get(name)
            if (old is None or name in self._dead) and present():
                if old is not None:
                    old.close()  # or the library would not look anew
                try:
                    self._sources[name] = opener()
                except SourceUnavailableError:
                    continue  # `doctor` says why; next time it may be there
        found = []
        self._dead.clear()
        for name, source in self._sources.items():
            readings = [source.read(device) for device in source.devices]
            if not any(_tells(reading) for reading in readings):
                self._dead.add(name)
            for device, reading in zip(source.devices, readings, strict=True):
                found.append(
                    {
                        "index": device.number,
                        "uuid": device.uuid,
                        "name": device.name,
                        "utilization_percent": reading.utilization_percent,
                        "memory_used_bytes": reading.memory_used_bytes,
                        "power_w": reading.power_w,
                        "energy_uj": (
                            None
                            if reading.energy_uj is None
                            else str(reading.energy_uj)
                        ),
                        "source": reading.source,
                        "reason": reading.reason,
                    }
                )
        return found

    def close(self) -> None:
        for source in self._sources.values():
            source.close()


def _tells(reading: GpuReading) -> bool:
    told = reading.energy_uj, reading.power_w, reading.memory_used_bytes
    return told != (None, None, None)
