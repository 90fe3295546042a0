"""One measured run: python work.py METER VARIANT TASK SECONDS

Runs in the meter's own virtual environment inside a virtual host, so it imports the
standard library and ``meters.py`` beside it only. Says ``ready`` when the meter is
imported, waits for a line, measures one task, and prints what the meter said together
with what is true: when the block began and ended (CLOCK_MONOTONIC) and the CPU time
that it and its children used in it.
"""

# mypy: disable-error-code="import-not-found"
from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

from meters import METERS, Meter

CHILD = "import time\nend = time.process_time() + 0.06\nwhile time.process_time() < end: pass"


def cpu_s() -> float:
    """CPU time of this process and the children it has waited for [s]."""
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        total += usage.ru_utime + usage.ru_stime
    return total


def burn(seconds: float) -> None:
    """Use CPU time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


class Block:
    """What is true of the block that is measured."""

    def __init__(self) -> None:
        self.true: dict[str, float] = {}

    def __enter__(self) -> None:
        self._cpu, self._t0 = cpu_s(), time.monotonic_ns()

    def __exit__(self, *_: object) -> None:
        t1, cpu = time.monotonic_ns(), cpu_s()
        self.true = {"t0_ns": self._t0, "t1_ns": t1, "cpu_s": cpu - self._cpu}


def task(name: str, seconds: float) -> None:
    """Do the work called ``name`` for about ``seconds``."""
    end = time.monotonic() + seconds
    if name == "sleep":
        time.sleep(seconds)
    elif name == "part":  # a third of one CPU
        while time.monotonic() < end:
            burn(0.1)
            time.sleep(0.2)
    elif name == "children":
        while time.monotonic() < end:
            subprocess.run([sys.executable, "-ISc", CHILD], check=True)
    else:
        raise ValueError(name)


def coroutine(meter: Meter, seconds: float) -> dict[str, Any]:
    """Measure a coroutine that works half of the time and waits half of it."""
    block = Block()

    async def work() -> None:
        with block:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                burn(0.05)
                await asyncio.sleep(0.05)

    joules = meter.measure_coroutine(work)
    return {"joules": joules, **block.true}


def descendants(pid: int) -> list[int]:
    found = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
                for child in map(int, file.read().split()):
                    found += [child, *descendants(child)]
    return found


def helpers_cpu_s() -> float:
    """CPU time of processes that the meter started and that still run [s]."""
    total = 0
    for pid in descendants(os.getpid()):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as file:
            total += sum(map(int, file.read().rpartition(")")[2].split()[11:15]))
    return total / os.sysconf("SC_CLK_TCK")


def memory_kib() -> int:
    """Proportional memory of this process and its descendants [KiB]."""
    total = 0
    for pid in [os.getpid(), *descendants(os.getpid())]:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup") as file:
            total += next(int(li.split()[1]) for li in file if li.startswith("Pss:"))
    return total


def cost(meter: Meter, seconds: float) -> dict[str, Any]:
    """Measure what the meter takes itself: to begin, while a block sleeps, to end, and
    for an empty block once it has begun before."""
    seen: dict[str, Any] = {}

    def quiet() -> None:
        seen["started"] = time.perf_counter()
        time.sleep(1.0)  # what starts late has started now
        cpu, wall = cpu_s() + helpers_cpu_s(), time.perf_counter()
        time.sleep(seconds)
        used = cpu_s() + helpers_cpu_s() - cpu
        seen["steady_cpu_percent"] = 100 * used / (time.perf_counter() - wall)
        seen["memory_kib"] = memory_kib()
        seen["ended"] = time.perf_counter()

    before = time.perf_counter()
    meter.measure(quiet)
    seen["stop_ms"] = 1e3 * (time.perf_counter() - seen.pop("ended"))
    seen["start_ms"] = 1e3 * (seen.pop("started") - before)
    times: list[float] = []
    deadline = time.perf_counter() + 2.0
    with contextlib.suppress(Exception):  # not every meter can be used twice
        while len(times) < 500 and time.perf_counter() < deadline:
            begun = time.perf_counter()
            meter.measure(lambda: None)
            times.append(1e3 * (time.perf_counter() - begun))
    seen["block_ms"] = statistics.median(times) if times else None
    return seen


def main() -> None:
    name, variant, what, seconds = sys.argv[1:]
    out, sys.stdout = sys.stdout, sys.stderr  # meters may print; the answer is apart
    meter = METERS[name](variant)
    meter.load()
    print("ready", file=out, flush=True)
    sys.stdin.readline()
    if what == "cost":
        answer = cost(meter, float(seconds))
    elif what == "coroutine":
        answer = coroutine(meter, float(seconds))
    else:
        block = Block()

        def work() -> None:
            with block:
                task(what, float(seconds))

        answer = {"joules": meter.measure(work), **block.true}
    print(json.dumps(answer), file=out, flush=True)
    out.flush()
    os._exit(0)  # threads and helpers of meters do not hold up the next run


if __name__ == "__main__":
    main()
