"""Busy CPU time of the host."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from carbon_ops.sources.host import HostClock, boot_id, busy_jiffies, online_cpus


def test_idle_waiting_stolen_and_guest_time_is_not_work(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  1 2 4 1000 1000 8 16 1000 1000 1000\ncpu0 9 9 9 9 9 9 9 9\n")
    clock = HostClock(str(stat))

    jiffies = (
        clock.busy_ns() * 100 // 1_000_000_000
    )  # 100 ticks a second, nearly always

    assert jiffies == 1 + 2 + 4 + 8 + 16
    clock.close()
    clock.close()


def test_busy_time_never_runs_backwards(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  50 0 0 0 0 0 0 0 0 0\n")
    clock = HostClock(str(stat))
    first = clock.busy_ns()

    stat.write_text("cpu  49 0 0 0 0 0 0 0 0 0\n")

    assert clock.busy_ns() == first
    clock.close()


def test_this_host_has_a_clock_and_a_boot_id() -> None:
    clock = HostClock()

    assert clock.busy_ns() > 0
    assert len(boot_id()) == 36
    clock.close()


@pytest.mark.parametrize("line", [b"", b"cpu 1 2", b"cpu0 1 2 3 4 5 6 7 8"])
def test_another_line_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match="not the cpu line"):
        busy_jiffies(line)


@pytest.mark.parametrize(
    ("shown", "count"), [("0\n", 1), ("0-3\n", 4), ("0-3,8,10-11\n", 7)]
)
def test_the_kernels_list_of_cpus_is_counted(
    tmp_path: Path, shown: str, count: int
) -> None:
    (tmp_path / "online").write_text(shown)

    assert online_cpus(str(tmp_path / "online")) == count


def test_without_a_list_the_c_library_says_how_many_cpus_there_are(
    tmp_path: Path,
) -> None:
    (tmp_path / "online").write_text("\n")

    for path in (tmp_path / "online", tmp_path / "none"):
        assert online_cpus(str(path)) == os.sysconf("SC_NPROCESSORS_ONLN")


def test_the_hosts_cpus_are_not_those_that_this_process_may_use() -> None:
    before = os.sched_getaffinity(0)
    everything = online_cpus()
    os.sched_setaffinity(0, {min(before)})
    try:
        assert online_cpus() == everything >= len(before)
    finally:
        os.sched_setaffinity(0, before)
