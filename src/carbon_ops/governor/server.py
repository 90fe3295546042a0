"""The loop: take samples when they are due, answer clients in between.

One thread, one epoll. Hardware is read at the deadlines only, never because a client
asked. A client can cost the governor a bounded share of the time and a bounded memory;
one that asks too much is made to wait, one that is too slow is let go.
"""

from __future__ import annotations

import _socket
import sys
from array import array
from bisect import bisect_right
from select import EPOLLIN, EPOLLOUT, epoll
from time import monotonic_ns, sleep

import carbon_ops
from carbon_ops.counters import timeline
from carbon_ops.errors import OutOfWindowError
from carbon_ops.governor import protocol
from carbon_ops.governor.access import notify, peer_uid
from carbon_ops.governor.peers import overflow_uid
from carbon_ops.governor.protocol import ErrorReply, ProtocolError, Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from carbon_ops.governor.access import Listener
    from carbon_ops.governor.sampler import Sampler
    from carbon_ops.model import Sample

MAX_CLIENTS = 256
MAX_CLIENTS_PER_USER = 64
MAX_ACCEPTS = 64  # in one turn of the loop
MAX_EVENTS = 64  # the default makes room for a thousand at every wake-up
IDLE_NS = 60_000_000_000  # between two requests
MESSAGE_NS = 5_000_000_000  # for the rest of a request, or to take a reply
PERIOD_NS = 100_000_000
SERVICE_NS = 20_000_000  # spent on clients in one period at most
THROTTLED_NS = 10_000_000  # between two looks for new clients meanwhile
MAX_FAULTS_SAID = 10
CHECK_NS = 1_000_000_000  # between two looks at the zones, and at slow clients


class Client:
    """One connection."""

    __slots__ = ("active_ns", "blocked", "inbox", "mapped", "outbox", "socket", "uid")

    def __init__(
        self, connection: _socket.socket, uid: int | None, now_ns: int
    ) -> None:
        self.socket = connection
        self.uid = uid
        self.active_ns = now_ns  # a request began or ended, or part of a reply went out
        self.inbox = b""  # the beginning of a request
        self.outbox = b""  # what is left of a reply
        self.blocked = False  # the socket takes no more of it just now
        self.mapped = False  # has asked for the ring; once is enough


class Server:
    """Serves one sampler on one socket until told to stop or the zones change."""

    def __init__(
        self,
        listener: Listener,
        sampler: Sampler,
        *,
        wakeup: _socket.socket,
        stopping: Sequence[int],
        watchdog_ns: int | None = None,
    ) -> None:
        """Get ready; the sampler has taken its first sample.

        Args:
            listener: Where clients come in.
            sampler: What to serve; closed with the server.
            wakeup: Readable when a signal has come.
            stopping: Filled by the signal handlers; :meth:`run` then returns.
            watchdog_ns: Time between two signs of life to the service manager [ns].
        """
        self.zones_changed = False
        self.faults = 0
        self._stopping = stopping
        self.sampler = sampler
        self._listener = listener.socket
        self._wakeup = wakeup
        self._watchdog_ns = watchdog_ns
        self._alive_ns = 0
        self._clients: dict[int, Client] = {}
        self._overflow = overflow_uid()
        self._period_ns = 0
        self._spent_ns = 0
        self._snapshot = b""
        # What the selectors module wraps; bare, it wakes up at 2/3 of the cost.
        self._epoll = epoll()
        self._epoll.register(self._listener, EPOLLIN)
        self._epoll.register(wakeup, EPOLLIN)
        self._check_ns = 0

    def run(self) -> None:
        """Serve until told to stop or until the zones change."""
        while not (self._stopping or self.zones_changed):
            due = self.sampler.schedule.due_ns
            now = monotonic_ns()
            if now >= due:
                self.tick()
                continue
            if now >= self._period_ns + PERIOD_NS:
                self._period_ns, self._spent_ns = now, 0
            elif self._spent_ns >= SERVICE_NS:
                # Those who are in have to wait; those outside are let in all the same.
                self._accept(now)
                rest = self._period_ns + PERIOD_NS - now
                sleep(max(0, min(rest, due - now, THROTTLED_NS)) / 1e9)
                continue
            events = self._epoll.poll((due - now) / 1e9, MAX_EVENTS)
            start = now = monotonic_ns()
            for number, mask in events:
                if now >= due or now - start >= SERVICE_NS:
                    break  # whoever is left is reported again
                try:
                    self._event(number, mask, now)
                except Exception as error:  # noqa: BLE001 - one client, not all
                    self._fault(number, error)
                now = monotonic_ns()
            self._spent_ns += now - start

    def _fault(self, number: int, error: Exception) -> None:
        """Let go of the client whose request met a mistake of ours, and say so."""
        self.faults += 1
        if self.faults <= MAX_FAULTS_SAID:
            sys.stderr.write(f"carbon-governor: fault {self.faults}: {error!r}\n")
        client = self._clients.get(number)
        if client is not None:
            self._drop(client)

    def close(self) -> None:
        """Let go of clients, ring and sampler; the listener is the caller's."""
        self._drop(*self._clients.values())
        self._epoll.close()
        self.sampler.close()

    # --- sampling -------------------------------------------------------------------

    def tick(self) -> None:
        """Take a sample and publish it; once in a while look after everything else."""
        sample = self.sampler.take()
        self._snapshot = b""
        now = sample.monotonic_ns
        if now >= self._check_ns:
            self._check_ns = now + CHECK_NS
            self.zones_changed = self.sampler.source.changed()
            for client in list(self._clients.values()):
                busy = client.inbox or client.outbox
                if now - client.active_ns > (MESSAGE_NS if busy else IDLE_NS):
                    self._drop(client)
        if self._watchdog_ns and now - self._alive_ns >= self._watchdog_ns:
            self._alive_ns = now
            notify("WATCHDOG=1")

    # --- clients --------------------------------------------------------------------

    def _event(self, number: int, mask: int, now_ns: int) -> None:
        client = self._clients.get(number)
        if client is not None:
            try:
                if mask & EPOLLOUT:
                    self._send(client, now_ns)
                else:
                    self._receive(client, now_ns)
            except OSError:  # the other end is gone
                self._drop(client)
        elif number == self._listener.fileno():
            self._accept(now_ns)
        elif number == self._wakeup.fileno():
            self._wakeup.recv(64)

    def _accept(self, now_ns: int) -> None:
        for _ in range(MAX_ACCEPTS):
            try:
                number, _ = self._listener._accept()  # type: ignore[attr-defined]
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError:  # out of descriptors or memory: make room, and wait
                self._drop(*quietest(self._clients.values()))
                self._spent_ns += SERVICE_NS  # else the loop would spin on it
                return
            connection = _socket.socket(fileno=number)
            connection.setblocking(False)
            uid = peer_uid(connection, self._overflow)
            clients = list(self._clients.values())
            own = [client for client in clients if client.uid == uid]
            if len(own) >= MAX_CLIENTS_PER_USER:
                self._drop(*quietest(own))
            elif len(clients) >= MAX_CLIENTS:
                self._drop(*quietest(clients))
            client = Client(connection, uid, now_ns)
            self._clients[connection.fileno()] = client
            self._epoll.register(connection, EPOLLIN)

    def _drop(self, *clients: Client) -> None:
        for client in clients:
            del self._clients[client.socket.fileno()]
            client.socket.close()

    def _receive(self, client: Client, now_ns: int) -> None:
        """Take at most one request off the socket, so that clients come in turn."""
        data = client.socket.recv(protocol.MAX_REQUEST_BYTES, _socket.MSG_PEEK)
        end = data.find(b"\n") + 1
        data = client.socket.recv(end or len(data))
        if not data:
            self._drop(client)
            return
        if end or not client.inbox:
            client.active_ns = now_ns
        line, client.inbox = client.inbox + data, b""
        if len(line) > protocol.MAX_REQUEST_BYTES:
            problem = f"a request has at most {protocol.MAX_REQUEST_BYTES} bytes"
            client.outbox = _error("too_large", problem)
            self._send(client, now_ns)
            if client.socket.fileno() >= 0:
                self._drop(client)
        elif end:
            client.outbox = self._answer(client, line)
            self._send(client, now_ns)
        else:
            client.inbox = line

    def _send(self, client: Client, now_ns: int) -> None:
        """Send what is left of the reply; listen again only when it is all gone."""
        waiting = client.outbox
        try:
            sent = client.socket.send(waiting, _socket.MSG_NOSIGNAL)
        except BlockingIOError:
            sent = 0
        if sent:
            client.active_ns = now_ns
        client.outbox = waiting[sent:]
        if bool(client.outbox) != client.blocked:
            client.blocked = bool(client.outbox)
            wanted = EPOLLOUT if client.blocked else EPOLLIN
            self._epoll.modify(client.socket, wanted)

    # --- answers --------------------------------------------------------------------

    def _answer(self, client: Client, line: bytes) -> bytes:
        try:
            request = protocol.decode_request(line)
            return self._reply(client, request)
        except ProtocolError as problem:
            return _error(problem.code, str(problem))

    def _reply(self, client: Client, request: Request) -> bytes:
        layout = self.sampler.layout
        if request.op == "snapshot":
            if not self._snapshot:
                self._snapshot = protocol.encode_reply(
                    protocol.SnapshotReply(layout.instance_id, self.sampler.samples[-1])
                )
            return self._snapshot
        if request.op == "hello":
            return protocol.encode_reply(
                protocol.HelloReply(
                    layout,
                    carbon_ops.__version__,
                    monotonic_ns(),
                    len(self.sampler.samples),
                    self.sampler.samples.fd is not None,
                )
            )
        if request.op == "map":
            return self._hand_out(client)
        t0, t1 = request.t0_ns or 0, request.t1_ns or 0
        if t1 > monotonic_ns():
            raise ProtocolError("out_of_window", "t1_ns lies in the future")
        if request.op == "energy":
            return self._energy(t0, t1)
        samples = self.sampler.samples
        first = max(0, bisect_right(samples, t0, key=_when) - 1)
        last = min(len(samples), bisect_right(samples, t1, key=_when) + 1)
        end = min(last, first + protocol.MAX_SERIES)
        return protocol.encode_reply(
            protocol.SeriesReply(
                layout.instance_id, tuple(samples[first:end]), last > end
            )
        )

    def _energy(self, t0_ns: int, t1_ns: int) -> bytes:
        layout, samples = self.sampler.layout, self.sampler.samples
        try:
            start = timeline.edge(samples, layout.zones, t0_ns)
            end = timeline.edge(samples, layout.zones, t1_ns)
        except OutOfWindowError as error:
            raise ProtocolError("out_of_window", str(error)) from None
        window = timeline.window(start, end, layout.zones)
        return protocol.encode_reply(
            protocol.EnergyReply(
                layout.instance_id,
                t0_ns,
                t1_ns,
                tuple(
                    protocol.KeyedEnergy(
                        energy.zone.key, energy.point_uj, energy.low_uj, energy.high_uj
                    )
                    for energy in window.zones
                ),
                *window[3:],
            )
        )

    def _hand_out(self, client: Client) -> bytes:
        """Send the ring's descriptor, then return the line that follows it."""
        ring = self.sampler.samples
        if ring.fd is None:
            raise ProtocolError("unsupported", "this kernel cannot seal shared memory")
        if client.mapped:
            raise ProtocolError("invalid_request", "the ring was handed out already")
        reply = protocol.encode_reply(
            protocol.MapReply(self.sampler.layout.instance_id, ring.size)
        )
        rights = array("i", [ring.fd])
        client.socket.sendmsg(
            [reply[:1]], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)]
        )
        client.mapped = True
        return reply[1:]


def quietest(crowd: Collection[Client]) -> list[Client]:
    """Return whom to let go: who was quiet longest, of the user with most, if anybody.

    A flood then pushes out itself, and whoever connects next is still served.
    """
    sizes: dict[int | None, int] = {}
    for client in crowd:
        sizes[client.uid] = sizes.get(client.uid, 0) + 1
    return sorted(crowd, key=lambda one: (-sizes[one.uid], one.active_ns))[:1]


def _when(sample: Sample) -> int:
    return sample.monotonic_ns


def _error(code: str, message: str) -> bytes:
    return protocol.encode_reply(ErrorReply(None, code, message))
