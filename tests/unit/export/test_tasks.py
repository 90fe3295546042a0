"""Spans become series: joules where they were counted, nothing where they were modelled."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics import exposition
from prometheus_client.parser import text_string_to_metric_families

from carbon_ops import CarbonEstimator, EnergyLogger
from carbon_ops.errors import InvalidInputError
from carbon_ops.export import table
from carbon_ops.export.prometheus import Collector, address, registry, write_textfile
from carbon_ops.export.tasks import LIMIT, Tasks
from carbon_ops.meter.local import LocalCounters
from carbon_ops.sources.simulated import Script, SimulatedSource


@pytest.fixture(name="tasks")
def _tasks() -> Iterator[Tasks]:
    tasks = Tasks()
    EnergyLogger.observers.append(tasks)
    yield tasks
    EnergyLogger.observers.remove(tasks)


def counted() -> EnergyLogger:
    source = SimulatedSource({"package-0": Script(((1.0, 40.0),))})
    return EnergyLogger(
        source=LocalCounters(source), estimator=CarbonEstimator(region="DE")
    )


def values(tasks: Tasks) -> dict[str, float]:
    return {
        f"{sample.name}{json.dumps(sample.labels, sort_keys=True)}": sample.value
        for metric in Collector(tasks).collect()
        for sample in metric.samples
    }


def spin(seconds: float) -> None:
    import time

    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def test_a_counted_span_shows_joules_and_grams_of_both_kinds(tasks: Tasks) -> None:
    with counted() as logger:
        with logger.span("fit") as span:
            spin(0.05)
    assert span.metric is not None
    assert span.estimate is not None
    joules = span.metric["energy"]["energy_j_total"]
    assert joules
    found = values(tasks)
    mode = span.metric["energy"]["attribution_mode"]
    energy = json.dumps({"attribution_mode": mode, "task": "fit"})
    assert found[f"carbon_ops_process_energy_joules_total{energy}"] == joules
    assert found['carbon_ops_task_energy_joules_sum{"task": "fit"}'] == joules
    assert found['carbon_ops_task_energy_joules_count{"task": "fit"}'] == 1
    for accounting, figure in (
        ("marginal", span.estimate.marginal),
        ("location", span.estimate.average),
    ):
        labels = json.dumps(
            {"accounting": accounting, "scope": "operational", "task": "fit"}
        )
        assert figure.outcome is not None
        assert found[f"carbon_ops_emissions_grams_total{labels}"] == figure.outcome.mean
        bound = json.dumps(
            {"accounting": accounting, "bound": "upper", "level": "0.95"}
        )
        assert found[f"carbon_ops_emissions_bound_grams{bound}"] == figure.outcome.high


def test_a_modelled_span_shows_cpu_time_and_why_but_no_energy(
    tasks: Tasks, tmp_path: Path
) -> None:
    with EnergyLogger(
        socket=str(tmp_path / "none"), region="DE", cpu_watts=(10.0, 50.0)
    ) as logger:
        logger.log_metrics("work")
    names = {name.partition("{")[0] for name in values(tasks)}
    if any("rapl" in name for name in values(tasks)):
        pytest.skip("this user may read the host's counters")
    assert names == {
        "carbon_ops_process_cpu_seconds_total",
        "carbon_ops_allocation_ratio",
        "carbon_ops_measurement_info",
    }
    assert any("no_socket" in name for name in values(tasks))


def test_tasks_with_names_of_their_own_are_bounded(tasks: Tasks) -> None:
    with EnergyLogger(model="off") as logger:
        for number in range(LIMIT + 5):
            logger.log_metrics(f"request {number}")
    cpu = [name for name in values(tasks) if "cpu_seconds" in name]
    assert len(cpu) == LIMIT + 1
    assert any(table.REST in name for name in cpu)


def test_both_formats_parse_and_the_second_has_exemplars(tasks: Tasks) -> None:
    with counted() as logger:
        with logger.span('quo"te\\new\nline') as span:
            spin(0.02)
    source = registry(tasks)
    families = {
        f.name: f
        for f in text_string_to_metric_families(generate_latest(source).decode())
    }
    assert (
        families["carbon_ops_task_energy_joules"].samples[0].labels["task"]
        == 'quo"te\\new\nline'
    )
    assert f'trace_id="{span.trace_id}"' in exposition.generate_latest(source).decode()  # type: ignore[no-untyped-call]


def test_views_that_show_the_same_metric_share_one_family(tasks: Tasks) -> None:
    other = Tasks()
    EnergyLogger.observers.append(other)
    try:
        EnergyLogger(model="off").log_metrics("work")
    finally:
        EnergyLogger.observers.remove(other)
    names = [metric.name for metric in Collector(tasks, other).collect()]
    assert len(names) == len(set(names))
    text = generate_latest(registry(tasks, other)).decode()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert len(lines) == len(set(lines))


def test_an_observer_that_fails_breaks_no_measurement() -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no")

    EnergyLogger.observers.append(fail)
    try:
        assert EnergyLogger(model="off").log_metrics("work")["status"] == "ok"
    finally:
        EnergyLogger.observers.remove(fail)


def test_a_text_file_is_replaced_whole_or_not_at_all(
    tasks: Tasks, tmp_path: Path
) -> None:
    target = tmp_path / "carbon-ops.prom"
    target.write_text("old")

    class Broken:
        def families(self) -> Iterator[table.Family]:
            raise OSError("no")

    with pytest.raises(OSError, match="no"):
        write_textfile(str(target), registry(Broken()))
    assert target.read_text() == "old"
    with target.open() as being_read:
        write_textfile(str(target), registry(tasks))
        assert being_read.read() == "old"  # whole for who reads it meanwhile
    assert target.read_text() == ""
    taken = tmp_path / "folder.prom"
    taken.mkdir()
    with pytest.raises(OSError, match=r"folder\.prom"):
        write_textfile(str(taken), registry(tasks))
    assert sorted(tmp_path.iterdir()) == [target, taken]
    with pytest.raises(InvalidInputError, match=r"\.prom"):
        write_textfile(str(tmp_path / "x.txt"), registry(tasks))


@pytest.mark.parametrize(
    "text", ["9420", ":9420", "::1:9420", "host:", "host:123456", "host:٣", "h:-1"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="address to listen on"):
        address(text)
