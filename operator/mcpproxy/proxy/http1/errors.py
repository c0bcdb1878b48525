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
