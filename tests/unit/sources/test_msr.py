"""The MSR source on sparse files: Intel and AMD, dirty bits, denied registers."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from carbon_ops.counters.accumulator import Bank
from carbon_ops.errors import SourceUnavailableError
from carbon_ops.sources.msr import MsrSource, energy_filtering
from carbon_ops.sources.msr_units import Cpu, registers
from carbon_ops.testing.msr import FakeMsr

TENTH = 100_000_000
UNIT, PACKAGE, DRAM, CORE, PSYS, FILTER = 0x606, 0x611, 0x619, 0x639, 0x64D, 0xBC
AMD_UNIT, AMD_PACKAGE = 0xC0010299, 0xC001029B
ESU14, ESU16 = 14 << 8 | 0xA0003, 16 << 8 | 0xA0003


def opened(fake: FakeMsr, cpus: Sequence[int] | None = None) -> MsrSource:
    return MsrSource(
        dev_root=fake.dev_root,
        sys_cpu_root=fake.sys_cpu_root,
        cpuinfo=fake.cpuinfo,
        cpus=cpus,
    )


def skylake(base: Path) -> FakeMsr:
    """Two sockets of four CPUs, numbered alternately, package and DRAM registers."""
    fake = FakeMsr(str(base), [0, 1] * 4)
    for package in (0, 1):
        fake.set(package, UNIT, ESU14)
        fake.set(package, PACKAGE, 1_000 + package)
        fake.set(package, DRAM, 2_000 + package)
    return fake


def test_one_cpu_of_each_package_is_read(tmp_path: Path) -> None:
    source = opened(skylake(tmp_path))

    assert [zone.key for zone in source.zones] == [
        "msr/package-0",
        "msr/package-0/dram",
        "msr/package-1",
        "msr/package-1/dram",
    ]
    assert all(zone.counted for zone in source.zones)
    assert source.read() == (1_000, 2_000, 1_001, 2_001)
    assert source.zones[0].unit == (1_000_000, 1 << 14)
    assert source.zones[1].unit == (15_300, 1_000)  # whatever the unit register says
    source.close()


def test_two_cpus_of_one_package_are_still_one_package(tmp_path: Path) -> None:
    fake = skylake(tmp_path)
    fake.set_cpu(6, PACKAGE, 4_242)

    source = opened(fake, [6, 2, 0])

    assert [zone.package for zone in source.zones] == [0, 0]
    assert source.read()[0] == 4_242  # the first one named is the one that is read
    source.close()


def test_a_cpu_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError, match="CPU 99 is not online"):
        opened(skylake(tmp_path), [0, 99])


def test_dirty_high_bits_never_reach_the_accumulator(tmp_path: Path) -> None:
    fake = skylake(tmp_path)
    source = opened(fake)
    bank = Bank(source.zones)
    fake.set(0, PACKAGE, 0xDEAD_0000_FFFF_FFF0)
    bank.step(source.read(), 0, 0)

    fake.set(0, PACKAGE, 0xBEEF_1234_0000_0010)
    totals = bank.step(source.read(), TENTH, TENTH)[0]

    assert totals.total_uj == 32 * 10**6 >> 14
    assert totals.wraps == 1
    source.close()


def test_the_platform_register_of_new_servers_counts_joules_under_a_time_stamp(
    tmp_path: Path,
) -> None:
    fake = FakeMsr(str(tmp_path), [0], model=0x8F)
    fake.set(0, UNIT, ESU14)
    fake.set(0, PACKAGE, 1)
    fake.set(0, DRAM, 1)
    fake.set(0, PSYS, 0x0001_E240_0000_0064)

    source = opened(fake)
    psys = source.zones[-1]

    assert (psys.kind, psys.counted, psys.unit) == ("psys", False, (1_000_000, 1))
    assert source.read()[-1] == 100
    assert source.zones[1].unit == (1_000_000, 1 << 14)  # no fixed DRAM unit there
    source.close()


def test_a_package_may_start_at_0_and_a_register_that_stands_there_is_missing(
    tmp_path: Path,
) -> None:
    fake = skylake(tmp_path)
    fake.set(0, PACKAGE, 0)
    fake.set(0, PSYS, 0x0001_E240_0000_0000)  # a time stamp, and no energy

    source = opened(fake)

    assert [zone.key for zone in source.zones][:2] == [
        "msr/package-0",
        "msr/package-0/dram",
    ]
    assert all(zone.kind != "psys" for zone in source.zones)
    source.close()


def test_amd_has_one_counter_per_package_and_core_is_not_added(tmp_path: Path) -> None:
    fake = FakeMsr(
        str(tmp_path),
        [0, 0, 1, 1],
        vendor="AuthenticAMD",
        family=0x19,
        model=1,
        dies=[0, 1, 0, 1],
    )
    for package in (0, 1):
        fake.set(package, AMD_UNIT, ESU16)
        fake.set(package, AMD_PACKAGE, 500 + package)

    source = opened(fake)

    assert [(z.key, z.counted) for z in source.zones] == [
        ("msr/package-0", True),
        ("msr/package-0/core", False),
        ("msr/package-1", True),
        ("msr/package-1/core", False),
    ]
    assert source.read()[::2] == (500, 501)
    assert source.zones[0].unit == (1_000_000, 1 << 16)
    assert source.filtered is None
    source.close()


def test_intels_dies_have_counters_of_their_own(tmp_path: Path) -> None:
    fake = FakeMsr(str(tmp_path), [0, 0], dies=[0, 1])
    for cpu, ticks in ((0, 11), (1, 22)):
        fake.set_cpu(cpu, UNIT, ESU14)
        fake.set_cpu(cpu, PACKAGE, ticks)

    source = opened(fake)

    assert [z.name for z in source.zones] == ["package-0", "package-0-die-1"]
    assert source.read() == (11, 22)
    source.close()


def test_a_register_the_cpu_lacks_leaves_the_others(tmp_path: Path) -> None:
    fake = skylake(tmp_path)
    fake.set(0, PSYS, 5)  # the registers before it now stand at 0

    source = opened(fake)

    assert [zone.kind for zone in source.zones] == [
        *("package", "dram", "psys"),
        *("package", "dram"),
    ]
    source.close()


def test_a_register_that_is_denied_leaves_those_on_either_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a hypervisor or the kernel's filter lets some registers through."""
    fake = skylake(tmp_path)
    for package in (0, 1):
        fake.set(package, CORE, 7)
    denied, pread = DRAM, os.pread

    def filtered(fd: int, size: int, at: int) -> bytes:
        if at == denied:
            raise PermissionError(errno.EPERM, "Operation not permitted")
        return pread(fd, size, at)

    monkeypatch.setattr(os, "pread", filtered)
    source = opened(fake)
    assert [zone.kind for zone in source.zones] == ["package", "core"] * 2
    assert source.read() == (1_000, 7, 1_001, 7)
    denied = PACKAGE  # from now on
    assert source.read() == (None, 7, None, 7)
    source.close()


def test_a_package_that_stops_answering_does_not_stop_the_other(tmp_path: Path) -> None:
    fake = skylake(tmp_path)
    source = opened(fake)

    fake.cut(0)  # every read of its CPUs comes back short
    assert source.read() == (None, None, 1_001, 2_001)
    fake.set(0, DRAM, 2_500)

    assert source.read()[1] == 2_500
    source.close()


@pytest.mark.parametrize(
    ("value", "filtered"), [(0, False), (1, True), (2, False), (3, True)]
)
def test_energy_filtering_is_reported(
    tmp_path: Path, value: int, filtered: bool
) -> None:
    fake = skylake(tmp_path)
    fake.set(1, FILTER, value)

    source = opened(fake)

    assert source.filtered is filtered
    assert energy_filtering(fake.dev_root) is filtered
    source.close()


def test_energy_filtering_is_unknown_where_no_cpu_can_be_asked(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    fake = skylake(tmp_path)
    fake.cut(0)
    fake.cut(1)

    assert energy_filtering(fake.dev_root) is None
    assert energy_filtering(str(tmp_path / "none")) is None
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_atom_counts_in_whole_powers_of_a_microjoule(tmp_path: Path) -> None:
    fake = FakeMsr(str(tmp_path), [0], model=0x37)
    fake.set(0, UNIT, 5 << 8)
    fake.set(0, PACKAGE, 9)

    source = opened(fake)

    assert source.zones[0].unit == (32, 1)
    source.close()


def test_without_topology_cpuinfo_says_which_cpus_form_a_package(
    tmp_path: Path,
) -> None:
    fake = skylake(tmp_path)
    fake.sys_cpu_root = str(tmp_path / "none")

    source = opened(fake)

    assert source.read() == (1_000, 2_000, 1_001, 2_001)
    source.close()


def test_a_new_package_is_a_change(tmp_path: Path) -> None:
    fake = skylake(tmp_path)
    source = opened(fake)
    assert source.changed() is False

    fake.place(8, 2)

    assert source.changed() is True
    source.close()


def test_a_cpu_that_goes_offline_is_a_change_if_it_is_the_one_read(
    tmp_path: Path,
) -> None:
    fake = skylake(tmp_path)
    source = opened(fake)

    fake.offline(4)
    assert source.changed() is False
    fake.offline(0)
    assert source.read()[:2] == (None, None)
    assert source.changed() is True
    source.close()

    again = opened(fake)  # goes on with another CPU of the package
    assert again.read() == (1_000, 2_000, 1_001, 2_001)
    again.close()


def test_what_cannot_be_opened_is_named_with_a_way_out(tmp_path: Path) -> None:
    fake = skylake(tmp_path)
    fake.dev_root = str(tmp_path / "none")

    with pytest.raises(SourceUnavailableError, match=r"cannot read .*0/msr") as info:
        opened(fake)

    assert "modprobe msr" in info.value.hint


def test_a_unit_register_that_cannot_be_read_ends_it_tidily(tmp_path: Path) -> None:
    fake = FakeMsr(str(tmp_path), [0])
    before = len(os.listdir("/proc/self/fd"))

    with pytest.raises(SourceUnavailableError, match="cannot read"):
        opened(fake)

    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("vendor", "family"), [("ARM", 8), ("AuthenticAMD", 0x10), ("GenuineIntel", 5)]
)
def test_an_unknown_vendor_is_refused(tmp_path: Path, vendor: str, family: int) -> None:
    fake = FakeMsr(str(tmp_path), [0], vendor=vendor, family=family)

    with pytest.raises(SourceUnavailableError, match="no energy registers are known"):
        opened(fake)


def test_a_machine_that_is_no_x86_is_refused(tmp_path: Path) -> None:
    fake = skylake(tmp_path)
    Path(fake.cpuinfo).write_text("processor : 0\nBogoMIPS : 50\n", encoding="ascii")

    with pytest.raises(SourceUnavailableError, match="no x86 vendor"):
        opened(fake)


# As in rapl_ids of the kernel's drivers/powercap/intel_rapl_common.c.
@pytest.mark.parametrize("model", [0x3F, 0x4F, 0x55, 0x6A, 0x6C, 0x57, 0x85])
def test_memory_of_these_servers_counts_15_3_microjoules(model: int) -> None:
    units = {r.name: r.unit for r in registers(intel(model), 14 << 8)}

    assert units["dram"][:2] == (15_300, 1_000)
    assert units["package"][:2] == units["psys"][:2] == (1_000_000, 1 << 14)


@pytest.mark.parametrize("model", [0x8F, 0xCF])
def test_the_platform_of_these_servers_counts_joules(model: int) -> None:
    units = {r.name: r.unit for r in registers(intel(model), 14 << 8)}

    assert units["psys"][:2] == (1_000_000, 1)
    assert units["package"][:2] == units["dram"][:2] == (1_000_000, 1 << 14)


@pytest.mark.parametrize("model", [0x37, 0x4A, 0x5A, 0x4C])
def test_these_atoms_count_powers_of_two_microjoules(model: int) -> None:
    assert {r.unit[:2] for r in registers(intel(model), 5 << 8)} == {(32, 1)}


@pytest.mark.parametrize("model", [0x3C, 0x9E, 0x97, 0x8C])
def test_any_other_model_believes_its_unit_register(model: int) -> None:
    units = {r.unit[:2] for r in registers(intel(model), 16 << 8)}

    assert units == {(1_000_000, 1 << 16)}


def intel(model: int) -> Cpu:
    return Cpu("GenuineIntel", 6, model, {})
