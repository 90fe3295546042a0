"""What this machine and this process have: looked at, never changed, for ``doctor``."""

from __future__ import annotations

import grp
import os
import platform
import pwd
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

from carbon_ops.errors import (
    CarbonOpsError,
    ConfigError,
    GovernorUnavailableError,
    InvalidInputError,
)
from carbon_ops.meter.process_tree import read_file
from carbon_ops.model import Layout

if TYPE_CHECKING:
    from collections.abc import Callable

    from carbon_ops.config import Setting
    from carbon_ops.sources.gpu import GpuSource
    from carbon_ops.sources.modelled import CpuModel

GROUP = "carbon-users"
TOKENS = (
    "CARBON_OPS_ELECTRICITYMAPS_KEY",
    "CARBON_OPS_WATTTIME_USER",
    "CARBON_OPS_WATTTIME_PASSWORD",
)


_MAKERS = {  # what the firmware says: whose virtual machine it is
    "QEMU": "QEMU", "KVM": "KVM", "VMware": "VMware", "VirtualBox": "VirtualBox",
    "Amazon EC2": "Amazon EC2", "Google": "Google Compute Engine",
    "Microsoft Corporation Virtual": "Hyper-V",
}  # fmt: skip


class Host(NamedTuple):
    """What kind of machine this is."""

    kernel: str
    python: str
    cpu: str
    cpus: int
    hypervisor: str | None  # in a virtual machine: whose
    container: str | None  # in a container: which kind


class Governor(NamedTuple):
    """What answers at the socket; ``reason`` is None when readings come."""

    path: str
    reason: str | None
    message: str
    uid: int | None = None
    layout: Layout | None = None


class Counters(NamedTuple):
    """Counters tried directly; ``error`` is None when this process may read them."""

    zones: tuple[str, ...]
    error: str | None
    exist: bool  # there are some, readable or not


class Gpus(NamedTuple):
    present: bool  # a driver or card shows
    names: tuple[str, ...]
    energy: bool  # every device has an energy counter
    error: str | None
    hint: str


class Group(NamedTuple):
    exists: bool
    listed: bool  # this user is entered in it
    active: bool  # this process has it
    user: str
    root: bool


class Cgroup(NamedTuple):
    path: str | None  # as the kernel names it
    folder: str | None  # where its CPU time can be read
    cpu_limit: float | None = None  # CPUs it may use


class Signing(NamedTuple):
    installed: bool  # cryptography
    folder: str
    keys: int


def host() -> Host:
    """Return what kind of machine this is."""
    from carbon_ops.sources.host import online_cpus
    from carbon_ops.sources.modelled import processor

    name, virtual, _ = processor()
    kernel = f"{platform.system()} {platform.release()}"
    hypervisor = _hypervisor() or ("unknown" if virtual else None)
    python = platform.python_version()
    return Host(kernel, python, name, online_cpus(), hypervisor, _container())


def _text(path: str) -> str:
    try:
        return read_file(path, 1 << 16).decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _hypervisor() -> str | None:
    """Return who made the virtual machine (as systemd-detect-virt(1) finds out)."""
    xen = _text("/sys/hypervisor/type")
    if xen:
        return xen
    if "microsoft" in _text("/proc/sys/kernel/osrelease").lower():
        return "WSL"
    dmi = (_text(f"/sys/class/dmi/id/{x}") for x in ("sys_vendor", "product_name"))
    product = " ".join(dmi)
    return next((name for mark, name in _MAKERS.items() if mark in product), None)


def _container() -> str | None:
    """Return the container runtime, by the marks it leaves."""
    if os.path.exists("/.dockerenv"):
        return "docker"
    if os.path.exists("/run/.containerenv"):
        return "podman"
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        return "kubernetes"
    return _text("/run/systemd/container") or None


def governor(path: str | None) -> Governor:
    """Ask the governor for one sample."""
    from carbon_ops.governor.client import GovernorClient

    client = GovernorClient(path)
    try:
        origin = client.origin
        layout = client.layout
        client.latest()
    except GovernorUnavailableError as error:
        return Governor(client.path, error.reason, str(error))
    finally:
        client.close()
    return Governor(client.path, None, "", origin.uid, layout)


def counters(mode: str) -> Counters:
    """Try to open the hardware's own counters, and let them go again."""
    from carbon_ops.sources.open import open_source

    try:
        source = open_source(mode)
    except (CarbonOpsError, OSError) as error:
        return Counters((), str(error), isinstance(error.__cause__, PermissionError))
    zones = tuple(zone.key for zone in source.zones if zone.counted)
    source.close()
    return Counters(zones, None, True)


def nvidia() -> Gpus:
    """Look for NVIDIA devices through the vendor's library."""
    from carbon_ops.sources import gpu_nvidia, gpu_present

    return _gpus(gpu_present.nvidia(), gpu_nvidia.NvidiaGpus)


def amd() -> Gpus:
    """Look for AMD (and Intel) devices through hwmon."""
    from carbon_ops.sources import gpu_amd, gpu_present

    return _gpus(bool(gpu_present.cards()), gpu_amd.best)


def _gpus(present: bool, opener: Callable[[], GpuSource]) -> Gpus:
    if not present:
        return Gpus(False, (), False, None, "")
    try:
        found = opener()
    except CarbonOpsError as error:
        return Gpus(True, (), False, str(error), error.hint)
    readings = [found.read(device) for device in found.devices]
    names = tuple(device.name for device in found.devices)
    found.close()
    return Gpus(True, names, all(r.energy_uj is not None for r in readings), None, "")


def group() -> Group:
    """Return whether this user may use a governor of the system."""
    uid = os.geteuid()
    try:
        entry = pwd.getpwuid(uid)
        user, own = entry.pw_name, entry.pw_gid
    except KeyError:  # a user number without an entry, as in many containers
        user, own = str(uid), -1
    try:
        found = grp.getgrnam(GROUP)
    except KeyError:
        return Group(False, False, False, user, uid == 0)
    listed = user in found.gr_mem or own == found.gr_gid
    active = found.gr_gid in {*os.getgroups(), os.getegid()}
    return Group(True, listed, active, user, uid == 0)


def cgroup() -> Cgroup:
    """Return this process's control group, its CPU time and its CPU limit."""
    from carbon_ops.sources.cgroup import CgroupClock, cpu_limit, own_path

    try:
        path = own_path()
    except InvalidInputError:
        return Cgroup(None, None)
    try:
        folder = CgroupClock(path).folder
    except InvalidInputError:
        return Cgroup(path, None)
    limit = cpu_limit()
    return Cgroup(path, folder, None if limit is None else limit.cpus)


def settings() -> dict[str, Setting]:
    """Return every setting, each tried as those parts will that use it.

    Raises:
        ConfigError: one cannot be used; the message says where it comes from.
    """
    from carbon_ops import config
    from carbon_ops.estimate.estimator import CarbonEstimator
    from carbon_ops.meter.readings import model_of
    from carbon_ops.meter.scope import clock_of

    found = config.load()
    value: dict[str, Any] = {name: one.value for name, one in found.items()}
    watts = ("cpu_idle_w", "cpu_load_w")
    uses: dict[tuple[str, ...], Callable[[], object]] = {
        ("region",): lambda: CarbonEstimator(region=value["region"]),
        ("scope",): lambda: clock_of(value["scope"]),
        watts: lambda: model_of("on", *(value[name] for name in watts)),
    }
    for names, use in uses.items():
        try:
            use()
        except CarbonOpsError as error:
            where = ", ".join(f"{name} ({found[name].origin})" for name in names)
            raise ConfigError(f"{where}: {error}", hint=error.hint) from error
    return found


def model() -> CpuModel | None:
    """Return the model of CPU load for this host as it is set, None if it is off."""
    from carbon_ops import config
    from carbon_ops.sources.host import online_cpus
    from carbon_ops.sources.modelled import KNOWN_CV, CpuModel, of_this_host

    try:
        settings = config.load()
    except CarbonOpsError:
        return of_this_host(online_cpus())  # which setting it is, another finding says
    if settings["model"].value == "off":
        return None
    idle, load = settings["cpu_idle_w"], settings["cpu_load_w"]
    if idle.value is None or load.value is None:
        return of_this_host(online_cpus())
    watts = float(idle.value), float(load.value)
    return CpuModel("given", *watts, KNOWN_CV, True, f"given by {load.origin}")


def msr() -> tuple[bool, bool]:
    """Return whether the msr module shows its devices, and whether they can be read."""
    path = "/dev/cpu/0/msr"
    return os.path.exists(path), os.access(path, os.R_OK)


def signing() -> Signing:
    """Return whether ledgers can be signed here, and how many keys there are."""
    from carbon_ops.ledger.keys import key_path

    folder = str(key_path("x").parent)
    try:
        keys = sum(name.endswith(".key") for name in os.listdir(folder))
    except OSError:
        keys = 0
    return Signing(find_spec("cryptography") is not None, folder, keys)


def live() -> tuple[bool, tuple[str, ...]]:
    """Return whether live providers are installed, and the credentials that are set."""
    installed = all(find_spec(name) is not None for name in ("httpx", "stamina"))
    return installed, tuple(name for name in TOKENS if os.environ.get(name))
