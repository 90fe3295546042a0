"""Energy by route of an ASGI application: Starlette, FastAPI, Litestar, Django, plain.

::

    routes = Shares("http")
    app.add_middleware(EnergyMiddleware, shares=routes)
    ...
    routes.totals()  # {"GET /users/{id}": {"calls": ..., "joules": ...}, ...}

Routes are named by method and path template where the framework tells it in the scope
(Starlette, FastAPI; without the path of a mount), else by method alone: paths are never
names, they have no end.

What this cannot know
    The joules of one request; only totals by route are true, see
    :mod:`carbon_ops.integrations.shares`. CPU time of a request is what its own steps
    used, and in equal parts among the requests in flight what worker threads used. Tasks
    that a request starts on the event loop, and everything below Starlette's
    ``BaseHTTPMiddleware``, which is such a task, are in ``(outside)``: put this
    middleware inside of those. Databases and other services that work for a request are
    other processes.
"""

from __future__ import annotations

from typing import Any

from carbon_ops.integrations.shares import Shares
from carbon_ops.meter.coroutines import Stepped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, MutableMapping

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
    App = Callable[[Scope, Receive, Send], Coroutine[Any, Any, None]]


def route_of(scope: Scope) -> str:
    """Return the name of a request's route, from a finite set."""
    method = scope.get("method", "WEBSOCKET")
    path = getattr(scope.get("route"), "path", None)
    return f"{method} {path}" if isinstance(path, str) else str(method)


class EnergyMiddleware:
    """Counts HTTP and WebSocket connections of ``app`` to their routes.

    Args:
        app: The application.
        shares: Where the totals are; default: ``Shares("http")``, in :attr:`shares`.
        route: Names the route of a scope, after the application has had it.
    """

    def __init__(
        self,
        app: App,
        shares: Shares | None = None,
        route: Callable[[Scope], str] = route_of,
    ) -> None:
        self.app = app
        self.shares = shares if shares is not None else Shares("http")
        self._route = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        shares = self.shares
        piece = shares.begin("steps")
        try:
            await Stepped(
                self.app(scope, receive, send), lambda: shares.pool.step(piece.lane)
            )
        finally:
            shares.end(piece, self._route(scope))
