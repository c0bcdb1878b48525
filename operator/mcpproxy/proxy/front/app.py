"""The interface between the HTTP server and what it serves."""

from collections.abc import Awaitable
from typing import Protocol

from mcpproxy.proxy.front.reply import Headers, Reply
from mcpproxy.proxy.front.request import HttpRefusal, Inbound


class App(Protocol):
    """What is served."""

    def screened(self, inbound: Inbound) -> HttpRefusal | None:
        """Called with the head of a request: why its body is not wanted, if so."""

    def response_headers(self, inbound: Inbound) -> Headers:
        """Headers that also a refusal of this request has."""

    def at_once(self, inbound: Inbound, reply: Reply) -> bool:
        """Begin to answer without a task; False where it takes one. Raises HttpRefusal."""

    def serve(self, inbound: Inbound, reply: Reply) -> Awaitable[None]:
        """Answer a request. May raise HttpRefusal before anything was sent."""
