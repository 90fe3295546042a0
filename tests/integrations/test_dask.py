"""The Dask plugin on a local cluster."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from distributed import Client, LocalCluster

from carbon_ops.integrations.dask import energy_plugin, totals


def tasks() -> tuple[Any, Any]:
    """Return functions that travel by value: workers cannot import this file."""
    import time

    def burn(seconds: float, number: int) -> int:
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            pass
        return number

    def wrong() -> None:
        raise LookupError("no such thing")

    return burn, wrong


@pytest.fixture(params=[True, False], ids=["processes", "threads"])
def client(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Client]:
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=request.param,
            dashboard_address=None,
            local_directory=tmp_path,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def test_tasks_are_counted_by_name(client: Client, governor: str) -> None:
    burn, wrong = tasks()
    client.register_plugin(energy_plugin(socket=governor))
    client.gather(client.map(burn, [0.2] * 8, range(8), key="burn"))
    with pytest.raises(LookupError):
        client.submit(wrong, key="wrong-1").result()
    deadline = time.monotonic() + 60
    while True:
        found = totals(client)
        if found.get("burn", {}).get("joules_cpu_s", 0) > 1.5:  # type: ignore[operator]
            break
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    assert found["burn"]["calls"] == 8
    assert found["burn"]["cpu_s"] >= 1.6  # type: ignore[operator]
    assert found["burn"]["joules"] > 0  # type: ignore[operator]
    assert found["wrong"]["calls"] == 1
