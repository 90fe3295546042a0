"""What is true of a run, and which runs a scenario has."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from benchmarks.side_by_side import run
from benchmarks.side_by_side.peers import PEERS
from benchmarks.virtual_host.host import two_sockets

SECOND = 1_000_000_000


def answer(begin_s: float, end_s: float, cpu_s: float) -> dict[str, Any]:
    return {
        "joules": 1.0,
        "cpu_s": cpu_s,
        "t0_ns": int(begin_s * SECOND),
        "t1_ns": int(end_s * SECOND),
    }


def test_the_truth_of_a_script_is_packages_and_memory_over_the_block() -> None:
    zones = two_sockets(script=True)
    found = run.judged(answer(7.0, 9.0, 0.1), zones, 5 * SECOND, run.SCENARIOS["wraps"])
    # 0.43 s at 150 + 95 W and 0.57 s at 60 + 50 W, with 18 + 14 W of memory, twice.
    assert found["true_j"] == pytest.approx(2 * (0.43 * 245 + 0.57 * 110 + 32))
    assert found["seconds"] == pytest.approx(2.0)
    assert found["wraps"] == 0


def test_a_block_from_start_to_eleven_seconds_holds_all_four_wraps() -> None:
    zones = two_sockets(script=True, wraps=True)
    found = run.judged(
        answer(5.0, 16.0, 0.1), zones, 5 * SECOND, run.SCENARIOS["wraps"]
    )
    assert found["wraps"] == 4


def test_the_truth_of_a_task_is_what_its_cpu_time_cost() -> None:
    zones = two_sockets(script=False, per_cpu_w=run.PER_CPU_W)
    scenario = run.SCENARIOS["neighbour"]
    found = run.judged(answer(7.0, 9.0, 0.5), zones, 0, scenario)
    assert found["true_j"] == pytest.approx(0.5 * run.PER_CPU_W)
    # The host's counters agree: half a CPU second, split over both packages.
    counted = [zone for zone in zones if zone.counted]
    total = sum(zone.power.joules(2.0, 0.5) for zone in counted)
    assert total == pytest.approx(0.5 * run.PER_CPU_W)


@pytest.mark.parametrize("name", sorted(PEERS))
def test_every_meter_takes_part_in_every_scenario(name: str) -> None:
    for scenario in run.SCENARIOS:
        assert run.variants(name, scenario)


def test_a_program_that_ends_is_told_with_its_last_words() -> None:
    code = "import sys; sys.exit('no counters here')"
    with (
        pytest.raises(RuntimeError, match="no counters here"),
        run.group([sys.executable, "-c", code], {}) as ended,
    ):
        run.ask(ended, daemon=0)


def test_helpers_of_a_meter_end_with_it() -> None:
    code = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'input()'],"
        " stdin=subprocess.PIPE)\n"
        "print(child.pid, flush=True)\n"
        "input()\n"
    )
    with run.group([sys.executable, "-c", code], {}) as running:
        assert running.stdout is not None
        pid = int(running.stdout.readline())
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            assert file.read().startswith(f"{pid} ")
    gone = False
    for _ in range(100_000):  # its new parent reaps it soon
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii") as file:
                gone = file.read().rpartition(")")[2].split()[0] in "ZX"
        except OSError:
            gone = True
        if gone:
            break
    assert gone
