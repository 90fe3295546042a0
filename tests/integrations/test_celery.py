"""Energy of Celery tasks: eager, in a solo worker, and in a pool of processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import celery
import pytest

from carbon_ops import verify_ledger
from carbon_ops.governor.client import GovernorClient
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


# --- a real worker: the prefork pool, two children, a broker of files ----------------

PREFORK = """
import fcntl, functools, os, signal, time
import celery
from kombu.transport.filesystem import Channel
from carbon_ops.integrations.celery import EnergySignals

here = os.path.dirname(os.path.abspath(__file__))


def alone(method):
    # Kombu creates a file, then locks and writes it, and reads without a lock: a worker
    # that looks in between finds an empty message, and dies of it.
    @functools.wraps(method)
    def locked(*args, **options):
        with open(f"{here}/lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return method(*args, **options)

    return locked


for name in ("_put", "_get", "_queue_bind", "get_table"):
    setattr(Channel, name, alone(getattr(Channel, name)))

app = celery.Celery("prefork", broker="filesystem://", backend=f"file://{here}/results")
app.conf.update(
    broker_transport_options={
        "data_folder_in": f"{here}/queue",
        "data_folder_out": f"{here}/queue",
        "control_folder": f"{here}/control",
    },
    worker_max_tasks_per_child=4,
)
energy = EnergySignals(ledger=f"{here}/ledger")
energy.connect()
if os.environ.get("USED_BEFORE_FORK"):
    energy.logger.log_metrics("import")


@app.task
def burn(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
    return os.getpid()


@app.task
def wrong():
    raise LookupError("no such thing")


@app.task(bind=True, max_retries=2)
def again(self):
    if self.request.retries < 2:
        raise self.retry(countdown=0)
    return self.request.retries


@app.task
def long():
    return burn(0.4)


@app.task
def die():
    os.kill(os.getpid(), signal.SIGKILL)


SEND = {
    "burn": lambda: [burn.delay(0.1) for _ in range(12)],
    "wrong": lambda: [wrong.delay()],
    "again": lambda: [again.delay()],
    "expired": lambda: [burn.apply_async((0.1,), expires=-1)],
    "long": lambda: [long.delay() for _ in range(2)],
    "die": lambda: [die.delay()],
}
"""


class Worker:
    """``celery worker --pool=prefork`` over the folder; gone when the block ends."""

    def __init__(self, folder: Path, **environ: str) -> None:  # of the worker alone
        for name in ("queue", "control", "results"):
            (folder / name).mkdir()
        (folder / "prefork.py").write_text(PREFORK)
        self.folder = folder
        words = "-A prefork worker --pool=prefork -c 2 --without-mingle -l INFO"
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "celery", *words.split()],
                cwd=folder,
                env={**os.environ, **environ},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def __enter__(self) -> Worker:
        return self

    def run(self, kind: str) -> list[Any]:
        """Send tasks of a kind and return their results, or their errors' names."""
        code = (
            "import sys, json, prefork\n"
            "found = prefork.SEND[sys.argv[1]]()\n"
            "ends = [one.get(timeout=60, propagate=False) for one in found]\n"
            "names = [type(e).__name__ if isinstance(e, BaseException) else e for e in ends]\n"
            "print(json.dumps(names))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, kind],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=90,
        )
        assert done.returncode == 0, done.stderr + (self.folder / "log").read_text()
        return list(json.loads(done.stdout))

    def measured(self) -> list[dict[str, Any]]:
        """Return what the ledger, which has to be in order, says was measured."""
        ledger = self.folder / "ledger"
        assert verify_ledger(str(ledger)).verdict == "OK"
        lines = [
            json.loads(line)
            for file in sorted(ledger.glob("*.jsonl"))
            for line in file.read_text().splitlines()
        ]
        return [line for line in lines if line["type"] == "energy_metric"]

    def stop(self) -> None:
        """Shut down warmly."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0, (self.folder / "log").read_text()

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def counted_j(client: GovernorClient) -> float:
    zones, sample = client.layout.zones, client.latest()
    pairs = zip(zones, sample.totals, strict=True)
    return sum(totals.total_uj for zone, totals in pairs if zone.counted) / 1e6


def test_a_pool_of_processes_bills_each_try_once_and_loses_none(
    tmp_path: Path, governor: str
) -> None:
    client = GovernorClient(governor)
    before = counted_j(client)
    with Worker(tmp_path, USED_BEFORE_FORK="1") as worker:
        pids = worker.run("burn")
        assert worker.run("wrong") == ["LookupError"]
        assert worker.run("again") == [2]
        assert worker.run("expired") == ["TaskRevokedError"]
        worker.stop()
    metrics = worker.measured()
    counted = counted_j(client) - before
    client.close()

    assert len(set(pids)) >= 3  # two at a time, each replaced after four tasks
    found: dict[str, list[dict[str, Any]]] = {}
    for metric in metrics:
        found.setdefault(metric["operation"].rpartition(".")[2], []).append(metric)
    assert {name: len(some) for name, some in found.items()} == {
        **{"import": 1, "burn": 12, "wrong": 1, "again": 3}
    }
    info = [metric["additional_info"] for metric in found["burn"]]
    assert len({one["task_id"] for one in info}) == 12
    assert [m["status"] for m in found["wrong"]] == ["error"]
    tries = {
        m["additional_info"]["retries"]: m["additional_info"]["state"]
        for m in found["again"]
    }
    assert tries == {0: "RETRY", 1: "RETRY", 2: "SUCCESS"}
    for metric in metrics:
        host = metric["energy"]["host"]
        parts = host["this_task_j"] + host["rest_j"]
        assert parts == pytest.approx(host["total_j"], abs=2e-6)
    # Each task its own CPU time, whoever forked the process, and no joule twice.
    assert all(0.1 <= metric["cpu"]["process_s"] < 0.4 for metric in found["burn"])
    billed = sum(metric["energy"]["host"]["this_task_j"] for metric in metrics)
    assert 0 < billed <= counted


def test_tasks_are_on_the_disk_before_anybody_can_kill_the_child(
    tmp_path: Path,
) -> None:
    with Worker(tmp_path) as worker:
        worker.run("long")
        assert worker.run("die") == ["WorkerLostError"]
        worker.run("long")  # in the child that took the place
        deadline = time.monotonic() + 60
        while len(worker.measured()) < 4:  # a result is told before the span ends
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.05)
    names = [metric["operation"] for metric in worker.measured()]
    assert names == ["prefork.long"] * 4
