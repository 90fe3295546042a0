"""The logger over a real governor, its socket and its shared memory."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from carbon_ops import EnergyLogger
from carbon_ops.meter.local import LocalCounters
from carbon_ops.model import Metric
from carbon_ops.sources.simulated import Load, SimulatedSource
from carbon_ops.testing.governor import GovernorProcess

BUSY = "while True: sum(range(1000))"


@pytest.fixture
def governor() -> Iterator[GovernorProcess]:
    with GovernorProcess() as governor:
        governor.wait_ready()
        yield governor


def burn(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(500))


def micro(joules: float | None) -> int:
    assert joules is not None
    return round(joules * 1e6)


def test_a_span_is_measured_and_says_by_whom(governor: GovernorProcess) -> None:
    with EnergyLogger(socket=governor.path) as logger:
        with logger.span("work", settle=True) as span:
            burn(0.3)
    assert span.metric is not None
    energy = span.metric["energy"]

    assert (energy["attribution_mode"], energy["reason"]) == ("governor", None)
    assert energy["components"]["cpu"]["source"] == "simulated"
    assert energy["components"]["dram"]["source"] == "simulated"
    assert energy["governor"] is not None
    assert energy["governor"]["uid"] == os.getuid()
    assert energy["governor"]["mode"] == "simulated"
    assert "extrapolated" not in energy["quality"]["flags"]
    assert "dram_by_resident_set" in energy["quality"]["flags"]
    host = energy["host"]
    assert micro(host["total_j"]) == micro(host["this_task_j"]) + micro(host["rest_j"])
    total, bounds = energy["energy_j_total"], energy["bounds_j"]
    assert total is not None
    assert bounds is not None
    assert 0 < bounds[0] <= total <= bounds[1]


def test_successive_metrics_share_out_the_hosts_energy_once(
    governor: GovernorProcess,
) -> None:
    with EnergyLogger(socket=governor.path) as logger:
        with logger.span("whole", settle=True) as whole:
            logger.log_metrics("zero")
            parts: list[Metric] = []
            for _ in range(8):
                burn(0.1)
                parts.append(logger.log_metrics("part"))
    assert whole.metric is not None
    together = sum(p["energy"]["host"]["total_j"] or 0 for p in parts)
    # The ends of the parts were extrapolated when they were taken.
    assert together == pytest.approx(whole.metric["energy"]["host"]["total_j"], rel=0.2)


def test_a_governor_that_dies_costs_one_span_and_is_found_again(
    governor: GovernorProcess,
) -> None:
    with EnergyLogger(socket=governor.path) as logger:
        first = logger.log_metrics("a")["energy"]["governor"]
        span = logger.span("across").begin()
        governor.kill()
        governor.start()
        governor.wait_ready()
        deadline = time.monotonic() + 30
        while True:
            now = logger.log_metrics("b")["energy"]
            if now["governor"] is not None and now["governor"] != first:
                break
            assert time.monotonic() < deadline, now["reason"]
        across = span.end()["energy"]

    assert first is not None
    assert (across["attribution_mode"], across["reason"]) == (
        "monitor_only",
        "restarted",
    )
    assert "modelled" in across["quality"]["flags"]


def test_without_its_governor_the_logger_goes_on(governor: GovernorProcess) -> None:
    with EnergyLogger(socket=governor.path) as logger:
        logger.log_metrics("a")
        governor.stop()
        reasons = [logger.log_metrics("b")["energy"]["reason"] for _ in range(3)]

    assert reasons[-1] in ("no_socket", "refused", "stale")


FORKED = """
import os, sys
from carbon_ops import EnergyLogger
with EnergyLogger(socket=sys.argv[1]) as logger:
    logger.log_metrics("a")
    pid = os.fork()
    if pid == 0:
        mode = logger.log_metrics("child")["energy"]["attribution_mode"]
        os._exit(0 if mode == "governor" else 1)
    _, status = os.waitpid(pid, 0)
    assert logger.log_metrics("b")["energy"]["attribution_mode"] == "governor"
    sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_a_forked_child_measures_through_the_same_governor(
    governor: GovernorProcess,
) -> None:
    command = [sys.executable, "-c", FORKED, governor.path]
    subprocess.run(command, check=True, timeout=100)


def test_threads_share_one_logger_and_one_connection(
    governor: GovernorProcess,
) -> None:
    with EnergyLogger(socket=governor.path) as logger:
        modes: list[str] = []

        def work() -> None:
            for _ in range(50):
                with logger.span("t") as span:
                    pass
                assert span.metric is not None
                modes.append(span.metric["energy"]["attribution_mode"])

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert modes == ["governor"] * 200


def test_a_task_is_billed_its_own_power_beside_a_busy_neighbour() -> None:
    """Power follows load: 40 W idle, 100 W for each busy CPU. Simulated truth.

    What the task's CPU time is worth is then 100 W x its seconds; with the idle power
    it carries its share of the 40 W, too.
    """
    source = LocalCounters(SimulatedSource({"package-0": Load(40.0, 100.0)}))
    neighbour = subprocess.Popen([sys.executable, "-c", BUSY])
    try:
        metrics: dict[str, Metric] = {}
        loggers = {
            "excluded": EnergyLogger(
                source=source, policy="excluded", idle_w=40.0, scope="process"
            ),
            "proportional": EnergyLogger(
                source=source, policy="proportional", idle_w=40.0, scope="process"
            ),
        }
        spans = {name: logger.span(name).begin() for name, logger in loggers.items()}
        end = time.monotonic() + 3
        while time.monotonic() < end:  # half load
            burn(0.01)
            time.sleep(0.01)
        metrics = {name: span.end() for name, span in spans.items()}
    finally:
        neighbour.kill()
        neighbour.wait()
        source.close()
    used = metrics["excluded"]["cpu"]["process_s"]
    excluded = metrics["excluded"]["energy"]
    shared = metrics["proportional"]["energy"]
    ratio = shared["allocation_ratio"]
    assert ratio is not None

    assert ratio < 0.7
    assert excluded["energy_j_total"] == pytest.approx(100.0 * used, rel=0.05)
    assert excluded["dynamic_j"] == excluded["energy_j_total"]
    assert shared["energy_j_total"] == pytest.approx(
        100.0 * used + 40.0 * ratio * metrics["proportional"]["duration_s"], rel=0.05
    )
