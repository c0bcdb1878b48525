"""The connection of a client, as far as one response needs it."""

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mcpproxy.proxy.http1.server.response_writer import ResponseWriter


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
        # The first part is the head.
        if not self._has_head:
            self._has_head = True
            self._wire.write(parts[0])

    async def drained(self) -> None:
        await self._wire.drained()

    def answered(self) -> None:
        self._wire.answered()

    def run(self, work: Awaitable[None], reply: "ResponseWriter") -> None:
        self._wire.run(work, reply)
