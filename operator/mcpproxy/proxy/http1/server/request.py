"""An HTTP request as the server received it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from mcpproxy.limits.http import REQUEST_BODY
from mcpproxy.proxy.http1.errors import HttpError

MAX_BODY: Final = REQUEST_BODY.value
"""Bytes of the largest request body; the server answers a larger one with 413."""

HeaderLines = list[tuple[bytes, bytes]]


class Sender(Protocol):
    """The client of a request."""

    @property
    def network(self) -> str:
        """The network of the client, from `network_of`."""


class RequestHead:
    """The request line and the headers; requests with the same bytes share the object."""

    __slots__ = ("context", "handler", "headers", "lines", "method", "path", "sender")

    def __init__(self, method: str, path: str, lines: HeaderLines) -> None:
        """`lines` are the header lines in their order, with names in lower case.

        Raises HttpError if there are two Host headers.
        """
        self.method = method
        self.path = path
        self.lines = lines
        self.headers = dict(lines)
        if len(self.headers) != len(lines):
            self.headers = _joined(lines)
        self.context: Any = None
        """Data that the application derives from the head; opaque to the server."""
        self.sender: Sender | None = None
        """The connection of the client, while the head is checked."""
        self.handler: Callable[[Request, Any], bool] | None = None
        """Function that begins to answer requests with this head, instead of
        `Application.at_once`."""

    def handle_with(self, handler: "Callable[[Request, Any], bool]") -> None:
        """Let `handler` begin to answer further requests with this head."""
        self.handler = handler

    def attach(self, context: Any) -> None:
        """Set the data of the application."""
        self.context = context

    def name_sender(self, sender: Sender | None) -> None:
        """Set the connection of the client, or forget it once the head is checked."""
        self.sender = sender

    def forget_handler(self) -> None:
        """Let the application choose the handler of further requests with this head again."""
        self.handler = None

    @property
    def network(self) -> str:
        """The network of the client while the head is checked; empty if it is unknown."""
        return "" if self.sender is None else self.sender.network


@dataclass(eq=False, slots=True, weakref_slot=True)
class Request:
    """A request: its head and its body."""

    head: RequestHead
    body: bytes = b""

    def complete(self, body: bytes) -> None:
        """Set the body, which has arrived whole."""
        self.body = body

    @property
    def method(self) -> str:
        """The HTTP method."""
        return self.head.method

    @property
    def path(self) -> str:
        """The decoded path of the request target."""
        return self.head.path

    @property
    def lines(self) -> HeaderLines:
        """The header lines in their order, with names in lower case."""
        return self.head.lines

    @property
    def headers(self) -> dict[bytes, bytes]:
        """The headers by their names in lower case; repeated ones are joined."""
        return self.head.headers


def _joined(lines: HeaderLines) -> dict[bytes, bytes]:
    """Join the values of repeated headers (RFC 9110, section 5.3)."""
    headers: dict[bytes, bytes] = {}
    for name, value in lines:
        before = headers.get(name)
        if before is None:
            headers[name] = value
        elif name == b"host":
            raise HttpError(400, "the header Host is repeated; send it once")
        else:
            headers[name] = before + (b"; " if name == b"cookie" else b", ") + value
    return headers
