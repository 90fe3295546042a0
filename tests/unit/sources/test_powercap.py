"""The powercap source on a real tree of directories and links."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from carbon_ops.counters.accumulator import Bank
from carbon_ops.errors import SourceUnavailableError
from carbon_ops.sources.powercap import PowercapSource
from carbon_ops.testing.powercap import FakePowercap, server

TENTH = 100_000_000


def test_links_are_followed_and_every_zone_is_found_once(tmp_path: Path) -> None:
    source = PowercapSource(server(str(tmp_path)).root)

    assert [zone.key for zone in source.zones] == [
        "intel-rapl/package-0",
        "intel-rapl/package-0/core",
        "intel-rapl/package-0/dram",
        "intel-rapl/package-1",
        "intel-rapl/package-1/core",
        "intel-rapl/package-1/dram",
        "intel-rapl/psys",
        "intel-rapl-mmio/package-0",
    ]
    assert [zone.counted for zone in source.zones] == [
        *(True, False, True),
        *(True, False, True),
        *(False, False),
    ]
    assert source.name == "rapl_sysfs"
    source.close()


def test_the_device_directory_will_do_as_a_root(tmp_path: Path) -> None:
    server(str(tmp_path))

    source = PowercapSource(str(tmp_path / "devices/virtual/powercap"))

    assert len(source.zones) == 8
    source.close()


def test_registers_come_back_exactly_through_their_wrap(tmp_path: Path) -> None:
    fake = server(str(tmp_path))
    source = PowercapSource(fake.root)
    bank = Bank(source.zones)
    bank.step(source.read(), 0, 0)

    for ident in fake.ticks:
        fake.advance(ident, 30_001)
    assert source.read()[:2] == (29_001, 28_996)
    totals = bank.step(source.read(), TENTH, TENTH)

    assert totals[0].total_uj == 30_001 * 61_035 // 1000
    assert totals[2].total_uj == 30_001 * 15_300 // 1000
    assert [t.wraps for t in totals] == [1, 1, 1, 1, 1, 1, 0, 1]
    source.close()


def test_ten_sockets_and_more(tmp_path: Path) -> None:
    fake = FakePowercap(str(tmp_path))
    for socket in range(12):
        fake.add(f"intel-rapl:{socket}", f"package-{socket}", ticks=socket)

    source = PowercapSource(fake.root)

    assert [zone.package for zone in source.zones] == list(range(12))
    assert source.read() == tuple(range(12))
    source.close()


@pytest.mark.parametrize(
    "text",
    ["", "\n", "12", "abc\n", "-5\n", "1_0\n", "9" * 30 + "\n", "262143328851\n"],
)
def test_torn_and_senseless_text_is_a_failed_read(tmp_path: Path, text: str) -> None:
    fake = FakePowercap(str(tmp_path))
    fake.add("intel-rapl:0", "package-0", ticks=5)
    fake.add("intel-rapl:1", "package-1", ticks=6)
    source = PowercapSource(fake.root)

    fake.tear("intel-rapl:0", text)

    assert source.read() == (None, 6)
    fake.advance("intel-rapl:0", 1)
    assert source.read() == (6, 6)
    source.close()


def test_text_that_never_ends_in_a_newline_is_whole_without_it(tmp_path: Path) -> None:
    fake = FakePowercap(str(tmp_path))
    fake.add("intel-rapl:0", "package-0")
    fake.tear("intel-rapl:0", "61035")

    source = PowercapSource(fake.root)

    assert source.read() == (1000,)
    source.close()


def test_an_error_of_the_kernel_is_a_failed_read(tmp_path: Path) -> None:
    fake = FakePowercap(str(tmp_path))
    fake.add("intel-rapl:0", "package-0", ticks=5)
    fake.add("intel-rapl:1", "package-1")
    energy = Path(fake.root, "intel-rapl:1", "energy_uj")
    energy.unlink()
    energy.symlink_to("/proc/self/mem")  # page 0 is never mapped: EIO

    source = PowercapSource(fake.root)

    assert source.read() == (5, None)
    assert source.changed() is False
    source.close()


def test_a_range_of_no_known_shape_counts_microjoules(tmp_path: Path) -> None:
    fake = FakePowercap(str(tmp_path))
    fake.add("intel-rapl:0", "package-0", range_uj=5_000_000)
    fake.tear("intel-rapl:0", "4999999\n")
    source = PowercapSource(fake.root)
    bank = Bank(source.zones)

    bank.step(source.read(), 0, 0)
    fake.tear("intel-rapl:0", "8\n")
    totals = bank.step(source.read(), 1_000_000, 1_000_000)[0]

    assert totals.total_uj == 10  # 5,000,000 is shown, 5,000,001 is 0
    source.close()


def test_the_largest_constraint_sets_the_bound(tmp_path: Path) -> None:
    fake = FakePowercap(str(tmp_path))
    fake.add("intel-rapl:0", "package-0", max_power_uw=800_000_000)
    fake.add("intel-rapl:0:0", "dram")
    # A limit somebody set is not what the hardware can draw.
    fake.write("intel-rapl:0", "constraint_1_power_limit_uw", "4095000000\n")

    source = PowercapSource(fake.root)

    assert [zone.bound_w for zone in source.zones] == [1600.0, 1000.0]
    source.close()


class Looks:
    """Moves the registers while the source looks for twins."""

    def __init__(self, fake: FakePowercap, steps: dict[str, list[int]]) -> None:
        self.fake, self.steps, self.taken = fake, steps, 0

    def __call__(self, seconds: float) -> None:
        for ident, steps in self.steps.items():
            self.fake.advance(ident, steps[self.taken % len(steps)])
        self.taken += 1


def dies(base: Path) -> FakePowercap:
    fake = FakePowercap(str(base))
    for die in range(2):
        fake.add(f"intel-rapl:{die}", f"package-0-die-{die}", ticks=1_000 * die)
    return fake


def test_dies_that_mirror_one_counter_are_one(tmp_path: Path) -> None:
    fake = dies(tmp_path)
    same = [5_000, 5_100, 4_900]

    source = PowercapSource(
        fake.root, sleep=Looks(fake, {"intel-rapl:0": same, "intel-rapl:1": same})
    )

    assert [zone.counted for zone in source.zones] == [True, False]
    source.close()


def test_dies_with_counters_of_their_own_are_two(tmp_path: Path) -> None:
    fake = dies(tmp_path)
    looks = Looks(
        fake, {"intel-rapl:0": [5_000, 5_100], "intel-rapl:1": [5_001, 5_090]}
    )

    source = PowercapSource(fake.root, sleep=looks)

    assert [zone.counted for zone in source.zones] == [True, True]
    assert looks.taken == 7
    source.close()


def test_sockets_that_start_alike_are_never_looked_at(tmp_path: Path) -> None:
    fake = FakePowercap(str(tmp_path))
    for socket in range(2):
        fake.add(f"intel-rapl:{socket}", f"package-{socket}", ticks=77)
    looks = Looks(fake, {})

    source = PowercapSource(fake.root, sleep=looks)

    assert [zone.counted for zone in source.zones] == [True, True]
    assert looks.taken == 0
    source.close()


def test_a_zone_that_vanishes_or_appears_is_a_change(tmp_path: Path) -> None:
    fake = server(str(tmp_path))
    source = PowercapSource(fake.root)
    assert source.changed() is False

    fake.remove("intel-rapl:1:1")
    assert source.changed() is True
    fake.add("intel-rapl:1:1", "dram")
    assert source.changed() is False
    fake.add("intel-rapl:3", "package-2")

    assert source.changed() is True
    source.close()


def test_a_zone_of_the_same_name_on_another_device_is_a_change(tmp_path: Path) -> None:
    fake = server(str(tmp_path))
    source = PowercapSource(fake.root)

    fake.tear("intel-rapl:1")
    assert source.read()[3] is None
    assert source.changed() is False  # it fails, but there is no other to be had
    fake.replug("intel-rapl:1")
    assert source.read()[3] is None

    assert source.changed() is True
    source.close()


def test_a_link_that_leads_in_a_circle_ends_nowhere(tmp_path: Path) -> None:
    fake = server(str(tmp_path))
    for ident in fake.ticks:
        os.symlink(fake.root, Path(fake.root, ident, "circle"))

    source = PowercapSource(fake.root)

    assert len(source.zones) == 8
    source.close()


def test_no_tree_and_no_package_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError, match="no RAPL package counter"):
        PowercapSource(str(tmp_path / "none"))

    fake = FakePowercap(str(tmp_path))
    fake.add("intel-rapl:0", "psys")
    with pytest.raises(SourceUnavailableError, match="no RAPL package counter"):
        PowercapSource(fake.root)


def test_a_denied_counter_names_file_and_way_out(tmp_path: Path) -> None:
    fake = FakePowercap(str(tmp_path))
    fake.add("intel-rapl:0", "package-0")
    energy = Path(fake.root, "intel-rapl:0", "energy_uj")
    energy.unlink()
    # What even root may not open: EACCES on a file would not stop it.
    energy.symlink_to("energy_uj")

    with pytest.raises(SourceUnavailableError, match=r"cannot read .*uj") as info:
        PowercapSource(fake.root)

    assert "carbon-users" in info.value.hint


def test_one_denied_zone_does_not_take_the_others_down(tmp_path: Path) -> None:
    fake = server(str(tmp_path), 1)
    energy = Path(fake.root, "intel-rapl:0:1", "energy_uj")
    energy.unlink()
    energy.symlink_to("energy_uj")

    source = PowercapSource(fake.root)
    readings = source.read()

    assert readings[2] is None
    assert readings[0] is not None
    source.close()


def test_closing_gives_every_descriptor_back(tmp_path: Path) -> None:
    fake = server(str(tmp_path))
    before = len(os.listdir("/proc/self/fd"))

    source = PowercapSource(fake.root)
    assert len(os.listdir("/proc/self/fd")) == before + len(source.zones)
    source.close()
    source.close()

    assert len(os.listdir("/proc/self/fd")) == before
    assert set(source.read()) == {None}


def test_what_lies_deeper_than_any_zone_is_not_looked_at(tmp_path: Path) -> None:
    fake = FakePowercap(str(tmp_path / "a"))
    fake.add("intel-rapl:0", "package-0")
    deep = tmp_path / "root" / "/".join("abcdefghijklmnop")
    deep.mkdir(parents=True)
    (deep / "away").symlink_to(fake.root)

    with pytest.raises(SourceUnavailableError):
        PowercapSource(str(tmp_path / "root"))
