"""The interface between the HTTP server and what it serves."""

from collections.abc import Awaitable
from typing import Protocol

from mcpproxy.proxy.http1.server.request import HttpError, Request
from mcpproxy.proxy.http1.server.response_writer import Headers, ResponseWriter


class Application(Protocol):
    """What is served."""

    def screened(self, inbound: Request) -> HttpError | None:
        """Called with the head of a request: why its body is not wanted, if so."""

    def response_headers(self, inbound: Request) -> Headers:
        """Headers that also a refusal of this request has."""

    def at_once(self, inbound: Request, reply: ResponseWriter) -> bool:
        """Begin to answer without a task; False where it takes one. Raises HttpError."""

    def serve(self, inbound: Request, reply: ResponseWriter) -> Awaitable[None]:
        """Answer a request. May raise HttpError before anything was sent."""
