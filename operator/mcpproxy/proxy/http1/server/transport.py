"""The connection of a client, as far as the parser of its requests or one response needs it."""

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Protocol

from mcpproxy.proxy.http1.errors import HttpError
from mcpproxy.proxy.http1.server.request import Request

if TYPE_CHECKING:
    from mcpproxy.proxy.http1.server.response_writer import ResponseWriter


class RequestHandler(Protocol):
    """The connection of the client, as far as the parser of its requests needs it."""

    @property
    def network(self) -> str:
        """The network of the client, from `network_of`."""

    def has_room(self, before: int, after: int) -> bool:
        """Reserve memory for a body to grow from `before` to `after` bytes; False if it is full."""

    def room_ahead(self) -> int:
        """Return how many more requests may wait; after 0, call `read_rest` later."""

    def read_on_later(self) -> None:
        """Pause reading, and call `begin_turn` and `read_rest` after others had their turn."""

    def begun(self) -> None:
        """Note that a request begins to arrive."""

    def received(self, inbound: Request, refusal: HttpError | None, last: bool, old: bool) -> None:
        """Handle a complete request.

        `refusal` is the error to answer it with. No request follows if `last`; `old` is HTTP/1.0.
        """

    def refused(self, inbound: Request, refusal: HttpError, held: int) -> None:
        """Answer a request with an error after the earlier ones, then close.

        Its body, of which `held` bytes were reserved, is dropped.
        """

    def switch_protocol(self, data: bytes) -> bool:
        """Hand over a connection that does not begin with HTTP; return False if that fails."""

    def invite(self) -> None:
        """Ask for the body that a client with `Expect` holds back (RFC 9110, section 10.1.1)."""


class ResponseTransport(Protocol):
    """The connection of the client, as far as a response needs it."""

    @property
    def lost(self) -> bool:
        """True if the client has disconnected."""

    @property
    def paused(self) -> bool:
        """True while the client has to take what was written before more is written."""

    @property
    def closing(self) -> bool:
        """True if the connection ends with this response."""

    @property
    def old(self) -> bool:
        """True if the client uses HTTP/1.0, which has no chunks."""

    @property
    def network(self) -> str:
        """The network of the client, from `network_of`."""

    def write(self, *parts: bytes) -> None:
        """Write the parts; drop them if the client has disconnected."""

    async def drained(self) -> None:
        """Wait until the client has taken most of what was written, or has disconnected."""

    def answered(self) -> None:
        """Mark the response as complete."""

    def run(self, work: Awaitable[None], reply: "ResponseWriter") -> None:
        """Complete the response in a task."""


class HeadTransport:
    """Transport of the response to HEAD: the head that GET would get, without the body."""

    def __init__(self, wire: ResponseTransport) -> None:
        self._wire = wire
        self._has_head = False

    @property
    def lost(self) -> bool:
        return self._wire.lost

    @property
    def paused(self) -> bool:
        return self._wire.paused

    @property
    def closing(self) -> bool:
        return self._wire.closing

    @property
    def old(self) -> bool:
        return self._wire.old

    @property
    def network(self) -> str:
        return self._wire.network

    def write(self, *parts: bytes) -> None:
        # The first part begins with the head.
        if not self._has_head:
            self._has_head = True
            head, end, _ = parts[0].partition(b"\r\n\r\n")
            self._wire.write(head + end)

    async def drained(self) -> None:
        await self._wire.drained()

    def answered(self) -> None:
        self._wire.answered()

    def run(self, work: Awaitable[None], reply: "ResponseWriter") -> None:
        self._wire.run(work, reply)
