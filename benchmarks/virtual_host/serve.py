"""The process behind a virtual host: a mount namespace and the files in it.

    python -m benchmarks.virtual_host.serve FOLDER < CONFIG

Reads one line of JSON (``zones``, ``sockets``), makes a mount namespace, puts the virtual files over
/sys and /proc/cpuinfo there, says ``{"pid": N, "t0_ns": N}`` and answers each line with
the truth at that moment. Ends with its standard input; the mounts end with it and with
what runs in its namespace. Needs root (CAP_SYS_ADMIN) and /dev/fuse.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable
from functools import partial

from benchmarks.virtual_host.fuse import Server, Tree
from benchmarks.virtual_host.power import UPDATE_NS, Zone, total_j, zone_from

CLONE_NEWNS = 0x00020000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
CPUACCT = "/sys/fs/cgroup/cpuacct/cpuacct.usage"  # cgroup v1, ns
NAME = "Intel(R) Xeon(R) Gold 6226R CPU @ 2.90GHz"
libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """mount(2)."""
    given = (source.encode(), target.encode(), kind.encode(), flags, data.encode())
    check(libc.mount(*given), f"mount {source} on {target}")


def bind(source: str, target: str) -> None:
    mount(source, target, "", MS_BIND | MS_REC)


class BusyClock:
    """CPU time of the whole machine since the start, as fine as this kernel tells it:
    nanoseconds from the cgroup controller, else hundredths of seconds."""

    def __init__(self) -> None:
        self.fine = os.path.exists(CPUACCT)
        self._file = os.open(CPUACCT if self.fine else "/proc/stat", os.O_RDONLY)
        self._tick_ns = 10**9 // os.sysconf("SC_CLK_TCK")
        self._first = 0
        self._first = self.ns()

    def ns(self) -> int:
        text = os.pread(self._file, 512, 0)
        if self.fine:
            return int(text) - self._first
        user, nice, system, _, _, irq, softirq = map(int, text.split()[1:8])
        return (user + nice + system + irq + softirq) * self._tick_ns - self._first


class Truth:
    """The clock and the energy of every zone."""

    def __init__(self, zones: tuple[Zone, ...]) -> None:
        self.zones, self.busy = zones, BusyClock()
        self.t0_ns = time.monotonic_ns()

    def now(self) -> tuple[float, float]:
        """Return seconds since the start and busy CPU seconds; they move every ms."""
        elapsed = time.monotonic_ns() - self.t0_ns
        return (elapsed - elapsed % UPDATE_NS) / 1e9, self.busy.ns() / 1e9

    def shown(self, zone: Zone) -> str:
        return f"{zone.energy_uj(zone.power.joules(*self.now()))}\n"

    def told(self) -> dict[str, object]:
        elapsed, busy = self.now()
        return {
            "elapsed_s": elapsed,
            "busy_s": busy,
            "total_j": total_j(self.zones, elapsed, busy),
            "zones_j": {z.ident: z.power.joules(elapsed, busy) for z in self.zones},
        }


def always(value: object) -> Callable[[], str]:
    """Return a file's text that does not change."""
    return lambda: f"{value}\n"


def powercap(tree: Tree, truth: Truth) -> None:
    """Add the powercap files: devices nested, links to all of them in one class."""
    for zone in truth.zones:
        control, _, numbers = zone.ident.partition(":")
        path, parts = f"powercap/{control}", [control]
        above = [path]
        for number in numbers.split(":"):
            parts.append(number)
            path += "/" + ":".join(parts)
            above.append(path)
        for name, where in ((control, above[0]), (zone.ident, path)):
            tree.link(f"class/{name}", f"../../devices/virtual/{where}")
            up = "../" * (where.count("/") + 3)
            tree.link(f"{where}/subsystem", f"{up}class/powercap")
            tree.file(f"{where}/uevent", str)
            tree.file(f"{where}/enabled", always(1))
        tree.file(f"{path}/name", always(zone.name))
        tree.file(f"{path}/max_energy_range_uj", always(zone.range_uj))
        tree.file(f"{path}/energy_uj", partial(truth.shown, zone), 0o400)


def processors(tree: Tree, sockets: int) -> None:
    """Add a CPU description in which this machine's CPUs sit in ``sockets`` packages."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        text = file.read()
    blocks = text.strip().split("\n\n")
    count = len(blocks)
    package = [n * sockets // count for n in range(count)]
    changed = []
    for number, block in enumerate(blocks):
        for key, value in (
            ("vendor_id", "GenuineIntel"),
            ("cpu family", "6"),
            ("model", "85"),
            ("model name", NAME),
            ("physical id", str(package[number])),
        ):
            block = re.sub(rf"(?m)^({key}\s*:).*$", rf"\1 {value}", block)
        changed.append(block)
    cpuinfo = "\n\n".join(changed) + "\n\n"
    tree.file("cpuinfo", lambda: cpuinfo)
    for number in range(count):
        where = f"topology/cpu{number}"
        mates = ",".join(str(n) for n in range(count) if package[n] == package[number])
        tree.file(f"{where}/physical_package_id", always(package[number]))
        for name in ("package_cpus_list", "core_siblings_list"):
            tree.file(f"{where}/{name}", always(mates))


def cover(folder: str, name: str, source: str, spare: str) -> None:
    """Show ``folder`` as it is, with ``name`` from ``source``: where sysfs has no such
    entry, on a small temporary file system with everything else bound into it."""
    entry = os.path.join(folder, name)
    if os.path.isdir(entry):
        return bind(source, entry)
    os.mkdir(spare)
    mount("none", spare, "tmpfs", 0, "size=64k,mode=755")
    for item in os.scandir(folder):
        copy = os.path.join(spare, item.name)
        if item.is_symlink():
            os.symlink(os.readlink(item.path), copy)
        elif item.is_dir():
            os.mkdir(copy)
            bind(item.path, copy)
        else:
            with open(copy, "xb"):
                pass
            bind(item.path, copy)
    os.mkdir(os.path.join(spare, name))
    bind(source, os.path.join(spare, name))
    return bind(spare, folder)


def main() -> int:
    folder = sys.argv[1]
    config = json.loads(sys.stdin.readline())
    zones = tuple(zone_from(described) for described in config["zones"])
    truth, tree = Truth(zones), Tree()
    tree.folder("powercap")
    powercap(tree, truth)
    processors(tree, config["sockets"])
    check(libc.unshare(CLONE_NEWNS), "unshare")
    mount("none", "/", "", MS_REC | MS_PRIVATE)
    # All that is needed to mount lies on a file system of this namespace alone.
    mount("none", folder, "tmpfs", 0, "size=256k,mode=755")
    top = os.path.join(folder, "files")
    os.mkdir(top)
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions"
    mount("virtual-host", top, "fuse", 0, options)
    server = Server(device, tree)
    threading.Thread(target=server.serve, daemon=True).start()
    cover("/sys/devices/virtual", "powercap", f"{top}/powercap", f"{folder}/devices")
    cover("/sys/class", "powercap", f"{top}/class", f"{folder}/class")
    bind(f"{top}/cpuinfo", "/proc/cpuinfo")
    for cpu in sorted(os.listdir(f"{top}/topology")):
        for name in os.listdir(f"{top}/topology/{cpu}"):
            with contextlib.suppress(FileNotFoundError):  # older kernels name fewer
                bind(
                    f"{top}/topology/{cpu}/{name}",
                    f"/sys/devices/system/cpu/{cpu}/topology/{name}",
                )
    print(json.dumps({"pid": os.getpid(), "t0_ns": truth.t0_ns}), flush=True)
    for _ in sys.stdin:
        print(json.dumps(truth.told() | {"reads": server.reads}), flush=True)
    os._exit(0)  # the file system's thread waits in the kernel


if __name__ == "__main__":
    sys.exit(main())
