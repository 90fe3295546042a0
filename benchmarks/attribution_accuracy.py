"""How far is what a task is billed from what it really used, beside a busy neighbour?

    python benchmarks/attribution_accuracy.py [--seconds 10] [--json]

Power follows the load of all CPUs: so many watts idle, so many more for each busy CPU.
A task at half load of one CPU, by the CPU's clock, runs beside a neighbour that never
rests; what its CPU time is worth is then known. Counters are the governor's own simulated ones; or, with
``--powercap-root DIR``, those of a virtual machine of your own, whose power follows
``--idle-w`` and ``--cpu-w``. Then two coroutines with a 3:1 split, and 200 children of
10 ms under ``carbon-ops run``.

exit status: 0 if the task got half a CPU (0.45 to 0.55), its energy and the split are
within 5 % and at least 99 % of the children's CPU time is found; 1 if not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time

from carbon_ops import EnergyLogger
from carbon_ops.sources.host import host_busy_ns
from carbon_ops.sources.simulated import DEFAULT_PROFILE, Load
from carbon_ops.testing.governor import GovernorProcess

NEIGHBOUR = "while True: sum(range(1000))"
# 200 children of 10 ms; then what they and their parent used, by the kernel's account.
CHILDREN = """
import os, resource, sys, time
for _ in range(200):
    pid = os.fork()
    if pid == 0:
        end = time.process_time() + 0.01
        while time.process_time() < end: sum(range(200))
        os._exit(0)
    os.waitpid(pid, 0)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(sys.argv[1], "w") as file:
    print(used.ru_utime + used.ru_stime + time.process_time(), file=file)
"""


def burn(seconds: float) -> None:
    """Use CPU time of this thread [s]."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(500))


def half_load(seconds: float) -> None:
    """Use half of one CPU for ``seconds`` [s], whatever else the machine does.

    By the CPU's clock and not by sleeping as long as working: on a busy machine the
    work takes longer, and its share would shrink.
    """
    began, used_before = time.monotonic(), time.thread_time()
    while (passed := time.monotonic() - began) < seconds:
        behind = passed / 2 - (time.thread_time() - used_before)
        if behind > 0:
            burn(min(behind, 0.01))
        else:
            time.sleep(0.01)


def all_cpus_s() -> float:
    """Return the CPU time of the whole machine [s], as exactly as it is shown."""
    try:
        with open("/sys/fs/cgroup/cpuacct/cpuacct.usage") as file:
            return int(file.read()) / 1e9
    except OSError:
        return (host_busy_ns() or 0) / 1e9


def beside_a_neighbour(
    path: str, seconds: float, idle_w: float, cpu_w: float
) -> dict[str, float]:
    """Return the relative error of each policy for a task at half load."""
    neighbour = subprocess.Popen([sys.executable, "-c", NEIGHBOUR])
    try:
        loggers = [
            EnergyLogger(
                socket=path,
                policy=policy,
                idle_w=idle_w,
                scope="process",
                ledger=False,
            )
            for policy in ("excluded", "proportional")
        ]
        spans = [logger.span("half load", settle=True).begin() for logger in loggers]
        all_before, own_before = all_cpus_s(), time.process_time()
        half_load(seconds)
        own, every = time.process_time() - own_before, all_cpus_s() - all_before
        metrics = [span.end() for span in spans]
        for logger in loggers:
            logger.close()
    finally:
        neighbour.kill()
        neighbour.wait()
    lasted = metrics[0]["duration_s"]
    truths = (cpu_w * own, (cpu_w * every + idle_w * lasted) * own / every)
    found = {"busy CPUs of the machine": every / lasted, "of the task": own / lasted}
    for metric, truth in zip(metrics, truths, strict=True):
        energy = metric["energy"]
        if energy["attribution_mode"] != "governor":
            raise SystemExit(f"no counters: {energy['reason']}")
        name = f"{energy['policy']}: relative error"
        found[name] = (energy["components"]["cpu"]["j"] or 0.0) / truth - 1
        found[f"{energy['policy']}: relative uncertainty claimed"] = (
            energy["components"]["cpu"]["uncertainty_j"] or 0.0
        ) / truth
    host = metrics[0]["energy"]["host"]["total_j"] or 0.0
    found["the whole package, as some tools bill it: relative error"] = (
        host / truths[0] - 1
    )
    return found


def two_coroutines(path: str) -> float:
    """Return the energy of one coroutine over that of another with a third of its CPU."""
    with EnergyLogger(socket=path, ledger=False) as logger:

        @logger.track("work")
        async def work(seconds: float) -> None:
            for _ in range(100):
                burn(seconds)
                await asyncio.sleep(0)

        async def both() -> None:
            await asyncio.gather(work(0.006), work(0.002))

        asyncio.run(both())
        small, large = sorted(m["cpu"]["process_s"] for m in logger.metrics)
    return large / small


def short_children(path: str) -> float:
    """Return which part of 200 short children's CPU time ``run`` accounts for."""
    with tempfile.TemporaryDirectory() as folder:
        told = os.path.join(folder, "used")
        done = subprocess.run(
            [
                *(sys.executable, "-m", "carbon_ops", "run", "--json", "--"),
                *(sys.executable, "-c", CHILDREN, told),
            ],
            env={**os.environ, "CARBON_OPS_SOCKET": path},
            check=True,
            capture_output=True,
            text=True,
        )
        with open(told) as file:
            used = float(file.read())
    found: float = json.loads(done.stderr.splitlines()[-1])["metric"]["cpu"][
        "process_s"
    ]
    return found / used


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    power = DEFAULT_PROFILE["package-0"]
    assert isinstance(power, Load)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--powercap-root", metavar="DIR")
    parser.add_argument("--idle-w", type=float, default=power.idle_w)
    parser.add_argument("--cpu-w", type=float, default=power.per_cpu_w)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    mode = (
        ("--rapl-mode=simulated",)
        if args.powercap_root is None
        else ("--rapl-mode=sysfs", f"--powercap-root={args.powercap_root}")
    )
    with GovernorProcess(*mode) as governor:
        governor.wait_ready()
        result = beside_a_neighbour(
            governor.path, args.seconds, args.idle_w, args.cpu_w
        )
        split = result["coroutines 3:1: CPU time"] = two_coroutines(governor.path)
        found = result["200 children: part found"] = short_children(governor.path)
    if args.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{value:10.4f}  {name}")
    errors = [
        result[f"{policy}: relative error"] for policy in ("excluded", "proportional")
    ]
    good = (
        max(map(abs, errors)) <= 0.05
        and 0.45 <= result["of the task"] <= 0.55
        and abs(split / 3 - 1) <= 0.05
        and found >= 0.99
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
