"""What the tests of the framework integrations share: a governor in a real process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from carbon_ops.testing.governor import GovernorProcess

pytest_plugins = ["pytester"]


@pytest.fixture(scope="session")
def governor() -> Iterator[str]:
    """Path of the socket of a governor over simulated counters."""
    with GovernorProcess() as running:
        running.wait_ready().close()
        yield running.path


@pytest.fixture(autouse=True)
def _served(governor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARBON_OPS_SOCKET", governor)
