"""Interface between the HTTP server and the application that it serves."""

from collections.abc import Awaitable
from typing import Protocol

from mcpproxy.proxy.http1.errors import HttpError
from mcpproxy.proxy.http1.server.request import Request
from mcpproxy.proxy.http1.server.response_writer import Headers, ResponseWriter


class Application(Protocol):
    """Handler of the requests that an HTTP server receives."""

    def screened(self, inbound: Request) -> HttpError | None:
        """Check the head of a request before its body is read.

        Return the error response, or None to accept the request. Requests with the same head may
        share the `RequestHead`, and are then checked once.
        """

    def response_headers(self, inbound: Request) -> Headers:
        """Return the headers that each error response of the server to this request needs."""

    def error_body(self, error: HttpError) -> bytes:
        """Return the JSON body of an error response that has none yet."""

    def at_once(self, inbound: Request, reply: ResponseWriter) -> bool:
        """Begin to answer a request without a task.

        Return False if the request needs `serve`. Raises HttpError. The application may set
        another function for requests with the same head; see `RequestHead.handle_with`.
        """

    def serve(self, inbound: Request, reply: ResponseWriter) -> Awaitable[None]:
        """Answer a request in a task. Raises HttpError before anything was sent."""
