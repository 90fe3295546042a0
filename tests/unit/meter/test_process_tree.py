"""CPU time of children: none lost, none counted twice, whoever reaps them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_ops.errors import InvalidInputError
from carbon_ops.meter import process_tree
from carbon_ops.meter.process_tree import (
    NS_PER_TICK,
    OwnProcess,
    OwnThread,
    OwnTree,
    TreeClock,
)
from carbon_ops.meter.scope import clock_of, leader_of
from carbon_ops.sources.cgroup import CgroupClock, own_path

SLACK_NS = 4 * NS_PER_TICK
BURN = "import time\nend=time.process_time()+{s}\nwhile time.process_time()<end: pass\n"

# Every test that forks does it in a fresh process: one without the threads and pipes of
# the test runner, and without children of anybody else's.
FORKING = """
import os, sys, time
from carbon_ops.meter import process_tree
from carbon_ops.meter.process_tree import OwnProcess, OwnThread, OwnTree

def burn(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(500))

def wait_for_close(pipe):
    # Until the parent closes its end, or ends.
    os.close(pipe[1])
    os.read(pipe[0], 1)
    os._exit(0)

def fork_burner(seconds, then_wait=None):
    pid = os.fork()
    if pid == 0:
        burn(seconds)
        if then_wait is not None:
            wait_for_close(then_wait)
        os._exit(0)
    return pid

def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)

def all_of(fd):
    # Every free descriptor.
    taken = []
    try:
        while True:
            taken.append(os.dup(fd))
    except OSError:
        return taken

clock = OwnTree(with_self=False)
before = clock.read()
"""


def fork_in(program: str) -> None:
    """Run ``program`` after the lines above; a failed assertion is its exit status."""
    done = subprocess.run(
        [sys.executable, "-c", FORKING + program],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr


def test_many_short_children_are_all_counted() -> None:
    fork_in("""
used = 0.0
for _ in range(100):
    _, _, usage = os.wait4(fork_burner(0.002), 0)
    used += usage.ru_utime + usage.ru_stime
counted = (clock.read() - before) / 1e9
assert abs(counted - used) <= 100 * 2e-6, (counted, used)  # two whole microseconds each
""")


def test_a_living_child_counts_and_is_not_counted_again_when_it_is_reaped() -> None:
    fork_in("""
reader, writer = os.pipe()
pid = fork_burner(0.05, (reader, writer))
until(lambda: clock.read() - before >= 50_000_000)
os.close(writer)
os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # a zombie now
as_zombie = clock.read() - before
_, _, usage = os.wait4(pid, 0)
reaped = clock.read() - before
assert abs(as_zombie - reaped) <= 10_000, (as_zombie, reaped)
assert abs(reaped / 1e9 - usage.ru_utime - usage.ru_stime) <= 1e-5
""")


def test_grandchildren_count_alive_and_reaped() -> None:
    fork_in("""
reader, writer = os.pipe()
pid = os.fork()
if pid == 0:
    os.waitpid(fork_burner(0.05), 0)  # reaped by the child
    fork_burner(0.05, (reader, writer))  # alive below it
    wait_for_close((reader, writer))
until(lambda: clock.read() - before >= 80_000_000)  # others' reaping: ticks of 10 ms
os.close(writer)
os.waitpid(pid, 0)
""")


def test_what_a_child_left_behind_by_its_parent_used_stays_counted() -> None:
    fork_in("""
reader, writer = os.pipe()
pid = os.fork()
if pid == 0:
    fork_burner(0.05, (reader, writer))
    wait_for_close((reader, writer))
until(lambda: clock.read() - before >= 50_000_000)
seen = clock.read()
os.kill(pid, 9)  # another process is the grandchild's parent now
os.waitpid(pid, 0)
assert clock.read() >= seen, (clock.read(), seen)
assert process_tree.ours.left == 1
burner = fork_burner(0.03)
os.waitpid(burner, 0)
assert clock.read() - seen >= 30_000_000  # from there it goes on
os.close(writer)
""")


def test_a_list_of_children_longer_than_a_page_is_read_to_its_end() -> None:
    fork_in("""
reader, writer = os.pipe()
pids = []
while len(" ".join(map(str, pids))) < 4200:  # a number may have three digits, or seven
    pid = os.fork()
    if pid == 0:
        wait_for_close((reader, writer))
    pids.append(pid)
assert sorted(process_tree.children_of(os.getpid())) == sorted(pids)
os.close(writer)
for pid in pids:
    os.waitpid(pid, 0)
""")


def test_without_a_free_descriptor_children_count_no_less_and_not_twice() -> None:
    fork_in("""
reader, writer = os.pipe()
pid = fork_burner(0.05, (reader, writer))
until(lambda: clock.read() - before >= 50_000_000)
seen = clock.read()
taken = all_of(reader)
assert clock.read() == seen and process_tree.ours.unread == 1
assert clock.pids() == []
for fd in taken:
    os.close(fd)
assert clock.read() - seen < 5_000_000
os.close(writer)
os.waitpid(pid, 0)
assert clock.read() - seen < 5_000_000
""")


@given(
    st.lists(
        st.one_of(st.none(), st.integers(0, 10**9)),
        max_size=30,
    )
)
def test_a_sum_over_processes_never_falls_and_grows_by_no_more_than_they_did(
    steps: list[int | None],
) -> None:
    # None: nothing can be read; a number: what can be read now, which may be less.
    state: list[int | None] = [0]

    def read() -> int:
        if state[0] is None:
            raise OSError(24, "no descriptor")
        return state[0]

    below = process_tree.Descendants(read)
    counted = [below.read()]
    allowed = last = 0
    for step in steps:
        state[0] = step
        counted.append(below.read())
        if step is not None:
            allowed += max(0, step - last)
            last = step if step < last - SLACK_NS else max(last, step)

    assert counted == sorted(counted)
    assert counted[-1] == allowed


def test_a_child_reaped_between_two_reads_of_one_look_has_not_left() -> None:
    readings = iter([10 * SLACK_NS, 3 * SLACK_NS, 11 * SLACK_NS])
    below = process_tree.Descendants(lambda: next(readings))

    assert (below.read(), below.read()) == (10 * SLACK_NS, 11 * SLACK_NS)
    assert below.left == 0


def test_one_that_ended_since_it_was_listed_is_passed_over_and_others_count() -> None:
    fork_in("""
reader, writer = os.pipe()
pid = fork_burner(0.05, (reader, writer))
until(lambda: process_tree.process_ns(pid) >= 50_000_000)
ended = fork_burner(0.0)
os.waitpid(ended, 0)
assert process_tree._living_ns([ended, pid]) >= 50_000_000
taken = all_of(reader)
try:
    process_tree._living_ns([ended, pid])
    raise SystemExit("took what it could not read for one that ended")
except OSError:
    os.close(writer)
    os.waitpid(pid, 0)
""")


def test_a_process_named_by_its_number_is_pinned_where_that_one_is() -> None:
    assert leader_of(TreeClock(os.getppid())) == os.getppid()
    assert leader_of(OwnThread()) == 0
    assert leader_of(OwnTree()) == leader_of(OwnProcess()) == process_tree.THIS_PROCESS


def test_looking_leaves_no_descriptor_open() -> None:
    fork_in("""
reader, writer = os.pipe()
pid = fork_burner(0.0, (reader, writer))
clock.read()
open_before = os.listdir("/proc/self/fd")
for _ in range(10):
    clock.read()
    clock.pids()
    process_tree.TreeClock(pid).read()
assert os.listdir("/proc/self/fd") == open_before
os.close(writer)
os.waitpid(pid, 0)
""")


def test_tree_clock_follows_another_process_and_survives_its_end() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", BURN.format(s=0.1) + "input()"],
        stdin=subprocess.PIPE,
    )
    try:
        clock = TreeClock(child.pid)
        deadline = time.monotonic() + 30
        while clock.read() < 100_000_000:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        assert child.pid in clock.pids()
    finally:
        child.communicate(b"\n")
    last = clock.read()

    assert clock.gone
    assert last >= 100_000_000
    assert clock.read() == last


def test_the_clocks_of_this_process_differ_as_they_should() -> None:
    fork_in("""
clocks = OwnTree(), OwnProcess(), OwnThread()
start = [c.read() for c in clocks]
_, _, usage = os.wait4(fork_burner(0.05), 0)
burn(0.02)
thread = clocks[2].read() - start[2]
process = clocks[1].read() - start[1]
tree = clocks[0].read() - start[0]
child = round((usage.ru_utime + usage.ru_stime) * 1e9)
assert 20_000_000 <= thread <= process
assert tree >= process - 1_000_000 + child - 10_000, (tree, process, child)
""")


def test_without_children_there_is_one_question_and_no_walk() -> None:
    fork_in("""
assert not process_tree.have_children()
pid = os.fork()
if pid == 0:
    os._exit(0 if not process_tree.have_children() else 1)
assert process_tree.have_children()
_, status = os.waitpid(pid, 0)
assert status == 0
assert not process_tree.have_children()
""")


def test_ignored_sigchld_is_noticed() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert process_tree.children_vanish()
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert not process_tree.children_vanish()


def test_memory_of_a_process_that_is_gone_is_unknown_not_zero() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    pid = ended.pid

    assert process_tree.resident_bytes([pid]) is None
    assert (process_tree.resident_bytes([os.getpid(), pid]) or 0) > 0


def cgroup_v2(folder: str, usage_usec: int) -> None:
    with open(f"{folder}/cpu.stat", "w") as file:
        file.write(f"usage_usec {usage_usec}\nuser_usec 1\nsystem_usec 2\n")


def test_cgroup_version_2_counts_microseconds(tmp_path: object) -> None:
    cgroup_v2(str(tmp_path), 1_234_567)
    clock = CgroupClock(str(tmp_path))

    assert clock.read() == 1_234_567_000
    cgroup_v2(str(tmp_path), 1_234_570)
    assert clock.read() == 1_234_570_000


def test_cgroup_version_1_counts_nanoseconds_and_names_its_processes(
    tmp_path: object,
) -> None:
    below = f"{tmp_path}/below"
    os.mkdir(below)
    with open(f"{tmp_path}/cpuacct.usage", "w") as file:
        file.write("987654321\n")
    with open(f"{tmp_path}/cgroup.procs", "w") as file:
        file.write("12\n13\n")
    with open(f"{below}/cgroup.procs", "w") as file:
        file.write("14\n")
    clock = CgroupClock(str(tmp_path))

    assert clock.read() == 987_654_321
    assert clock.pids() == [12, 13, 14]


def test_a_cgroup_is_found_below_the_mount(tmp_path: object) -> None:
    os.makedirs(f"{tmp_path}/unified/a.slice")
    cgroup_v2(f"{tmp_path}/unified/a.slice", 5)

    assert CgroupClock("/a.slice", root=str(tmp_path)).read() == 5_000


def test_a_cgroup_that_is_not_there_is_wrong_usage(tmp_path: object) -> None:
    with pytest.raises(InvalidInputError, match=r"no cgroup '/nowhere'"):
        CgroupClock("/nowhere", root=str(tmp_path))
    with pytest.raises(InvalidInputError, match="no cgroup"):
        clock_of(f"cgroup:{tmp_path}")


def test_the_own_cgroup_is_the_accounting_one(tmp_path: object) -> None:
    path = f"{tmp_path}/cgroup"
    with open(path, "w") as file:
        file.write("4:memory:/m\n2:cpu,cpuacct:/c\n0::/u\n")
    assert own_path(path) == "/c"
    with open(path, "w") as file:
        file.write("0::/u\n")
    assert own_path(path) == "/u"
    with pytest.raises(InvalidInputError, match="in no cgroup"):
        own_path(f"{tmp_path}/none")
