"""The only door to the network: GET over TLS, with limits on time, size and patience.

Only 429 and 5xx are tried again, after the ``Retry-After`` that the server asks for.
Redirects are refused, because they would carry a key to another host. Nothing is logged,
and no error names more than the host and the path: query and headers may hold secrets.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn
from urllib.parse import urlsplit

from carbon_ops.errors import InvalidInputError, MissingDependencyError, ProviderError

if TYPE_CHECKING:
    import httpx

LOOPBACK = frozenset(("127.0.0.1", "localhost", "::1"))
MOST_ATTEMPTS = 4
FIRST_WAIT_S = 0.5  # doubled each time, with jitter, where the server names no wait
TOO_MANY_REQUESTS = 429
MOST_BYTES = 16 * 1024 * 1024


class Secret:
    """A key that shows itself nowhere by accident."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__


class Reply(NamedTuple):
    """What a server answered; any status that is not worth another try."""

    status: int
    body: bytes
    where: str  # host and path, for messages

    def json(self) -> Any:
        """Return the body as JSON; NaN and infinities are refused.

        Raises:
            ProviderError: it is something else, an error page for instance.
        """
        try:
            return json.loads(self.body.decode("utf-8"), parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise ProviderError(
                f"{self.where} sent no JSON (status {self.status}, "
                f"{len(self.body)} bytes)"
            ) from error


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


class _TryAgain(Exception):
    def __init__(self, status: int, wait_s: float | None) -> None:
        super().__init__(f"status {status}")
        self.status, self.wait_s = status, wait_s


class HttpClient:
    """A kept connection to one server; threads may share it.

    Args:
        base_url: ``https://host``; plain ``http`` only to this machine.
        timeout_s: Longest silence of the server [s].
        total_s: Longest time for one call with all its tries and waits [s].
        gap_s: Least time between two requests [s], where a server asks for it.
    """

    def __init__(
        self,
        base_url: str,
        *,
        timeout_s: float = 10.0,
        total_s: float = 45.0,
        gap_s: float = 0.0,
    ) -> None:
        parts = urlsplit(base_url)
        self._local = parts.hostname in LOOPBACK
        self._plain = parts.scheme == "http"
        if parts.scheme != "https" and not (parts.scheme == "http" and self._local):
            raise InvalidInputError(
                f"{parts.scheme}://{parts.hostname} is not https; a key would be readable"
            )
        if parts.username or parts.query or parts.fragment:
            raise InvalidInputError("a server's address holds no key and no query")
        self._base = base_url.rstrip("/")
        self._host = parts.netloc
        self._timeout_s, self._total_s, self._gap_s = timeout_s, total_s, gap_s
        self._next = 0.0
        self._lock = Lock()
        self._client: httpx.Client | None = None

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def get(
        self,
        path: str,
        params: Mapping[str, str],
        headers: Mapping[str, Secret] | None = None,
    ) -> Reply:
        """Return the reply to one GET.

        Raises:
            ProviderError: no connection, too slow, too large, a redirect, or 429 or 5xx
                after all tries.
            MissingDependencyError: httpx or stamina is not installed.
        """
        try:
            import httpx
            import stamina
        except ImportError as error:
            raise MissingDependencyError(
                "live providers need httpx and stamina",
                hint="Install carbon-ops with its extra `live`.",
            ) from error

        _hush("stamina")
        where = f"{self._host}{path}"
        deadline = time.monotonic() + self._total_s
        clear = {name: secret.reveal() for name, secret in (headers or {}).items()}

        def again(error: Exception) -> bool | float:
            if not isinstance(error, _TryAgain):
                return False
            if error.wait_s is None:
                return True
            # A longer wait than there is time for is an answer: no.
            return error.wait_s if error.wait_s < deadline - time.monotonic() else False

        try:
            for attempt in stamina.retry_context(
                on=again,
                attempts=MOST_ATTEMPTS,
                timeout=self._total_s,
                wait_initial=FIRST_WAIT_S,
            ):
                with attempt:
                    self._keep_gap()
                    return self._once(path, params, clear, where, deadline)
        except _TryAgain as error:
            asked = f", asks for {error.wait_s:g} s of patience" if error.wait_s else ""
            raise ProviderError(f"{where} answers {error.status}{asked}") from None
        except (httpx.HTTPError, RuntimeError) as error:  # the latter: closed meanwhile
            if time.monotonic() >= deadline:
                raise ProviderError(f"{where} takes over {self._total_s:g} s") from None
            # The text of httpx's errors may hold the address with its query.
            raise ProviderError(f"{where}: {type(error).__name__}") from None
        raise AssertionError("retry_context ended without result")  # pragma: no cover

    def _once(
        self,
        path: str,
        params: Mapping[str, str],
        headers: dict[str, str],
        where: str,
        deadline: float,
    ) -> Reply:
        from contextlib import ExitStack
        from threading import Timer

        body = bytearray()
        with ExitStack() as stack:
            # Headers that drip keep every read short of its time-out: only closing helps.
            watch = Timer(max(0.0, deadline - time.monotonic()), self.close)
            watch.daemon = True
            watch.start()
            stack.callback(watch.cancel)
            response = stack.enter_context(
                self._open().stream(
                    "GET", self._base + path, params=dict(params), headers=headers
                )
            )
            status = response.status_code
            if status == TOO_MANY_REQUESTS or status >= 500:
                wait_s = retry_after(response.headers.get("retry-after"))
                raise _TryAgain(status, wait_s)
            if response.is_redirect:
                raise ProviderError(f"{where} redirects elsewhere (status {status})")
            if response.headers.get("content-encoding", "identity") != "identity":
                raise ProviderError(f"{where} compresses though not asked to")
            for chunk in response.iter_raw():
                body += chunk
                if len(body) > MOST_BYTES:
                    raise ProviderError(f"{where} sends more than {MOST_BYTES} bytes")
        return Reply(status, bytes(body), where)

    def _open(self) -> httpx.Client:
        with self._lock:
            if self._client is None:
                import ssl

                import httpx

                # Without TLS no certificate has to be loaded, and none is trusted.
                bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                self._client = httpx.Client(
                    verify=bare if self._plain else True,
                    timeout=self._timeout_s,
                    follow_redirects=False,
                    trust_env=not self._local,
                    headers={
                        "accept": "application/json",
                        "accept-encoding": "identity",  # so that the size limit holds
                        "user-agent": "carbon-ops",
                    },
                )
            return self._client

    def _keep_gap(self) -> None:
        if self._gap_s:
            with self._lock:  # the next thread waits for its own turn
                time.sleep(max(0.0, self._next - time.monotonic()))
                self._next = time.monotonic() + self._gap_s


def _hush(name: str) -> None:
    """Keep a library's warnings from stderr in a program that set up no logging."""
    import logging

    logger = logging.getLogger(name)
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())


def retry_after(value: str | None) -> float | None:
    """Return the wait [s] that a ``Retry-After`` header asks for, None without one.

    Source: RFC 9110, 10.2.3 (seconds, or a date).
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
