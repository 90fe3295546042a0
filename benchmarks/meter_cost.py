"""What measuring costs the program that is measured.

    python benchmarks/meter_cost.py [--rounds 12] [--calls 2000] [--json]

Start-up is CPU time of whole processes, interleaved with a bare interpreter's and with
one that imports four standard modules only, so that noise meets all of them. A call is
the median of many, beside a fixed piece of work in the same loop: compare the ratios on
a busy machine. The governor is simulated, in a process of its own, without a ledger.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys

from carbon_ops.testing.governor import GovernorProcess

STARTS = {
    "bare interpreter": "pass",
    "dataclasses, json, socket, logging": "import dataclasses, json, socket, logging",
    "EnergyLogger()": "import carbon_ops; carbon_ops.EnergyLogger()",
    "... and log_metrics": "import carbon_ops; carbon_ops.EnergyLogger().log_metrics('x')",
}
MEMORY = """
import sys
{code}
with open("/proc/self/status") as file:
    print(next(line.split()[1] for line in file if line.startswith("VmRSS")))
"""
BETWEEN = """
import time
from carbon_ops import EnergyLogger
logger = EnergyLogger()
logger.log_metrics("x")
before = time.process_time_ns()
time.sleep(2)
print(time.process_time_ns() - before)
"""


def cpu_ms(code: str, environ: dict[str, str]) -> float:
    """Return the CPU time of a whole process [ms]."""
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", code], environ)
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise SystemExit(f"failed: {code}")
    return (usage.ru_utime + usage.ru_stime) * 1e3


def run(code: str, environ: dict[str, str], *args: str) -> str:
    """Return what a process prints."""
    return subprocess.run(
        [sys.executable, "-c", code, *args],
        env=environ,
        check=True,
        capture_output=True,
        text=True,
    ).stdout


CALLS = """
import json, statistics, sys, time
from carbon_ops import EnergyLogger

def median_us(call, count):
    times = []
    for _ in range(count):
        start = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - start)
    return statistics.median(times) / 1e3

def span():
    with logger.span("empty"):
        pass

with EnergyLogger() as logger:
    time.sleep(0.5)
    logger.log_metrics("first")  # loads the CPU tables
    # A fixed piece of work, to compare with: 100 small numbers to JSON text.
    calls = {
        "yardstick": lambda: json.dumps(list(range(100))),
        "log_metrics": lambda: logger.log_metrics("x"),
        "empty span": span,
    }
    print(json.dumps({name: median_us(f, int(sys.argv[1])) for name, f in calls.items()}))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    result: dict[str, float] = {}
    with GovernorProcess() as governor:
        governor.wait_ready()
        alone = {
            name: value
            for name, value in os.environ.items()
            # An installed package has its bytecode; without it every start compiles.
            if not name.startswith(("CARBON_OPS_", "PYTHONDONTWRITEBYTECODE"))
        }
        alone["CARBON_OPS_SOCKET"] = governor.directory + "/none"
        served = {**alone, "CARBON_OPS_SOCKET": governor.path}
        for label, environ in (("no governor", alone), ("governor", served)):
            runs: dict[str, list[float]] = {name: [] for name in STARTS}
            for _ in range(args.rounds):
                for name, code in STARTS.items():
                    runs[name].append(cpu_ms(code, environ))
            base = statistics.median(runs["bare interpreter"])
            for name, times in runs.items():
                result[f"start, {label}: {name} [ms CPU]"] = statistics.median(
                    times
                ) - base * (name != "bare interpreter")
            code = STARTS["... and log_metrics"]
            result[f"memory added, {label} [kB]"] = int(
                run(MEMORY.format(code=code), environ)
            ) - int(run(MEMORY.format(code="pass"), environ))
        result["CPU in 2 s between calls [ms]"] = int(run(BETWEEN, served)) / 1e6
        for label, environ in (("no governor", alone), ("governor", served)):
            # In a process without children: each living one costs another look.
            took = json.loads(run(CALLS, environ, str(args.calls)))
            reference = took.pop("yardstick")
            for name, us in took.items():
                result[f"{name}, {label} [µs]"] = us
                result[f"{name}, {label} / yardstick"] = us / reference
    if args.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{value:12.2f}  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
