"""From facts about this machine to findings a person can act on. Pure.

Energy components are ``measured``, ``modelled`` or ``unavailable``; what they need to
work (socket, group, modules, packages) is ``available`` or ``unavailable``. Every
finding that is not as good as it can be has a reason, and a command if one mends it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from carbon_ops.cli import facts
from carbon_ops.config import Setting
from carbon_ops.errors import CarbonOpsError
from carbon_ops.meter.baseline import Idle
from carbon_ops.sources.modelled import CpuModel

State = Literal["measured", "modelled", "available", "unavailable"]


class Finding(NamedTuple):
    """The state of one component."""

    component: str
    state: State
    detail: str
    why: str | None = None  # why it is no better
    fix: str | None = None  # a command, or what to do
    broken: bool = False  # it is here but does not work: --strict fails


_GOVERNOR = 'sudo "{python}" -m carbon_ops.governor.daemon'


def start_governor() -> str:
    """Return the command that starts a governor from this installation."""
    return _GOVERNOR.format(python=sys.executable or "python3")


def cpu(
    host: facts.Host,
    governor: facts.Governor,
    direct: facts.Counters,
    model: CpuModel,
) -> Finding:
    """Return how the energy of the CPU packages is found."""
    name = "cpu package energy"
    layout = governor.layout
    if layout is not None:
        zones = ", ".join(
            zone.key for zone in layout.zones if zone.counted and zone.kind != "dram"
        )
        if layout.source == "simulated":
            return Finding(
                name,
                "modelled",
                f"SIMULATED counters through the governor: {zones}",
                "the governor runs with --rapl-mode=simulated: no hardware is measured",
                start_governor(),
            )
        return Finding(name, "measured", f"{layout.source} by the governor: {zones}")
    known = "" if model.known else " (not in the tables)"
    detail = (
        f"model of CPU load: {model.name}{known}, {model.idle_w:.3g} W idle to "
        f"{model.load_w:.3g} W, ± {100 * model.cv:.0f} %"
    )
    if direct.error is None:
        return Finding(
            name,
            "measured",
            f"rapl_sysfs, read by this process itself: {', '.join(direct.zones)}",
            f"no governor: {governor.message}",
            start_governor(),
        )
    if host.hypervisor or host.container:
        where = "virtual machine" if host.hypervisor else "container"
        return Finding(
            name,
            "modelled",
            detail,
            f"no governor ({governor.message}), and this {where} shows no counter "
            f"({direct.error})",
            "run the governor on the host and share its socket, or measure on bare metal",
        )
    return Finding(
        name,
        "modelled",
        detail,
        f"no governor ({governor.message}); {direct.error}",
        start_governor(),
    )


def dram(governor: facts.Governor, direct: facts.Counters) -> Finding:
    """Return how the energy of the memory is found: by a counter, or not at all."""
    name = "dram energy"
    if governor.layout is not None:
        zones = [z.key for z in governor.layout.zones if z.kind == "dram" and z.counted]
        if zones and governor.layout.source == "simulated":
            return Finding(
                name,
                "modelled",
                f"SIMULATED: {', '.join(zones)}",
                "the governor runs with --rapl-mode=simulated",
                start_governor(),
            )
        if zones:
            return Finding(name, "measured", ", ".join(zones))
        return Finding(
            name, "unavailable", "not counted", "this processor shows no DRAM counter"
        )
    zones = [key for key in direct.zones if key.endswith("dram")]
    if zones:
        return Finding(name, "measured", ", ".join(zones))
    return Finding(
        name, "unavailable", "not counted", "no counter is read; DRAM is not modelled"
    )


def gpu(vendor: str, found: facts.Gpus) -> Finding:
    """Return how the energy of one vendor's GPUs is found."""
    name = f"gpu energy, {vendor}"
    if not found.present:
        return Finding(name, "unavailable", "no device", "no driver shows a device")
    if found.error is not None:
        return Finding(
            name,
            "unavailable",
            "not readable",
            found.error,
            found.hint or None,
            broken=vendor == "nvidia",
        )
    devices = ", ".join(found.names)
    if found.energy:
        return Finding(name, "measured", devices)
    return Finding(
        name,
        "unavailable",
        devices,
        "a device without an energy counter: only its power can be sampled",
    )


def socket(
    governor: facts.Governor, group: facts.Group, direct: facts.Counters
) -> Finding:
    """Return whether the governor answers."""
    name = "governor socket"
    if governor.reason is None:
        who = "root" if governor.uid == 0 else f"user {governor.uid}, not root"
        return Finding(name, "available", f"{governor.path}, run by {who}")
    fix = start_governor()
    if not direct.exist:
        fix = (
            "none here without counters; to try: carbon-governor --rapl-mode=simulated"
            " --socket=/tmp/try.sock"
        )
    if governor.reason == "permission_denied":
        fix = join_group(group)
    elif governor.reason == "stale":
        fix = "sudo systemctl restart carbon-governor"
    return Finding(
        name,
        "unavailable",
        governor.path,
        governor.message,
        fix,
        broken=governor.reason != "no_socket",
    )


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
    name = f"group {facts.GROUP}"
    if group.root:
        return Finding(name, "available", "root needs no group")
    if group.active:
        return Finding(name, "available", f"{group.user} is a member")
    if not group.exists:
        return Finding(
            name,
            "unavailable",
            "no such group",
            "the governor is not installed here",
            join_group(group),
        )
    why = (
        f"{group.user} is a member, but this session began before that"
        if group.listed
        else f"{group.user} is not a member"
    )
    return Finding(name, "unavailable", "not usable", why, join_group(group))


def cgroup(found: facts.Cgroup) -> Finding:
    """Return whether CPU time can be counted by control group."""
    name = "cgroup CPU time"
    if found.version is None:
        return Finding(name, "unavailable", "no cgroups", "/proc/self/cgroup is empty")
    where = f"v{found.version}, {found.path}"
    if found.readable:
        return Finding(name, "available", where)
    return Finding(
        name,
        "unavailable",
        where,
        "its CPU accounting file is not readable below /sys/fs/cgroup",
        "mount /sys/fs/cgroup read-only into the container",
    )


def filtering(governor: facts.Governor) -> Finding:
    """Return whether the processor blurs its counters (CVE-2020-8694's remedy)."""
    name = "energy filtering"
    layout = governor.layout
    if layout is None:
        return Finding(
            name, "unavailable", "not known", "only the governor can tell; none answers"
        )
    if layout.filtered is None:
        return Finding(
            name,
            "unavailable",
            "not known",
            f"source {layout.source} cannot read MSR 0xBC",
        )
    if layout.filtered:
        return Finding(
            name,
            "available",
            "on",
            "SGX or the firmware turned it on: counters are blurred for short windows",
        )
    return Finding(name, "available", "off: counters are exact")


def msr(host: facts.Host, module: tuple[bool, bool]) -> Finding:
    """Return whether ``--rapl-mode=msr`` could work."""
    name = "msr module"
    shown, readable = module
    if not shown:
        virtual = host.hypervisor or host.container
        return Finding(
            name,
            "unavailable",
            "no /dev/cpu/0/msr",
            "not loaded" if not virtual else "not loaded; seldom of use in here",
            None if virtual else "sudo modprobe msr",
        )
    if not readable:
        return Finding(
            name,
            "unavailable",
            "/dev/cpu/0/msr",
            "readable by root only; the governor needs it, you do not",
        )
    return Finding(name, "available", "/dev/cpu/0/msr is readable")


def signing(found: facts.Signing) -> Finding:
    """Return whether ledgers can be signed."""
    name = "ledger signing"
    if not found.installed:
        return Finding(
            name,
            "unavailable",
            "no cryptography",
            "the package cryptography is not installed; ledgers are chained, not signed",
            "pip install '.[audit]' in the checkout of carbon-ops",
        )
    if not found.keys:
        return Finding(
            name,
            "available",
            f"no key yet in {found.folder}",
            "a ledger made without a key shows no truncation",
            "carbon-ops ledger init DIR",
        )
    return Finding(name, "available", f"keys in {found.folder}: {found.keys}")


def live(installed: bool, tokens: Sequence[str]) -> Finding:
    """Return whether grid intensities can be fetched live; nothing is fetched here."""
    name = "live providers"
    if not installed:
        return Finding(
            name,
            "unavailable",
            "no httpx",
            "the packages httpx and stamina are not installed; shipped yearly factors "
            "are used",
            "pip install '.[live]' in the checkout of carbon-ops",
        )
    detail = "installed; used only when chosen"
    if tokens:
        detail += f"; set: {', '.join(tokens)}"
    return Finding(name, "available", detail)


def idle(found: Sequence[Idle]) -> Finding:
    """Return whether idle power is known, which the policy "excluded" needs."""
    name = "idle baseline"
    if not found:
        return Finding(
            name,
            "unavailable",
            "not measured",
            "nobody calibrated this host with this kernel; tasks carry their share of "
            "idle",
            "carbon-ops calibrate, where a counter can be read",
        )
    newest = found[0]
    return Finding(
        name,
        "available",
        f"{newest.cpu_w:.3g} W of {newest.source}, {newest.date[:10]}, "
        f"{newest.busy_percent:.1f} % busy",
    )


def settings(found: Mapping[str, Setting]) -> Finding:
    """Return what is set, and where; a file that cannot be used fails the check."""
    chosen = [
        f"{name}={one.value} ({one.origin})"
        for name, one in found.items()
        if one.origin != "default"
    ]
    return Finding("settings", "available", ", ".join(chosen) or "all defaults")


def failed(component: str, error: BaseException) -> Finding:
    """Return the finding for a component whose check itself failed."""
    ours = isinstance(error, CarbonOpsError)
    return Finding(
        component,
        "unavailable",
        "not usable" if ours else "could not be checked",
        str(error) if ours else f"{type(error).__name__}: {error}",
        error.hint or None if isinstance(error, CarbonOpsError) else None,
        broken=True,
    )


def as_json(host: facts.Host, findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the report as one plain object."""
    return {
        "schema": "carbon-ops/doctor/1",
        "host": host._asdict(),
        "ok": strict_ok(findings),
        "components": [finding._asdict() for finding in findings],
    }


def strict_ok(findings: Sequence[Finding]) -> bool:
    """Return whether CPU energy is measured and nothing that is here is broken."""
    measured = bool(findings) and findings[0].state == "measured"
    return measured and not any(finding.broken for finding in findings)
