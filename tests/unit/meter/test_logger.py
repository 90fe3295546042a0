"""The logger on a host without a governor, as most people will first meet it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from carbon_ops import EnergyLogger, track
from carbon_ops.errors import InvalidInputError
from carbon_ops.meter.metric import Built
from carbon_ops.meter.summary import Summary
from carbon_ops.model import Energy, Metric

NOWHERE = "/nonexistent/carbon-ops.sock"


@pytest.fixture
def logger() -> EnergyLogger:
    return EnergyLogger(socket=NOWHERE)


def burn(rounds: int = 20_000) -> int:
    return sum(i * i for i in range(rounds))


def test_a_metric_has_exactly_the_agreed_fields_and_is_plain_json(
    logger: EnergyLogger,
) -> None:
    metric = logger.log_metrics("step")

    assert set(metric) == set(get_type_hints(Metric))
    assert set(metric["energy"]) == set(get_type_hints(Energy))
    assert json.loads(json.dumps(metric, allow_nan=False)) == metric


def test_without_a_governor_the_record_says_so_and_says_that_it_is_a_model(
    logger: EnergyLogger,
) -> None:
    burn()
    energy = logger.log_metrics("step")["energy"]

    assert (energy["attribution_mode"], energy["reason"]) == (
        "monitor_only",
        "no_socket",
    )
    cpu = energy["components"]["cpu"]
    assert cpu["source"] == "model_cpu_load"
    assert cpu["j"] is not None
    assert cpu["uncertainty_j"] is not None
    assert cpu["uncertainty_j"] / cpu["j"] == pytest.approx(0.4) or cpu[
        "uncertainty_j"
    ] / cpu["j"] == pytest.approx(0.6)
    assert "modelled" in energy["quality"]["flags"]
    assert energy["bounds_j"] is None
    assert energy["governor"] is None


def test_with_the_model_off_energy_is_unknown_not_zero() -> None:
    energy = EnergyLogger(socket=NOWHERE, model="off").log_metrics("step")["energy"]

    assert energy["energy_wh_total"] is None
    assert energy["uncertainty_j"] is None
    assert energy["components"]["cpu"]["reason"] == "model_off"


def test_a_policy_without_its_baseline_gives_no_number() -> None:
    metric = EnergyLogger(socket=NOWHERE, policy="excluded").log_metrics("step")

    assert metric["energy"]["energy_j_total"] is None
    assert metric["energy"]["components"]["cpu"]["reason"] == "no_idle_baseline"


def test_successive_calls_meet_without_hole_or_overlap(logger: EnergyLogger) -> None:
    around = logger.span("around").begin()
    logger.log_metrics("zero")
    within = logger.span("within").begin()
    parts = [logger.log_metrics("part") for _ in range(5)]
    inside = within.end()
    parts.append(logger.log_metrics("rest"))
    outside = around.end()

    together = sum(part["duration_s"] for part in parts)
    assert inside["duration_s"] <= together + 1e-9
    assert together <= outside["duration_s"] + 1e-9


def test_concurrent_calls_partition_time_and_cpu_time(logger: EnergyLogger) -> None:
    around = logger.span("around").begin()
    logger.log_metrics("zero")
    within = logger.span("within").begin()
    metrics: list[Metric] = []

    def work() -> None:
        for _ in range(25):
            burn(2_000)
            metrics.append(logger.log_metrics("part"))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    inside = within.end()
    metrics.append(logger.log_metrics("rest"))
    outside = around.end()

    assert len(metrics) == 101
    spent = sum(m["cpu"]["process_s"] for m in metrics)
    assert inside["cpu"]["process_s"] <= spent + 1e-9
    assert spent <= outside["cpu"]["process_s"] + 1e-9
    lasted = sum(m["duration_s"] for m in metrics)
    assert inside["duration_s"] <= lasted + 1e-9
    assert lasted <= outside["duration_s"] + 1e-9


def test_nested_spans_know_their_parent_and_share_a_trace(
    logger: EnergyLogger,
) -> None:
    with logger.span("outer") as outer, logger.span("inner") as inner:
        inside = logger.log_metrics("step")

    assert outer.metric is not None
    assert inner.metric is not None
    assert inner.metric["parent_id"] == outer.metric["span_id"]
    assert inside["parent_id"] == inner.metric["span_id"]
    assert outer.metric["parent_id"] is None
    assert outer.metric["trace_id"] == inner.metric["trace_id"] == inside["trace_id"]


def test_spans_that_no_other_encloses_have_traces_of_their_own(
    logger: EnergyLogger,
) -> None:
    with logger.span("first") as first:
        pass
    with logger.span("second") as second:
        pass

    assert first.trace_id != second.trace_id
    assert [len(bytes.fromhex(s.trace_id)) for s in (first, second)] == [16, 16]
    assert [len(bytes.fromhex(s.span_id)) for s in (first, second)] == [8, 8]


def test_an_exception_passes_through_and_marks_the_span(logger: EnergyLogger) -> None:
    with pytest.raises(KeyError), logger.span("bad") as span:
        raise KeyError("x")

    assert span.metric is not None
    assert span.metric["status"] == "error"
    assert span.metric["additional_info"]["error_type"] == "KeyError"


def test_track_measures_every_kind_of_function(logger: EnergyLogger) -> None:
    @logger.track("plain")
    def plain(x: int) -> int:
        return x + 1

    @logger.track()
    async def coroutine(x: int) -> int:
        await asyncio.sleep(0)
        return x + 1

    @logger.track("generator")
    def generator(n: int) -> Iterator[int]:
        yield from range(n)

    @logger.track("agen")
    async def agen(n: int) -> AsyncIterator[int]:
        for i in range(n):
            yield i

    async def drive() -> tuple[int, list[int]]:
        return await coroutine(1), [i async for i in agen(3)]

    assert plain(1) == 2
    assert list(generator(3)) == [0, 1, 2]
    assert asyncio.run(drive()) == (2, [0, 1, 2])
    names = [m["operation"] for m in logger.metrics]
    assert names[0] == "plain"
    assert "coroutine" in names[2]
    assert sorted(names[i] for i in (1, 3)) == ["agen", "generator"]


def test_track_without_parentheses_measures_too(logger: EnergyLogger) -> None:
    @logger.track
    def plain(x: int) -> int:
        return x + 1

    @logger.track
    async def coroutine(x: int) -> int:
        return x + 1

    @logger.track
    def generator(n: int) -> Iterator[int]:
        yield from range(n)

    @logger.track
    async def agen(n: int) -> AsyncIterator[int]:
        for i in range(n):
            yield i

    async def drive() -> tuple[int, list[int]]:
        return await coroutine(1), [i async for i in agen(2)]

    assert (plain(1), list(generator(2))) == (2, [0, 1])
    assert asyncio.run(drive()) == (2, [0, 1])
    names = [m["operation"].rpartition(".")[2] for m in logger.metrics]
    assert names == ["plain", "generator", "coroutine", "agen"]
    with pytest.raises(InvalidInputError, match="name or a function"):
        logger.track(5)  # type: ignore[call-overload]


def test_bare_track_uses_one_logger_for_the_whole_program() -> None:
    @track
    def bare(x: int) -> int:
        return x * 2

    @track("named")
    def named(x: int) -> int:
        return x * 2

    assert bare(2) == named(2) == 4
    assert bare.__name__ == "bare"


def test_async_with_measures(logger: EnergyLogger) -> None:
    async def main() -> None:
        async with logger.span("a") as span:
            await asyncio.sleep(0)
        assert span.metric is not None

    asyncio.run(main())
    assert logger.summary()["a"]["calls"] == 1


def test_the_callers_own_cpu_time_is_used_when_given(logger: EnergyLogger) -> None:
    span = logger.span("child").begin()

    assert span.end(cpu_s=1.25)["cpu"]["process_s"] == 1.25


@pytest.mark.parametrize(
    "kwargs",
    [
        {"policy": "fair"},
        {"model": "maybe"},
        {"scope": "universe"},
        {"scope": 2**22 + 1},
        {"scope": str(2**22 + 1)},
        {"scope": "9" * 5_000},
        {"scope": 1.5},
        {"scope": b"tree"},
        {"idle_w": -1.0},
        {"idle_w": float("nan")},
    ],
)
def test_wrong_arguments_raise_and_say_what_is_wrong(
    kwargs: dict[str, object],
) -> None:
    with pytest.raises(InvalidInputError, match=r"\S"):
        EnergyLogger(**kwargs)  # type: ignore[arg-type]


def test_a_span_measures_once(logger: EnergyLogger) -> None:
    span = logger.span("x")
    with pytest.raises(InvalidInputError, match="not running"):
        span.end()
    with span, pytest.raises(InvalidInputError, match="begun before"):
        span.begin()
    with pytest.raises(InvalidInputError, match="begun before"):
        span.begin()


def test_what_is_not_json_becomes_text(logger: EnergyLogger) -> None:
    info = logger.log_metrics("x", a=float("nan"), b={1: (1, 2)}, c=object)[
        "additional_info"
    ]

    assert info == {"a": "nan", "b": {"1": [1, 2]}, "c": "<class 'object'>"}


def test_what_raises_while_it_is_written_down_is_named_by_its_type(
    logger: EnergyLogger,
) -> None:
    class Text(str):
        def encode(self, *_: object) -> bytes:
            raise ValueError

    class Names(dict[str, int]):
        def items(self) -> Any:
            raise RuntimeError

    class Grows:
        def __str__(self) -> str:  # as another thread may, at any time
            shared[str(len(shared))] = 1
            return "grew"

    shared: dict[str, object] = {"a": Grows(), "b": 1}
    metric = logger.log_metrics("step", text=Text("x"), names=Names(), shared=shared)

    assert metric["additional_info"] == {
        "text": "<Text>",
        "names": "<Names>",
        "shared": {"a": "grew", "b": 1},
    }
    assert "info_as_text" in metric["energy"]["quality"]["flags"]


def test_history_is_bounded_and_the_summary_is_not() -> None:
    logger = EnergyLogger(socket=NOWHERE, history=3)
    for _ in range(10):
        logger.log_metrics("x")

    assert len(logger.metrics) == 3
    assert logger.summary()["x"]["calls"] == 10


@pytest.mark.parametrize(
    ("file", "text"),
    [("cpu.stat", "usage_usec {}\nuser_usec 1\n"), ("cpuacct.usage", "{}000\n")],
    ids=["v2", "v1"],
)
def test_a_cgroup_as_the_scope_counts_what_it_used(
    tmp_path: Path, file: str, text: str
) -> None:
    (tmp_path / file).write_text(text.format(1_000_000))
    (tmp_path / "cgroup.procs").write_text(f"{os.getpid()}\n")
    logger = EnergyLogger(socket=NOWHERE, scope=f"cgroup:{tmp_path}")
    (tmp_path / file).write_text(text.format(1_250_000))
    metric = logger.log_metrics("service")

    assert metric["cpu"]["process_s"] == 0.25
    assert (metric["memory"]["rss_bytes"] or 0) > 0


def test_a_thread_as_the_scope_has_its_own_work_alone(logger: EnergyLogger) -> None:
    with logger.span("thread", scope="thread") as span:
        other = threading.Thread(target=burn, args=(3_000_000,))
        other.start()
        other.join()
    with logger.span("process", scope="process") as whole:
        other = threading.Thread(target=burn, args=(3_000_000,))
        other.start()
        other.join()

    assert span.metric is not None
    assert whole.metric is not None
    assert span.metric["cpu"]["process_s"] < whole.metric["cpu"]["process_s"] / 4


def test_a_process_can_be_named_in_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CARBON_OPS_SCOPE", str(os.getppid()))
    with EnergyLogger(socket=NOWHERE, model="off") as logger:
        parent = logger.log_metrics("x")["memory"]["rss_bytes"]
    monkeypatch.setenv("CARBON_OPS_SCOPE", str(os.getpid()))
    with EnergyLogger(socket=NOWHERE, model="off") as logger:
        own = logger.log_metrics("x")["memory"]["rss_bytes"]

    assert parent is not None
    assert own is not None
    assert parent != own


def test_memory_is_this_processs_and_its_part_of_the_host(
    logger: EnergyLogger,
) -> None:
    memory = logger.log_metrics("x")["memory"]

    assert memory["rss_bytes"] is not None
    assert memory["peak_rss_bytes"] is not None
    assert 1 << 20 < memory["rss_bytes"] <= memory["peak_rss_bytes"]
    assert memory["host_percent"] is not None
    assert 0 < memory["host_percent"] < 100


def test_the_sum_of_many_short_spans_is_surer_than_one(logger: EnergyLogger) -> None:
    metric = logger.log_metrics("x")
    metric["energy"]["energy_j_total"] = 10.0
    summary = Summary()
    for _ in range(100):
        summary.add(Built(metric, common_j=0.3, single_j=5.0), None)
    line = summary.report()["x"]

    assert line["joules"] == pytest.approx(1_000.0)
    assert line["joules_u"] == pytest.approx((30.0**2 + 100 * 5.0**2) ** 0.5)


@pytest.mark.parametrize("watts", ["5", -5, float("nan"), 1e9], ids=str)
def test_idle_power_that_is_no_power_is_refused(watts: Any) -> None:
    with pytest.raises(InvalidInputError, match="idle_w must be watts"):
        EnergyLogger(idle_w=watts)


def test_the_number_of_cpus_is_the_machines_whatever_python_was_told() -> None:
    program = (
        "from carbon_ops import EnergyLogger\n"
        f"logger = EnergyLogger(socket={NOWHERE!r})\n"
        "print(logger.log_metrics('step')['cpu']['count'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHON_CPU_COUNT": "31"},  # Python 3.13 and later
    )

    assert int(done.stdout) == os.sysconf("SC_NPROCESSORS_ONLN")
