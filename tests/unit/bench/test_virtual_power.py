"""The virtual counters that meters are compared on count as the kernel's do."""

from __future__ import annotations

import struct

import pytest
from benchmarks.virtual_host import fuse, power

SCRIPT = power.Power(((0.4, 150.0), (0.6, 50.0)))


def test_a_script_repeats_and_its_energy_is_the_area_below_it() -> None:
    assert SCRIPT.joules(0.2, 9.0) == pytest.approx(30.0)
    assert SCRIPT.joules(0.5, 9.0) == pytest.approx(65.0)
    assert SCRIPT.joules(10.4, 9.0) == pytest.approx(960.0)


def test_power_that_follows_load_counts_cpu_time_only() -> None:
    assert power.Power((), 100.0).joules(50.0, 0.25) == 25.0


def test_the_range_is_the_kernels() -> None:
    package = power.Zone("intel-rapl:0", "package-0", SCRIPT, 61_035)
    memory = power.Zone("intel-rapl:0:1", "dram", SCRIPT, 15_300)
    assert (package.range_uj, memory.range_uj) == (262_143_328_850, 65_712_999_613)


def test_a_register_wraps_where_it_was_told_to() -> None:
    zone = power.Zone("intel-rapl:0", "package-0", SCRIPT, wraps_after_j=300.0)
    assert zone.wraps(299.9) == 0
    assert zone.wraps(300.1) == 1
    assert zone.energy_uj(299.9) > zone.range_uj - 200_000
    assert zone.energy_uj(300.1) < 200_000


def test_shown_differences_are_the_true_energy() -> None:
    zone = power.Zone("intel-rapl:0", "package-0", SCRIPT)
    for joules in (1.0, 123.456, 9_999.0):
        shown = zone.energy_uj(joules) - zone.energy_uj(0.0)
        assert shown == pytest.approx(joules * 1e6, abs=2 * zone.unit_nj / 1000)


def test_the_host_counts_each_joule_once() -> None:
    zones = (
        power.Zone("intel-rapl:0", "package-0", SCRIPT, counted=True),
        power.Zone("intel-rapl:0:0", "core", SCRIPT),
        power.Zone("intel-rapl:1", "psys", SCRIPT),
        power.Zone("intel-rapl-mmio:0", "package-0", SCRIPT),
    )
    assert power.total_j(zones, 1.0, 0.0) == pytest.approx(90.0)


def test_a_zone_survives_json() -> None:
    zone = power.Zone("intel-rapl:0", "package-0", SCRIPT, wraps_after_j=3.0)
    described = {**zone._asdict(), "power": [[[0.4, 150.0], [0.6, 50.0]], 0.0]}
    assert power.zone_from(described) == zone


@pytest.fixture
def server() -> fuse.Server:
    tree = fuse.Tree()
    count = iter(range(9))
    tree.file("devices/zone/energy_uj", lambda: f"{next(count)}\n", 0o400)
    tree.link("class/zone", "../devices/zone")
    return fuse.Server(-1, tree)


def ask(server: fuse.Server, code: int, path: str, body: bytes = b"") -> bytes:
    node = server.tree.root
    for name in path.split("/") if path else ():
        found = server.answer(fuse.LOOKUP, node, name.encode() + b"\0")
        node = server.tree.nodes[struct.unpack_from("<Q", found)[0]]
    return server.answer(code, node, body)


def read(server: fuse.Server, handle: bytes, offset: int, size: int = 64) -> bytes:
    number = struct.unpack_from("<Q", handle)[0]
    body = fuse.READ_IN.pack(number, offset, size) + bytes(20)
    return ask(server, fuse.READ, "devices/zone/energy_uj", body)


def test_each_read_from_the_start_asks_anew(server: fuse.Server) -> None:
    handle = ask(server, fuse.OPEN, "devices/zone/energy_uj")
    assert read(server, handle, 0) == b"0\n"
    assert read(server, handle, 2) == b""
    assert read(server, handle, 0) == b"1\n"
    assert server.reads == 2


def test_a_link_tells_its_target(server: fuse.Server) -> None:
    assert ask(server, fuse.READLINK, "class/zone") == b"../devices/zone"


def test_a_name_that_is_not_there_is_an_error(server: fuse.Server) -> None:
    with pytest.raises(OSError, match="no such file"):
        ask(server, fuse.GETATTR, "class/other")


def test_a_listing_goes_on_where_a_full_buffer_ended_it(server: fuse.Server) -> None:
    names: list[bytes] = []
    while True:
        body = fuse.READ_IN.pack(0, len(names), 40) + bytes(20)
        part = ask(server, fuse.READDIR, "", body)
        if not part:
            break
        while part:
            *_, length, _ = fuse.DIRENT.unpack_from(part)
            names.append(part[fuse.DIRENT.size : fuse.DIRENT.size + length])
            taken = fuse.DIRENT.size + length
            part = part[taken + -taken % 8 :]
    assert names == [b".", b"..", b"class", b"devices"]


def test_replies_have_the_sizes_of_the_protocol(server: fuse.Server) -> None:
    init = server.answer(
        fuse.INIT, server.tree.root, struct.pack("<IIII", 7, 40, 1 << 17, 0)
    )
    assert len(init) == 64
    assert fuse.ATTR.size == 88
    assert len(ask(server, fuse.GETATTR, "class/zone")) == 104
    assert len(ask(server, fuse.LOOKUP, "class", b"zone\0")) == 128
