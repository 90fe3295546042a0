"""Energy by route: Starlette and Flask, behind real servers where it matters."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import flask
import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient
from werkzeug.test import Client

from carbon_ops import EnergyLogger
from carbon_ops.integrations import asgi, wsgi
from carbon_ops.integrations.shares import NAMES, OTHERS, REST, Shares


def burn(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        burn(0.01)


@pytest.fixture
def shares(governor: str) -> Shares:
    return Shares("http", EnergyLogger(socket=governor, scope="process"))


def joules(shares: Shares, name: str) -> float:
    until(lambda: shares.totals()[name]["joules"] is not None)
    found = shares.totals()[name]["joules"]
    assert found is not None
    return found


# --- the division -------------------------------------------------------------------


def test_shares_and_the_rest_are_the_energy_of_the_windows(shares: Shares) -> None:
    for _ in range(12):
        for name, seconds in (("a", 0.09), ("b", 0.03)):
            piece = shares.begin()
            burn(seconds)
            shares.end(piece, name)
        burn(0.03)
    joules(shares, "a")
    totals = shares.totals()
    windows = [m["energy"]["energy_j_total"] for m in shares.logger.metrics]
    assert None not in windows
    parts = [total["joules"] or 0.0 for total in totals.values()]
    assert sum(parts) == pytest.approx(sum(w or 0.0 for w in windows))
    assert totals["a"]["joules"] > 2 * totals["b"]["joules"] > 0  # type: ignore[operator]
    assert totals[REST]["joules"] > 0  # type: ignore[operator]
    assert 0 < totals["a"]["joules_u"] < totals["a"]["joules"]  # type: ignore[operator]


def test_a_piece_longer_than_a_window_has_its_part_of_each(shares: Shares) -> None:
    long = shares.begin()
    inner = threading.Thread(target=lambda: shares.end(shares.begin(), "tick"))
    until(lambda: time.monotonic_ns() - long.began_ns > 1_100_000_000)
    inner.start()
    inner.join()
    assert len(shares.logger.metrics) == 1
    assert long.joules > 0
    shares.end(long, "long")
    whole = shares.logger.metrics[0]["energy"]["energy_j_total"]
    assert whole is not None
    assert shares.totals()["long"]["joules"] >= 0.5 * whole  # type: ignore[operator]


def test_before_a_window_has_ended_there_are_no_joules(shares: Shares) -> None:
    shares.end(shares.begin(), "a")
    totals = shares.totals()
    assert totals["a"]["calls"] == 1
    assert bool(shares.logger.metrics) == (totals["a"]["joules"] is not None)


def test_without_energy_there_are_cpu_seconds_only() -> None:
    shares = Shares("http", EnergyLogger(socket="/nowhere", model="off"))
    piece = shares.begin()
    burn(0.4)
    shares.end(piece, "a")
    total = shares.totals()["a"]
    assert total["joules"] is None
    assert total["joules_cpu_s"] == 0
    assert total["cpu_s"] >= 0.4  # type: ignore[operator]


def test_names_are_bounded(shares: Shares) -> None:
    for number in range(NAMES + 5):
        shares.end(shares.begin(), f"/user/{number}")
    totals = shares.totals()
    assert totals[OTHERS]["calls"] == 5
    assert len(totals) == NAMES + 2  # and the rest


def test_a_forked_child_counts_for_itself_alone(shares: Shares) -> None:
    shares.end(shares.begin(), "parent")
    open_here = shares.begin()
    pid = os.fork()
    if pid == 0:
        shares.end(open_here, "inherited")
        shares.end(shares.begin(), "child")
        os._exit(0 if set(shares.totals()) == {"child", REST} else 1)
    assert os.waitpid(pid, 0)[1] == 0
    shares.end(open_here, "parent")
    assert shares.totals()["parent"]["calls"] == 2


# --- ASGI ---------------------------------------------------------------------------


async def item(request: Any) -> PlainTextResponse:
    burn(0.02)
    await asyncio.sleep(0)
    burn(0.02)
    return PlainTextResponse("item")


def in_thread(request: Any) -> PlainTextResponse:  # Starlette runs it in a thread
    burn(0.02)
    return PlainTextResponse("thread")


async def fails(request: Any) -> PlainTextResponse:
    raise LookupError("no such thing")


async def stream(request: Any) -> StreamingResponse:
    async def parts() -> Any:
        for part in "abc":
            burn(0.01)
            yield part

    return StreamingResponse(parts())


async def socket(socket: Any) -> None:
    await socket.accept()
    await socket.send_text("hello")
    await socket.close()


def asgi_app(shares: Shares) -> Starlette:
    app = Starlette(
        routes=[
            Route("/items/{id}", item),
            Route("/thread", in_thread),
            Route("/fails", fails),
            Mount("/in", routes=[Route("/stream/{n:int}", stream)]),
            WebSocketRoute("/ws", socket),
        ]
    )
    app.add_middleware(asgi.EnergyMiddleware, shares=shares)
    return app


def test_starlette_requests_are_counted_by_route(shares: Shares) -> None:
    with TestClient(asgi_app(shares), raise_server_exceptions=False) as client:
        for number in range(5):
            assert client.get(f"/items/{number}").text == "item"
        assert client.get("/thread").text == "thread"
        assert client.get("/fails").status_code == 500
        assert client.get("/in/stream/7").text == "abc"
        assert client.get("/no/such/page").status_code == 404
        with client.websocket_connect("/ws") as connection:
            assert connection.receive_text() == "hello"
        until(lambda: "WEBSOCKET /ws" in shares.totals())
    totals = shares.totals()
    assert {name: total.get("calls") for name, total in totals.items()} == {
        "GET /items/{id}": 5,
        "GET /thread": 1,
        "GET /fails": 1,
        "GET /stream/{n:int}": 1,
        "GET": 1,
        "WEBSOCKET /ws": 1,
        REST: None,
    }
    assert totals["GET /items/{id}"]["cpu_s"] >= 0.2  # type: ignore[operator]
    assert totals["GET /thread"]["cpu_s"] >= 0.02  # type: ignore[operator]
    assert joules(shares, "GET /items/{id}") > 0


def test_requests_in_flight_together_are_told_apart(shares: Shares) -> None:
    async def together() -> None:
        transport = httpx.ASGITransport(app=both)
        async with httpx.AsyncClient(transport=transport, base_url="http://t") as c:
            await asyncio.gather(*[c.get(f"/{n}") for n in ("busy", "idle") * 5])

    gate = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal gate
        gate += 1
        while gate < 10:  # all requests are open at once
            await asyncio.sleep(0)
        if scope["path"] == "/busy":
            burn(0.05)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    both = asgi.EnergyMiddleware(app, shares, route=lambda scope: scope["path"])
    asyncio.run(together())
    totals = shares.totals()
    assert totals["/busy"]["cpu_s"] >= 0.25  # type: ignore[operator]
    assert totals["/idle"]["cpu_s"] <= 0.2 * totals["/busy"]["cpu_s"]  # type: ignore[operator]


def test_user_spans_inside_a_request_still_measure(
    shares: Shares, governor: str
) -> None:
    logger = EnergyLogger(socket=governor)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async with logger.span("inside"):
            burn(0.05)
            await asyncio.sleep(0)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def ask() -> None:
        transport = httpx.ASGITransport(app=asgi.EnergyMiddleware(app, shares))
        async with httpx.AsyncClient(transport=transport, base_url="http://t") as c:
            await c.get("/")

    asyncio.run(ask())
    assert logger.metrics[0]["cpu"]["process_s"] >= 0.05
    assert shares.totals()["GET"]["cpu_s"] >= 0.05  # type: ignore[operator]


# --- WSGI ---------------------------------------------------------------------------


def flask_app(shares: Shares) -> flask.Flask:
    app = flask.Flask("test")

    def one(number: int) -> str:
        burn(0.02)
        return str(number)

    def parts() -> Any:
        def body() -> Any:
            for part in "abc":
                burn(0.01)
                yield part

        return body()

    def wrong() -> str:
        raise LookupError("no such thing")

    app.get("/items/<int:number>")(one)
    app.get("/stream")(parts)
    app.get("/fails")(wrong)
    app.wsgi_app = wsgi.EnergyMiddleware(app.wsgi_app, shares)
    return app


def test_flask_requests_are_counted_by_rule(shares: Shares) -> None:
    client = Client(flask_app(shares))
    for number in range(5):
        with client.get(f"/items/{number}") as response:
            assert response.text == str(number)
    with client.get("/stream") as response:
        assert response.text == "abc"
    with client.get("/fails") as response:
        assert response.status_code == 500
    with client.get("/no/such/page") as response:
        assert response.status_code == 404
    totals = shares.totals()
    assert {name: total.get("calls") for name, total in totals.items()} == {
        "GET /items/<int:number>": 5,
        "GET /stream": 1,
        "GET /fails": 1,
        "GET": 1,
        REST: None,
    }
    assert totals["GET /items/<int:number>"]["cpu_s"] >= 0.1  # type: ignore[operator]
    assert totals["GET /stream"]["cpu_s"] >= 0.03  # type: ignore[operator]
    assert joules(shares, "GET /stream") > 0


def test_an_application_that_raises_ends_its_piece(shares: Shares) -> None:
    def app(environ: Any, start: Any) -> Any:
        raise LookupError

    with pytest.raises(LookupError):
        wsgi.EnergyMiddleware(app, shares)({"REQUEST_METHOD": "POST"}, lambda *_: None)
    assert shares.totals()["POST"]["calls"] == 1
    assert not shares._open


def test_a_threaded_server_tells_requests_of_its_threads_apart(shares: Shares) -> None:
    from werkzeug.serving import make_server

    server = make_server("127.0.0.1", 0, flask_app(shares), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{server.server_port}") as client:
            asked = [
                threading.Thread(target=lambda: client.get("/items/1"))
                for _ in range(4)
            ]
            for one in asked:
                one.start()
            for one in asked:
                one.join()
        until(lambda: shares.totals()["GET /items/<int:number>"].get("calls") == 4)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert shares.totals()["GET /items/<int:number>"]["cpu_s"] >= 0.08  # type: ignore[operator]
