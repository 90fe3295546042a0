"""The door to the network keeps its limits, against a server that tries them."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from email.utils import formatdate

import pytest

pytest.importorskip("httpx")
pytest.importorskip("stamina")

from carbon_ops import http
from carbon_ops.errors import InvalidInputError, ProviderError
from carbon_ops.http import HttpClient, Reply, Secret, retry_after
from carbon_ops.testing.fake_grid import Answer, FakeServer, Seen


class Echo(FakeServer):
    def answer(self, seen: Seen) -> Answer:
        return Answer(200, {"path": seen.path})


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with Echo() as echo:
        yield echo


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com",
        "ftp://127.0.0.1",
        "https://user:key@example.com",
        "https://example.com?key=1",
        "127.0.0.1",
        "",
    ],
)
def test_a_key_never_travels_readable(url: str) -> None:
    with pytest.raises(InvalidInputError) as error:
        HttpClient(url)
    assert "key@" not in str(error.value)


def test_a_wait_that_is_asked_for_is_kept(server: FakeServer) -> None:
    server.faults = [Answer(429, b"", {"retry-after": "1"})]
    began = time.monotonic()

    with closing(HttpClient(server.url)) as client:
        client.get("/x", {})

    assert time.monotonic() - began >= 1.0
    assert len(server.seen) == 2


def test_a_wait_longer_than_there_is_time_is_a_no(server: FakeServer) -> None:
    server.faults = [Answer(429, b"", {"retry-after": "3600"})]

    with (
        closing(HttpClient(server.url)) as client,
        pytest.raises(ProviderError, match="3600"),
    ):
        client.get("/x", {})

    assert len(server.seen) == 1


def test_a_reply_without_end_is_cut_off(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "MOST_BYTES", 1000)
    server.faults = [Answer(200, b"x" * 1001)]

    with (
        closing(HttpClient(server.url)) as client,
        pytest.raises(ProviderError, match="1000"),
    ):
        client.get("/x", {})


def test_a_compressed_reply_is_refused(server: FakeServer) -> None:
    bomb = gzip.compress(b"0" * 10_000_000)
    server.faults = [Answer(200, bomb, {"content-encoding": "gzip"})]

    with (
        closing(HttpClient(server.url)) as client,
        pytest.raises(ProviderError, match="compress"),
    ):
        client.get("/x", {})


def test_a_redirect_does_not_carry_the_key_away(server: FakeServer) -> None:
    with Echo() as elsewhere:
        server.faults = [Answer(307, b"", {"location": elsewhere.url + "/x"})]
        with closing(HttpClient(server.url)) as client, pytest.raises(ProviderError):
            client.get("/x", {}, {"authorization": Secret("k")})

        assert elsewhere.seen == []


@pytest.mark.parametrize(
    ("head", "drop"),
    [(b"content-length: 100000\r\n\r\n", b"x"), (b"", b"a: b\r\n")],
    ids=["body", "headers"],
)
def test_a_silent_server_and_one_that_drips_are_given_up(
    head: bytes, drop: bytes
) -> None:
    # Accepts, then sends a little every 50 ms for as long as one listens.
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    done = threading.Event()

    def serve() -> None:
        silent, _ = listener.accept()
        dripping, _ = listener.accept()
        dripping.recv(10_000)
        dripping.sendall(b"HTTP/1.1 200 OK\r\n" + head)
        try:
            while not done.wait(0.05):
                dripping.sendall(drop)
        except OSError:
            pass
        silent.close()
        dripping.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with (
            closing(HttpClient(url, timeout_s=0.2)) as client,
            pytest.raises(ProviderError),
        ):
            client.get("/silent", {})
        with (
            closing(HttpClient(url, timeout_s=5.0, total_s=0.5)) as client,
            pytest.raises(ProviderError, match=r"0\.5 s"),
        ):
            client.get("/drip", {})
    finally:
        done.set()
        thread.join()
        listener.close()


def test_a_pause_between_requests_is_kept(server: FakeServer) -> None:
    began = time.monotonic()

    with closing(HttpClient(server.url, gap_s=0.2)) as client:
        for _ in range(3):
            client.get("/x", {})

    assert time.monotonic() - began >= 0.4


def test_an_error_names_host_and_path_but_no_parameter(server: FakeServer) -> None:
    server.close()

    with (
        closing(HttpClient(server.url)) as client,
        pytest.raises(ProviderError) as error,
    ):
        client.get("/x", {"api_key": "s3cret"}, {"auth": Secret("s3cret")})

    assert "/x" in str(error.value)
    assert "s3cret" not in str(error.value)
    assert "s3cret" not in repr(Secret("s3cret")) + str(Secret("s3cret"))


@pytest.mark.parametrize("body", [b'{"a": NaN}', b"[Infinity]", b"\xff", b"", b"<p>"])
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(ProviderError, match="no JSON"):
        Reply(200, body, "host/x").json()


def test_retry_after_is_seconds_or_a_date() -> None:
    assert retry_after(None) is None
    assert retry_after(" 120 ") == 120.0
    assert retry_after("soon") is None
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    ahead = retry_after(formatdate(time.time() + 50, usegmt=True))
    assert ahead is not None
    assert 40 < ahead <= 50
