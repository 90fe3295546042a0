"""From facts about this machine to findings a person can act on. Pure.

Energy components are ``measured``, ``modelled`` or ``unavailable``; what they need to
work (socket, group, modules, packages) is ``available`` or ``unavailable``. Every
finding that is not as good as it can be has a reason, and a command if one mends it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

from carbon_ops.cli import facts
from carbon_ops.config import Setting
from carbon_ops.errors import CarbonOpsError
from carbon_ops.meter.baseline import Idle
from carbon_ops.sources.modelled import CpuModel

State = Literal["measured", "modelled", "available", "unavailable"]
CPU = "cpu package energy"  # the component that --strict wants measured


class Finding(NamedTuple):
    """The state of one component."""

    state: State
    detail: str
    why: str | None = None  # why it is no better
    fix: str | None = None  # a command, or what to do
    broken: bool = False  # it is here but does not work: --strict fails


_there = partial(Finding, "available")
_absent = partial(Finding, "unavailable")


def start_governor() -> str:
    """Return the command that starts a governor from this installation."""
    return f'sudo "{sys.executable or "python3"}" -m carbon_ops.governor.daemon'


def cpu(
    host: facts.Host,
    governor: facts.Governor,
    direct: facts.Counters,
    model: CpuModel | None,
    cpu_limit: float | None = None,
) -> Finding:
    """Return how the energy of the CPU packages is found."""
    layout, start = governor.layout, start_governor()
    if layout is not None:
        counted = [z.key for z in layout.zones if z.counted and z.kind != "dram"]
        zones = ", ".join(counted)
        if layout.source == "simulated":
            detail = f"SIMULATED counters through the governor: {zones}"
            return Finding("modelled", detail, _SIMULATED, start)
        return Finding("measured", f"{layout.source} by the governor: {zones}")
    if direct.error is None:
        detail = f"rapl_sysfs, read by this process itself: {', '.join(direct.zones)}"
        return Finding("measured", detail, governor.message, start)
    why = f"{governor.message}; {direct.error}"
    if host.hypervisor or host.container:
        where = "virtual machine" if host.hypervisor else "container"
        why = (
            f"{governor.message}, and this {where} shows no counter "
            f"({direct.error})"
        )
        start = "run the governor on the host and share its socket, or measure on bare metal"
    if model is None:
        return _absent("not counted", f"{why}; the setting model is off", start)
    known = "" if model.known else " (not in the tables)"
    detail = (
        f"model of CPU load: {model.name}{known}, {model.idle_w:.3g} W idle to "
        f"{model.load_w:.3g} W, ± {100 * model.cv:.0f} %; watts: {model.source}"
    )
    if cpu_limit is not None and cpu_limit < host.cpus:
        detail += (
            f"; billed from the {cpu_limit:g} of {host.cpus} CPUs that may be used"
        )
    return Finding("modelled", detail, why, start)


_SIMULATED = "the governor runs with --rapl-mode=simulated: no hardware is measured"


def dram(governor: facts.Governor, direct: facts.Counters) -> Finding:
    """Return how the energy of the memory is found: by a counter, or not at all."""
    layout = governor.layout
    why = "no counter is read; DRAM is not modelled"
    zones = [key for key in direct.zones if key.endswith("dram")]
    if layout is not None:
        why = "this processor shows no DRAM counter"
        zones = [z.key for z in layout.zones if z.kind == "dram" and z.counted]
    if not zones:
        return _absent("not counted", why)
    if layout is not None and layout.source == "simulated":
        detail = f"SIMULATED: {', '.join(zones)}"
        return Finding("modelled", detail, _SIMULATED, start_governor())
    return Finding("measured", ", ".join(zones))


def gpu(vendor: str, found: facts.Gpus) -> Finding:
    """Return how the energy of one vendor's GPUs is found."""
    if not found.present:
        return _absent("no device", "no driver shows a device")
    if found.error is not None:
        broken = vendor == "nvidia"
        return _absent("not readable", found.error, found.hint or None, broken)
    devices = ", ".join(found.names)
    if found.energy:
        return Finding("measured", devices)
    why = "a device without an energy counter: only its power can be sampled"
    return _absent(devices, why)


def socket(
    governor: facts.Governor, group: facts.Group, direct: facts.Counters
) -> Finding:
    """Return whether the governor answers."""
    if governor.reason is None:
        who = "root" if governor.uid == 0 else f"user {governor.uid}, not root"
        return _there(f"{governor.path}, run by {who}")
    fix = start_governor()
    if not direct.exist:
        fix = (
            "none here without counters; to try: carbon-governor --rapl-mode=simulated"
            " --socket=/tmp/try.sock, and CARBON_OPS_SOCKET=/tmp/try.sock elsewhere"
        )
    if governor.reason == "permission_denied":
        fix = join_group(group)
    elif governor.reason == "stale":
        fix = "sudo systemctl restart carbon-governor"
    broken = governor.reason != "no_socket"
    return _absent(governor.path, governor.message, fix, broken)


def join_group(group: facts.Group) -> str:
    """Return the command that lets ``group.user`` use the governor's socket."""
    add = f"sudo usermod -aG {facts.GROUP} {group.user}"
    if not group.exists:
        return f"sudo groupadd -rf {facts.GROUP} && {add}, then log in again"
    if not group.listed:
        return f"{add}, then log in again"
    return f"log in again, or: newgrp {facts.GROUP}"


def membership(group: facts.Group) -> Finding:
    """Return whether this user may use the socket of a governor of the system."""
    if group.root:
        return _there("root needs no group")
    if group.active:
        return _there(f"{group.user} is a member")
    if not group.exists:
        why = "the governor is not installed here"
        return _absent("no such group", why, join_group(group))
    why = f"{group.user} is not a member"
    if group.listed:
        why = f"{group.user} is a member, but this session began before that"
    return _absent("not usable", why, join_group(group))


def cgroup(found: facts.Cgroup) -> Finding:
    """Return whether CPU time can be counted by control group."""
    if found.path is None:
        return _absent("no cgroups", "/proc/self/cgroup is empty")
    if found.folder is None:
        why = "its CPU accounting file is not readable below /sys/fs/cgroup"
        return _absent(
            found.path, why, "mount /sys/fs/cgroup read-only into the container"
        )
    limit = found.cpu_limit
    return _there(found.folder + ("" if limit is None else f", limit {limit:g} CPUs"))


def filtering(governor: facts.Governor) -> Finding:
    """Return whether the processor blurs its counters (CVE-2020-8694's remedy)."""
    layout = governor.layout
    if layout is None:
        return _absent("not known", "only the governor can tell; none answers")
    if layout.source == "simulated":  # which has no processor to blur it
        return _absent("not known", _SIMULATED, start_governor())
    if layout.filtered is None:
        return _absent("not known", f"source {layout.source} cannot read MSR 0xBC")
    if not layout.filtered:
        return _there("off: counters are exact")
    why = "SGX or the firmware turned it on: counters are blurred for short windows"
    return _there("on", why)


def msr(host: facts.Host, module: tuple[bool, bool]) -> Finding:
    """Return whether ``--rapl-mode=msr`` could work."""
    shown, readable = module
    if readable:
        return _there("/dev/cpu/0/msr is readable")
    if shown:
        why = "readable by root only; the governor needs it, you do not"
        return _absent("/dev/cpu/0/msr", why)
    if host.hypervisor or host.container:
        return _absent("no /dev/cpu/0/msr", "not loaded; seldom of use in here")
    return _absent("no /dev/cpu/0/msr", "not loaded", "sudo modprobe msr")


def signing(found: facts.Signing) -> Finding:
    """Return whether ledgers can be signed."""
    if not found.installed:
        why = (
            "the package cryptography is not installed; ledgers are chained, not signed"
        )
        fix = "pip install '.[audit]' in the checkout of carbon-ops"
        return _absent("no cryptography", why, fix)
    if found.keys:
        return _there(f"keys in {found.folder}: {found.keys}")
    why = "a ledger made without a key shows no truncation"
    return _there(f"no key yet in {found.folder}", why, "carbon-ops ledger init DIR")


def live(installed: bool, tokens: Sequence[str]) -> Finding:
    """Return whether grid intensities can be fetched live; nothing is fetched here."""
    if not installed:
        why = "httpx and stamina are not installed; shipped yearly factors are used"
        fix = "pip install '.[live]' in the checkout of carbon-ops"
        return _absent("no httpx", why, fix)
    said = f"; set: {', '.join(tokens)}" if tokens else ""
    return _there(f"installed; used only when chosen{said}")


def idle(found: Sequence[Idle]) -> Finding:
    """Return whether idle power is known, which the policy "excluded" needs."""
    if not found:
        why = "nobody calibrated this host and kernel; tasks carry their share of idle"
        fix = "carbon-ops calibrate, where a counter can be read"
        return _absent("not measured", why, fix)
    newest = found[0]
    return _there(
        f"{newest.cpu_w:.3g} W of {newest.source}, {newest.date[:10]}, "
        f"{newest.busy_percent:.1f} % busy"
    )


def settings(found: Mapping[str, Setting]) -> Finding:
    """Return what is set, and where; a file that cannot be used fails the check."""
    chosen = {name: one for name, one in found.items() if one.origin != "default"}
    said = [f"{name}={one.value} ({one.origin})" for name, one in chosen.items()]
    return _there(", ".join(said) or "all defaults")


def failed(error: BaseException) -> Finding:
    """Return the finding for a component whose check itself failed."""
    if isinstance(error, CarbonOpsError):
        return _absent("not usable", str(error), error.hint or None, broken=True)
    why = f"{type(error).__name__}: {error}"
    return _absent("could not be checked", why, broken=True)


def as_json(host: facts.Host, findings: Mapping[str, Finding]) -> dict[str, Any]:
    """Return the report as one plain object."""
    return {
        "schema": "carbon-ops/doctor/1",
        "host": host._asdict(),
        "ok": strict_ok(findings),
        "components": [{"component": x} | f._asdict() for x, f in findings.items()],
    }


def strict_ok(findings: Mapping[str, Finding]) -> bool:
    """Return whether CPU energy is measured and nothing that is here is broken."""
    measured = CPU in findings and findings[CPU].state == "measured"
    return measured and not any(finding.broken for finding in findings.values())
