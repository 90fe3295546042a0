"""The last samples in shared memory, so that reading them costs the governor nothing.

One writer, any number of readers, no lock. A slot carries its sequence number and a CRC
over everything else in it: a reader that meets a half-written slot sees that and looks
again. The memory is sealed before its descriptor leaves the process, because a reader
could otherwise reopen it for writing through ``/proc/self/fd``, whatever its mode.

Layout, little-endian::

    header   0  8s   magic            24  Q  newest sequence, 0 before the first
             8  I    header bytes     32  Q  1 once the writer has stopped
            12  I    slot bytes       40  Q  inode of the writer's time namespace
            16  I    slots            48  I  bytes of what follows   52  I  its CRC-32
            20  I    zones            56  .. the layout (see ``layout.py``)
    slot     0  Q sequence, Q monotonic_ns, Q read_ns, Q boottime_ns, q wall_ns,
                Q host_busy_ns, Q late_ticks, Q missed_ticks
            64  per zone: Q total_uj, Q slack_uj, I wraps, I gaps, I resets,
                I failures, ? fresh, 7 bytes of nothing
            ..  I CRC-32 of the slot so far, 4 bytes of nothing

Sources: ``memfd_create(2)``, ``fcntl(2)`` "File Sealing"; F_SEAL_FUTURE_WRITE since
Linux 5.1 (``include/uapi/linux/fcntl.h``).
"""

from __future__ import annotations

import fcntl
import mmap
import os
import sys
from collections.abc import Sequence
from itertools import chain
from struct import Struct
from typing import overload
from zlib import crc32

from carbon_ops.governor.layout import RingError, pack_layout, unpack_layout
from carbon_ops.model import Layout, Sample, ZoneTotals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


MAGIC = b"COPSRNG1"
SLOTS = 600  # a minute at 10 Hz

# linux/fcntl.h; the fcntl module names the first five from 3.8, the last from 3.13.
_ADD_SEALS, _GET_SEALS = 1033, 1034
_SEAL, _SHRINK, _GROW, _FUTURE_WRITE = 0x01, 0x02, 0x04, 0x10
SEALS = _SEAL | _SHRINK | _GROW | _FUTURE_WRITE

_HEADER = Struct("<8s4I")
_U64 = Struct("=Q")  # native, so that one store writes it on every platform we know
_NEWEST, _CLOSED, _TIME_NS, _LAYOUT = 24, 32, 40, 48
_TEXT = Struct("<2I")
_FIXED = Struct("<QQQQqQQQ")
_ZONE = Struct("<QQIIII?7x")
_CRC_BYTES = 8  # four of them the CRC
_MAX_BYTES = 64 << 20
_PAGE = 4_096
_TRIES = 20  # a writer needs microseconds for a slot; twenty looks outlast it
_SEEN = 32  # samples a reader keeps unpacked


class LostError(Exception):
    """The sample asked for is no longer, or not yet, in the ring."""


# --- one slot -----------------------------------------------------------------------


def slot_of(zones: int) -> Struct:
    """Return the layout of a slot for so many zones, without its check sum."""
    return Struct(_FIXED.format + _ZONE.format[1:] * zones)


def pack_sample(sample: Sample, slot: Struct) -> bytes:
    """Return ``sample`` as the bytes of one slot."""
    body = slot.pack(*sample[:8], *chain.from_iterable(sample.totals))
    return body + crc32(body).to_bytes(_CRC_BYTES, "little")


def unpack_sample(slot: bytes) -> Sample | None:
    """Return the sample in ``slot``, or None if it was being written."""
    end = len(slot) - _CRC_BYTES
    if crc32(slot[:end]) != int.from_bytes(slot[end : end + 4], "little"):
        return None
    return _unpack(slot)


def _unpack(slot: bytes) -> Sample:
    parts = _ZONE.iter_unpack(slot[_FIXED.size : -_CRC_BYTES])
    zones = tuple(map(ZoneTotals._make, parts))
    return Sample._make((*_FIXED.unpack_from(slot), zones))


# --- the two ends -------------------------------------------------------------------


class RingWriter(Sequence[Sample]):
    """The governor's end, and its only memory of the past: oldest first, when read.

    :attr:`fd` may be handed to anybody. It is None where the kernel has no memfd or
    cannot seal it; the memory is then this process's own.
    """

    def __init__(self, layout: Layout, slots: int = SLOTS) -> None:
        text = pack_layout(layout)
        head = -(-(_LAYOUT + 8 + len(text)) // _PAGE) * _PAGE
        self._body = slot_of(len(layout.zones))
        self._slot = self._body.size + _CRC_BYTES
        self._slots, self._head = slots, head
        self.size = -(-(head + slots * self._slot) // _PAGE) * _PAGE
        self.fd, self._map = _sealed(self.size)
        self._newest = 0
        _HEADER.pack_into(
            self._map, 0, MAGIC, head, self._slot, slots, len(layout.zones)
        )
        _U64.pack_into(self._map, _TIME_NS, time_namespace())
        _TEXT.pack_into(self._map, _LAYOUT, len(text), crc32(text))
        self._map[_LAYOUT + 8 : _LAYOUT + 8 + len(text)] = text

    def write(self, sample: Sample) -> None:
        """Put ``sample``, the next in sequence, where the oldest one was."""
        at = self._head + sample.sequence % self._slots * self._slot
        self._map[at : at + self._slot] = pack_sample(sample, self._body)
        self._newest = sample.sequence
        _U64.pack_into(self._map, _NEWEST, sample.sequence)

    def __len__(self) -> int:
        return min(self._newest, self._slots)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        kept = range(self._newest - len(self) + 1, self._newest + 1)
        if isinstance(index, slice):
            return [self._read(sequence) for sequence in kept[index]]
        return self._read(kept[index])

    def _read(self, sequence: int) -> Sample:
        at = self._head + sequence % self._slots * self._slot
        return _unpack(self._map[at : at + self._slot])

    def close(self) -> None:
        """Tell the readers that nothing will follow, and let go of the memory."""
        if self._map.closed:
            return
        _U64.pack_into(self._map, _CLOSED, 1)
        self._map.close()
        if self.fd is not None:
            os.close(self.fd)


def _sealed(size: int) -> tuple[int | None, mmap.mmap]:
    """Return memory that others may be given to read, or without descriptor."""
    fd = None
    try:
        fd = os.memfd_create("carbon-ops-ring", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, size)
        memory = mmap.mmap(fd, size)
        fcntl.fcntl(fd, _ADD_SEALS, SEALS)
    except OSError:
        if fd is not None:
            os.close(fd)
        return None, mmap.mmap(-1, size)
    return fd, memory


class RingReader:
    """A client's end. Closes ``fd``; holds only the mapping, which survives a fork."""

    __slots__ = (
        "_head",
        "_kept",
        "_map",
        "_seen",
        "_slot",
        "_slots",
        "layout",
        "time_namespace",
    )

    def __init__(self, fd: int) -> None:
        """Check the seals and the format, then map the memory read-only.

        Raises:
            RingError: not sealed against change of size and against other writers, or
                not this format. Unsealed memory could fault or lie; it is not mapped.
        """
        try:
            if fcntl.fcntl(fd, _GET_SEALS) & SEALS != SEALS:
                raise RingError("the memory is not sealed")
            size = os.fstat(fd).st_size
            if not _PAGE <= size <= _MAX_BYTES:
                raise RingError(f"a ring of {size} bytes")
            self._map, self._kept = _mapped(fd, size)
        except OSError as error:
            raise RingError(f"cannot map the ring: {error.strerror}") from error
        finally:
            os.close(fd)
        magic, head, slot, slots, zones = _HEADER.unpack_from(self._map)
        length, check = _TEXT.unpack_from(self._map, _LAYOUT)
        if (
            magic != MAGIC
            or slot != _FIXED.size + _ZONE.size * zones + _CRC_BYTES
            or not 0 < slots <= size
            or head + slot * slots > size
            or _LAYOUT + 8 + length > head
        ):
            raise RingError("the memory is not a ring of this version")
        text = self._map[_LAYOUT + 8 : _LAYOUT + 8 + length]
        if crc32(text) != check:
            raise RingError("the layout's check sum is wrong")
        self.layout = unpack_layout(text)
        if len(self.layout.zones) != zones:
            raise RingError("the layout names another number of zones")
        (self.time_namespace,) = _U64.unpack_from(self._map, _TIME_NS)
        self._head: int = head
        self._slot: int = slot
        self._slots: int = slots
        self._seen: dict[int, Sample] = {}  # a sample never changes: unpack it once

    @property
    def closed(self) -> bool:
        """Whether the writer said that it stopped."""
        return self._map[_CLOSED] != 0

    @property
    def newest(self) -> int:
        """The sequence number of the newest sample."""
        return int(_U64.unpack_from(self._map, _NEWEST)[0])

    @property
    def kept(self) -> range:
        """The sequence numbers that are safe to ask for just now.

        The slot after the newest is about to be overwritten, so it does not count.
        """
        newest = self.newest
        return range(max(1, newest - self._slots + 2), newest + 1)

    def read(self, sequence: int) -> Sample:
        """Return sample number ``sequence``.

        Raises:
            LostError: it has been overwritten, or was never written.
        """
        seen = self._seen.get(sequence)
        if (
            seen is not None
            and sequence > _U64.unpack_from(self._map, _NEWEST)[0] - self._slots + 1
        ):
            return seen
        at = self._head + sequence % self._slots * self._slot
        for _ in range(_TRIES):
            sample = unpack_sample(self._map[at : at + self._slot])
            if sample is not None:
                if sample.sequence == sequence:
                    if len(self._seen) >= _SEEN:
                        self._seen = {}
                    self._seen[sequence] = sample
                    return sample
                break
        raise LostError(f"sample {sequence} is not in the ring")

    def latest(self) -> Sample:
        """Return the newest sample.

        Raises:
            LostError: there is none yet, or the memory is being scribbled over.
        """
        for _ in range(_TRIES):
            try:
                return self.read(self.newest)
            except LostError:
                continue  # the writer went round or was half-way; look again
        raise LostError("no sample")

    def around(self, t_ns: int) -> tuple[Sample, ...]:
        """Return the samples on both sides of ``t_ns``, oldest first.

        The last two where ``t_ns`` lies after the newest; one alone where there is
        only one.

        Raises:
            LostError: ``t_ns`` lies before the oldest sample kept.
        """
        last = self.latest()
        low, high = self.kept.start, last.sequence
        if t_ns >= last.monotonic_ns or low >= high:
            if t_ns < last.monotonic_ns:
                raise LostError("before the oldest sample")
            return (self.read(high - 1), last) if high > low else (last,)
        for first in self._guesses(t_ns, last, low):
            left = self.read(first)
            if left.monotonic_ns <= t_ns:
                right = self.read(first + 1)
                if t_ns < right.monotonic_ns:
                    return left, right
        if self.read(low).monotonic_ns > t_ns:
            raise LostError("before the oldest sample")
        while high - low > 1:
            middle = (low + high) // 2
            if self.read(middle).monotonic_ns <= t_ns:
                low = middle
            else:
                high = middle
        return self.read(low), self.read(high)

    def _guesses(self, t_ns: int, last: Sample, low: int) -> Iterator[int]:
        """Yield where the sample before ``t_ns`` is if none was missed, and its like."""
        back = (last.monotonic_ns - t_ns) // self.layout.interval_ns
        for guess in (last.sequence - back - 1, last.sequence - back):
            if low <= guess < last.sequence:
                yield guess

    def close(self) -> None:
        """Let go of the memory."""
        if self._kept is None or _same_file(*self._kept):
            self._map.close()
        else:
            _abandoned.append(self._map)

    def __del__(self) -> None:
        if hasattr(self, "_map"):  # else it was refused
            self.close()


# Mappings whose descriptor the program closed: Python would close the number again, which
# is one of the program's own files by now.
_abandoned: list[mmap.mmap] = []


def _mapped(fd: int, size: int) -> tuple[mmap.mmap, tuple[int, int] | None]:
    """Map ``fd``; return the descriptor, and its inode, that the mapping keeps, if any."""
    if sys.version_info >= (3, 13):
        memory = mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ, trackfd=False)
        return memory, None
    inode = os.fstat(fd).st_ino
    lowest = os.dup(fd)
    os.close(lowest)  # the mapping's own duplicate gets this number
    memory = mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ)
    kept = lowest, inode
    return memory, kept if _same_file(*kept) else None


def _same_file(fd: int, inode: int) -> bool:
    try:
        return os.fstat(fd).st_ino == inode
    except OSError:
        return False


def time_namespace() -> int:
    """Return what tells time namespaces apart (0 where there are none).

    Inside another one CLOCK_MONOTONIC may be shifted: ``time_namespaces(7)``.
    """
    try:
        return os.stat("/proc/self/ns/time").st_ino
    except OSError:
        return 0
