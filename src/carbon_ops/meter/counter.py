"""Where the host's energy comes from.

A governor; else counters that this process may read itself; else a model of CPU load.

A failed reading degrades one span, not the logger: the next span asks again. The client
of the governor is imported only when its socket exists.
"""

from __future__ import annotations

import os
from math import ceil, sqrt
from typing import Literal, NamedTuple, get_args

from carbon_ops.clock import monotonic_ns
from carbon_ops.errors import CarbonOpsError, GovernorUnavailableError
from carbon_ops.meter import loading
from carbon_ops.meter.metric import Domain, Host, Pinned
from carbon_ops.meter.pinning import PinMark, Topology
from carbon_ops.model import Reason
from carbon_ops.sources.host import NS_PER_TICK, host_busy_ns, online_cpus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carbon_ops.meter.local import LocalCounters
    from carbon_ops.model import CpuModelUsed, EnergySource, Origin, Sample, Window
    from carbon_ops.sources.cgroup import CpuLimit
    from carbon_ops.sources.modelled import CpuModel

INTERVAL_NS = 100_000_000  # of the governor's samples
_LOOK_AGAIN_NS = 1_000_000_000  # for another CPU limit
MODEL_CV = 0.40  # sources.modelled.KNOWN_CV, without loading what is seldom needed
_LOOK_BACK_NS = 250_000_000  # /proc/stat moves in steps of 10 ms: too coarse for less


_REASONS = get_args(Reason)
# What a source may raise; anything else is a mistake in this package.
# ImportError: the program went into a chroot; MemoryError: its address space is full.
_TROUBLE = (CarbonOpsError, OSError, ValueError, ImportError, MemoryError)


class HostMark(NamedTuple):
    """The host's counters at the beginning of a span."""

    at_ns: int
    sample: Sample | None
    origin: Origin | None
    reason: Reason | None  # why the sample is not a governor's
    busy_ns: int | None  # the host's, at
    busy_at_ns: int  # later than ``at_ns`` where a governor was waited for
    pin: PinMark | None = None
    limit: tuple[CpuLimit, int] | None = (
        None  # and what was used of it [ns]; for a model
    )


def domains(
    window: Window, packages: frozenset[int] | None = None
) -> tuple[Domain | None, Domain | None]:
    """Return the counted packages and the counted DRAM of ``window``.

    With ``packages`` only those of these.
    """
    found: list[Domain | None] = [None, None]
    for zone, point, low, high in window.zones:
        if zone.counted and (packages is None or zone.package in packages):
            at = zone.kind == "dram"
            old = found[at]
            found[at] = (
                Domain(point, low, high)
                if old is None
                else Domain(old.total + point, old.low + low, old.high + high)
            )
    return found[0], found[1]


class HostCounter:
    """Reads the host's energy at the ends of spans; see the module's docstring.

    Args:
        source: Counters to use; None looks for a governor.
        socket: Path of the governor's socket.
        model: Without a counter: ``on`` models the energy from the shipped tables, a
            model of your own from its watts, ``off`` leaves it unknown.
        powercap_root: Where counters that this process may read itself are.
    """

    def __init__(
        self,
        source: EnergySource | None,
        socket: str,
        *,
        model: CpuModel | Literal["on", "off"] = "on",
        powercap_root: str = "/sys/class/powercap",
    ) -> None:
        self._given = source
        self._source = source
        self._socket = socket
        self._model: CpuModel | None = None
        self._look_up = model == "on"  # when first needed
        if not isinstance(model, str):
            self._model = model
        self._powercap = powercap_root
        self._local: LocalCounters | None = None
        self._local_tried = False
        self._topology = Topology()
        self._bound: tuple[object, int, CpuLimit | None] | None = None  # task, when
        self._load: list[tuple[int, int]] = []  # instant and busy time, two of the past
        # Not os.cpu_count(), which PYTHON_CPU_COUNT and -X cpu_count change.
        self.cpus = online_cpus()

    def mark(self, pid: int | None = 0, folder: str | None = None) -> HostMark:
        """Return where the counters stand now. Never raises.

        Args:
            pid: Whose CPU affinity counts: 0 is this process, None nobody's.
            folder: The cgroup that is meant instead of a process; None: the whole host.
        """
        began = monotonic_ns()
        pin = None if pid is None else self._topology.mark(pid, self.cpus)
        try:
            source = self._find()
            return HostMark(began, source.mark(), source.origin, None, None, began, pin)
        except _TROUBLE as error:
            reason = _known(error)
        local = self._open_local()
        busy, busy_at = host_busy_ns(), monotonic_ns()
        if local is not None:
            try:
                return HostMark(
                    *(began, local.mark(), local.origin, reason, busy, busy_at, pin)
                )
            except _TROUBLE:
                pass  # the model is left
        limit = self._limit(folder if pid is None else pid, began)
        return HostMark(began, None, None, reason, busy, busy_at, pin, limit)

    def since(
        self,
        mark: HostMark,
        t1_ns: int,
        *,
        settle: bool = False,
        pid: int | None = 0,
    ) -> Host:
        """Return the host's energy from ``mark`` to ``t1_ns``. Never raises.

        With a gap or a reset in between, the counters' energy is used as long as it is
        surer than the model would be.
        """
        pin = None
        if mark.pin is not None and pid is not None:
            now = self._topology.mark(pid, self.cpus)
            if now is not None and now.packages == mark.pin.packages:
                pin = now
        reason = mark.reason
        if mark.sample is not None:
            try:
                host = self._measured(mark, mark.sample, t1_ns, settle, pin)
            except _TROUBLE as error:
                reason = reason or _known(error)
            else:
                if not _too_wide(host):
                    return host
                reason = reason or "gap"
                lost = self._modelled(mark, t1_ns, reason)
                return lost._replace(
                    samples=host.samples,
                    wraps=host.wraps,
                    gaps=host.gaps,
                    resets=host.resets,
                    failures=host.failures,
                    flags=(*host.flags, *lost.flags),
                )
        return self._modelled(mark, t1_ns, reason)

    def close(self) -> None:
        """Close the connection to the governor."""
        if self._source is not None:
            self._source.close()
            self._source = self._given
        if self._local is not None:
            self._local.close()
            self._local, self._local_tried = None, False

    def _find(self) -> EnergySource:
        if self._source is None:
            try:
                os.stat(self._socket)
            except PermissionError as error:
                raise GovernorUnavailableError(
                    "permission_denied", f"cannot reach {self._socket}"
                ) from error
            except (OSError, ValueError) as error:
                raise GovernorUnavailableError(
                    "no_socket", f"there is no {self._socket}"
                ) from error
            with loading.lock:
                from carbon_ops.governor.client import GovernorClient

            self._source = GovernorClient(self._socket)
        return self._source

    def _open_local(self) -> LocalCounters | None:
        if not self._local_tried:
            self._local_tried = True
            if os.path.isdir(self._powercap):
                with loading.lock:
                    from carbon_ops.meter.local import open_local

                    self._local = open_local(self._powercap)
        return self._local

    def _measured(
        self,
        mark: HostMark,
        sample: Sample,
        t1_ns: int,
        settle: bool,
        pin: PinMark | None,
    ) -> Host:
        governed = mark.reason is None
        source = self._find() if governed else self._local
        if source is None:
            raise GovernorUnavailableError("stale", "the counters were closed")
        window = source.window(sample, mark.at_ns, t1_ns, settle=settle)
        origin = source.origin
        if origin != mark.origin:
            raise GovernorUnavailableError(
                "restarted", "the governor was restarted during the span"
            )
        cpu, dram = domains(window)
        if cpu is None:
            raise GovernorUnavailableError("no_zones", "no package counter is served")
        pinned = None
        if pin is not None and mark.pin is not None:
            own, _ = domains(window, pin.packages)
            if own is not None:
                pinned = Pinned(
                    own,
                    max(0, pin.busy_ns - mark.pin.busy_ns),
                    len(pin.packages) / pin.of,
                )
        return Host(
            "governor" if governed else "monitor_only",
            mark.reason,
            origin.source,
            cpu,
            dram,
            window.host_busy_ns if governed else self._busy_since(mark, t1_ns),
            t1_ns - mark.at_ns,
            origin,
            pinned,
            dram_reason=None if dram else "no_dram_zone",
            interval_ns=INTERVAL_NS if governed else 0,
            samples=window.samples,
            wraps=window.wraps,
            gaps=window.gaps,
            resets=window.resets,
            failures=window.failures,
            flags=window.flags if pinned is None else (*window.flags, "pinned"),
        )

    def _busy_since(self, mark: HostMark, t1_ns: int) -> int | None:
        """Return the host's busy CPU time since ``mark`` [ns], from ``/proc/stat``.

        For a short span it is what the host's load over a longer time, a quarter of a
        second at least, makes of the span's length.
        """
        start, since = mark.busy_ns, mark.busy_at_ns
        if start is None and mark.sample is not None:
            start, since = mark.sample.host_busy_ns, mark.sample.monotonic_ns
        now, now_ns = host_busy_ns(), monotonic_ns()  # after ``t1_ns``, maybe by much
        if start is None or now is None:
            return None
        load = self._load
        if not load or now_ns - load[-1][0] > _LOOK_BACK_NS:
            self._load = load = [*load[-1:], (now_ns, now)]
        at, busy = load[0]
        duration = t1_ns - mark.at_ns
        if duration < _LOOK_BACK_NS < now_ns - at:
            return max(0, now - busy) * duration // (now_ns - at)
        return max(0, now - start) * duration // max(1, now_ns - since)

    def _limit(self, task: int | str | None, at_ns: int) -> tuple[CpuLimit, int] | None:
        """Return the CPU limit a process or cgroup is under, and what was used of it [ns].

        None without a limit below the number of CPUs. Looked up once a second at most.
        """
        if self._model is None and not self._look_up:
            return None
        try:
            bound = self._bound
            if bound is None or bound[0] != task or at_ns - bound[1] > _LOOK_AGAIN_NS:
                with loading.lock:
                    from carbon_ops.sources.cgroup import cpu_limit

                place = task
                if isinstance(task, int):
                    place = f"/proc/{task if task > 0 else 'self'}/cgroup"
                if not isinstance(place, str):  # the host, or a clock nobody here made
                    return None
                self._bound = bound = task, at_ns, cpu_limit(place)
            limit = bound[2]
            if limit is None or limit.cpus >= self.cpus:
                return None
            return limit, limit.clock.read()
        except _TROUBLE:
            return None

    def _modelled(self, mark: HostMark, t1_ns: int, reason: Reason | None) -> Host:
        busy = self._busy_since(mark, t1_ns)
        duration_ns = t1_ns - mark.at_ns
        cpu = pinned = None
        used: CpuModelUsed | None = None
        cpu_reason: str | None = None
        flags: tuple[str, ...] = ()
        if self._look_up:
            try:
                with loading.lock:
                    from carbon_ops.sources.modelled import of_this_host

                    self._model = of_this_host(self.cpus)
                self._look_up = False
            except _TROUBLE:
                cpu_reason = "model_unreadable"
        model = self._model
        if model is None:
            cpu_reason = cpu_reason or "model_off"
        elif busy is None:
            cpu_reason = "host_load_unknown"
        else:
            limit = _used_of(mark)
            busy, uj, part_uj = model.energy(duration_ns, busy, self.cpus, limit)
            cpu = Domain(uj, uj, uj)
            if limit is not None:
                cpus, used_ns = limit
                # The kernel charges what runs to its cgroup at ticks.
                lag_ns = ceil(cpus) * NS_PER_TICK
                own = Domain(part_uj, part_uj, part_uj)
                pinned = Pinned(own, used_ns, cpus / self.cpus, lag_ns)
            flags = () if model.known else ("cpu_unknown",)
            flags += () if limit is None else ("cpu_limited",)
            used = {
                "cpu": model.name,
                "idle_w": model.idle_w,
                "load_w": model.load_w,
                "cpus": self.cpus,
                "cpu_limit": None if limit is None else limit[0],
                "source": model.source,
            }
        return Host(
            "monitor_only",
            reason,
            "none" if cpu is None else "model_cpu_load",
            cpu,
            None,
            busy,
            duration_ns,
            pinned=pinned,
            model_cv=None if model is None or cpu is None else model.cv,
            model=used,
            cpu_reason=cpu_reason,
            dram_reason="no_counter",
            flags=flags,
        )


def _used_of(mark: HostMark) -> tuple[float, int] | None:
    """Return the CPU limit of ``mark`` and the CPU time used of it since [ns]."""
    if mark.limit is None:
        return None
    limit, before = mark.limit
    try:
        return limit.cpus, max(0, limit.clock.read() - before)
    except (OSError, ValueError):
        return None  # the cgroup is gone


def _too_wide(host: Host) -> bool:
    """Return whether a gap hides so much energy that the model knows more."""
    if not (host.gaps or host.resets or "unread" in host.flags) or host.cpu is None:
        return False
    total, low, high = host.cpu
    if "unread" in host.flags or not total:
        return True
    return (high - low) / 2 / sqrt(3) > MODEL_CV * total


def _known(error: Exception) -> Reason:
    """Return the metric's word for ``error``: ``protocol`` for what nobody foresaw."""
    reason: Reason = getattr(error, "reason", "protocol")
    return reason if reason in _REASONS else "protocol"
