"""Energy of Celery tasks: eager, and in a worker on a broker in memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import celery
import pytest

from carbon_ops.integrations.celery import EnergySignals


def burn(seconds: float) -> float:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
    return seconds


def wrong() -> None:
    raise LookupError("no such thing")


def made(**settings: Any) -> tuple[Any, Any, Any]:
    app = celery.Celery("test", broker="memory://", backend="cache+memory://")
    app.conf.update(settings)
    names = f"test.{id(app)}."
    return (
        app,
        app.task(burn, name=names + "burn"),
        app.task(wrong, name=names + "wrong"),
    )


@pytest.fixture
def energy() -> Iterator[EnergySignals]:
    signals = EnergySignals()
    signals.connect()
    signals.connect()
    yield signals
    signals.disconnect()


def test_eager_tasks_are_measured(energy: EnergySignals) -> None:
    _, task, wrong_task = made(task_always_eager=True)
    assert task.delay(0.05).get() == 0.05
    assert wrong_task.delay().state == "FAILURE"
    metrics = list(energy.logger.metrics)
    assert [(m["operation"], m["status"]) for m in metrics] == [
        (task.name, "ok"),
        (wrong_task.name, "error"),
    ]
    assert metrics[0]["cpu"]["process_s"] >= 0.05
    assert metrics[0]["additional_info"]["state"] == "SUCCESS"
    assert energy.logger.summary()[task.name]["calls"] == 1


def test_tasks_of_a_worker_are_measured(energy: EnergySignals) -> None:
    from celery.contrib.testing.worker import start_worker

    app, task, _ = made()
    with start_worker(app, pool="solo", perform_ping_check=False):
        results = [task.delay(0.05) for _ in range(3)]
        assert [result.get(timeout=60) for result in results] == [0.05] * 3
    summary = energy.logger.summary()[task.name]
    assert summary["calls"] == 3
    assert summary["joules"] is not None
    ids = {m["additional_info"]["task_id"] for m in energy.logger.metrics}
    assert ids == {result.id for result in results}
