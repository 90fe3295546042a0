"""What a scrape costs: CPU time of the exporter with 300 busy processes.

    python benchmarks/export_cost.py [--processes 300] [--scrapes 10] [--rest 45] [--json]

The processes have names of their own and all use a little CPU time between two scrapes,
and as many containers stand beside them (files laid out as cgroup version 2's): nobody is
skipped. CPU time is the kernel's own for the whole exporter, threads included, with HTTP
and text. ``--rest`` seconds follow with a scrape every 15 s: the exporter's share of a
core. The counters are simulated.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

from carbon_ops.meter.process_tree import process_ns
from carbon_ops.testing.governor import GovernorProcess

PERIOD_S = 15.0
CROWD = """
import os, sys, time
for number in range(int(sys.argv[1])):
    if os.fork() == 0:
        with open("/proc/self/comm", "w") as comm:
            comm.write(f"busy{number}")
        parent = os.getppid()
        while os.getppid() == parent:
            until = time.process_time() + 0.0005
            while time.process_time() < until:
                pass
            time.sleep(0.8)
        os._exit(0)
print("on", flush=True)
sys.stdin.read()
"""


def containers(root: str, count: int, usec: int) -> None:
    """Lay out ``count`` containers that have each used ``usec`` of CPU time."""
    for number in range(count):
        pod = f"kubepods-pod{number:08x}_0000_0000_0000_000000000000.slice"
        folder = f"{root}/kubepods.slice/{pod}/cri-containerd-{number:064x}.scope"
        os.makedirs(folder, exist_ok=True)
        with open(f"{folder}/cpu.stat", "w") as file:
            file.write(f"usage_usec {usec}\nuser_usec 0\nsystem_usec 0\n")


def measure(processes: int, scrapes: int, rest: float) -> dict[str, object]:
    """Return CPU times [ms] and the share of one core at rest."""
    with tempfile.TemporaryDirectory() as root, GovernorProcess() as governor:
        governor.wait_ready().close()
        containers(root, processes, 0)
        crowd = subprocess.Popen(
            [sys.executable, "-c", CROWD, str(processes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        exporter = subprocess.Popen(
            [
                *(sys.executable, "-m", "carbon_ops", "export", "prometheus"),
                *("--listen=127.0.0.1:0", f"--socket={governor.path}", "--region=DE"),
                f"--cgroup-root={root}",
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert crowd.stdout is not None
            assert exporter.stdout is not None
            crowd.stdout.readline()
            url = exporter.stdout.readline().strip()

            def scrape(number: int) -> float:
                containers(root, processes, 1_000 * number)
                before = process_ns(exporter.pid)
                with urllib.request.urlopen(url, timeout=60) as reply:
                    reply.read()
                time.sleep(0.05)  # its thread ends after the answer
                return (process_ns(exporter.pid) - before) / 1e6

            scrape(1)
            costs = []
            for number in range(2, scrapes + 2):
                time.sleep(1.0)
                costs.append(scrape(number))
            before, began = process_ns(exporter.pid), time.monotonic()
            while time.monotonic() - began < rest:
                time.sleep(PERIOD_S)
                scrape(len(costs) + 2)
            share = (
                (process_ns(exporter.pid) - before)
                / 1e9
                / (time.monotonic() - began or 1)
            )
            with open(f"/proc/{exporter.pid}/statm") as file:
                resident = int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
        finally:
            for process in (exporter, crowd):
                process.kill()
                process.communicate()
    return {
        "processes": processes,
        "containers": processes,
        "scrapes": scrapes,
        "scrape_cpu_ms_median": round(statistics.median(costs), 2),
        "scrape_cpu_ms_max": round(max(costs), 2),
        "core_percent_at_15_s": round(100 * share, 4) if rest else None,
        "resident_mb": round(resident / 1e6, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=300)
    parser.add_argument("--scrapes", type=int, default=10)
    parser.add_argument("--rest", type=float, default=45.0, help="seconds")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.processes, options.scrapes, options.rest)
    if options.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:24} {value}")


if __name__ == "__main__":
    main()
