"""Clients of the exporter that say nothing, too much, or leave in the middle."""

from __future__ import annotations

import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from prometheus_client import generate_latest

from carbon_ops.errors import InvalidInputError
from carbon_ops.export import table
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


@pytest.fixture(name="server")
def _server(view: View) -> Iterator[Server]:
    with Server(("127.0.0.1", 0), registry(view)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


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
        (b"GET /" + b"a" * 100_000 + b" HTTP/1.0\r\n\r\n", b"414"),
    ],
    ids=["metrics", "health", "path", "post", "tls", "headers", "long"],
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
        assert threading.active_count() <= before + CONNECTIONS
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


def test_who_says_nothing_holds_nobody_up_for_long(server: Server) -> None:
    with ExitStack() as stack:
        for _ in range(3 * CONNECTIONS):
            stack.enter_context(connect(server))
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                assert "carbon_ops_sample_gap" in scrape(server)
                break
            except OSError:  # no place yet
                assert time.monotonic() < deadline
                time.sleep(0.1)


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
