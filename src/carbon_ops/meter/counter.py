"""Where the host's energy comes from: a governor, else a model of CPU load.

A failed reading degrades one span, not the logger: the next span asks again. The client
of the governor is imported only when its socket exists.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from carbon_ops.clock import monotonic_ns
from carbon_ops.errors import GovernorUnavailableError
from carbon_ops.meter.metric import Domain, Host
from carbon_ops.meter.process_tree import NS_PER_TICK, read_file
from carbon_ops.sources import modelled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carbon_ops.model import EnergySource, Origin, Reason, Sample, Window

DEFAULT_SOCKET = "/var/run/carbon-ops.sock"
INTERVAL_NS = 100_000_000  # of a governor that does not say


class HostMark(NamedTuple):
    """The host's counters at the beginning of a span."""

    at_ns: int
    sample: Sample | None
    origin: Origin | None
    reason: Reason | None  # why there is no sample
    busy_ns: int | None


def host_busy_ns() -> int | None:
    """Return the host's busy CPU time since boot [ns], None where it is not shown.

    user + nice + system + irq + softirq of ``/proc/stat`` (proc_stat(5)), in whole
    clock ticks. Time waiting for I/O and time stolen by a hypervisor are not busy.
    """
    try:
        head = read_file("/proc/stat", 256)
        f = head[: head.index(b"\n")].split()
        ticks = int(f[1]) + int(f[2]) + int(f[3]) + int(f[6]) + int(f[7])
    except (OSError, ValueError, IndexError):
        return None
    return ticks * NS_PER_TICK


def domains(window: Window) -> tuple[Domain | None, Domain | None]:
    """Return the counted packages and the counted DRAM of ``window``."""
    sums: dict[bool, Domain] = {}
    for part in window.zones:
        if not part.zone.counted:
            continue
        is_dram = part.zone.kind == "dram"
        old = sums.get(is_dram, Domain(0, 0, 0))
        sums[is_dram] = Domain(
            old.total + part.point_uj,
            old.low + part.low_uj,
            old.high + part.high_uj,
        )
    return sums.get(False), sums.get(True)


class HostCounter:
    """Reads the host's energy at the ends of spans; see the module's docstring.

    Args:
        source: Counters to use; None looks for a governor.
        socket: Path of the governor's socket; None: ``CARBON_OPS_SOCKET``, then
            ``/var/run/carbon-ops.sock``.
        model_on: Without a counter, model the energy; else it is not known.
    """

    def __init__(
        self,
        source: EnergySource | None,
        socket: str | None,
        *,
        model_on: bool,
    ) -> None:
        self._given = source
        self._source = source
        self._socket = socket or os.environ.get("CARBON_OPS_SOCKET") or DEFAULT_SOCKET
        self._model_on = model_on
        self._model: modelled.CpuModel | None = None  # found when first needed
        self.cpus = os.cpu_count() or 1

    def mark(self) -> HostMark:
        """Return where the counters stand now. Never raises."""
        sample = origin = reason = busy = None
        began = monotonic_ns()
        try:
            source = self._find()
            sample, origin = source.mark(), source.origin
        except GovernorUnavailableError as error:
            reason = _known(error.reason)
            busy = host_busy_ns()
        return HostMark(began, sample, origin, reason, busy)

    def since(self, mark: HostMark, t1_ns: int, *, settle: bool = False) -> Host:
        """Return the host's energy from ``mark`` to ``t1_ns``. Never raises."""
        reason = mark.reason
        if mark.sample is not None:
            try:
                return self._measured(mark, mark.sample, t1_ns, settle)
            except GovernorUnavailableError as error:
                reason = _known(error.reason)
        return self._modelled(mark, t1_ns, reason)

    def close(self) -> None:
        """Close the connection to the governor."""
        if self._source is not None:
            self._source.close()
            self._source = self._given

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
            from carbon_ops.governor.client import GovernorClient

            self._source = GovernorClient(self._socket)
        return self._source

    def _measured(
        self, mark: HostMark, sample: Sample, t1_ns: int, settle: bool
    ) -> Host:
        source = self._find()
        window = source.window(sample, mark.at_ns, t1_ns, settle=settle)
        if source.origin != mark.origin:
            raise GovernorUnavailableError(
                "restarted", "the governor was restarted during the span"
            )
        cpu, dram = domains(window)
        if cpu is None:
            raise GovernorUnavailableError("no_zones", "no package counter is served")
        return Host(
            "governor",
            None,
            source.origin.source,
            cpu,
            dram,
            window.host_busy_ns,
            t1_ns - mark.at_ns,
            source.origin,
            dram_reason=None if dram else "no_dram_zone",
            interval_ns=INTERVAL_NS,
            samples=window.samples,
            wraps=window.wraps,
            gaps=window.gaps,
            resets=window.resets,
            failures=window.failures,
            flags=window.flags,
        )

    def _modelled(self, mark: HostMark, t1_ns: int, reason: Reason | None) -> Host:
        start = mark.busy_ns
        if start is None and mark.sample is not None:
            start = mark.sample.host_busy_ns
        end = host_busy_ns()
        busy = None if start is None or end is None else max(0, end - start)
        if self._model is None and self._model_on:
            self._model = modelled.of_this_host(self.cpus)
        model = self._model
        cpu = None
        cpu_reason: str | None = None
        if model is None:
            cpu_reason = "model_off"
        elif busy is None:
            cpu_reason = "host_load_unknown"
        else:
            uj = modelled.energy_uj(model, t1_ns - mark.at_ns, busy, self.cpus)
            cpu = Domain(uj, uj, uj)
        known = model is not None and model.known
        return Host(
            "monitor_only",
            reason,
            "model_cpu_load" if cpu is not None else "none",
            cpu,
            None,
            busy,
            t1_ns - mark.at_ns,
            model_cv=model.cv if model is not None and cpu is not None else None,
            cpu_reason=cpu_reason,
            dram_reason="no_counter",
            flags=() if known or cpu is None else ("cpu_unknown",),
        )


def _known(reason: str) -> Reason:
    """Return ``reason`` if the metric has a word for it, else ``protocol``."""
    from typing import get_args

    from carbon_ops.model import Reason as Reasons

    return reason if reason in get_args(Reasons) else "protocol"  # type: ignore[return-value]
