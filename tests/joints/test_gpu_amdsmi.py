"""AMD's own library, as a module that behaves like it.

Written after ROCm's ``py-interface`` (amdsmi_interface.py, amdsmi_exception.py) of
release 7: handles are opaque objects and anything else is a parameter error; nothing
answers before ``amdsmi_init``; what a device lacks is ``"N/A"`` in one answer and an
exception of the library's own class in another; the counter's resolution is a C float.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from carbon_ops.errors import SourceUnavailableError
from carbon_ops.meter.gpu import GpuMeter
from carbon_ops.sources.gpu import WHOLE_DEVICE
from carbon_ops.sources.gpu_amdsmi import AmdsmiGpus

LIBRARY = """
import ctypes, enum

class AmdSmiException(Exception): ...

class AmdSmiLibraryException(AmdSmiException):
    def __init__(self, code):
        super().__init__(abs(code))
        self.code = abs(code)
    def __str__(self):
        return f"An error occured with code: {self.code}(AMDSMI_STATUS_NOT_SUPPORTED)"

class AmdSmiParameterException(AmdSmiException): ...

class AmdSmiMemoryType(enum.IntEnum):
    VRAM = 0

class Handle(ctypes.c_void_p): ...

devices = []
running = False
starts = True

def amdsmi_init(flag=2):
    global running
    if not starts:
        raise AmdSmiLibraryException(34)
    running = True

def amdsmi_shut_down():
    global running
    running = False

def of(handle):
    if not isinstance(handle, Handle):
        raise AmdSmiParameterException("Invalid parameter")
    if not running:
        raise AmdSmiLibraryException(32)
    return devices[(handle.value or 1) - 1]

def amdsmi_get_processor_handles():
    if not running:
        raise AmdSmiLibraryException(32)
    return [Handle(n + 1) for n in range(len(devices))]

def answer(key):
    def ask(handle, *more):
        found = of(handle)[key]
        if found is None:
            raise AmdSmiLibraryException(-2)
        return found
    return ask

amdsmi_get_gpu_device_uuid = answer("uuid")
amdsmi_get_power_info = answer("power")
amdsmi_get_gpu_activity = answer("activity")
amdsmi_get_gpu_memory_usage = answer("memory")
amdsmi_get_energy_count = answer("energy")
amdsmi_get_gpu_process_list = answer("processes")
"""
RESOLUTION = ctypes.c_float(15.3).value  # 15.300000190734863, as a caller sees it


def device(ticks: int | None = 1_000_000, **more: Any) -> dict[str, Any]:
    energy = {"energy_accumulator": ticks, "counter_resolution": RESOLUTION}
    return {
        "uuid": "aaff74a0-0000-1000-8000-000000000001",
        "power": {
            "socket_power": 300,
            "current_socket_power": "N/A",
            "average_socket_power": 299,
        },
        "activity": {"gfx_activity": 87, "umc_activity": 3, "mm_activity": "N/A"},
        "memory": 5_000_000_000,
        "energy": None if ticks is None else {**energy, "timestamp": 1},
        "processes": [{"name": "python", "pid": os.getpid(), "mem": 1}],
        **more,
    }


@pytest.fixture
def amdsmi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    (tmp_path / "amdsmi").mkdir()
    (tmp_path / "amdsmi" / "__init__.py").write_text(LIBRARY)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "amdsmi", raising=False)
    import amdsmi

    yield amdsmi
    sys.modules.pop("amdsmi", None)


def test_energy_is_ticks_times_their_resolution(amdsmi: Any) -> None:
    amdsmi.devices[:] = [device(2_000_000)]
    gpus = AmdsmiGpus()
    reading = gpus.read(gpus.devices[0])
    assert reading.energy_uj == round(2_000_000 * RESOLUTION)
    assert reading.power_w == 300.0
    assert reading.utilization_percent == 87.0
    assert reading.memory_used_bytes == 5_000_000_000
    assert (reading.source, reading.reason) == ("amdsmi", None)
    gpus.close()
    assert not amdsmi.running


@pytest.mark.parametrize(
    ("power", "watts"),
    [
        ({"current_socket_power": 42, "average_socket_power": "N/A"}, 42.0),
        ({"current_socket_power": "N/A", "average_socket_power": 41}, 41.0),
        ({"socket_power": 0, "average_socket_power": 41}, 0.0),
        ({"socket_power": "N/A"}, None),
        (None, None),
    ],
)
def test_power_is_under_other_names_in_other_releases(
    amdsmi: Any, power: dict[str, Any] | None, watts: float | None
) -> None:
    amdsmi.devices[:] = [device(power=power)]
    gpus = AmdsmiGpus()
    assert gpus.read(gpus.devices[0]).power_w == watts


def test_the_counter_had_another_name_before_release_6_1(amdsmi: Any) -> None:
    old = {"power": 10, "counter_resolution": 2.0, "timestamp": 1}
    amdsmi.devices[:] = [device(energy=old)]
    gpus = AmdsmiGpus()
    assert gpus.read(gpus.devices[0]).energy_uj == 20


def test_a_device_without_a_counter_says_so_and_keeps_its_power(amdsmi: Any) -> None:
    amdsmi.devices[:] = [device(None, memory=None)]
    gpus = AmdsmiGpus()
    reading = gpus.read(gpus.devices[0])
    assert reading.energy_uj is None
    assert reading.power_w == 300.0
    assert reading.memory_used_bytes is None
    assert reading.reason is not None
    assert "NOT_SUPPORTED" in reading.reason


def test_a_release_without_some_functions_is_no_failure(amdsmi: Any) -> None:
    del amdsmi.amdsmi_get_power_info, amdsmi.AmdSmiMemoryType
    del amdsmi.amdsmi_get_gpu_device_uuid
    amdsmi.devices[:] = [device()]
    gpus = AmdsmiGpus()
    reading = gpus.read(gpus.devices[0])
    assert gpus.devices[0].uuid is None
    assert (reading.power_w, reading.memory_used_bytes) == (None, None)
    assert reading.energy_uj == round(1_000_000 * RESOLUTION)


def test_a_task_has_the_energy_between_two_readings_of_all_its_devices(
    amdsmi: Any,
) -> None:
    amdsmi.devices[:] = [device(0), device(0)]
    meter = GpuMeter(environ={}, sources=(AmdsmiGpus(),))
    start = meter.mark(0)
    amdsmi.devices[:] = [device(1_000_000), device(3_000_000)]
    end = meter.mark(1)
    pids = frozenset({os.getpid()})
    component, rows = meter.between(start, end, pids, synchronised=False)
    assert component["j"] == pytest.approx(4 * 15.3)
    assert component["source"] == "amdsmi"
    assert [row["energy_j"] for row in rows] == pytest.approx([15.3, 45.9])
    meter.close()


def test_a_counter_that_starts_anew_is_no_energy(amdsmi: Any) -> None:
    amdsmi.devices[:] = [device(5_000_000)]
    meter = GpuMeter(environ={}, sources=(AmdsmiGpus(),))
    start = meter.mark(0)
    amdsmi.devices[:] = [device(10)]
    component, rows = meter.between(
        start, meter.mark(1), frozenset({os.getpid()}), synchronised=False
    )
    assert component["j"] is None
    assert rows[0]["reason"] == "counter_reset"


@pytest.mark.parametrize(
    ("processes", "answer"),
    [
        ([{"pid": 1, "name": "N/A"}, {"pid": 0}], (None, "only_other")),
        ([{"pid": "N/A"}, {}], (None, "only_other")),
        ([], (1.0, WHOLE_DEVICE)),
        (None, (1.0, WHOLE_DEVICE)),
        ([ctypes.c_uint32(7)], (1.0, WHOLE_DEVICE)),  # before release 6.0
    ],
    ids=["others", "numberless", "nobody", "not-told", "handles"],
)
def test_who_else_is_on_the_device(
    amdsmi: Any, processes: object, answer: tuple[float | None, str]
) -> None:
    amdsmi.devices[:] = [device(processes=processes)]
    gpus = AmdsmiGpus()
    share, reason = gpus.busy_share(gpus.devices[0], frozenset({os.getpid()}), 0)
    assert share == answer[0]
    assert reason is not None
    assert reason.startswith(answer[1])


def test_a_driver_that_dies_in_mid_run_is_a_reason(amdsmi: Any) -> None:
    amdsmi.devices[:] = [device()]
    meter = GpuMeter(environ={}, sources=(AmdsmiGpus(),))
    start = meter.mark(0)
    amdsmi.amdsmi_shut_down()
    component, rows = meter.between(
        start, meter.mark(1), frozenset({os.getpid()}), synchronised=False
    )
    assert component["j"] is None
    assert "no_energy_counter" in str(rows[0]["reason"])
    meter.close()


@pytest.mark.parametrize("trouble", ["starts", "devices", "import"])
def test_without_driver_device_or_library_it_says_which(
    amdsmi: Any, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if trouble == "starts":
        amdsmi.starts = False
    elif trouble == "import":
        monkeypatch.setitem(sys.modules, "amdsmi", None)
    says = {"starts": "start", "devices": "no device", "import": "import"}[trouble]
    with pytest.raises(SourceUnavailableError, match=says):
        AmdsmiGpus()
