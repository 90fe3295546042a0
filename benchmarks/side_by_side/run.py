"""Run every meter on every scenario and write what was said and what is true."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any, NamedTuple

from benchmarks.side_by_side.install import CACHE, install, inventory, python_of
from benchmarks.side_by_side.meters import METERS
from benchmarks.side_by_side.peers import PEERS, TASK_MODES
from benchmarks.virtual_host.host import ROOT, VirtualHost, missing, two_sockets
from benchmarks.virtual_host.power import Zone, total_j

WORK = os.path.join(ROOT, "benchmarks", "side_by_side", "work.py")
PER_CPU_W = 100.0
LIMIT_S = 60.0
BURN = "while True: pass"


class EndedError(Exception):
    """A program ended or kept silent; what it printed last tells why."""


class Scenario(NamedTuple):
    """What is measured on which machine.

    Attributes:
        task: Name in work.py.
        script: Power follows a script, and the host's energy is the truth; else it
            follows CPU load, and what the task's CPU time cost is the truth.
        together: How many meters may run at a time, each in a host of its own.
    """

    task: str
    seconds: float
    script: bool = False
    wraps: bool = False
    neighbour: bool = False
    together: int = 1


SCENARIOS = {
    "two_sockets": Scenario("sleep", 8.0, script=True, together=3),
    "wraps": Scenario("sleep", 10.0, script=True, wraps=True, together=3),
    "neighbour": Scenario("part", 5.0, neighbour=True),
    "children": Scenario("children", 4.0),
    "coroutine": Scenario("coroutine", 3.0),
    "cost": Scenario("cost", 4.0, script=True),
}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def group(
    command: list[str], environ: dict[str, str]
) -> Iterator[subprocess.Popen[str]]:
    """Run a command in a process group that is ended at the end, helpers and all."""
    with tempfile.TemporaryFile("w+") as errors:
        running = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environ,
            start_new_session=True,
        )
        try:
            yield running
        except EndedError:
            errors.seek(0)
            lines = errors.read().strip().splitlines() or ["said nothing"]
            raise RuntimeError(lines[-1][:300]) from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
            running.wait()
            for pipe in (running.stdin, running.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()


@contextlib.contextmanager
def governor(host: VirtualHost, socket: str) -> Iterator[int]:
    """Run a governor of this checkout in ``host``; yields its process id."""
    command = [python_of("carbon-ops"), "-m", "carbon_ops.governor.daemon"]
    command += ["--rapl-mode", "sysfs", "--socket", socket]
    command += ["--socket-group", str(os.getegid())]
    with group(host.inside(command), {"PATH": os.environ["PATH"]}) as running:
        deadline = time.monotonic() + 20
        while not os.path.exists(socket):
            if time.monotonic() > deadline or running.poll() is not None:
                raise EndedError
            time.sleep(0.02)
        time.sleep(0.3)  # a few samples
        yield running.pid


def cpu_s(pid: int) -> float:
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def pss_kib(pid: int) -> int:
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pss:"))


def one(name: str, variant: str, scenario: Scenario) -> dict[str, Any]:
    """Measure once; a meter that fails returns ``error``."""
    zones = two_sockets(
        script=scenario.script, wraps=scenario.wraps, per_cpu_w=PER_CPU_W
    )
    folder = tempfile.mkdtemp(prefix="bench", dir="/tmp")
    socket = os.path.join(folder, "s")
    try:
        with contextlib.ExitStack() as stack:
            host = stack.enter_context(VirtualHost(zones))
            daemon = 0
            if name == "carbon-ops" and not variant.startswith("alone"):
                daemon = stack.enter_context(governor(host, socket))
            environ = {
                "PATH": os.environ["PATH"],
                "HOME": folder,
                "CARBON_OPS_SOCKET": socket,
            }
            command = [python_of(name), "-W", "ignore", WORK, name, variant]
            command += [scenario.task, str(scenario.seconds)]
            meter = stack.enter_context(group(host.inside(command), environ))
            if scenario.neighbour:
                burner = [python_of(name), "-ISc", BURN]
                stack.enter_context(group(burner, environ))
            answer = ask(meter, daemon)
            return judged(answer, zones, host.t0_ns, scenario)
    except (RuntimeError, TimeoutError) as error:
        return {"error": str(error)}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def ask(meter: subprocess.Popen[str], daemon: int) -> dict[str, Any]:
    """Let a ready meter measure; with its governor's cost meanwhile."""
    assert meter.stdin is not None
    assert meter.stdout is not None
    with futures.ThreadPoolExecutor(1) as waiter:
        for _ in ("ready", "answer"):
            reading = waiter.submit(meter.stdout.readline)
            try:
                line = reading.result(LIMIT_S)
            except futures.TimeoutError:
                os.killpg(meter.pid, signal.SIGKILL)
                raise TimeoutError(f"no answer in {LIMIT_S:.0f} s") from None
            if not line:
                raise EndedError
            if line == "ready\n":
                before, began = cpu_s(daemon) if daemon else 0.0, time.monotonic()
                meter.stdin.write("go\n")
                meter.stdin.flush()
    answer: dict[str, Any] = json.loads(line)
    if daemon:
        used, wall = cpu_s(daemon) - before, time.monotonic() - began
        answer["governor_cpu_percent"] = 100 * used / wall
        answer["governor_memory_kib"] = pss_kib(daemon)
    return answer


def judged(
    answer: dict[str, Any], zones: tuple[Zone, ...], t0_ns: int, scenario: Scenario
) -> dict[str, Any]:
    """Add the truth."""
    if "t0_ns" not in answer:
        return answer
    begin, end = ((answer.pop(k) - t0_ns) / 1e9 for k in ("t0_ns", "t1_ns"))
    answer["seconds"] = end - begin
    if scenario.script:
        answer["true_j"] = total_j(zones, end, 0.0) - total_j(zones, begin, 0.0)
        answer["wraps"] = sum(
            z.wraps(z.power.joules(end, 0.0)) - z.wraps(z.power.joules(begin, 0.0))
            for z in zones
            if z.counted
        )
    else:
        answer["true_j"] = PER_CPU_W * answer["cpu_s"]
    return answer


def import_ms(name: str) -> dict[str, float]:
    """Return wall and CPU time of importing a meter, above a bare interpreter [ms]."""
    found = {}
    for label, code in (("bare", "pass"), ("all", METERS[name].imports)):
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory() as home:
            ran = os.posix_spawn(
                python_of(name),
                [python_of(name), "-W", "ignore", "-c", code],
                {"PATH": os.environ["PATH"], "HOME": home},
                file_actions=[(os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)],
            )
            usage = os.wait4(ran, 0)[2]
        wall = time.perf_counter() - begun
        found[label] = (wall * 1e3, (usage.ru_utime + usage.ru_stime) * 1e3)
    return {
        "import_ms": found["all"][0] - found["bare"][0],
        "import_cpu_ms": found["all"][1] - found["bare"][1],
    }


def variants(name: str, scenario: str) -> list[str]:
    """Return the modes of a meter that a scenario is for."""
    modes = list(PEERS[name].variants)
    machine = [m for m in modes if m not in TASK_MODES]
    task = [m for m in modes if m in TASK_MODES]
    if SCENARIOS[scenario].script and scenario != "cost":
        return machine
    return task or machine


def machine() -> dict[str, Any]:
    """Return what the results depend on."""
    model = ""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        lines = [line for line in file if line.startswith("model name")]
        model = lines[0].partition(":")[2].strip() if lines else ""
    return {
        "cpu": model,
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def moment() -> dict[str, Any]:
    """Return when, at which commit and beside what load something is measured."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude=*", "--abbrev=12"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "commit": commit.stdout.strip() or None,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "loads": [round(os.getloadavg()[0], 1)],
    }


def measure(
    names: list[str],
    scenarios: list[str],
    rounds: int,
    keep: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """Run everything; returns what is written to the JSON file.

    ``keep`` gets the result after each round, so that a long run can be stopped.
    """
    reason = missing()
    result: dict[str, Any] = {"schema": "carbon-ops/side-by-side/1", "skipped": reason}
    result["machine"] = machine()
    if reason:
        say(f"skipped: no virtual host on this machine: {reason}")
        return result
    os.makedirs(CACHE, exist_ok=True)
    meters: dict[str, Any] = {}
    for name in names:
        say(f"install {name}")
        failed = install(name)
        meters[name] = {"failed": failed} if failed else inventory(name)
    result["meters"] = meters
    usable = [name for name in names if "failed" not in meters[name]]
    runs: dict[str, dict[str, list[dict[str, Any]]]] = {s: {} for s in scenarios}
    result["taken"] = {s: moment() for s in scenarios}
    for number in range(rounds):  # rounds outside: a bad minute meets all meters
        for title in scenarios:
            scenario = SCENARIOS[title]
            todo = [(n, v) for n in usable for v in variants(n, title)]
            say(f"round {number + 1}: {title}, {len(todo)} runs")

            def run(which: tuple[str, str], title: str = title) -> dict[str, Any]:
                found = one(*which, SCENARIOS[title])
                if title == "cost" and "error" not in found:
                    found |= import_ms(which[0])
                return found

            with futures.ThreadPoolExecutor(scenario.together) as pool:
                for which, found in zip(todo, pool.map(run, todo), strict=True):
                    label = PEERS[which[0]].variants[which[1]]
                    if title == "cost":
                        label = (
                            label.split(",")[0] if which[0] != "carbon-ops" else label
                        )
                    runs[title].setdefault(label, []).append(found)
            result["taken"][title]["loads"].append(round(os.getloadavg()[0], 1))
        result["runs"] = runs
        keep(result)
    return result
