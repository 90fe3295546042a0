"""What a CPU limit changes in a modelled span, and when it changes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from carbon_ops.meter import counter, metric
from carbon_ops.meter.counter import HostCounter
from carbon_ops.meter.metric import Baseline, Host, Task
from carbon_ops.model import Energy, Policy
from carbon_ops.sources import cgroup, modelled
from carbon_ops.sources.modelled import CpuModel

SECOND = 1_000_000_000
MODEL = CpuModel("x", 10.0, 50.0, 0.4, True, "a table, 2026")


class Container:
    """A host of four CPUs, three of them busy; a cgroup with a limit in it."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.now, self.used_ns, self.cpus = SECOND, 0, 1.0
        self.asked: list[str] = []
        self._stat = folder / "cpu.stat"
        self.use(9 * SECOND)  # long before any span
        patch.setattr(counter, "monotonic_ns", lambda: self.now)
        patch.setattr(counter, "host_busy_ns", lambda: 3 * self.now)
        patch.setattr(cgroup, "cpu_limit", self._limit)
        self.counter = HostCounter(
            None, "/nonexistent/s", model=MODEL, powercap_root=str(folder)
        )
        self.counter.cpus = 4

    def _limit(self, own: str) -> cgroup.CpuLimit | None:
        self.asked.append(own)
        clock = cgroup.CgroupClock(str(self._stat.parent))
        return cgroup.CpuLimit(self.cpus, clock) if self.cpus else None

    def use(self, ns: int) -> None:
        self.used_ns += ns
        self._stat.write_text(f"usage_usec {self.used_ns // 1000}\nuser_usec 0\n")

    def forget(self) -> None:
        self._stat.unlink()

    def span(
        self, during: Callable[[], object], pid: int | None = 0, seconds: int = 2
    ) -> Host:
        begin = self.counter.mark(pid)
        during()
        self.now += seconds * SECOND
        return self.counter.since(begin, self.now, pid=pid)


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Container:
    return Container(tmp_path, monkeypatch)


def test_the_part_has_its_share_of_rest_and_what_its_own_time_costs(
    container: Container,
) -> None:
    host = container.span(lambda: container.use(SECOND))

    assert host.cpu is not None
    assert host.pinned is not None
    assert host.cpu.total == 2 * 10_000_000 + 6 * 10_000_000  # 3 CPUs busy for 2 s
    assert host.pinned.domain.total == 2 * 10_000_000 // 4 + 10_000_000
    assert (host.pinned.busy_ns, host.pinned.part) == (SECOND, 0.25)
    assert host.busy_ns == 6 * SECOND
    assert host.flags == ("cpu_limited",)
    assert host.model is not None
    assert (host.model["cpu_limit"], host.model["cpus"]) == (1.0, 4)
    assert host.model["source"] == "a table, 2026"


@pytest.mark.parametrize("cpus", [0.0, 4.0, 64.0], ids=["none", "as-many", "more"])
def test_without_a_limit_below_the_cpus_nothing_changes(
    container: Container, cpus: float
) -> None:
    container.cpus = cpus

    host = container.span(lambda: container.use(SECOND))

    assert host.cpu is not None
    assert host.cpu.total == 80_000_000
    assert host.pinned is None
    assert host.flags == ()
    assert host.model is not None
    assert host.model["cpu_limit"] is None


def test_a_cgroup_that_vanishes_takes_the_limit_along(container: Container) -> None:
    host = container.span(container.forget)

    assert host.cpu is not None
    assert host.pinned is None
    assert host.flags == ()


def test_the_host_is_under_no_limit(
    container: Container,
) -> None:
    assert container.span(lambda: None, pid=None).pinned is None
    assert not container.asked


def test_a_cgroup_as_scope_is_under_its_own_limit(
    container: Container, tmp_path: Path
) -> None:
    mark = container.counter.mark(None, str(tmp_path))

    assert container.asked == [str(tmp_path)]
    assert mark.limit is not None


def test_another_process_is_under_its_own_limit(container: Container) -> None:
    container.span(lambda: None, seconds=0)
    container.span(lambda: None, seconds=0, pid=os.getpid())

    assert container.asked == ["/proc/self/cgroup", f"/proc/{os.getpid()}/cgroup"]


def test_a_changed_limit_is_seen_and_not_looked_up_at_every_span(
    container: Container,
) -> None:
    container.span(lambda: None, seconds=0)
    container.span(lambda: None)
    assert len(container.asked) == 1
    container.cpus = 2.0

    host = container.span(lambda: None)

    assert host.pinned is not None
    assert host.pinned.part == 0.5


def test_a_cgroup_ahead_of_the_hosts_ticks_does_not_exceed_the_host(
    container: Container,
) -> None:
    host = container.span(lambda: container.use(7 * SECOND))

    assert host.cpu is not None
    assert host.pinned is not None
    assert host.pinned.domain.total <= host.cpu.total
    assert host.busy_ns == 7 * SECOND


def test_a_gap_is_weighed_against_the_models_own_uncertainty() -> None:
    assert counter.MODEL_CV == modelled.KNOWN_CV


def test_no_model_asks_for_no_limit(
    container: Container, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    off = HostCounter(None, "/nonexistent/s", model="off", powercap_root=str(tmp_path))

    assert off.mark().limit is None
    assert not container.asked


def billed(host: Host, cpu_ns: int, policy: Policy = "proportional") -> Energy:
    task = Task(
        *("x", "ok", "a" * 16, None, "b" * 32, 0, host.duration_ns, cpu_ns, 4),
        {"rss_bytes": None, "peak_rss_bytes": None, "host_percent": None},
        None,
        {},
    )
    return metric.build(task, host, policy=policy, baseline=Baseline(8.0)).metric[
        "energy"
    ]


def test_what_the_kernel_has_not_charged_to_the_cgroup_yet_is_no_mistake(
    container: Container,
) -> None:
    host = container.span(lambda: container.use(SECOND))
    tick = SECOND // os.sysconf("SC_CLK_TCK")

    within, beyond = billed(host, SECOND + tick), billed(host, SECOND + tick + 1)

    assert within["allocation_ratio"] == beyond["allocation_ratio"] == 1.0
    assert "ratio_clamped" not in within["quality"]["flags"]
    assert "ratio_clamped" in beyond["quality"]["flags"]


def test_measured_rest_is_excluded_by_the_part_the_limit_leaves(
    container: Container,
) -> None:
    host = container.span(lambda: container.use(SECOND))

    energy = billed(host, SECOND // 2, "excluded")

    # Of 15 J of the part, 2 s x 8 W / 4 are rest; the task has half of the others.
    assert energy["energy_j_total"] == pytest.approx((15.0 - 4.0) / 2)
    assert energy["host"]["idle_j"] == pytest.approx(16.0)
