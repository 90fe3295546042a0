"""Counters without a governor, and tasks pinned to one package."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from carbon_ops import EnergyLogger
from carbon_ops.counters.wrap import REGISTER_TICKS
from carbon_ops.meter.counter import HostCounter, domains
from carbon_ops.meter.metric import Task, build
from carbon_ops.meter.pinning import Topology
from carbon_ops.model import Window, Zone, ZoneEnergy
from carbon_ops.testing.powercap import FakePowercap, server

NOWHERE = "/nonexistent/carbon-ops.sock"


def logger_on(root: str, monkeypatch: pytest.MonkeyPatch) -> EnergyLogger:
    monkeypatch.setenv("CARBON_OPS_POWERCAP_ROOT", root)
    return EnergyLogger(socket=NOWHERE)


def test_readable_counters_are_read_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = server(str(tmp_path))
    with logger_on(fake.root, monkeypatch) as logger:
        time.sleep(0.05)  # 3 J in no time would be no honest power
        fake.advance("intel-rapl:0", 16_384 * 3)  # 61.035 µJ a tick: 3 J, over the top
        fake.advance("intel-rapl:1", 16_384 * 2)
        fake.advance("intel-rapl:2", 16_384 * 100)  # psys contains them: never added
        fake.advance("intel-rapl:0:1", 65_359)  # 15.3 µJ a tick: 1 J of memory
        energy = logger.log_metrics("step")["energy"]

    assert energy["attribution_mode"] == "monitor_only"
    assert energy["reason"] == "no_socket"
    assert energy["components"]["cpu"]["source"] == "rapl_sysfs"
    assert energy["host"]["total_j"] == pytest.approx(6.0, abs=0.01)
    assert energy["quality"]["wraps"] == 3
    assert "modelled" not in energy["quality"]["flags"]
    assert energy["governor"] is None


def test_memory_that_processes_may_share_is_flagged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = server(str(tmp_path))
    with logger_on(fake.root, monkeypatch) as logger:
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE):
            with logger.span("alone", scope="process") as span:
                pass
            flags = logger.log_metrics("two")["energy"]["quality"]["flags"]
    assert span.metric is not None
    alone = span.metric["energy"]["quality"]["flags"]

    assert "dram_by_resident_set" in alone
    assert "resident_sets_added" not in alone
    assert "resident_sets_added" in flags


def test_a_step_no_power_explains_is_not_a_number_and_the_model_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakePowercap(str(tmp_path))
    fake.add("intel-rapl:0", "package-0", ticks=REGISTER_TICKS // 2)
    with logger_on(fake.root, monkeypatch) as logger:
        fake.ticks["intel-rapl:0"] = 5  # a reset: half a turn would be 130 kJ
        fake.advance("intel-rapl:0", 0)
        energy = logger.log_metrics("step")["energy"]

    assert energy["components"]["cpu"]["source"] == "model_cpu_load"
    assert energy["quality"]["resets"] == 1
    assert "reset" in energy["quality"]["flags"]


def test_a_span_in_which_the_counter_may_have_turned_over_is_a_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakePowercap(str(tmp_path))
    # One joule to a turn, and 100 W that fill it in 10 ms.
    watts = {"range_uj": 1_000_000, "max_power_uw": 100_000_000}
    fake.add("intel-rapl:0", "package-0", **watts)
    with logger_on(fake.root, monkeypatch) as logger:
        time.sleep(0.05)
        fake.advance("intel-rapl:0", 100)
        energy = logger.log_metrics("step")["energy"]

    assert energy["components"]["cpu"]["source"] == "model_cpu_load"
    assert energy["quality"]["gaps"] == 1
    assert "gap" in energy["quality"]["flags"]


def test_an_unreadable_counter_is_not_zero(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakePowercap(str(tmp_path))
    fake.add("intel-rapl:0", "package-0", ticks=100)
    with logger_on(fake.root, monkeypatch) as logger:
        fake.tear("intel-rapl:0", "")
        energy = logger.log_metrics("step")["energy"]
        fake.advance("intel-rapl:0", 16_384)
        logger.log_metrics("recovers")
        time.sleep(0.02)
        fake.advance("intel-rapl:0", 16_384)
        later = logger.log_metrics("step")["energy"]

    assert energy["components"]["cpu"]["source"] == "model_cpu_load"
    assert energy["quality"]["failures"] == 1
    assert later["components"]["cpu"]["source"] == "rapl_sysfs"
    assert later["host"]["total_j"] == pytest.approx(1.0, abs=0.01)


def test_no_counters_means_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "class").mkdir()
    logger = logger_on(str(tmp_path / "class"), monkeypatch)

    energy = logger.log_metrics("step")["energy"]
    assert energy["components"]["cpu"]["source"] == "model_cpu_load"


def two_sockets(folder: Path, busy: dict[int, int]) -> Topology:
    """Four CPUs on two sockets; ``busy`` is their user time [ticks]."""
    for cpu in range(4):
        place = folder / f"cpu{cpu}" / "topology"
        place.mkdir(parents=True, exist_ok=True)
        (place / "physical_package_id").write_text(f"{cpu // 2}\n")
    (folder / "cpufreq").mkdir(exist_ok=True)
    lines = "".join(f"cpu{n} {t} 0 0 9 9 0 0 0 0 0\n" for n, t in busy.items())
    (folder / "stat").write_text(f"cpu  9 9 9 9 9 9 9 0 0 0\n{lines}intr 1 2 3\n")
    return Topology(str(folder), str(folder / "stat"))


def test_a_pinned_task_knows_its_package_and_how_busy_that_was(
    tmp_path: Path,
) -> None:
    topology = two_sockets(tmp_path, {0: 10, 1: 20, 2: 400, 3: 800})
    mark = topology.of({2, 3})

    assert mark is not None
    assert (mark.packages, mark.of, mark.busy_ns) == (
        frozenset({1}),
        2,
        1_200 * 10_000_000,
    )
    assert topology.of({1}) is not None
    assert topology.of({1, 2}) is None  # on both: not pinned to a package
    assert topology.of({7}) is None  # nobody knows where CPU 7 is


def test_a_process_is_pinned_where_all_its_threads_and_children_are(
    tmp_path: Path,
) -> None:
    here = sorted(os.sched_getaffinity(0))
    if len(here) < 2:
        pytest.skip("one CPU is one package")
    for package, cpu in enumerate(here[:2]):
        place = tmp_path / f"cpu{cpu}" / "topology"
        place.mkdir(parents=True)
        (place / "physical_package_id").write_text(f"{package}\n")
    (tmp_path / "stat").write_text(f"cpu{here[0]} 10 0 0 9 9 0 0 0 0 0\n")
    program = f"""
import os, sys, threading
from carbon_ops.meter.pinning import Topology
from carbon_ops.meter.process_tree import THIS_PROCESS
topology = Topology({str(tmp_path)!r}, {str(tmp_path / "stat")!r})
os.sched_setaffinity(0, {{{here[0]}}})
assert topology.mark(THIS_PROCESS, 1_000) is not None
away, over = threading.Event(), threading.Event()
def elsewhere():
    os.sched_setaffinity(0, {{{here[1]}}})
    away.set()
    over.wait()
thread = threading.Thread(target=elsewhere)
thread.start()
away.wait()
process, alone = topology.mark(THIS_PROCESS, 1_000), topology.mark(0, 1_000)
over.set()
thread.join()
while os.path.exists(f"/proc/self/task/{{thread.native_id}}"):
    pass  # the kernel's thread outlives Python's for a moment
assert process is None
assert alone is not None  # this thread is where it was
assert topology.mark(THIS_PROCESS, 1_000) is not None
reader, writer = os.pipe()
pid = os.fork()
if pid == 0:
    os.sched_setaffinity(0, {{{here[1]}}})
    os.write(writer, b"x")
    os.read(0, 1)
    os._exit(0)
os.read(reader, 1)
assert topology.mark(THIS_PROCESS, 1_000) is None
"""
    subprocess.run(
        [sys.executable, "-c", program], check=True, timeout=60, input=b"ended"
    )


def test_only_the_tasks_own_package_is_counted_for_it() -> None:
    def zone(name: str, package: int) -> Zone:
        return Zone(name, name, "package", package, True, "", (61, 1), 1 << 32, 1e3)

    window = Window(
        0,
        1,
        (
            ZoneEnergy(zone("a", 0), 100, 90, 110),
            ZoneEnergy(zone("b", 1), 300, 280, 330),
            ZoneEnergy(
                Zone("d", "dram", "dram", 1, True, "", (61, 1), 1 << 32, 1e3), 5, 4, 6
            ),
        ),
        *(0, 1, 0, 0, 0, 0, ()),
    )

    assert domains(window) == ((400, 370, 440), (5, 4, 6))
    assert domains(window, frozenset({1}))[0] == (300, 280, 330)
    assert domains(window, frozenset({2}))[0] is None


def test_a_pinned_task_is_billed_from_its_package_and_the_rest_is_the_hosts(
    tmp_path: Path,
) -> None:
    here = min(os.sched_getaffinity(0))
    for cpu, package in ((here, 0), (here + 1, 1)):
        place = tmp_path / f"cpu{cpu}" / "topology"
        place.mkdir(parents=True)
        (place / "physical_package_id").write_text(f"{package}\n")
    (tmp_path / "stat").write_text(f"cpu{here} 100 0 0 9 9 0 0 0 0 0\n")
    fake = server(str(tmp_path / "sys"))
    counter = HostCounter(None, NOWHERE, powercap_root=fake.root)
    counter._topology = Topology(str(tmp_path), str(tmp_path / "stat"))
    counter.cpus = 1_000  # more than this machine has: the task is restricted
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {here})
    try:
        mark = counter.mark()
        time.sleep(0.05)
        (tmp_path / "stat").write_text(f"cpu{here} 110 0 0 9 9 0 0 0 0 0\n")
        fake.advance("intel-rapl:0", 16_384)  # 1 J here
        fake.advance("intel-rapl:1", 16_384 * 3)  # 3 J there
        host = counter.since(mark, time.monotonic_ns())
    finally:
        os.sched_setaffinity(0, before)
        counter.close()
    task = Task(
        *("x", "ok", "a" * 16, None, "b" * 32, time.time_ns(), host.duration_ns),
        50_000_000,  # half of the 100 ms that its package was busy
        2,
        {"rss_bytes": None, "peak_rss_bytes": None, "host_percent": None},
        None,
        {},
    )
    energy = build(task, host).metric["energy"]

    assert "pinned" in energy["quality"]["flags"]
    assert energy["allocation_ratio"] == 0.5
    assert energy["components"]["cpu"]["j"] == pytest.approx(0.5, abs=0.01)
    assert energy["host"]["total_j"] == pytest.approx(4.0, abs=0.01)


def test_a_socket_in_a_forbidden_folder_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o000)
    counter = HostCounter(None, str(folder / "s"), powercap_root=str(tmp_path / "no"))
    expected = "no_socket" if os.geteuid() == 0 else "permission_denied"

    assert counter.mark().reason == expected
    folder.chmod(0o700)


def test_a_program_that_closes_and_reuses_every_descriptor_gets_no_energy_of_its_files(
    tmp_path: Path,
) -> None:
    fake = FakePowercap(str(tmp_path))
    fake.add("intel-rapl:0", "package-0")
    program = """
import os, sys
from carbon_ops import EnergyLogger
logger = EnergyLogger(socket="/nonexistent/carbon-ops.sock", model="off")
logger.log_metrics("before")
os.closerange(3, 64)
path = os.path.join(sys.argv[1], "requests.count")
with open(path, "w") as file:
    file.write("1050000\\n")
mine = [os.open(path, os.O_RDONLY) for _ in range(8)]
energy = logger.log_metrics("after")["energy"]
assert energy["components"]["cpu"]["source"] == "rapl_sysfs", energy
assert energy["host"]["total_j"] == 0.0, energy
logger.close()
for fd in mine:
    os.fstat(fd)  # open still
for _ in range(100):
    EnergyLogger(socket="/nonexistent/carbon-ops.sock").log_metrics("dropped")
assert len(os.listdir("/proc/self/fd")) < 30
"""
    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        check=True,
        timeout=60,
        env={**os.environ, "CARBON_OPS_POWERCAP_ROOT": fake.root},
    )


def test_a_forked_childs_readings_are_not_its_parents(tmp_path: Path) -> None:
    fake = FakePowercap(str(tmp_path))
    fake.add("intel-rapl:0", "package-0")
    program = """
import os, sys, threading
from carbon_ops import EnergyLogger
logger = EnergyLogger(socket="/nonexistent/carbon-ops.sock", model="off")
logger.log_metrics("before")
held, go = threading.Event(), threading.Event()
def hold():
    with logger._readings._counter._local._lock:
        held.set()
        go.wait()
thread = threading.Thread(target=hold)
thread.start()
held.wait()
pid = os.fork()
if pid == 0:  # the lock is held for ever here, by a thread that is none
    source = logger.log_metrics("child")["energy"]["components"]["cpu"]["source"]
    os._exit(source != "rapl_sysfs")
assert os.waitpid(pid, 0)[1] == 0
go.set()
thread.join()
"""
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        check=True,
        timeout=60,
        env={**os.environ, "CARBON_OPS_POWERCAP_ROOT": fake.root},
    )
