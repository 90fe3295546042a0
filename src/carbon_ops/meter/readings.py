"""What a logger reads at both ends of a span, and the metric that comes of it."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, cast

from carbon_ops import clock
from carbon_ops.errors import InvalidInputError
from carbon_ops.meter import baseline, loading, memory
from carbon_ops.meter.counter import HostCounter, HostMark
from carbon_ops.meter.metric import Baseline, Built, Task, build
from carbon_ops.meter.plain import plain
from carbon_ops.meter.process_tree import OwnProcess, children_vanish, ours
from carbon_ops.meter.scope import leader_of
from carbon_ops.sources import gpu_present

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carbon_ops.meter.gpu import GpuMark, GpuMeter
    from carbon_ops.meter.lanes import Lane
    from carbon_ops.meter.process_tree import CpuClock
    from carbon_ops.meter.span import Span
    from carbon_ops.model import EnergySource, Memory, Policy
    from carbon_ops.sources.modelled import CpuModel

    Named = tuple[str, Literal["ok", "error"], str, str | None, str]


class Mark(NamedTuple):
    """Where all clocks and counters stood at one moment."""

    host: HostMark
    wall_ns: int
    cpu_ns: int
    flags: tuple[str, ...] = ()
    lane_ns: int = 0  # the account of the span's lane
    divided_ns: int = 0  # what its pool had divided evenly
    gpu: GpuMark | None = None
    left: int = 0  # how often children left, and
    unread: int = 0  # could not be read, so far


class Used(NamedTuple):
    """CPU time of a span [ns], and what it is a part of."""

    cpu_ns: int
    part: tuple[int, int] = (1, 1)  # of what its process used, beside other spans
    flags: tuple[str, ...] = ()


class Readings:
    """The host's counters, GPUs and idle power as one logger sees them.

    Args:
        source: Counters to use; None looks for a governor.
        socket: Path of the governor's socket.
        powercap_root: Where counters that this process may read itself are.
        switch: ``on`` models the energy where there is no counter, ``off`` does not.
        cpu_idle_w: For the model, all CPUs at rest [W]; None: the shipped tables.
        cpu_load_w: At full load [W].
        idle_w: Power of the idle packages [W]; None: as calibrated, if it was.
        idle_dram_w: Power of the idle memory [W].
        gpu_sampling: Poll the power of GPUs that have no energy counter.

    Raises:
        InvalidInputError: watts that make no sense.
    """

    def __init__(
        self,
        source: EnergySource | None,
        socket: str,
        powercap_root: str,
        *,
        switch: str,
        cpu_idle_w: float | None,
        cpu_load_w: float | None,
        idle_w: float | None,
        idle_dram_w: float | None,
        gpu_sampling: bool,
    ) -> None:
        self._baseline = Baseline(
            _watts("idle_w", idle_w), _watts("idle_dram_w", idle_dram_w)
        )
        self._calibrated = baseline.stored() if idle_w is None else []
        self._counter = HostCounter(
            source,
            socket,
            model=model_of(switch, cpu_idle_w, cpu_load_w),
            powercap_root=powercap_root,
        )
        self._gpus: GpuMeter | None = None
        if gpu_present.anything():
            with loading.lock:
                from carbon_ops.meter.gpu import GpuMeter

            self._gpus = GpuMeter(sampling=gpu_sampling)

    def take(self, clock_: CpuClock) -> Mark:
        """Return where everything stands now. Never raises."""
        left, unread = ours.left, ours.unread
        flags: tuple[str, ...] = ()
        try:
            cpu = clock_.read()
        except OSError:
            cpu, flags = 0, ("cpu_time_unreadable",)
        wall = clock.wall_ns()
        folder = getattr(clock_, "folder", None)  # of a cgroup
        host = self._counter.mark(
            leader_of(clock_), folder
        )  # last: a governor may hang
        gpu = self.gpu_mark(wall)
        return Mark(host, wall, cpu, flags, 0, 0, gpu, left, unread)

    def gpu_mark(self, wall_ns: int) -> GpuMark | None:
        """Return where the GPUs stand now."""
        return None if self._gpus is None else self._gpus.mark(wall_ns // 1_000)

    def begin(self, span: Span, within: Lane | None) -> Mark:
        """Return where everything stands at the beginning of ``span``."""
        if span._pool is None:
            return self.take(span._clock)
        left, unread, wall = ours.left, ours.unread, clock.wall_ns()
        span._lane, account, cpu = span._pool.enter(within, span._kind)
        divided = span._pool.divided_ns
        host = self._counter.mark(leader_of(span._clock))
        gpu = self.gpu_mark(wall)
        return Mark(host, wall, cpu, (), account, divided, gpu, left, unread)

    def used(self, span: Span, begin: Mark, forked: bool) -> Used:
        """Return the CPU time that a span used until now."""
        if forked:
            return Used(
                OwnProcess().read(), flags=(*begin.flags, "ended_in_forked_child")
            )
        if span._pool is not None and span._lane is not None:
            account, cpu = span._pool.leave(span._lane)
            # Never more than the process used in the same time.
            whole = cpu - begin.cpu_ns
            used = min(account - begin.lane_ns, whole)
            flags = begin.flags
            if 100 * (span._pool.divided_ns - begin.divided_ns) > used:
                flags = (*flags, "cpu_time_divided")
            return Used(used, (used, whole) if used < whole else (1, 1), flags)
        try:
            return Used(span._clock.read() - begin.cpu_ns, flags=begin.flags)
        except OSError:
            return Used(0, flags=(*begin.flags, "cpu_time_unreadable"))

    def built(
        self,
        named: Named,
        begin: Mark,
        t1: int,
        used: Used,
        clock_: CpuClock,
        info: dict[str, Any],
        gpu: GpuMark | None,
        *,
        policy: Policy,
        synchronised: bool,
        settle: bool,
    ) -> Built:
        """Return the metric of what ran from ``begin`` to ``t1`` [ns]."""
        host = self._counter.since(begin.host, t1, settle=settle, pid=leader_of(clock_))
        pids = clock_.pids()
        told: set[str] = set()
        kept = plain(info, told) if info else {}
        flags = used.flags
        if children_vanish():
            told.add("children_auto_reaped")
        if clock_.name in ("tree", "children"):
            if ours.left > begin.left:
                told.add("child_left")
            if ours.unread > begin.unread:
                told.add("children_unreadable")
        told |= getattr(clock_, "flags", set())  # a command's or a PID's
        if told:
            flags = (*flags, *sorted(told))
        gpus = None
        if self._gpus is not None and begin.gpu is not None and gpu is not None:
            gpus = self._gpus.between(
                *(begin.gpu, gpu, frozenset(pids)),
                synchronised=synchronised,
                part=used.part[0] / used.part[1],
            )
            flags = (*flags, *self._gpus.flags)
        if host.dram is not None and len(pids) > 1:
            flags = (*flags, "resident_sets_added")
        task = Task(
            *named,
            begin.wall_ns,
            t1 - begin.host.at_ns,
            max(0, used.cpu_ns),
            self._counter.cpus,
            _memory(clock_, pids),
            memory.host_used() if host.dram is not None else None,
            kept,
            flags,
            used.part,
        )
        return build(
            task, host, policy=policy, baseline=self._idle(host.source), gpus=gpus
        )

    def close(self) -> None:
        """Let the counters and the drivers go."""
        self._counter.close()
        if self._gpus is not None:
            self._gpus.close()

    def _idle(self, source: str) -> Baseline:
        """Return the idle power as given, else as calibrated with the same counters."""
        given = self._baseline
        for idle in self._calibrated:
            if idle.source == source:
                dram_w = idle.dram_w if given.dram_w is None else given.dram_w
                return Baseline(idle.cpu_w, dram_w)
        return given


def _watts(name: str, value: float | None) -> float | None:
    if value is not None and not (isinstance(value, (int, float)) and 0 <= value < 1e6):
        raise InvalidInputError(f"{name} must be watts, 0 or more, got {value!r}")
    return value


def model_of(
    switch: str, idle_w: float | None, load_w: float | None
) -> CpuModel | Literal["on", "off"]:
    """Return what a :class:`HostCounter` shall do without counters.

    Args:
        switch: ``on`` or ``off``.
        idle_w: All CPUs at rest [W]; None: the shipped tables.
        load_w: At full load [W].

    Raises:
        InvalidInputError: another switch, or watts that make no sense.
    """
    if switch == "off":
        return "off"
    if switch != "on":
        raise InvalidInputError(f"model must be 'on' or 'off', got {switch!r}")
    if idle_w is None and load_w is None:
        return "on"
    if idle_w is None or load_w is None or not 0 <= idle_w <= load_w < 1e6:
        raise InvalidInputError(
            f"the model needs watts at rest and at full load, got {idle_w} and {load_w}",
            hint="Give both, the first not above the second.",
        )
    with loading.lock:
        from carbon_ops.sources.modelled import KNOWN_CV, CpuModel

    return CpuModel("given", idle_w, load_w, KNOWN_CV, True, "given by the user")


def _memory(clock_: CpuClock, pids: list[int]) -> Memory:
    """Return the scope's memory: what its clock saw while it ran, else what lives now."""
    seen = getattr(clock_, "memory", None)
    return memory.of(pids) if seen is None else cast("Memory", seen())
