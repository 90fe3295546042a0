"""The host as metrics, from the governor's samples: what an exporter shows.

Looked at only when somebody asks; each look divides what was counted since the last one
by CPU time. Nothing is modelled here: without a governor there are no energy series.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Iterator
from itertools import pairwise

import carbon_ops
from carbon_ops import clock
from carbon_ops.errors import GovernorUnavailableError
from carbon_ops.export import table
from carbon_ops.export.accounts import Accounts, Carry
from carbon_ops.export.cgroups import Cgroups
from carbon_ops.export.table import Family, Point, family
from carbon_ops.governor.client import GovernorClient
from carbon_ops.meter.attribution import divide
from carbon_ops.meter.everyone import Everyone
from carbon_ops.meter.process_tree import read_file
from carbon_ops.model import Layout, Sample, Zone
from carbon_ops.sources.cgroup import ROOT
from carbon_ops.sources.host import host_busy_ns
from carbon_ops.units import NS_PER_S, joules

TOP = 20
_GRID_NS = 300 * NS_PER_S  # how long an intensity is shown before it is looked up anew
_SENSORS = {"nvml_energy": "nvml"}


class HostView:
    """Looks at the host whenever :meth:`families` is called; any thread may.

    Args:
        socket: The governor's socket; default: as for its client.
        top: Most processes, and most containers, with a series of their own; 0: none.
        parts: Show ``core`` and ``uncore`` too, which are parts of a package.
        region: Zone of the electricity grid, for its intensity; None: not shown.
        cgroup_root: Where the host's cgroup file system is.
        pod_logs: Folder whose names tell the pods' names.
    """

    def __init__(
        self,
        socket: str | None = None,
        *,
        top: int = TOP,
        parts: bool = False,
        region: str | None = None,
        cgroup_root: str = ROOT,
        pod_logs: str = "/var/log/pods",
    ) -> None:
        self._client = GovernorClient(socket)
        self._parts = parts
        self._top = top
        self._lock = allocate_lock()
        self._last: tuple[Sample, int | None] | None = None
        self._now: tuple[Layout, Sample] | None = None
        self._power: dict[str, float] = {}
        self._gap_ns = 0
        self._carry = Carry()
        self._processes = Processes()
        self._cgroups = Cgroups(cgroup_root, pod_logs)
        self._by_comm, self._by_cgroup = Accounts(top), Accounts(top)
        self._grid = None if region is None else Grid(region)
        from carbon_ops.meter.telemetry import Gpus

        self._gpus = Gpus()
        self._reason: str | None = None
        self._look()

    def families(self) -> Iterator[Family]:
        """Yield every metric as of now."""
        with self._lock:
            self._look()
            families = [*self._hardware(), *self._shares(), *self._sampler()]
            if self._grid is not None:
                families += self._grid.families()
            sensor = "none" if self._now is None else self._now[0].source
            mode = "governor" if self._now is not None else "monitor_only"
            labels = (mode, sensor, carbon_ops.__version__, self._reason or "")
            families += family(table.INFO, [Point(labels, 1.0)])
        return iter(families)

    def close(self) -> None:
        """Let go of the governor and of the GPUs."""
        self._client.close()
        self._gpus.close()

    # --- looking --------------------------------------------------------------------

    def _look(self) -> None:
        try:
            sample = self._client.latest()
            layout = self._client.layout  # after it: of a governor that came anew
        except GovernorUnavailableError as error:
            self._now = self._last = None
            self._reason = error.reason
            return
        self._now = layout, sample
        self._reason = None
        if self._carry.epoch(layout.instance_id):
            self._last = None
        last = self._last
        if last is not None and sample.sequence == last[0].sequence:
            return  # asked twice within one sampling interval
        busy = host_busy_ns()
        processes = self._processes.used() if self._top else {}
        cgroups = self._cgroups.used() if self._top else {}
        self._last = sample, busy
        self._power = {}
        if last is None:
            return
        before, busy_before = last
        duration = sample.monotonic_ns - before.monotonic_ns
        host = 0
        for zone, old, new in zip(
            layout.zones, before.totals, sample.totals, strict=True
        ):
            uj = new.total_uj - old.total_uj
            host += uj if zone.counted else 0
            if new.fresh:
                self._power[zone.key] = uj / duration * 1e3
        # Both ends were read beside the processes' clocks; those of the samples lie up
        # to an interval before.
        whole = None if busy is None or busy_before is None else busy - busy_before
        self._by_comm.add(
            divide(host, processes, whole),
            host,
            duration / NS_PER_S,
            self._processes.names(),
        )
        self._by_cgroup.add(
            divide(host, cgroups, whole),
            host,
            duration / NS_PER_S,
            set(self._cgroups),
        )
        self._gap_ns = self._longest_gap_ns(before)

    def _longest_gap_ns(self, since: Sample) -> int:
        try:
            times = [sample.monotonic_ns for sample in self._client.since(since)]
        except GovernorUnavailableError:
            return 0
        return max((b - a for a, b in pairwise(times)), default=0)

    # --- showing --------------------------------------------------------------------

    def _hardware(self) -> list[Family]:
        energy, power, whole = [], [], []
        if self._now is not None:
            layout, sample = self._now
            counted = {zone.key for zone in layout.zones if zone.counted}
            for zone, totals in zip(layout.zones, sample.totals, strict=True):
                if not totals.fresh:
                    continue  # cannot be read now, or never could: unknown is not 0
                total = joules(self._carry.on(zone.key, totals.total_uj))
                if zone.kind == "psys":
                    whole.append(Point((zone.kind,), total))
                    continue
                parent = zone.key.rpartition("/")[0]
                part = zone.kind in ("core", "uncore") and parent in counted
                if not (zone.counted or (part and self._parts)):
                    continue
                labels = _labels(zone, parent if part else "", layout.source)
                energy.append(Point(labels, total))
                if zone.key in self._power:
                    power.append(Point(labels, self._power[zone.key]))
        for gpu in self._gpus.look():
            source = _SENSORS.get(gpu["source"], gpu["source"])
            ident = gpu["uuid"] or f"gpu-{gpu['index']}"
            labels = (ident, "gpu", "gpu", "", source)
            if gpu["energy_uj"] is not None:
                energy.append(Point(labels, joules(int(gpu["energy_uj"]))))
            if gpu["power_w"] is not None:
                power.append(Point(labels, gpu["power_w"]))
        return [
            *family(table.ENERGY, energy),
            *family(table.POWER, power),
            *family(table.HOST_ENERGY, whole[:1]),
        ]

    def _shares(self) -> list[Family]:
        if self._now is None or not self._top:
            return []
        comms, units = self._by_comm, self._by_cgroup
        processes = [
            Point(("", comm, "governor"), joules(uj))
            for comm, uj in ((table.REST, comms.rest), *comms.shown.items())
        ]
        containers = [Point((table.REST, "", ""), joules(units.rest))]
        containers += [
            Point(self._cgroups.unit(path), joules(uj))
            for path, uj in units.shown.items()
        ]
        return [
            *family(table.PROCESS_ENERGY, processes),
            *family(table.CONTAINER_ENERGY, containers),
        ]

    def _sampler(self) -> list[Family]:
        if self._now is None:
            return []
        layout, sample = self._now
        on = self._carry.on
        late = on("late", sample.late_ticks)
        results = {
            "ok": on("taken", sample.sequence) - late,
            "late": late,
            "missed": on("missed", sample.missed_ticks),
            "error": on("failures", sum(totals.failures for totals in sample.totals)),
        }
        wraps, resets = [], []
        for zone, totals in zip(layout.zones, sample.totals, strict=True):
            key = zone.key
            wraps.append(Point((key,), float(on(f"wraps {key}", totals.wraps))))
            resets.append(Point((key,), float(on(f"resets {key}", totals.resets))))
        gap = [Point((), self._gap_ns / NS_PER_S)] if self._gap_ns else []
        return [
            *family(table.SAMPLES, [Point((k,), float(v)) for k, v in results.items()]),
            *family(table.SAMPLE_GAP, gap),
            *family(table.WRAPS, wraps),
            *family(table.RESETS, resets),
        ]


def _labels(zone: Zone, parent: str, source: str) -> tuple[str, str, str, str, str]:
    kind = "memory" if zone.kind == "dram" else "cpu"
    return zone.key, kind, zone.kind, parent, source


class Processes:
    """CPU time by the name of the program, never by number or command line.

    A program may call itself anything, even :data:`table.REST`: then it is in the rest.
    """

    def __init__(self) -> None:
        self._everyone = Everyone()
        self._names: dict[int, str] = {}

    def used(self) -> dict[str, int]:
        """Return what the processes of each name used since the last call [ns]."""
        used: dict[str, int] = {}
        for pid, ns in self._everyone.used().items():
            # Read anew: between fork and exec a process bears its parent's name.
            try:
                text = read_file(f"/proc/{pid}/comm", 64)
            except OSError:
                continue  # ended since: its time stays with the rest
            # Of a kernel thread the family alone: kworker/0:2-events is kworker.
            name = text.decode("utf-8", "replace").rstrip("\n").partition("/")[0]
            self._names[pid] = name
            if name != table.REST:
                used[name] = used.get(name, 0) + ns
        self._names = {p: self._names[p] for p in self._everyone if p in self._names}
        return used

    def names(self) -> set[str]:
        """Return the names of those that live and have ever used CPU time."""
        return set(self._names.values()) - {table.REST}


class Grid:
    """The grid's intensity as the estimator would use it now, without the network."""

    def __init__(self, region: str) -> None:
        from carbon_ops.estimate.estimator import CarbonEstimator

        self._estimator = CarbonEstimator(region=region)
        self._families: list[Family] = []
        self._until_ns = 0

    def families(self) -> list[Family]:
        """Return the intensity, of either kind where there is one."""
        if clock.monotonic_ns() >= self._until_ns:
            self._until_ns = clock.monotonic_ns() + _GRID_NS
            now = clock.wall_ns() / NS_PER_S
            found = self._estimator.estimate_over_span(now, now, 1.0).to_dict()
            points = []
            for kind in ("average", "marginal"):
                factor = found[kind]["intensity"]
                if factor is not None:
                    labels = (factor["zone"], factor["provider"], kind)
                    points.append(Point(labels, factor["g_per_kwh"]))
            self._families = family(table.INTENSITY, points)
        return self._families
