"""Real child processes: nobody's CPU time is lost, and nobody's is counted twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from carbon_ops import EnergyLogger
from carbon_ops.model import Metric

NOWHERE = "/nonexistent/carbon-ops.sock"
METHODS = ("fork", "spawn", "forkserver")


@pytest.fixture
def logger() -> Iterator[EnergyLogger]:
    with EnergyLogger(socket=NOWHERE) as logger:
        yield logger


def burn(seconds: float) -> float:
    end = time.process_time() + seconds
    while time.process_time() < end:
        sum(range(500))
    return time.process_time()


def cpu(metric: Metric | None) -> float:
    assert metric is not None
    return metric["cpu"]["process_s"]


# A file of its own, because spawned children import the main module again.
POOLS = """
import concurrent.futures, json, multiprocessing, sys, time
from carbon_ops import EnergyLogger

def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        sum(range(500))

if __name__ == "__main__":
    logger = EnergyLogger(socket="/nonexistent/s", scope="children")
    context = multiprocessing.get_context(sys.argv[1])
    spans = {}
    with logger.span("processes") as spans["processes"]:
        children = [context.Process(target=burn, args=(0.2,)) for _ in range(3)]
        for child in children: child.start()
        for child in children: child.join()
    with logger.span("pool") as spans["pool"]:
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
            list(pool.map(burn, [0.01, 0.01]))  # starts them
            with logger.span("work") as spans["work"]:
                list(pool.map(burn, [0.2, 0.2]))
    all_of_it = logger.log_metrics("all")["cpu"]["process_s"]
    print(json.dumps({"all": all_of_it, **{
        name: span.metric["cpu"]["process_s"] for name, span in spans.items()}}))
"""


@pytest.mark.parametrize("method", METHODS)
def test_children_of_every_start_method_count_while_they_live_and_once(
    tmp_path: Path, method: str
) -> None:
    script = tmp_path / "pools.py"
    script.write_text(POOLS)
    done = subprocess.run(
        [sys.executable, str(script), method],
        check=True,
        capture_output=True,
        timeout=100,
    )
    used = json.loads(done.stdout)

    assert used["processes"] >= 0.58  # in steps of 10 ms below a forkserver
    assert 0.38 <= used["work"] <= used["pool"]
    # Nothing twice: together they are what the process's children used in all.
    assert used["processes"] + used["pool"] <= used["all"] + 0.05
    assert used["all"] == pytest.approx(used["processes"] + used["pool"], abs=0.1)


JOBLIB = """
import json, sys, time
from joblib import Parallel, delayed
from carbon_ops import EnergyLogger

def burn(seconds):
    before = time.process_time()
    end = before + seconds
    while time.process_time() < end:
        sum(range(500))
    return time.process_time() - before

if __name__ == "__main__":
    logger = EnergyLogger(socket="/nonexistent/s", scope="children")
    with Parallel(n_jobs=2, backend="loky") as parallel:
        parallel(delayed(burn)(0.01) for _ in range(2))  # starts them
        with logger.span("work") as span:
            used = parallel(delayed(burn)(0.1) for _ in range(4))
    print(json.dumps([sum(used), span.metric["cpu"]["process_s"],
                      logger.log_metrics("all")["cpu"]["process_s"]]))
"""


def test_joblibs_workers_are_counted_once(tmp_path: Path) -> None:
    pytest.importorskip("joblib")
    script = tmp_path / "jobs.py"
    script.write_text(JOBLIB)
    done = subprocess.run(
        [sys.executable, str(script)],
        check=True,
        capture_output=True,
        timeout=100,
        env={**os.environ, "JOBLIB_TEMP_FOLDER": str(tmp_path)},
    )
    used, counted, everything = json.loads(done.stdout)

    assert used <= counted < 2 * used  # not twice
    assert counted <= everything


FORKS = """
import os, sys, time
from carbon_ops import EnergyLogger

def burn(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end: sum(range(500))

def cpu(metric): return metric["cpu"]["process_s"]

def ended(pid):
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

logger = EnergyLogger(socket="/nonexistent/s")
"""


def forks(program: str) -> None:
    """Run ``program`` after the lines above; a failed assertion is its exit status."""
    subprocess.run([sys.executable, "-c", FORKS + program], check=True, timeout=100)


def test_two_hundred_children_of_ten_milliseconds_are_all_billed() -> None:
    forks("""
used = 0.0
with logger.span("children", scope="children") as span:
    for _ in range(200):
        pid = os.fork()
        if pid == 0:
            burn(0.01)
            os._exit(0)
        _, _, usage = os.wait4(pid, 0)
        used += usage.ru_utime + usage.ru_stime
assert abs(cpu(span.metric) / used - 1) <= 0.01, (cpu(span.metric), used)
""")


def test_a_forked_child_starts_its_own_account_and_leaves_the_parents_alone() -> None:
    forks("""
burn(0.1)
logger.log_metrics("parent")
pid = os.fork()
if pid == 0:
    metric = logger.log_metrics("child")
    with logger.span("inside") as span:
        burn(0.02)
    assert cpu(metric) < 0.05  # not the parent's 0.1 s again
    assert list(logger.summary()) == ["child", "inside"]
    assert 0.02 <= cpu(span.metric) < 0.1
    os._exit(0)
ended(pid)
assert list(logger.summary()) == ["parent"]
assert cpu(logger.log_metrics("after")) >= 0.02  # the child's, reaped
""")


def test_a_span_that_crosses_a_fork_ends_in_both_and_says_so() -> None:
    forks("""
def flagged(metric):
    return "ended_in_forked_child" in metric["energy"]["quality"]["flags"]

with logger.span("outer") as span:
    pid = os.fork()
    if pid == 0:
        os._exit(0 if flagged(span.end()) else 1)
    ended(pid)
assert not flagged(span.metric)
""")


def test_measuring_starts_no_thread_and_no_process_and_imports_no_third_party() -> None:
    code = """
import os, sys
before = set(sys.modules)
from carbon_ops import EnergyLogger
logger = EnergyLogger()
logger.log_metrics("x")
with logger.span("y"):
    pass
assert len(os.listdir("/proc/self/task")) == 1
assert open(f"/proc/self/task/{os.getpid()}/children").read() == ""
heavy = {"psutil", "numpy", "msgspec", "click", "rich", "platformdirs", "logging",
         "asyncio", "subprocess", "dataclasses", "tempfile"} & (set(sys.modules) - before)
assert not heavy, heavy
"""
    env = {k: v for k, v in os.environ.items() if not k.startswith("CARBON_OPS_")}
    subprocess.run([sys.executable, "-c", code], check=True, env=env, timeout=60)


def test_nothing_runs_between_calls() -> None:
    code = """
import time
from carbon_ops import EnergyLogger
logger = EnergyLogger()
logger.log_metrics("x")
before = time.process_time_ns()
time.sleep(0.5)
assert time.process_time_ns() - before < 2_000_000
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
