"""Connections of the port: bounded in number, and in the time without a response.

Every pod may connect to the port, and aiohttp waits for the rest of a request without end.
"""

import asyncio
from collections.abc import Callable

from aiohttp import web

from mcpproxy.limits.pods import HEALTH_CONNECTIONS, HEALTH_SHARE, HEALTH_SILENCE


class BoundedConnections:
    """Factory of the protocols of a server's connections."""

    def __init__(self, make: Callable[[], asyncio.Protocol]) -> None:
        """`make` returns the protocol that serves one connection."""
        self._make = make
        self._open: dict[str, dict[asyncio.BaseTransport, asyncio.TimerHandle]] = {}
        """Connections by address, oldest first, with the end of their time."""

    def __call__(self) -> asyncio.Protocol:
        """Return the protocol of a new connection."""
        return _BoundedProtocol(self, self._make())

    def __len__(self) -> int:
        """Return the number of open connections."""
        return sum(map(len, self._open.values()))

    def add(self, transport: asyncio.Transport) -> bool:
        """Add a connection; return False for one beyond the share of its address.

        If there are too many connections, the oldest one of the address with the most is closed.
        """
        address = address_of(transport)
        own = self._open.get(address, {})
        if len(own) >= HEALTH_SHARE.value:
            HEALTH_SHARE.record()
            return False
        if len(self) >= HEALTH_CONNECTIONS.value:
            HEALTH_CONNECTIONS.record()
            largest = max(self._open.values(), key=len)
            self._close(next(iter(largest)))
        self._open.setdefault(address, {})[transport] = self._deadline(transport)
        return True

    def _deadline(self, transport: asyncio.BaseTransport) -> asyncio.TimerHandle:
        loop = asyncio.get_running_loop()
        return loop.call_later(HEALTH_SILENCE.value, self._expire, transport)

    def _expire(self, transport: asyncio.BaseTransport) -> None:
        HEALTH_SILENCE.record()
        self._close(transport)

    def _close(self, transport: asyncio.BaseTransport) -> None:
        self.remove(transport)
        if isinstance(transport, asyncio.WriteTransport):
            transport.abort()

    def remove(self, transport: asyncio.BaseTransport) -> None:
        """Remove a connection that is closed."""
        address = address_of(transport)
        deadline = self._open.get(address, {}).pop(transport, None)
        if deadline is not None:
            deadline.cancel()
        if not self._open.get(address, True):
            del self._open[address]

    async def on_response(self, request: web.Request, _: web.StreamResponse) -> None:
        """Restart the time of a connection, because a response is about to be sent."""
        transport = request.transport
        own = {} if transport is None else self._open.get(address_of(transport), {})
        if transport is not None and transport in own:
            own[transport].cancel()
            own[transport] = self._deadline(transport)


def address_of(transport: asyncio.BaseTransport) -> str:
    """Return the address of the other end."""
    name = transport.get_extra_info("peername")
    return str(name[0]) if name else ""


class _BoundedProtocol(asyncio.Protocol):
    """Protocol of one connection, which another protocol serves."""

    def __init__(self, connections: BoundedConnections, inner: asyncio.Protocol) -> None:
        self._connections, self._inner = connections, inner
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        if not self._connections.add(transport):
            transport.abort()
            return
        self._transport = transport
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._transport is not None:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received() if self._transport is not None else None

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._connections.remove(self._transport)
            self._inner.connection_lost(exc)
