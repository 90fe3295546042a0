"""Clients of the exporter that say nothing, too much, or leave in the middle."""

from __future__ import annotations

import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest
from prometheus_client import generate_latest

from carbon_ops.errors import InvalidInputError
from carbon_ops.export import prometheus, table
from carbon_ops.export.prometheus import CONNECTIONS, Server, registry

DEADLINE_S = 60.0


class View:
    """One series, whose every collection counts."""

    def __init__(self) -> None:
        self.looks = 0
        self.broken = False

    def families(self) -> Iterator[table.Family]:
        self.looks += 1
        if self.broken:
            raise RuntimeError("broken")
        point = table.Point((), float(self.looks))
        yield from table.family(table.SAMPLE_GAP, [point])


@pytest.fixture(name="view")
def _view() -> View:
    return View()


@contextmanager
def serving(view: prometheus.View) -> Iterator[Server]:
    with Server(("127.0.0.1", 0), registry(view)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(name="server")
def _server(view: View) -> Iterator[Server]:
    with serving(view) as server:
        yield server


def scrape(server: Server) -> str:
    url = f"http://127.0.0.1:{server.server_port}/metrics"
    with urllib.request.urlopen(url, timeout=DEADLINE_S) as reply:
        return str(reply.read().decode())


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.server_port), DEADLINE_S)


def answer(server: Server, request: bytes) -> bytes:
    with connect(server) as client:
        found = b""
        try:
            client.sendall(request)
            client.shutdown(socket.SHUT_WR)
            while part := client.recv(65_536):
                found += part
        except OSError:
            pass  # it did not read all of what was sent, and has closed
        return found


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", b"200"),
        (b"GET /healthz HTTP/1.0\r\n\r\n", b"200"),
        (b"GET /../../etc/passwd HTTP/1.0\r\n\r\n", b"404"),
        (b"POST /metrics HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc", b"501"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n", b"400"),
        (b"GET / HTTP/1.0\r\n" + b"A: b\r\n" * 500 + b"\r\n", b"431"),
        (b"GET / HTTP/1.0\r\n" + 20 * (b"A: %01000d\r\n" % 0) + b"\r\n", b"431"),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.0\r\n\r\n", b"nothing"),
    ],
    ids=["metrics", "health", "path", "post", "tls", "headers", "head", "long"],
)
def test_a_request_is_answered_by_its_kind(
    server: Server, request_: bytes, status: bytes
) -> None:
    found = answer(server, request_)
    assert status in found.split(b"\r\n", 1)[0] or found == b""
    assert "carbon_ops_sample_gap" in scrape(server)


def test_a_thousand_connections_at_once_leave_few_threads(server: Server) -> None:
    before = threading.active_count()
    with ExitStack() as stack:
        for _ in range(1_000):
            stack.enter_context(connect(server)).close()
        until = time.monotonic() + DEADLINE_S
        while threading.active_count() > before + CONNECTIONS:  # those sent away end
            assert time.monotonic() < until
            time.sleep(0.01)
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            assert "carbon_ops_sample_gap" in scrape(server)
            break
        except OSError:
            assert time.monotonic() < deadline


def test_a_name_that_is_no_text_ends_no_answer_and_forges_no_series() -> None:
    names = ["\udcff\udcfe", 'a"b\nforged 1\n', "\\udcff\\udcfe", "é", "\0"]
    points = [table.Point(("", name, ""), 1.0) for name in names]

    class Names:
        def families(self) -> Iterator[table.Family]:
            yield from table.family(table.PROCESS_ENERGY, points)

    text = generate_latest(registry(Names())).decode()
    values = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(
        line.startswith("carbon_ops_process_energy_joules_total{comm=")
        for line in values
    )
    assert len(values) == len(names) - 1  # the third is what the first is written as


@pytest.fixture(name="patient")
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time-outs later than the end of the test: it is not they that make room."""
    monkeypatch.setattr(prometheus._Handler, "timeout", 10 * DEADLINE_S)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(
    "said",
    [b"", b"GET", b"GET /metrics HTTP/1.0\r\n", b"GET / HTTP/1.0\r\nA: b\r\nC"],
    ids=["nothing", "word", "line", "heads"],
)
def test_who_says_nothing_or_not_all_of_it_holds_nobody_up(
    server: Server, view: View, said: bytes
) -> None:
    with ExitStack() as stack:
        quiet = [stack.enter_context(connect(server)) for _ in range(3 * CONNECTIONS)]
        for client in quiet:
            with suppress(OSError):  # it had to go for another
                client.sendall(said)
        for _ in range(3):  # at the first try
            assert "carbon_ops_sample_gap" in scrape(server)
            for client in quiet:  # byte by byte
                with suppress(OSError):
                    client.sendall(b"A")
        with suppress(ConnectionError):
            assert quiet[0].recv(1) == b""  # who was there longest went first
        quiet[-1].settimeout(0)
        with pytest.raises(BlockingIOError):
            quiet[-1].recv(1)  # and who came last is still there
        assert view.looks == 3  # who was sent away in the middle costs no collection


@pytest.mark.usefixtures("patient")
def test_who_takes_no_answer_has_to_go_for_others() -> None:
    class Long:
        def families(self) -> Iterator[table.Family]:
            points = [table.Point((f"task {n}",), 1.0) for n in range(2_000)]
            yield from table.family(table.RATIO, points)

    with ExitStack() as stack:
        server = stack.enter_context(serving(Long()))
        # Smaller than the answer together with the reader's.
        server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        for _ in range(CONNECTIONS):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            client.settimeout(DEADLINE_S)
            client.connect(("127.0.0.1", server.server_port))
            client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            assert client.recv(8) == b"HTTP/1.0"  # and no more than that
        assert scrape(server).count("\ncarbon_ops_allocation_ratio{") == 2_000


def test_a_collection_that_fails_ends_one_answer_only(
    server: Server, view: View
) -> None:
    view.broken = True
    assert answer(server, b"GET /metrics HTTP/1.0\r\n\r\n") == b""
    view.broken = False
    assert "carbon_ops_sample_gap" in scrape(server)


def test_a_taken_address_is_said(server: Server) -> None:
    with pytest.raises(InvalidInputError, match="cannot listen"):
        Server(("127.0.0.1", server.server_port), registry(View()))


def test_scrapes_at_once_each_get_a_whole_answer(server: Server, view: View) -> None:
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(scrape(server))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == view.looks == 8
    assert all(text.endswith("\n") for text in found)
