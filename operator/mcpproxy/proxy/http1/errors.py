"""Errors of HTTP requests: the ones that the server sends, and the ones that the client raises.

HttpError              the server answers a request with an HTTP error
HttpClientError        the client did not receive a complete response
├─ ConnectError        no connection; nothing was sent
├─ ConnectTimeout      no connection in time; nothing was sent
├─ TooManyConnections  the limit on connections is reached; nothing was sent
├─ ConnectionLost      the connection ended before the response did
├─ InvalidRedirect     the server redirects to where the client does not follow
└─ InvalidResponse     the response is malformed or too large
"""

import logging
import time
from collections.abc import Callable
from typing import Any, Final

BURST: Final = 20
"""Failed requests that are logged one after the other."""
PAUSE: Final = 10.0
"""Seconds between later ones, so that a client cannot fill the log."""
log = logging.getLogger("mcpproxy.http")


class FailureLog:
    """Log of requests that failed unexpectedly."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """`now` returns seconds."""
        self._now = now
        self._left, self._since, self._omitted = float(BURST), now(), 0

    def record(self, error: BaseException) -> None:
        """Log where a request failed, without the exception's text, which may quote the request."""
        now = self._now()
        self._left = min(self._left + (now - self._since) / PAUSE, BURST)
        self._since = now
        if self._left < 1:
            self._omitted += 1
            return
        self._left -= 1
        kind = RuntimeError(type(error).__qualname__)
        about: Any = (RuntimeError, kind, error.__traceback__)
        more = f"; {self._omitted} more failed before" if self._omitted else ""
        self._omitted = 0
        log.error("a request failed%s", more, exc_info=about)


log_failure: Final = FailureLog().record


class HttpError(Exception):
    """A request that the server answers with an HTTP error."""

    def __init__(
        self,
        status: int,
        message: str,
        *headers: tuple[bytes, bytes],
        body: bytes | None = None,
    ) -> None:
        """`body` is the JSON body of the response; without it the application renders `message`."""
        super().__init__(message)
        self.status = status
        self.headers = headers
        self.body = body


class HttpClientError(Exception):
    """A request without a complete response."""

    is_sent = True
    """False if the request was not sent."""

    def __init__(self, message: str, *, detail: str = "") -> None:
        """`detail` is `message` with more facts, such as an address."""
        super().__init__(message)
        self.detail = detail or message


class ConnectError(HttpClientError):
    """The connection could not be opened."""

    is_sent = False


class ConnectTimeout(HttpClientError):
    """The connection was not opened in time."""

    is_sent = False


class TooManyConnections(HttpClientError):
    """The client has as many connections as it may have."""

    is_sent = False


class ConnectionLost(HttpClientError):
    """The connection ended before the response did."""


class InvalidRedirect(HttpClientError):
    """The server redirects in a circle, to another origin, or to a malformed URL."""


class InvalidResponse(HttpClientError):
    """The response is not HTTP/1.1, can't be decoded, or exceeds a limit."""
