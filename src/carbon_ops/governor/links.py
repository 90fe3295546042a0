"""Two ways to the governor's samples, alike to use: the shared ring, or the socket.

``_socket`` and no ``json`` until a question has to be asked: their fronts would double
the start-up of a program that only reads the ring.
"""

from __future__ import annotations

import errno
import os
from _socket import (
    AF_UNIX,
    CMSG_LEN,
    MSG_CMSG_CLOEXEC,
    MSG_NOSIGNAL,
    SCM_RIGHTS,
    SOCK_STREAM,
    SOL_SOCKET,
    socket,
)
from _thread import RLock, get_ident
from sys import byteorder
from time import monotonic_ns, sleep

from carbon_ops.counters.timeline import never_read
from carbon_ops.errors import GovernorUnavailableError
from carbon_ops.governor.layout import RingError
from carbon_ops.governor.peers import creator_uid
from carbon_ops.governor.ring import LostError, RingReader, time_namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from carbon_ops.governor.protocol import Reply
    from carbon_ops.model import Layout, Sample

MAX_REPLY_BYTES = 4 << 20
_MAP_REQUEST = b'{"v":1,"op":"map"}\n'
_WIDE_NS = 5_000_000_000
_MAX_PARTS = 100  # of one series; a governor keeps samples for a few
_SLOP_NS = 1_000_000  # what may lie between clock reads of two CPUs


class GoneError(Exception):
    """This way to the governor has ended; another connection may find a new one."""


class RingLink:
    """Samples read from shared memory; no connection is kept."""

    def __init__(self, ring: RingReader, uid: int) -> None:
        self.layout: Layout = ring.layout
        self.uid = uid
        self._ring = ring

    @property
    def ended(self) -> bool:
        """Whether the governor said good-bye."""
        return self._ring.closed

    def latest(self) -> Sample:
        """Return the newest sample. Raises GoneError."""
        try:
            return self._ring.latest()
        except LostError as error:
            raise GoneError(str(error)) from None

    def previous(self, last: Sample) -> Sample | None:
        """Return the sample before ``last``, None if it is not kept."""
        return self._maybe(last.sequence - 1)

    def around(self, t_ns: int) -> Sequence[Sample]:
        """Return samples enough to tell the energy at ``t_ns``. Raises LostError."""
        near = self._ring.around(t_ns)
        if not _all_fresh(near) and self._bridgeable(near):
            return self._all()
        if len(near) == 2 and near[1].monotonic_ns > t_ns:
            # One more on each side shows whether power changed between the two.
            first, last = near
            before, after = self._maybe(first.sequence - 1), None
            if last.sequence < self._ring.newest:
                after = self._maybe(last.sequence + 1)
            outer = before, first, last, after
            return [sample for sample in outer if sample is not None]
        return near

    def _bridgeable(self, near: Sequence[Sample]) -> bool:
        """Return whether the ring has a good read of any zone that ``near`` lacks."""
        oldest, newest = self._maybe(self._ring.kept.start), self._ring.latest()
        return oldest is None or any(
            not (all(fresh) or never_read(oldest, newest, position))
            for position, fresh in enumerate(
                zip(*([t.fresh for t in one.totals] for one in near), strict=True)
            )
        )

    def since(self, mark: Sample) -> Sequence[Sample]:
        """Return the samples from ``mark`` on, as far as they are kept."""
        kept = self._ring.kept
        found = (self._maybe(n) for n in kept[max(0, mark.sequence - kept.start) :])
        return [sample for sample in found if sample is not None]

    def _maybe(self, sequence: int) -> Sample | None:
        try:
            return self._ring.read(sequence) if sequence > 0 else None
        except LostError:
            return None

    def _all(self) -> Sequence[Sample]:
        found = []
        for sequence in self._ring.kept:
            try:
                found.append(self._ring.read(sequence))
            except LostError:  # overwritten meanwhile: only ever the oldest
                found.clear()
        return found

    def close(self) -> None:
        """Let go of the memory, once no other thread reads it any more."""
        # Nothing to do: the mapping goes with the last reference to it.


class SocketLink:
    """Samples asked for one by one, where memory cannot be shared."""

    def __init__(self, connection: socket, uid: int) -> None:
        self.uid = uid
        self.ended = False
        self._socket = connection
        self._lock = RLock()
        self._asker: int | None = None  # the thread that waits for an answer
        before = monotonic_ns()
        reply = self._ask("hello")
        after = monotonic_ns()
        from carbon_ops.governor.protocol import HelloReply

        if not isinstance(reply, HelloReply):
            raise GoneError(f"an unexpected answer to hello: {reply}")
        if not before - _SLOP_NS <= reply.monotonic_ns <= after + _SLOP_NS:
            raise GovernorUnavailableError(
                "protocol",
                "the governor's CLOCK_MONOTONIC is not this process's "
                f"({reply.monotonic_ns} against {after} ns)",
                hint="One of the two runs in a time namespace of its own; see "
                "time_namespaces(7).",
            )
        self.layout: Layout = reply.layout

    def latest(self) -> Sample:
        """Return the newest sample. Raises GoneError."""
        from carbon_ops.governor.protocol import SnapshotReply

        reply = self._ask("snapshot")
        if not isinstance(reply, SnapshotReply):
            raise GoneError(f"an unexpected answer to snapshot: {reply}")
        self._same(reply.instance_id)
        return reply.sample

    def previous(self, last: Sample) -> Sample | None:
        """Return the sample before ``last``, None if it is not kept."""
        t_ns = last.monotonic_ns - 1
        found = self._series(t_ns, t_ns)
        return found[0] if found and found[0].sequence == last.sequence - 1 else None

    def around(self, t_ns: int) -> Sequence[Sample]:
        """Return samples enough to tell the energy at ``t_ns``. Raises LostError."""
        # The neighbours on both sides, and theirs.
        near = self._within(t_ns, 2 * self.layout.interval_ns)
        if not near or near[0].monotonic_ns > t_ns:
            raise LostError("before the oldest sample")
        if len(near) == 1:  # the newest: its power needs the one before it
            earlier = self.previous(near[0])
            near = near if earlier is None else (earlier, *near)
        if _all_fresh(near):
            return near
        return self._within(t_ns, _WIDE_NS)

    def since(self, mark: Sample) -> Sequence[Sample]:
        """Return the samples from ``mark`` on, as far as they are kept."""
        return self._series(mark.monotonic_ns, monotonic_ns())

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    __del__ = close  # else a program that never closes would be warned of it

    def _within(self, t_ns: int, reach_ns: int) -> Sequence[Sample]:
        until = max(t_ns, min(t_ns + reach_ns, monotonic_ns()))
        return self._series(max(0, t_ns - reach_ns), until)

    def _series(self, t0_ns: int, t1_ns: int) -> Sequence[Sample]:
        from carbon_ops.governor.protocol import SeriesReply

        found: tuple[Sample, ...] = ()
        for _ in range(_MAX_PARTS):
            reply = self._ask("series", t0_ns, t1_ns)
            if not isinstance(reply, SeriesReply):
                raise GoneError(f"an unexpected answer to series: {reply}")
            self._same(reply.instance_id)
            # A long series comes in parts, each from the last sample of the one before.
            seen = found[-1].sequence if found else 0
            new = tuple(sample for sample in reply.samples if sample.sequence > seen)
            found += new
            if not (reply.more and new):
                return found
            t0_ns = new[-1].monotonic_ns
        raise GoneError("a series without an end")

    def _same(self, instance_id: str) -> None:
        if instance_id != self.layout.instance_id:
            raise GoneError("the governor is another instance now")

    def _ask(
        self, op: str, t0_ns: int | None = None, t1_ns: int | None = None
    ) -> Reply:
        from carbon_ops.governor import protocol

        request = protocol.encode_request(protocol.Request(op, t0_ns, t1_ns))
        with self._lock:
            if self._asker == get_ident():  # a signal handler, amid the question below
                raise GoneError("another question is waiting for its answer")
            self._asker = get_ident()
            line = b""
            try:
                self._socket.sendall(request, MSG_NOSIGNAL)
                line = read_line(self._socket)
            except TimeoutError:
                raise hung() from None
            except OSError as error:
                raise GoneError(error.strerror or str(error)) from None
            finally:
                self._asker = None
                if not line:  # an answer that still comes must not pass for the next
                    self._socket.close()
        try:
            return protocol.decode_reply(line)
        except protocol.ProtocolError as error:
            raise not_ours(str(error)) from None


Link = RingLink | SocketLink


def connect(path: str, timeout_s: float) -> Link:
    """Return the best way to the governor at ``path``.

    Raises:
        GovernorUnavailableError: there is none; the reason says in which way.
    """
    connection = socket(AF_UNIX, SOCK_STREAM)
    kept = False
    try:
        connection.settimeout(timeout_s)
        try:
            _knock(connection, path, timeout_s)
            uid = creator_uid(connection)
            ring = _ask_for_ring(connection)
            if ring is not None and ring.time_namespace == time_namespace():
                return RingLink(ring, uid)
            link = SocketLink(connection, uid)  # checks the clock, too
            if ring is not None:
                return RingLink(ring, uid)
            kept = True
            return link
        except GoneError as error:
            raise GovernorUnavailableError(
                "refused", f"the governor at {path} hung up: {error}", hint=_TRY_DOCTOR
            ) from None
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            raise _unreachable(path, error) from None
    finally:
        if not kept:
            connection.close()


def _knock(connection: socket, path: str, timeout_s: float) -> None:
    """Connect. A queue that is full answers EAGAIN at once; wait for a place then."""
    until = monotonic_ns() + int(timeout_s * 1e9)
    while True:
        try:
            connection.connect(path)
            return
        except BlockingIOError:
            if monotonic_ns() >= until:  # nobody takes them in: as good as silent
                raise TimeoutError from None
            sleep(0.005)


def _ask_for_ring(connection: socket) -> RingReader | None:
    """Return the ring, or None where it is not on offer or not to be trusted."""
    connection.sendall(_MAP_REQUEST, MSG_NOSIGNAL)
    # The length, not the space, which has room for a second descriptor: nobody closed it.
    data, ancillary, _, _ = connection.recvmsg(4_096, CMSG_LEN(4), MSG_CMSG_CLOEXEC)
    descriptor = -1
    for level, kind, payload in ancillary:
        if level == SOL_SOCKET and kind == SCM_RIGHTS and len(payload) >= 4:
            descriptor = int.from_bytes(payload[:4], byteorder)
    try:
        if not data.endswith(b"\n"):
            read_line(connection)  # the rest of the reply to ``map``
    except BaseException:
        if descriptor >= 0:
            os.close(descriptor)
        raise
    if descriptor < 0:
        return None
    try:
        return RingReader(descriptor)
    except RingError:
        return None


def read_line(connection: socket) -> bytes:
    """Return one line. Raises OSError, GoneError at the end, reason protocol if long.

    The timeout of ``connection`` is for the line, however slowly its bytes drip.
    """
    parts = []
    size = 0
    timeout_s = connection.gettimeout() or 0.0
    until = monotonic_ns() + int(timeout_s * 1e9)
    while True:
        data = connection.recv(65_536)
        if monotonic_ns() > until and not data.endswith(b"\n"):
            raise TimeoutError
        if not data:
            raise GoneError("end of stream")
        parts.append(data)
        size += len(data)
        if data.endswith(b"\n"):
            return b"".join(parts)
        if size > MAX_REPLY_BYTES:
            raise not_ours(f"a reply longer than {MAX_REPLY_BYTES} bytes")


def _all_fresh(samples: Sequence[Sample]) -> bool:
    for sample in samples:
        for totals in sample.totals:
            if not totals.fresh:
                return False
    return True


# --- what went wrong ----------------------------------------------------------------

_TRY_DOCTOR = "`carbon-ops doctor` tells what is missing."
_REASONS = {
    errno.ENOENT: "no_socket",
    errno.ENOTDIR: "no_socket",
    errno.ELOOP: "no_socket",
    errno.ENAMETOOLONG: "no_socket",
    errno.EACCES: "permission_denied",
    errno.EPERM: "permission_denied",
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "refused",
    errno.EPIPE: "refused",
    errno.EPROTOTYPE: "protocol",
}
_HINTS = {
    "no_socket": "Start the governor: `sudo systemctl start carbon-governor`, or "
    "`carbon-governor --rapl-mode=simulated --socket=PATH` to try things out.",
    "permission_denied": "Join the group that may read energy: `sudo usermod -aG "
    "carbon-users $USER`, then log in again.",
    "refused": "It may be starting, stopping or full. " + _TRY_DOCTOR,
    "protocol": "Something else may be listening there, or another version.",
}


def _unreachable(path: str, error: OSError | ValueError) -> GovernorUnavailableError:
    if isinstance(error, TimeoutError):
        return hung()
    # Python's own "AF_UNIX path too long" is an OSError without a number.
    number = getattr(error, "errno", None)
    reason = "no_socket" if number is None else _REASONS.get(number, "refused")
    said = getattr(error, "strerror", None) or str(error)
    return GovernorUnavailableError(
        reason, f"no governor at {path}: {said}", hint=_HINTS[reason]
    )


def hung() -> GovernorUnavailableError:
    """The governor accepts, and says nothing."""
    return GovernorUnavailableError(
        "stale", "the governor does not answer in time", hint=_TRY_DOCTOR
    )


def not_ours(said: str) -> GovernorUnavailableError:
    """The other end speaks something else."""
    return GovernorUnavailableError(
        "protocol", f"not a reply of this protocol: {said}", hint=_HINTS["protocol"]
    )
