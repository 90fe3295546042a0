"""GPUs through the logger: the real nvidia-ml-py over a driver built here, and hwmon."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SHIM = Path(__file__).parent / "nvml_shim" / "nvml_shim.c"
COMPILER = shutil.which("cc") or shutil.which("gcc")

# Runs in a process of its own: the library is loaded once per process, and this machine
# has no GPU, so the logger is told that there are signs of one.
BEFORE = """
import json, os, sys
from carbon_ops import EnergyLogger
from carbon_ops.sources import gpu_present
gpu_present.NVIDIA_NODE = os.environ.get("NVIDIA_NODE", "/dev/null")
gpu_present.DRM_ROOT = os.environ.get("DRM_ROOT", "/nonexistent")
me = os.getpid()

def shim(*lines):
    new = os.environ["NVML_SHIM"] + ".new"
    with open(new, "w") as file:
        file.write("".join(line + "\\n" for line in lines))
    os.replace(new, os.environ["NVML_SHIM"])  # at once: a thread may be reading

def device(name, energy, mig=0, error=0, power=250_000):
    return f"device GPU-{name} A100 {energy} {power} 93 1024 {mig} {error}"

def told(metric):
    print(json.dumps(metric), flush=True)

def logger(**more):
    return EnergyLogger(socket="/nonexistent/s", cpu_watts=(10.0, 20.0), **more)
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if COMPILER is None:
        pytest.skip("no C compiler on this machine")
    folder = tmp_path_factory.mktemp("nvml")
    subprocess.run(
        [
            *(COMPILER, "-shared", "-fPIC", "-Wall", "-Werror"),
            *("-o", str(folder / "libnvidia-ml.so.1"), str(SHIM)),
        ],
        check=True,
    )
    return folder


def run(folder: Path, tmp_path: Path, program: str, **more: str) -> list[Any]:
    environ = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CARBON_OPS_", "CUDA_", "ROCR_", "HIP_"))
    }
    environ |= {
        "NVML_SHIM": str(tmp_path / "devices"),
        "LD_LIBRARY_PATH": str(folder),
        **more,
    }
    done = subprocess.run(
        [sys.executable, "-c", BEFORE + program],
        env=environ,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


TWO = """
shim(device("a", 1_000), device("b", 5_000), f"process 0 {me} 80", f"process 1 {me} 80")
log = logger()
with log.span("both", sync=lambda: None) as span:
    shim(device("a", 3_000), device("b", 5_500), f"process 0 {me} 80", f"process 1 {me} 80")
told(span.metric)
"""


def test_the_energy_of_both_devices_is_the_tasks(library: Path, tmp_path: Path) -> None:
    (metric,) = run(library, tmp_path, TWO)
    energy = metric["energy"]

    assert energy["components"]["gpu"]["j"] == pytest.approx(2.5)
    assert energy["components"]["gpu"]["source"] == "nvml_energy"
    assert energy["components"]["cpu"]["source"] == "model_cpu_load"
    assert energy["energy_j_total"] == pytest.approx(
        2.5 + energy["components"]["cpu"]["j"]
    )
    assert "gpu" not in energy["components_missing"]
    assert [(g["index"], g["energy_j"]) for g in metric["gpu"]] == [(0, 2.0), (1, 0.5)]
    assert all(g["synchronised"] for g in metric["gpu"])
    assert metric["gpu"][0]["power_w"] == 250.0


@pytest.mark.parametrize(
    ("given", "expected"),
    [("1", [1]), ("GPU-b", [1]), ("", []), ("1,0", [1, 0]), ("0,9,1", [0])],
)
def test_only_the_devices_given_to_this_process_count(
    library: Path, tmp_path: Path, given: str, expected: list[int]
) -> None:
    (metric,) = run(library, tmp_path, TWO, CUDA_VISIBLE_DEVICES=given)

    assert [g["index"] for g in metric["gpu"]] == expected
    if not expected:
        assert metric["energy"]["components"]["gpu"]["reason"] == "no_visible_gpu"


def test_shared_devices_are_divided_and_partitions_are_not(
    library: Path, tmp_path: Path
) -> None:
    shared, partition, elsewhere = run(
        library,
        tmp_path,
        """
on = [f"process 0 {me} 30", "process 0 99 90"]
shim(device("a", 1_000), *on)
log = logger()
with log.span("shared") as span:
    shim(device("a", 5_000), *on)
told(span.metric)
with log.span("elsewhere") as elsewhere:
    shim(device("a", 9_000), on[1])
log.close()
shim(device("a", 1_000, mig=1), *on)
log = logger()
with log.span("partition") as span:
    shim(device("a", 5_000, mig=1), *on)
told(span.metric)
told(elsewhere.metric)
""",
    )
    gpu = shared["energy"]["components"]["gpu"]

    assert gpu["j"] == pytest.approx(1.0)  # a quarter of 4 J
    assert gpu["uncertainty_j"] >= 0.3
    assert shared["gpu"][0]["reason"] == "shared_time_occupancy"
    assert shared["gpu"][0]["synchronised"] is False
    assert partition["gpu"][0]["energy_j"] is None
    assert "mig_not_attributable" in partition["energy"]["components"]["gpu"]["reason"]
    # Nobody's neighbour is billed; 0 or unknown, by whether processes can be told.
    assert elsewhere["gpu"][0]["energy_j"] in (0.0, None)
    assert elsewhere["gpu"][0]["reason"] == "only_other_processes_on_device"


def test_successive_metrics_share_a_device_without_hole_or_overlap(
    library: Path, tmp_path: Path
) -> None:
    metrics = run(
        library,
        tmp_path,
        """
shim(device("a", 0), f"process 0 {me} 30")
log = logger()
for mj in (1_000, 4_000, 4_500):
    shim(device("a", mj), f"process 0 {me} 30")
    told(log.log_metrics("step"))
""",
    )
    assert [m["gpu"][0]["energy_j"] for m in metrics] == [1.0, 3.0, 0.5]


def test_a_driver_that_dies_in_mid_run_and_a_counter_that_restarts_are_reasons(
    library: Path, tmp_path: Path
) -> None:
    lost, back, restarted = run(
        library,
        tmp_path,
        """
mine = f"process 0 {me} 30"
shim(device("a", 1_000), mine)
log = logger()
shim(device("a", 2_000, error=15), mine)
told(log.log_metrics("lost"))
shim(device("a", 3_000), mine)
told(log.log_metrics("back"))
shim(device("a", 10), mine)
told(log.log_metrics("restarted"))
""",
    )
    for metric, reason in (
        (lost, "GPU is lost"),
        (back, "GPU is lost"),
        (restarted, "counter_reset"),
    ):
        gpu = metric["energy"]["components"]["gpu"]
        assert gpu["j"] is None
        assert reason in gpu["reason"]
        assert metric["energy"]["energy_j_total"] is not None
        assert "gpu" in metric["energy"]["components_missing"]


def test_polled_power_stands_in_where_it_was_asked_for(
    library: Path, tmp_path: Path
) -> None:
    without, polled, threads = run(
        library,
        tmp_path,
        """
import threading, time
shim(device("a", -1), f"process 0 {me} 30")
with logger() as log:
    told(log.log_metrics("without"))
assert threading.active_count() == 1
with logger(gpu_sampling=True) as log:
    with log.span("polled") as span:
        time.sleep(0.5)
    told(span.metric)
told(threading.active_count())
""",
    )
    gpu = without["energy"]["components"]["gpu"]
    assert gpu["j"] is None
    assert "no_energy_counter" in gpu["reason"]
    gpu = polled["energy"]["components"]["gpu"]
    assert gpu["source"] == "nvml_power"
    assert gpu["j"] == pytest.approx(250 * polled["duration_s"], rel=0.05)
    assert gpu["uncertainty_j"] == pytest.approx(0.15 * gpu["j"])
    assert polled["gpu"][0]["reason"] == "polled_power"
    assert threads == 1  # closing the logger stopped it


def test_a_forked_child_polls_with_a_thread_of_its_own(
    library: Path, tmp_path: Path
) -> None:
    threads, child, again, parent = run(
        library,
        tmp_path,
        """
import threading, time
def polling():
    return [t.name for t in threading.enumerate()].count("carbon-ops-gpu")
shim(device("a", -1), f"process 0 {me} 30")
log = logger(gpu_sampling=True)
with log.span("before"):
    time.sleep(0.2)
pid = os.fork()
if pid == 0:
    shim(device("a", -1, power=100_000), f"process 0 {os.getpid()} 30")
    first = polling()
    with log.span("child", scope="process") as span:
        time.sleep(0.5)
        told([first, polling()])
    told(span.metric)
    log.close()
    told(polling())
    os._exit(0)
os.waitpid(pid, 0)
shim(device("a", -1), f"process 0 {me} 30")
time.sleep(0.2)
with log.span("parent", scope="process") as span:
    time.sleep(0.5)
log.close()
told(span.metric)
""",
    )
    assert (threads, again) == ([0, 1], 0)
    for metric, watts in ((child, 100), (parent, 250)):
        gpu = metric["energy"]["components"]["gpu"]
        assert gpu["source"] == "nvml_power"
        assert gpu["j"] == pytest.approx(watts * metric["duration_s"], rel=0.05)


def test_queued_work_lands_in_the_span_that_waited_for_it(
    library: Path, tmp_path: Path
) -> None:
    own, after = run(
        library,
        tmp_path,
        """
done = [3_000, 7_000]  # what was queued before the span, then what it queued itself
def wait():
    shim(device("a", done.pop(0)), f"process 0 {me} 80")
shim(device("a", 1_000), f"process 0 {me} 80")
log = logger()
with log.span("own", sync=wait) as span:
    pass
told(span.metric)
with log.span("after") as span:
    pass
told(span.metric)
""",
    )
    assert own["gpu"][0]["energy_j"] == pytest.approx(4.0)
    assert own["gpu"][0]["synchronised"] is True
    assert after["gpu"][0]["energy_j"] == 0.0
    assert after["gpu"][0]["synchronised"] is False


def test_a_failing_sync_is_a_flag_and_no_exception(
    library: Path, tmp_path: Path
) -> None:
    (metric,) = run(
        library,
        tmp_path,
        """
def broken():
    raise RuntimeError("CUDA error")
shim(device("a", 1_000), f"process 0 {me} 30")
with logger().span("x", sync=broken) as span:
    pass
told(span.metric)
""",
    )
    assert "sync_failed" in metric["energy"]["quality"]["flags"]
    assert metric["gpu"][0]["synchronised"] is False


def test_concurrent_spans_divide_the_device_between_them(
    library: Path, tmp_path: Path
) -> None:
    parts = run(
        library,
        tmp_path,
        """
import threading, time
shim(device("a", 0), f"process 0 {me} 30")
log = logger()
both = threading.Barrier(3)
def work(seconds):
    both.wait()
    with log.span("part") as span:
        both.wait()
        end = time.thread_time() + seconds
        while time.thread_time() < end: pass
        both.wait()
        both.wait()
    spans.append(span)
spans = []
threads = [threading.Thread(target=work, args=(s,)) for s in (0.3, 0.1)]
for thread in threads: thread.start()
for _ in range(3): both.wait()
shim(device("a", 8_000), f"process 0 {me} 30")
both.wait()
for thread in threads: thread.join()
for span in spans: told(span.metric)
""",
    )
    small, large = sorted(part["gpu"][0]["energy_j"] for part in parts)
    assert small + large == pytest.approx(8.0, rel=0.05)
    assert large / small == pytest.approx(3.0, rel=0.1)


def test_no_driver_is_a_reason_and_no_sign_of_a_gpu_costs_no_import(
    library: Path, tmp_path: Path
) -> None:
    (metric,) = run(library, tmp_path, "told(logger().log_metrics('x'))")
    assert "does not answer" in metric["energy"]["components"]["gpu"]["reason"]
    metric, loaded = run(
        library,
        tmp_path,
        """
told(logger().log_metrics("x"))
told([name for name in sys.modules if "gpu" in name or name == "pynvml"])
""",
        NVIDIA_NODE="/nonexistent",
    )
    assert metric["energy"]["components"]["gpu"]["reason"] == "not_measured"
    assert loaded == ["carbon_ops.sources.gpu_present"]


def test_amd_energy_comes_from_hwmon_and_says_that_it_is_the_whole_device(
    library: Path, tmp_path: Path
) -> None:
    device = tmp_path / "pci"
    hwmon = device / "hwmon" / "hwmon3"
    hwmon.mkdir(parents=True)
    (device / "vendor").write_text("0x1002\n")
    (hwmon / "energy1_input").write_text("1000000\n")
    (tmp_path / "drm" / "card0").mkdir(parents=True)
    (tmp_path / "drm" / "card0" / "device").symlink_to(device)
    (metric,) = run(
        library,
        tmp_path,
        f"""
log = logger()
with log.span("x") as span:
    with open({str(hwmon / "energy1_input")!r}, "w") as file:
        file.write("3000000")
told(span.metric)
""",
        NVIDIA_NODE="/nonexistent",
        DRM_ROOT=str(tmp_path / "drm"),
    )
    gpu = metric["energy"]["components"]["gpu"]
    assert (gpu["j"], gpu["source"]) == (2.0, "amd_hwmon")
    assert gpu["uncertainty_j"] == pytest.approx(2 * (0.05**2 + 0.3**2) ** 0.5)
    assert metric["gpu"][0]["reason"] == "whole_device"


SAID = """
import contextlib, io
from carbon_ops.cli.main import cli
def said(*argv):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        cli.main([*argv, "--socket=/nonexistent/s", "--json"], standalone_mode=False)
    return out.getvalue()
"""


def test_monitor_shows_each_gpu_and_goes_on_when_its_driver_dies(
    library: Path, tmp_path: Path
) -> None:
    (lines,) = run(
        library,
        tmp_path,
        SAID + """
shim(device("a", 1_000), device("b", -1))
lines = said("monitor", "-i", "0.2", "-n", "1")
shim(device("a", 1_000, error=999), device("b", -1))
told([json.loads(line) for line in (lines + said("monitor", "-n1", "-i.2")).splitlines()])
""",
    )
    well, ill = (line["gpu"] for line in lines)
    assert [g["energy_uj"] for g in well] == ["1000000", None]
    assert [g["power_w"] for g in well] == [250.0, 250.0]
    assert well[1]["reason"]
    assert (ill[0]["energy_uj"], bool(ill[0]["reason"])) == (None, True)


def test_monitor_shows_a_card_by_its_files_and_goes_on_when_they_vanish(
    library: Path, tmp_path: Path
) -> None:
    device = tmp_path / "drm" / "card0" / "device"
    hwmon = device / "hwmon" / "hwmon3"
    hwmon.mkdir(parents=True)
    (device / "vendor").write_text("0x1002\n")
    (device / "gpu_busy_percent").write_text("40\n")
    (hwmon / "energy1_input").write_text("1000000\n")
    (hwmon / "power1_average").write_text("50000000\n")
    environ = {"NVIDIA_NODE": "/nonexistent", "DRM_ROOT": str(tmp_path / "drm")}
    program = SAID + """
import shutil
from carbon_ops.cli import monitor
from carbon_ops.meter.counter import HostCounter
from carbon_ops.meter.telemetry import Telemetry
host = Telemetry(HostCounter(None, "/nonexistent/s"), "/nonexistent/s")
well = host.look()
shutil.rmtree(os.environ["DRM_ROOT"])
ill = host.look()
print(json.dumps([well["gpu"], ill["gpu"], monitor.line(well), monitor.line(ill)]))
"""
    ((well, ill, shown, dashed),) = run(library, tmp_path, program, **environ)
    assert (well[0]["energy_uj"], well[0]["power_w"]) == ("1000000", 50.0)
    assert well[0]["utilization_percent"] == 40.0
    assert (well[0]["source"], well[0]["reason"]) == ("amd_hwmon", None)
    assert (ill[0]["energy_uj"], ill[0]["power_w"]) == (None, None)
    assert ill[0]["reason"]
    assert "   50.0  model" in shown
    assert "      -  model" in dashed


def test_monitor_finds_the_devices_of_a_driver_that_was_loaded_anew(
    library: Path, tmp_path: Path
) -> None:
    before, lost, gone, after = run(
        library,
        tmp_path,
        """
from carbon_ops.meter.telemetry import Gpus
gpus = Gpus()
for devices in ([device("a", 1)], [device("a", 1, error=999)], [],
                [device("b", 2), device("c", 3)]):
    shim(*devices)
    told([(one["uuid"], one["energy_uj"], one["reason"]) for one in gpus.look()])
gpus.close()
""",
    )
    assert before == [["GPU-a", "1000", None]]
    for ((uuid, energy, reason),) in (lost, gone):
        assert (uuid, energy) == ("GPU-a", None)
        assert reason
    assert [one[:2] for one in after] == [["GPU-b", "2000"], ["GPU-c", "3000"]]


def test_doctor_names_the_gpus_and_what_they_lack(
    library: Path, tmp_path: Path
) -> None:
    hwmon = tmp_path / "drm" / "card0" / "device" / "hwmon" / "hwmon3"
    hwmon.mkdir(parents=True)
    (hwmon.parent.parent / "vendor").write_text("0x1002\n")
    (hwmon / "energy1_input").write_text("1000000\n")
    both, less = run(
        library,
        tmp_path,
        SAID + """
for energy in (5, -1):
    shim(device("a", 5), device("b", energy))
    found = json.loads(said("doctor"))["components"]
    told([one for one in found if one["component"].startswith("gpu")])
""",
        DRM_ROOT=str(tmp_path / "drm"),
    )
    assert [(g["state"], g["broken"]) for g in both] == [("measured", False)] * 2
    assert "A100" in both[0]["detail"]
    assert less[0]["state"] != "measured" or less[0]["why"]
