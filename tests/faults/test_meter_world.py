"""What a program does to itself while it is measured: nothing of that may raise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BEGIN = """
import ctypes, os, struct, sys, threading, time
import carbon_ops
from carbon_ops import EnergyLogger
NOWHERE = "/nonexistent/carbon-ops.sock"

def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end: pass

def energy(metric): return metric["energy"]
"""


def world(program: str, *arguments: str, **environment: str) -> str:
    """Run ``program`` after the lines above in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + program, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="chroot needs root")
def test_a_program_that_goes_into_a_chroot_is_measured_as_far_as_can_be(
    tmp_path: Path,
) -> None:
    world(
        """
logger = EnergyLogger(socket=NOWHERE)
os.chroot(sys.argv[1])
os.chdir("/")
with logger.span("inside") as span:
    burn(0.02)
assert span.metric["cpu"]["process_s"] >= 0.02
cpu = energy(logger.log_metrics("next"))["components"]["cpu"]
assert (cpu["j"], cpu["reason"]) == (None, "model_unreadable"), cpu
assert logger.summary()["inside"]["calls"] == 1
logger.close()
""",
        str(tmp_path),
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="chroot needs root")
def test_children_that_cannot_be_seen_from_a_chroot_are_flagged(tmp_path: Path) -> None:
    world(
        """
logger = EnergyLogger(socket=NOWHERE, model="off")
logger.log_metrics("before")
os.chroot(sys.argv[1])
lives, ends = os.pipe()
child = os.fork()
if child == 0:
    os.close(ends)
    burn(0.05)
    os.read(lives, 1)
    os._exit(0)
flags = energy(logger.log_metrics("child lives"))["quality"]["flags"]
assert "children_unreadable" in flags, flags
os.close(ends)
os.waitpid(child, 0)
reaped = logger.log_metrics("child reaped")
assert reaped["cpu"]["process_s"] >= 0.05, reaped["cpu"]
""",
        str(tmp_path),
    )


# openat(2) is not among them: where it fails nothing can be imported either.
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86-64's calls")
@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("waitid", 247),
        ("getrusage", 98),
        ("sched_getaffinity", 204),
        ("newfstatat", 262),
        ("getdents64", 217),
        ("socket", 41),
    ],
)
def test_a_system_call_that_a_filter_forbids_breaks_nothing(
    name: str, number: int
) -> None:
    del name
    # The filter is seccomp(2)'s: load the number of the call, compare, EPERM or allow.
    world(
        """
def instruction(code, yes, no, value): return struct.pack("HBBI", code, yes, no, value)

logger = EnergyLogger(socket=NOWHERE)
with logger.span("before"):
    pass
program = b"".join((
    instruction(0x20, 0, 0, 0),
    instruction(0x15, 0, 1, int(sys.argv[1])),
    instruction(0x06, 0, 0, 0x00050001),
    instruction(0x06, 0, 0, 0x7FFF0000),
))
held = ctypes.create_string_buffer(program)

class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

given = Program(len(program) // 8, ctypes.addressof(held))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
if libc.prctl(22, 2, ctypes.byref(given), 0, 0) != 0:  # PR_SET_SECCOMP
    sys.exit(0)  # this kernel has no filters
with logger.span("filtered") as span:
    burn(0.01)
assert span.metric["duration_s"] > 0
assert logger.log_metrics("next")["operation"] == "next"
logger.close()
""",
        str(number),
    )


@pytest.mark.parametrize(
    ("module", "measure"),
    [
        ("carbon_ops.meter.track", "carbon_ops.track(lambda: None)"),
        ("carbon_ops.export.span", "lambda: carbon_ops.span('it').__enter__()"),
    ],
)
def test_a_child_forked_while_another_thread_makes_the_shared_logger_is_not_stuck(
    module: str, measure: str
) -> None:
    world(f"""
import importlib
shared = importlib.import_module("{module}")._shared
for _ in range(20):
    shared.clear()
    thread = threading.Thread(target={measure})
    thread.start()
    pid = os.fork()
    if pid == 0:
        ({measure})()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    thread.join()
""")


def test_the_hosts_load_is_that_of_the_span_though_its_start_was_held_up() -> None:
    world("""
import multiprocessing, socket, tempfile
from carbon_ops.meter.counter import HostCounter

folder = tempfile.mkdtemp(prefix="cog", dir="/tmp")
silent = socket.socket(socket.AF_UNIX)
silent.bind(folder + "/s")
silent.listen()
burner = multiprocessing.get_context("fork").Process(target=burn, args=(60,))
burner.start()
try:
    counter = HostCounter(None, folder + "/s", powercap_root=folder)
    mark = counter.mark(None)  # waits for the governor
    time.sleep(0.3)
    at = time.monotonic_ns()
    host = counter.since(mark, at, pid=None)
finally:
    burner.kill()
    burner.join()
    os.unlink(folder + "/s")
    os.rmdir(folder)
assert mark.reason == "stale", mark
assert host.busy_ns > 0.8 * (at - mark.at_ns), (host, mark)
""")


def test_a_childs_log_does_not_have_what_its_parents_span_used() -> None:
    world("""
logger = EnergyLogger(socket=NOWHERE)
span = logger.span("across").begin()
burn(0.3)
pid = os.fork()
if pid == 0:
    # The child's first call to the logger comes before the span's end.
    assert logger.log_metrics("child")["cpu"]["process_s"] < 0.2
    burn(0.05)
    metric = span.end()
    flags = energy(metric)["quality"]["flags"]
    ok = "ended_in_forked_child" in flags and metric["cpu"]["process_s"] < 0.2
    os._exit(0 if ok else 1)
assert os.waitpid(pid, 0)[1] == 0
assert span.end()["cpu"]["process_s"] >= 0.3
""")
