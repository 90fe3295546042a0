"""What the governor costs the host, beside a process that only wakes up as often.

    python benchmarks/governor_cost.py [--seconds 20] [--json]
    python benchmarks/governor_cost.py --rate [--seconds 60] [--json]

Eight zones at 10 Hz from files laid out as the kernel's (reading a register costs more:
an interrupt on the package's first CPU, which no file has). CPU time is the kernel's
own (/proc/PID/schedstat) of both processes over the same seconds. Memory is the
resident set, against an interpreter that imports nothing but ``time``.

``--rate`` measures only how many samples a second are taken while twice as many
processes as there are CPUs count to infinity.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

from carbon_ops.errors import GovernorUnavailableError
from carbon_ops.governor.links import RingLink, connect
from carbon_ops.testing.governor import GovernorProcess
from carbon_ops.testing.powercap import server

SLEEPER = """
import time
due = time.monotonic_ns()
while True:
    due += 100_000_000
    time.sleep(max(0, due - time.monotonic_ns()) / 1e9)
"""
READERS = """
import sys, time
from carbon_ops.governor.client import GovernorClient
clients = [GovernorClient(sys.argv[1]) for _ in range(int(sys.argv[2]))]
for client in clients:
    client.mark()
print("on", flush=True)
due = time.monotonic()
while True:
    for client in clients:
        client.mark()
    due += 0.01
    time.sleep(max(0.0, due - time.monotonic()))
"""


def cpu_ns(pid: int) -> int:
    """Return the CPU time of a process so far [ns]."""
    with open(f"/proc/{pid}/schedstat") as file:
        return int(file.read().split()[0])


def memory_kib(pid: int, field: str = "Rss") -> int:
    """Return a sum of /proc/PID/smaps_rollup [KiB]."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        for line in file:
            if line.startswith(f"{field}:"):
                return int(line.split()[1])
    raise LookupError(field)


def percent(pids: list[int], seconds: float) -> list[float]:
    """Return the share of one core each process takes over ``seconds`` [%]."""
    start, before = time.monotonic(), [cpu_ns(pid) for pid in pids]
    time.sleep(seconds)
    elapsed = time.monotonic() - start
    after = [cpu_ns(pid) for pid in pids]
    return [(b - a) / elapsed / 1e7 for a, b in zip(before, after, strict=True)]


def each_us(call: object, count: int) -> list[float]:
    """Return how long each of ``count`` calls took [µs]."""
    assert callable(call)
    times = []
    for _ in range(count):
        start = time.perf_counter_ns()
        call()
        times.append((time.perf_counter_ns() - start) / 1e3)
    return times


def start_ms(root: str) -> float:
    """Return the time from starting a governor to its first answer [ms]."""
    start = time.perf_counter()
    with GovernorProcess("--powercap-root", root) as governor:
        while True:
            try:
                connect(governor.path, 5.0)
                return (time.perf_counter() - start) * 1e3
            except GovernorUnavailableError:
                time.sleep(0.001)


def busy_rate(root: str, seconds: float) -> dict[str, float]:
    """Return the rate of samples, and what was late or missed, on a busy machine."""
    with GovernorProcess("--powercap-root", root) as governor:
        client = governor.wait_ready()
        words = [sys.executable, "-c", "while True: pass"]
        count = 2 * (os.cpu_count() or 1)
        crowd = [subprocess.Popen(words) for _ in range(count)]
        try:
            time.sleep(1)
            first = client.latest()
            time.sleep(seconds)
            last = client.latest()
        finally:
            for process in crowd:
                process.kill()
                process.wait()
    elapsed = last.monotonic_ns - first.monotonic_ns
    return {
        "busy_processes": count,
        "seconds": elapsed / 1e9,
        "mean_rate_hz": (last.sequence - first.sequence) * 1e9 / elapsed,
        "late_ticks": last.late_ticks - first.late_ticks,
        "missed_ticks": last.missed_ticks - first.missed_ticks,
    }


def cost(root: str, seconds: float) -> dict[str, float]:
    """Return what a governor costs that reads ``root``."""
    sleeper = subprocess.Popen([sys.executable, "-c", SLEEPER])
    figures: dict[str, float] = {}
    with GovernorProcess("--powercap-root", root) as governor:
        client = governor.wait_ready()
        pids = [governor.running.pid, sleeper.pid]
        time.sleep(2)
        first = client.latest()
        figures["zones"] = len(client.layout.zones)
        mine, bare = percent(pids, seconds)
        last = client.latest()
        figures["governor_cpu_percent"] = mine
        figures["sleeper_cpu_percent"] = bare
        rate = (last.sequence - first.sequence) * 1e9
        figures["mean_rate_hz"] = rate / (last.monotonic_ns - first.monotonic_ns)
        figures["missed_ticks"] = last.missed_ticks - first.missed_ticks
        for field in ("Rss", "Pss"):
            own, other = (memory_kib(pid, field) for pid in pids)
            figures[f"governor_{field.lower()}_mib"] = own / 1024
            figures[f"above_bare_{field.lower()}_mib"] = (own - other) / 1024
        link = client._link
        assert isinstance(link, RingLink)
        ring, first_kept = link._ring, link._ring.kept.start
        kept = itertools.cycle(range(first_kept, ring.newest))
        # Each in turn, so that none is still there unpacked.
        figures["ring_read_p50_us"] = statistics.median(
            each_us(lambda: ring.read(next(kept)), 20_000)
        )
        figures["latest_p50_us"] = statistics.median(each_us(link.latest, 20_000))
        figures["mark_p50_us"] = statistics.median(each_us(client.mark, 20_000))
        figures["snapshot_p50_us"] = snapshots(governor.path)
        with subprocess.Popen(
            [sys.executable, "-c", READERS, governor.path, "200"],
            stdout=subprocess.PIPE,
            preexec_fn=lambda: os.nice(5),
        ) as readers:
            assert readers.stdout is not None
            readers.stdout.readline()
            with_readers, _ = percent(pids, seconds)
            readers.kill()
        alone, _ = percent(pids, seconds)
        figures["cpu_percent_with_200_readers"] = with_readers
        figures["cpu_percent_without_again"] = alone
    sleeper.kill()
    sleeper.wait()
    figures["start_p50_ms"] = statistics.median(start_ms(root) for _ in range(9))
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--rate", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    seconds = options.seconds or (60.0 if options.rate else 20.0)
    with tempfile.TemporaryDirectory() as folder:
        root = server(folder).root
        figures = busy_rate(root, seconds) if options.rate else cost(root, seconds)
    if options.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:32} {value:10.3f}")


def snapshots(path: str) -> float:
    """Return the median time of a snapshot over the raw socket [µs]."""
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as raw:
        raw.connect(path)

        def ask() -> None:
            raw.sendall(b'{"v":1,"op":"snapshot"}\n')
            while not raw.recv(65_536).endswith(b"\n"):
                pass

        return statistics.median(each_us(ask, 2_000))


if __name__ == "__main__":
    main()
