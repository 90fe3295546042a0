"""AMD and Intel GPUs as the kernel's hwmon shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from carbon_ops.errors import SourceUnavailableError
from carbon_ops.sources.gpu_amd import HwmonGpus


def card(root: Path, number: int, vendor: str, **files: str) -> None:
    """Make one card as sysfs has it: a link into a device with a hwmon folder."""
    device = root / "devices" / f"pci{number}"
    hwmon = device / "hwmon" / f"hwmon{number + 3}"
    hwmon.mkdir(parents=True)
    (device / "vendor").write_text(f"{vendor}\n")
    for name, text in files.items():
        home = hwmon if name in ("name", "energy1_input", "power1_average") else device
        (home / name).write_text(f"{text}\n")
    shown = root / "drm" / f"card{number}"
    shown.mkdir(parents=True)
    (shown / "device").symlink_to(device)
    (root / "drm" / f"card{number}-DP-1").mkdir()  # a connector, not a card


def test_counters_units_and_gaps(tmp_path: Path) -> None:
    card(
        *(tmp_path, 10, "0x1002"),
        name="amdgpu",
        energy1_input="123456789",
        power1_average="85000000",
        gpu_busy_percent="42",
        mem_info_vram_used="1048576",
        unique_id="9246",
    )
    card(tmp_path, 2, "0x1002", name="amdgpu", power1_average="5000000")
    card(tmp_path, 3, "0x10de", name="nouveau")
    gpus = HwmonGpus(str(tmp_path / "drm"))
    assert [d.vendor for d in gpus.devices] == ["amd", "amd"]
    without, with_counter = (gpus.read(d) for d in gpus.devices)
    assert with_counter.energy_uj == 123_456_789
    assert with_counter.power_w == 85.0
    assert with_counter.utilization_percent == 42.0
    assert with_counter.memory_used_bytes == 1_048_576
    assert (without.energy_uj, without.power_w) == (None, 5.0)
    assert without.reason == "no_energy_counter"


def test_a_card_that_vanishes_gives_none_not_zero(tmp_path: Path) -> None:
    card(tmp_path, 0, "0x1002", name="amdgpu", energy1_input="1")
    gpus = HwmonGpus(str(tmp_path / "drm"))
    (tmp_path / "drm/card0/device").unlink()
    reading = gpus.read(gpus.devices[0])
    assert reading.energy_uj is None
    assert reading.source == "none"


def test_no_card_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError):
        HwmonGpus(str(tmp_path / "missing"))
