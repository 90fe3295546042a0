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
import time
from collections.abc import Callable

from carbon_ops import EnergyLogger
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


def output(code: str, environ: dict[str, str]) -> int:
    """Return the number a process prints."""
    return int(
        subprocess.run(
            [sys.executable, "-c", code], env=environ, check=True, capture_output=True
        ).stdout
    )


def median_us(call: Callable[[], object], count: int) -> float:
    """Return the median duration of ``call`` [µs]."""
    times = []
    for _ in range(count):
        start = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - start)
    return statistics.median(times) / 1e3


def yardstick() -> str:
    """A fixed piece of work, to compare with: 100 small numbers to JSON text."""
    return json.dumps(list(range(100)))


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
            if not name.startswith("CARBON_OPS_")
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
            result[f"memory added, {label} [kB]"] = output(
                MEMORY.format(code=code), environ
            ) - output(MEMORY.format(code="pass"), environ)
        result["CPU in 2 s between calls [ms]"] = output(BETWEEN, served) / 1e6
        for label, path in (("no governor", alone), ("governor", served)):
            with EnergyLogger(socket=path["CARBON_OPS_SOCKET"]) as logger:

                def span(logger: EnergyLogger = logger) -> None:
                    with logger.span("empty"):
                        pass

                logger.log_metrics("first")  # loads the CPU tables
                reference = median_us(yardstick, args.calls)
                for name, call in (
                    ("log_metrics", lambda logger=logger: logger.log_metrics("x")),
                    ("empty span", span),
                ):
                    took = median_us(call, args.calls)
                    result[f"{name}, {label} [µs]"] = took
                    result[f"{name}, {label} / yardstick"] = took / reference
    if args.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{value:12.2f}  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
