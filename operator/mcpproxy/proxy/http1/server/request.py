"""One HTTP request to the endpoint: its headers, its message, and who sent it."""

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec import Raw

from mcpproxy.limits.http import REQUEST_BODY
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.core.tokens.session_token import SessionToken
from mcpproxy.proxy.protocol import headers as h
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import INVALID_REQUEST, Message, RpcError

if TYPE_CHECKING:
    from mcpproxy.proxy.http1.server.response_writer import ResponseWriter

MAX_BODY: Final = REQUEST_BODY.value
"""Bytes of one request; more is answered with 413."""

HeaderLines = list[tuple[bytes, bytes]]


class HttpError(Exception):
    """A request that is answered with an HTTP error."""

    def __init__(self, status: int, error: RpcError | str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(str(error))
        self.status = status
        self.headers = headers
        if isinstance(error, str):
            error = RpcError(INVALID_REQUEST, error)
        self.body = jsonrpc.error_response(None, error)


class RequestMeta(NamedTuple):
    """What a message must agree with its head in, and who asks."""

    about: tuple[str, Raw | None, Raw | None]
    """Its method, `_meta`, and what names the component."""
    client: ClientIdentity
    level: str | None
    """The log level that it asks for."""


class RequestHead:
    """The line and the headers of a request; many requests of a client have the same."""

    __slots__ = (
        "_fits",
        "headers",
        "lines",
        "method",
        "path",
        "principal",
        "said",
        "ticket",
        "way",
    )

    def __init__(self, method: str, path: str, lines: HeaderLines) -> None:
        """`lines` are the headers as they came, their names in lower case.

        Raises HttpError where there are two hosts.
        """
        self.method = method
        self.path = path
        self.lines = lines
        self.headers = dict(lines)
        if len(self.headers) != len(lines):
            self.headers = _joined(lines)
        self.principal = ""
        """A digest that stands for the sender's identity; empty without one. See Principals."""
        self._fits: bool | None = None
        self.way: Callable[[Request, ResponseWriter], bool] | None = None
        """Who may answer such requests without a task, once that is found out."""
        self.ticket: SessionToken | None = None
        """The session that it names, once that is found out."""
        self.said: RequestMeta | None = None
        """What the latest of its messages said of its client, and what was found to be right."""

    @property
    def fits(self) -> bool:
        """Whether it is one of a message, by a client that takes either kind of answer."""
        if self._fits is None:
            json = _is_json(self.headers.get(b"content-type", b""))
            self._fits = json and _accepts_both(self.headers.get(b"accept"))
        return self._fits


class Request:
    """A request as the server got it."""

    # Every request makes one of these: what is as it begins stands in the class.
    _message: Message | None = None
    handed_over = False
    """Whether another instance has passed it on: then it is served here."""

    def __init__(self, head: RequestHead, body: bytes = b"") -> None:
        self.head = head
        self.body = body

    @property
    def method(self) -> str:
        """Its method."""
        return self.head.method

    @property
    def path(self) -> str:
        """The path of its target."""
        return self.head.path

    @property
    def lines(self) -> HeaderLines:
        """Its headers as they came."""
        return self.head.lines

    @property
    def headers(self) -> dict[bytes, bytes]:
        """Its headers by their names in lower case."""
        return self.head.headers

    @property
    def principal(self) -> str:
        """A digest that stands for the sender's identity; empty without one."""
        return self.head.principal

    def accepts_stream(self) -> bool:
        """Whether the client takes event streams."""
        return h.accepts(self.headers.get(b"accept"), h.EVENT_STREAM)

    def message(self) -> Message:
        """The message of a POST; read once. Raises HttpError."""
        if self._message is not None:
            return self._message
        if not self.head.fits:
            if not _is_json(self.headers.get(b"content-type", b"")):
                raise HttpError(415, "the Content-Type must be application/json")
            raise HttpError(406, "the client must accept application/json and text/event-stream")
        try:
            self._message = jsonrpc.parse(self.body)
            return self._message
        except RpcError as error:
            raise HttpError(400, error) from None


def _joined(lines: HeaderLines) -> dict[bytes, bytes]:
    """Headers of which one is there more than once are lists (RFC 9110, section 5.3)."""
    found: dict[bytes, bytes] = {}
    for name, value in lines:
        before = found.get(name)
        if before is None:
            found[name] = value
        elif name == b"host":
            raise HttpError(400, "the header Host is there twice")
        else:
            found[name] = before + (b"; " if name == b"cookie" else b", ") + value
    return found


@lru_cache(maxsize=64)
def _is_json(content_type: bytes) -> bool:
    return content_type.split(b";")[0].strip().lower() == h.JSON


@lru_cache(maxsize=64)
def _accepts_both(header: bytes | None) -> bool:
    return h.accepts(header, h.JSON) and h.accepts(header, h.EVENT_STREAM)
