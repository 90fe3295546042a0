"""Clients in containers: other clocks and other user numbers are not taken for ours."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from carbon_ops.testing.governor import GovernorProcess

CLIENT = """
import sys
from carbon_ops.errors import GovernorUnavailableError
from carbon_ops.governor.client import GovernorClient
client = GovernorClient(sys.argv[1])
try:
    client.mark()
    print("uid", client.origin.uid)
except GovernorUnavailableError as error:
    print("reason", error.reason, error)
"""


@pytest.fixture(scope="module")
def governor() -> Iterator[GovernorProcess]:
    with GovernorProcess() as process:
        process.wait_ready()
        yield process


def inside(governor: GovernorProcess, *unshare: str) -> str:
    """Return what a client says that runs in namespaces of its own."""
    if subprocess.run(["unshare", *unshare, "true"], check=False, stderr=-3).returncode:
        pytest.skip("this kernel or user may not make such a namespace")
    done = subprocess.run(
        ["unshare", *unshare, sys.executable, "-c", CLIENT, governor.path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout


def test_an_unmapped_creator_is_nobody(governor: GovernorProcess) -> None:
    assert inside(governor, "--user") == "uid -1\n"


def test_a_mapped_creator_has_the_number_it_has_there(
    governor: GovernorProcess,
) -> None:
    assert inside(governor, "--user", "--map-root-user") == "uid 0\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_shifted_clock_is_refused(governor: GovernorProcess) -> None:
    said = inside(governor, "--fork", "--time", "--monotonic=1000")

    assert said.startswith("reason protocol")
    assert "CLOCK_MONOTONIC" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_another_namespace_with_the_same_clock_is_served(
    governor: GovernorProcess,
) -> None:
    assert inside(governor, "--fork", "--time") == "uid 0\n"
