"""Which source a mode opens."""

from __future__ import annotations

from pathlib import Path

import pytest

from carbon_ops.errors import InvalidInputError
from carbon_ops.sources.open import open_source
from carbon_ops.sources.simulated import Script
from carbon_ops.testing.msr import FakeMsr
from carbon_ops.testing.powercap import server


def test_each_mode_opens_its_source(tmp_path: Path) -> None:
    msr = FakeMsr(str(tmp_path), [0])
    msr.set(0, 0x606, 14 << 8)
    msr.set(0, 0x611, 1)
    opened = [
        open_source("sysfs", powercap_root=server(str(tmp_path)).root),
        open_source(
            "msr",
            dev_root=msr.dev_root,
            sys_cpu_root=msr.sys_cpu_root,
            cpuinfo=msr.cpuinfo,
            msr_cpus=[0],
        ),
        open_source("simulated", profile={"package-0": Script(((1.0, 5.0),))}),
    ]

    assert [source.name for source in opened] == ["rapl_sysfs", "rapl_msr", "simulated"]
    for source in opened:
        source.close()


def test_an_unknown_mode_names_the_known_ones() -> None:
    with pytest.raises(InvalidInputError, match="unknown RAPL mode 'perf'") as info:
        open_source("perf")

    assert "sysfs, msr, simulated" in info.value.hint
