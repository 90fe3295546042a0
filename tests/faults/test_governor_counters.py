"""Counters that fail with real errnos, and a machine that sleeps, under a real governor.

Needs a C compiler for ``counterfault.c``.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from carbon_ops.errors import GovernorUnavailableError
from carbon_ops.governor.client import GovernorClient
from carbon_ops.model import Sample
from carbon_ops.testing.governor import GovernorProcess
from carbon_ops.testing.powercap import FakePowercap

COMPILER = shutil.which("cc")
UNIT_NJ = 61_035
HOUR_NS = 3_600_000_000_000
ERRNOS = (errno.EIO, errno.EINVAL, errno.ENODATA)

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler for the shim")


class Fault(ctypes.Structure):
    """What ``counterfault.c`` maps."""

    _fields_ = (
        ("code", ctypes.c_int),
        ("left", ctypes.c_int),
        ("asleep_ns", ctypes.c_longlong),
    )


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert COMPILER is not None
    library = tmp_path_factory.mktemp("shim") / "counterfault.so"
    source = Path(__file__).parent / "counterfault.c"
    subprocess.run(
        [COMPILER, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True
    )
    return library


@pytest.fixture
def tree(tmp_path: Path) -> FakePowercap:
    fake = FakePowercap(str(tmp_path))
    fake.add("intel-rapl:0", "package-0", unit_nj=UNIT_NJ, ticks=1_000)
    return fake


@pytest.fixture
def fault(tmp_path: Path) -> Iterator[Fault]:
    (tmp_path / "fault").write_bytes(bytes(mmap.PAGESIZE))
    with open(tmp_path / "fault", "r+b") as file:
        memory = mmap.mmap(file.fileno(), mmap.PAGESIZE)
    found = Fault.from_buffer(memory)
    yield found
    del found


@pytest.fixture
def governor(
    tree: FakePowercap, fault: Fault, shim: Path, tmp_path: Path
) -> Iterator[GovernorProcess]:
    env = {"LD_PRELOAD": str(shim), "COUNTERFAULT": str(tmp_path / "fault")}
    with GovernorProcess("--powercap-root", tree.root, env=env) as process:
        yield process
        assert process.answer_s() < 1
        assert process.running.poll() is None, process.said()
        assert "Traceback" not in process.said()


def until(client: GovernorClient, condition: Callable[[Sample], bool]) -> Sample:
    """Return the first sample that meets ``condition``."""
    deadline = time.monotonic() + 30
    while True:
        try:
            if condition(sample := client.latest()):
                return sample
        except GovernorUnavailableError:  # a busy machine: stale for a moment
            pass
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def uj(ticks: int) -> int:
    return ticks * UNIT_NJ // 1_000


@pytest.mark.parametrize("reads", [1, 10])
@pytest.mark.parametrize("code", ERRNOS)
def test_reads_that_fail_for_a_while_lose_nothing(
    tree: FakePowercap, fault: Fault, governor: GovernorProcess, code: int, reads: int
) -> None:
    client = governor.wait_ready()
    mark = client.mark()

    fault.code, fault.left = code, reads
    until(client, lambda _: fault.left == 0)
    tree.advance("intel-rapl:0", 100_000)
    last = until(client, lambda sample: sample.totals[0].total_uj > 0)
    window = client.window(mark, mark.monotonic_ns, last.monotonic_ns)

    (zone,) = window.zones
    assert zone.point_uj == uj(101_000) - uj(1_000)
    assert zone.low_uj <= zone.point_uj <= zone.high_uj
    # A read that a busy machine made slow is made again, so fewer samples may fail.
    assert reads // 3 <= window.failures <= reads
    assert ("read_failed" in window.flags) == (window.failures > 0)
    assert window.gaps == window.resets == 0


@pytest.mark.parametrize("code", [*ERRNOS, errno.ENODEV])
def test_a_counter_that_fails_for_ever_is_unknown_not_zero(
    tree: FakePowercap, fault: Fault, governor: GovernorProcess, code: int
) -> None:
    client = governor.wait_ready()
    before = client.origin

    fault.code, fault.left = code, -1
    start = until(client, lambda sample: not sample.totals[0].fresh)
    mark = client.mark()
    tree.advance("intel-rapl:0", 100_000)
    # Longer than the governor takes to look whether the zone was plugged in anew.
    last = until(client, lambda sample: sample.sequence > start.sequence + 12)
    window = client.window(mark, mark.monotonic_ns, last.monotonic_ns)
    (zone,) = window.zones
    assert governor.answer_s() < 1

    assert "unread" in window.flags
    assert zone.high_uj >= uj(100_000)
    assert client.origin == before
    fault.left = 0
    mended = until(client, lambda sample: sample.totals[0].fresh)
    assert mended.totals[0].total_uj == uj(101_000) - uj(1_000)


def test_a_suspend_is_an_interval_not_a_number(
    tree: FakePowercap, fault: Fault, governor: GovernorProcess
) -> None:
    client = governor.wait_ready()
    mark = client.mark()

    tree.advance("intel-rapl:0", 5_000)
    until(client, lambda sample: sample.totals[0].total_uj > 0)
    fault.asleep_ns = HOUR_NS
    until(client, lambda sample: sample.totals[0].gaps == 1)
    tree.advance("intel-rapl:0", 7_000)
    last = until(client, lambda sample: sample.totals[0].total_uj > uj(5_000) + 1)
    window = client.window(mark, mark.monotonic_ns, last.monotonic_ns)

    (zone,) = window.zones
    assert window.gaps == 1
    assert window.flags[0] == "gap"
    assert abs(zone.point_uj - uj(12_000)) <= 1  # what was seen awake, and no more
    assert zone.high_uj >= 1_000 * HOUR_NS // 1_000  # 1,000 W all the time
