"""The ring: what a reader sees, and what memory it refuses to look at."""

from __future__ import annotations

import fcntl
import mmap
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from carbon_ops.governor.layout import RingError, pack_layout, unpack_layout
from carbon_ops.governor.ring import (
    LostError,
    RingReader,
    RingWriter,
)
from carbon_ops.model import Layout, Sample, Zone, ZoneTotals

INTERVAL = 100
ZONE = Zone("a/b", "b", "package", 0, True, "because", (61_035, 1_000), 2**32, 1e3)
LAYOUT = Layout("i" * 32, "boot", "simulated", INTERVAL, (ZONE, ZONE), None, 7)


def sample(sequence: int, monotonic_ns: int | None = None) -> Sample:
    when = sequence * INTERVAL if monotonic_ns is None else monotonic_ns
    totals = (ZoneTotals(sequence, 0, 0, 0, 0, 0, True),) * 2
    return Sample(sequence, when, 1, when, when, when, 0, 0, totals)


def held(writer: RingWriter) -> int:
    assert writer.fd is not None
    return writer.fd


@pytest.fixture
def writer() -> Iterator[RingWriter]:
    made = RingWriter(LAYOUT, slots=8)
    yield made
    made.close()


@pytest.fixture
def reader(writer: RingWriter) -> RingReader:
    return RingReader(os.dup(held(writer)))


def fill(writer: RingWriter, count: int) -> None:
    for sequence in range(1, count + 1):
        writer.write(sample(sequence))


def test_a_reader_sees_the_layout_and_the_newest_sample(
    writer: RingWriter, reader: RingReader
) -> None:
    fill(writer, 21)

    assert reader.layout == LAYOUT
    assert reader.latest() == sample(21)
    assert reader.newest == 21


def test_before_the_first_sample_there_is_nothing(reader: RingReader) -> None:
    with pytest.raises(LostError):
        reader.latest()


def test_what_was_overwritten_is_lost_not_mistaken(
    writer: RingWriter, reader: RingReader
) -> None:
    fill(writer, 21)

    assert [reader.read(n) for n in reader.kept] == [sample(n) for n in range(15, 22)]
    for gone in (1, 13, 22):
        with pytest.raises(LostError):
            reader.read(gone)


def test_every_instant_is_found_between_its_neighbours(
    writer: RingWriter, reader: RingReader
) -> None:
    times = [0, 1_000, 1_100, 1_200, 1_900, 1_950, 2_000, 2_600, 2_700]  # some missed
    for sequence in range(1, 9):
        writer.write(sample(sequence, times[sequence]))

    for t in range(times[2], 2_700):
        left, right = reader.around(t)
        assert left.monotonic_ns <= t < right.monotonic_ns
        assert right.sequence == left.sequence + 1
    left, right = reader.around(9_999)
    assert (left.sequence, right.sequence) == (7, 8)
    with pytest.raises(LostError):
        reader.around(times[2] - 1)


def test_a_lone_sample_is_all_there_is(writer: RingWriter, reader: RingReader) -> None:
    fill(writer, 1)

    assert reader.around(INTERVAL) == (sample(1),)
    with pytest.raises(LostError):
        reader.around(INTERVAL - 1)


def test_a_reader_hears_the_writer_stop(writer: RingWriter) -> None:
    other = RingWriter(LAYOUT, slots=8)
    reader = RingReader(os.dup(held(other)))
    assert not reader.closed

    other.close()

    assert reader.closed


def test_a_half_written_slot_is_never_returned(
    writer: RingWriter, reader: RingReader
) -> None:
    done = threading.Event()

    def write() -> None:
        for sequence in range(1, 20_000):
            writer.write(sample(sequence))
        done.set()

    writer.write(sample(1))
    thread = threading.Thread(target=write)
    thread.start()
    seen = 0
    while not done.is_set():
        try:
            got = reader.latest()
        except LostError:  # the writer went round between two looks, twenty times
            continue
        assert got == sample(got.sequence)
        assert got.sequence >= seen
        seen = got.sequence
    thread.join()


def test_nobody_can_write_or_resize_what_is_handed_out(writer: RingWriter) -> None:
    with pytest.raises(PermissionError):
        os.write(held(writer), b"x")
    with pytest.raises(PermissionError):
        mmap.mmap(held(writer), writer.size)
    with pytest.raises(PermissionError):
        os.ftruncate(held(writer), 0)
    with pytest.raises(PermissionError):
        os.ftruncate(held(writer), writer.size * 2)
    with pytest.raises(PermissionError):
        fcntl.fcntl(held(writer), 1033, 0x08)  # no further seal, no way back either
    reopened = os.open(f"/proc/self/fd/{held(writer)}", os.O_RDWR)
    try:
        with pytest.raises(PermissionError):
            os.write(reopened, b"x")
        with pytest.raises(PermissionError):
            mmap.mmap(reopened, writer.size)
    finally:
        os.close(reopened)


def copied(writer: RingWriter, seals: int, change: bytes = b"", at: int = 0) -> int:
    """Return a descriptor of other memory with the same content but for ``change``."""
    content = bytearray(os.pread(held(writer), writer.size, 0))
    content[at : at + len(change)] = change
    fd = os.memfd_create("copy", os.MFD_ALLOW_SEALING)
    os.write(fd, content)
    fcntl.fcntl(fd, 1033, seals)
    return fd


@pytest.mark.parametrize("seals", [0, 0x07, 0x16, 0x15, 0x13, 0x10])
def test_memory_without_all_seals_is_refused(writer: RingWriter, seals: int) -> None:
    fd = copied(writer, seals)

    with pytest.raises(RingError, match="not sealed"):
        RingReader(fd)
    with pytest.raises(OSError, match="Bad file"):  # it was closed
        os.fstat(fd)


@pytest.mark.parametrize(
    ("at", "change"),
    [
        (0, b"COPSRNG2"),
        (8, b"\xff\xff\xff\xff"),
        (12, b"\x01"),
        (16, b"\xff\xff\xff\x7f"),
        (16, b"\0\0\0\0"),
        (20, b"\x03"),
        (48, b"\xff\xff\xff\xff"),
        (52, b"\0\0\0\0"),
        (70, b"\xff"),
    ],
)
def test_memory_of_another_shape_is_refused(
    writer: RingWriter, at: int, change: bytes
) -> None:
    with pytest.raises(RingError):
        RingReader(copied(writer, 0x17, change, at))


def test_the_writer_remembers_what_it_wrote(writer: RingWriter) -> None:
    assert len(writer) == 0
    fill(writer, 5)
    assert list(writer) == [sample(n) for n in range(1, 6)]
    fill(writer, 21)
    assert list(writer) == writer[:] == [sample(n) for n in range(14, 22)]
    assert writer[-1] == sample(21)
    with pytest.raises(IndexError):
        writer[8]


def test_other_descriptors_are_refused(tmp_path: object) -> None:
    reading, writing = os.pipe()
    os.close(writing)
    with pytest.raises(RingError):
        RingReader(reading)


def test_a_program_that_closed_and_reused_every_descriptor_keeps_its_own() -> None:
    program = """
import os
from carbon_ops.governor.ring import RingReader, RingWriter
from carbon_ops.model import Layout
writer = RingWriter(Layout("0" * 32, "", "simulated", 100_000_000, (), None, 0))
if writer.fd is not None:
    reader = RingReader(os.dup(writer.fd))
    os.closerange(3, 64)
    mine = [os.open("/dev/null", os.O_RDONLY) for _ in range(8)]
    del reader
    for fd in mine:
        os.fstat(fd)
    os._exit(0)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize(
    "change",
    [{"unit": (0, 1)}, {"unit": (1, 0)}, {"wrap_ticks": 0}]
    + [{"bound_w": bound} for bound in (-1.0, 1e300, float("inf"), float("nan"))],
    ids=str,
)
def test_a_zone_of_impossible_numbers_is_refused(change: dict[str, Any]) -> None:
    zone = LAYOUT.zones[0]._replace(**change)
    with pytest.raises(RingError, match="impossible"):
        unpack_layout(pack_layout(LAYOUT._replace(zones=(zone,))))
    with pytest.raises(RingError, match="an interval of 0 ns"):
        unpack_layout(pack_layout(LAYOUT._replace(interval_ns=0)))


def test_where_memory_cannot_be_sealed_nothing_is_handed_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(22, "Invalid argument")

    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(fcntl, "fcntl", refuse)
    writer = RingWriter(LAYOUT, slots=8)
    fill(writer, 3)

    assert writer.fd is None
    assert os.listdir("/proc/self/fd") == before
    writer.close()
