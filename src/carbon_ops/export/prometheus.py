"""Metrics for Prometheus: a collector, an HTTP server, a file for node_exporter.

For a program that already exposes metrics::

    from prometheus_client import REGISTRY
    from carbon_ops.export.prometheus import Collector
    REGISTRY.register(Collector())

Needs ``prometheus-client`` (extra ``prometheus``).
"""

from __future__ import annotations

import io
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain
from threading import Condition
from typing import TYPE_CHECKING, Any, Protocol

from carbon_ops.errors import InvalidInputError, MissingDependencyError
from carbon_ops.export import table
from carbon_ops.export.table import BUCKETS, Family, Histogram
from carbon_ops.log import log

if TYPE_CHECKING:
    from prometheus_client import Metric
    from prometheus_client.registry import CollectorRegistry

CONNECTIONS = 16  # at a time
TIMEOUT_S = 5.0  # for each read and write
PATIENCE_S = 1.0  # with who takes an answer slowly, while others wait for a place
HEAD_BYTES = 16_384  # of a request; the standard library's own limit is 6.5 MB


class View(Protocol):
    """Whatever has metrics to show."""

    def families(self) -> Iterator[Family]: ...


class Collector:
    """A ``prometheus_client`` collector; nothing happens between collections.

    Args:
        views: What to show; default: the spans of this program, from now on.

    Raises:
        MissingDependencyError: ``prometheus-client`` is not installed.
    """

    def __init__(self, *views: View) -> None:
        try:
            import prometheus_client  # noqa: F401
        except ImportError as error:
            raise MissingDependencyError(
                "prometheus-client is not installed",
                hint="Install carbon-ops with its extra `prometheus`.",
            ) from error
        if not views:
            from carbon_ops.export.tasks import tasks

            views = (tasks(),)
        self._views = views

    def collect(self) -> Iterator[Metric]:
        """Yield every metric as of now."""
        found = chain.from_iterable(view.families() for view in self._views)
        yield from map(_metric, table.merged(found))

    def describe(self) -> list[Metric]:
        """Return nothing: what there is depends on the host."""
        return []


def _metric(family: Family) -> Metric:
    from prometheus_client.core import Exemplar, Metric

    instrument = family.instrument
    name = instrument.native.removesuffix("_total")
    metric = Metric(name, instrument.help, instrument.kind)
    for point in family.points:
        labels = {
            label: value
            for label, value in zip(instrument.labels, point.labels, strict=True)
            if value
        }
        value = point.value
        if not isinstance(value, Histogram):
            metric.add_sample(instrument.native, labels, value)
            continue
        below = 0
        for edge, count, trace in zip(
            (*BUCKETS, float("inf")), value.counts, value.exemplars, strict=True
        ):
            below += count
            le = "+Inf" if edge == float("inf") else repr(edge)
            exemplar = trace and Exemplar({"trace_id": trace[0]}, trace[1], trace[2])
            metric.add_sample(
                f"{name}_bucket", {**labels, "le": le}, below, exemplar=exemplar
            )
        metric.add_sample(f"{name}_sum", labels, value.total)
        metric.add_sample(f"{name}_count", labels, below)
    return metric


def registry(*views: View) -> CollectorRegistry:
    """Return a registry of our metrics alone."""
    collector = Collector(*views)
    from prometheus_client.registry import CollectorRegistry

    found = CollectorRegistry(auto_describe=False)
    found.register(collector)
    return found


def write_textfile(path: str, source: CollectorRegistry) -> None:
    """Write the metrics for node_exporter's textfile collector, all or nothing.

    The file is made beside its place under a name that the collector ignores, readable
    by everyone, and then put in its place.

    Raises:
        InvalidInputError: the name does not end in ``.prom``, which the collector
            would ignore.
        OSError: it cannot be written; the old file stays.
    """
    if not path.endswith(".prom"):
        raise InvalidInputError(
            f"{path!r} does not end in .prom: node_exporter would not read it"
        )
    from prometheus_client import generate_latest

    text = generate_latest(source)
    fd, name = tempfile.mkstemp(prefix=".carbon-ops-", dir=os.path.dirname(path) or ".")
    try:
        with open(fd, "wb") as file:
            file.write(text)
            os.fchmod(fd, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def address(text: str) -> tuple[str, int]:
    """Return host and port of ``text``.

    Raises:
        InvalidInputError: it is not an address and a port.

    >>> address("127.0.0.1:9420"), address("[::1]:0")
    (('127.0.0.1', 9420), ('::1', 0))
    """
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""
    if not (colon and host and port.isascii() and port.isdigit() and len(port) < 6):
        raise InvalidInputError(
            f"{text!r} is no address to listen on",
            hint="Write it as 127.0.0.1:9420 or [::1]:9420.",
        )
    return host, int(port)


class Server(ThreadingHTTPServer):
    """Answers ``GET /metrics``, and ``GET /healthz`` for those who only ask for life.

    Args:
        listen: Host and port; port 0: any free one.
        source: What to show.

    Raises:
        InvalidInputError: nothing can listen there.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128  # so that a burst of others' connections costs no scrape

    def __init__(self, listen: tuple[str, int], source: CollectorRegistry) -> None:
        from prometheus_client.exposition import choose_encoder

        self.choose: Any = choose_encoder
        self.source = source
        self._places = Condition()
        # Who is connected, oldest first, and until when nobody may take the place [s].
        self._open: dict[Any, float] = {}
        self.address_family = socket.AF_INET6 if ":" in listen[0] else socket.AF_INET
        try:
            super().__init__(listen, _Handler)
        except (OSError, OverflowError) as error:
            raise InvalidInputError(
                f"cannot listen on {listen[0]} port {listen[1]}: {error}"
            ) from error

    def server_bind(self) -> None:
        # Without the base class's look-up of the host's name, which may ask a server.
        socket.socket.bind(self.socket, self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._places:
            if not self._places.wait_for(self._place, PATIENCE_S):
                self.shutdown_request(request)
                return
            self._open[request] = 0.0
        super().process_request(request, client_address)

    def _place(self) -> bool:
        """Return whether there is a place, letting the oldest go that may be let go.

        Who has said nothing, or not all of it, may be at once: a scraper says all that
        it has to say when it connects.
        """
        if len(self._open) < CONNECTIONS:
            return True
        now = time.monotonic()
        for request, until in self._open.items():
            if until <= now:
                del self._open[request]
                with suppress(OSError):  # closed already
                    request.shutdown(socket.SHUT_RDWR)  # its thread ends, and closes it
                return True
        return False

    def keep(self, request: Any, seconds: float) -> bool:
        """Let nobody take the place of ``request`` for so long; return if it has one."""
        with self._places:
            if request not in self._open:
                return False
            self._open[request] = time.monotonic() + seconds
            return True

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._places:
                self._open.pop(request, None)
                self._places.notify()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        log().debug("a scrape failed", exc_info=True)


class _Head(io.BufferedReader):
    """What a client says, up to :data:`HEAD_BYTES`."""

    left = HEAD_BYTES

    def readline(self, size: int | None = -1, /) -> bytes:  # noqa: ARG002
        line = super().readline(self.left + 1)
        self.left -= len(line)
        if self.left < 0:
            raise HTTPException(f"more than {HEAD_BYTES} bytes")
        return line


class _Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = TIMEOUT_S
    rbufsize = 0  # _Head has the buffer
    server_version = "carbon-ops"
    sys_version = ""

    def setup(self) -> None:
        super().setup()
        self.rfile = _Head(self.rfile)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            if not self.server.keep(self.connection, float("inf")):
                return
            encode, kind = self.server.choose(self.headers.get("Accept", ""))
            body = encode(self.server.source)
            self.server.keep(self.connection, PATIENCE_S)
            self._answer(200, kind, body)
        elif path == "/healthz":
            self._answer(200, "text/plain; charset=utf-8", b"ok\n")
        elif path == "/":
            self._answer(200, "text/plain; charset=utf-8", b"metrics: /metrics\n")
        else:
            self._answer(404, "text/plain; charset=utf-8", b"metrics: /metrics\n")

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a scrape is no event."""
