"""Energy by route of a WSGI application: Flask, Django, plain.

::

    app.wsgi_app = EnergyMiddleware(app.wsgi_app)
    ...
    app.wsgi_app.shares.totals()

Flask tells a request's rule; elsewhere requests are named by their method, unless
``route`` tells more: paths are never names, they have no end.

What this cannot know
    The joules of one request; only totals by route are true, see
    :mod:`carbon_ops.integrations.shares`. CPU time of a request is its thread's, from
    the call to the end of its response; greenlets of one thread cannot be told apart.
    A file that the server sends by itself (``wsgi.file_wrapper``), databases and other
    services are outside.
"""

from __future__ import annotations

from typing import Any

from carbon_ops.integrations.shares import Piece, Shares

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Environ = dict[str, Any]
    Start = Callable[..., Any]
    App = Callable[[Environ, Start], Iterable[bytes]]


def route_of(environ: Environ) -> str:
    """Return the name of a request's route, from a finite set.

    Asked when the response starts: Flask forgets the request before the body is sent.
    """
    method = str(environ.get("REQUEST_METHOD", "GET"))
    rule = getattr(environ.get("werkzeug.request"), "url_rule", None)
    return method if rule is None else f"{method} {rule.rule}"


class _Body:
    """A response's body; the piece ends when the server closes it."""

    def __init__(self, body: Iterable[bytes], end: Callable[[], None]) -> None:
        self._body, self._end = body, end

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def close(self) -> None:
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self._end()


class EnergyMiddleware:
    """Counts requests of ``app`` to their routes.

    Args:
        app: The application.
        shares: Where the totals are; default: ``Shares("http")``, in :attr:`shares`.
        route: Names the route of an environ, when the response starts.
    """

    def __init__(
        self,
        app: App,
        shares: Shares | None = None,
        route: Callable[[Environ], str] = route_of,
    ) -> None:
        self.app = app
        self.shares = shares if shares is not None else Shares("http")
        self._route = route

    def __call__(self, environ: Environ, start_response: Start) -> Iterable[bytes]:
        piece: Piece | None = self.shares.begin()
        name = ""

        def start(*args: Any) -> Any:
            nonlocal name
            name = self._route(environ)
            return start_response(*args)

        def end() -> None:
            nonlocal piece
            ended, piece = piece, None
            if ended is not None:
                self.shares.end(ended, name or self._route(environ))

        try:
            body = self.app(environ, start)
        except BaseException:
            end()
            raise
        wrapper = environ.get("wsgi.file_wrapper")
        if isinstance(wrapper, type) and isinstance(body, wrapper):
            end()
            return body
        return _Body(body, end)
