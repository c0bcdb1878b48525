"""HTTP server: listens, supervises its connections, and shuts down gracefully."""

import asyncio
import logging
import resource
import socket
from collections import Counter
from collections.abc import Sequence
from typing import Final

from mcpproxy.limits.http import DESCRIPTORS
from mcpproxy.proxy.http1.head_cache import HeadCache
from mcpproxy.proxy.http1.server.application import Application
from mcpproxy.proxy.http1.server.body_memory import BodyMemory
from mcpproxy.proxy.http1.server.connection import SWEEP_EVERY, ServerConnection
from mcpproxy.proxy.http1.server.request import RequestHead
from mcpproxy.proxy.http1.server.response_writer import PING_EVERY
from mcpproxy.proxy.http1.server.state import ConnectionAcceptor
from mcpproxy.proxy.timers import TimerQueue

BACKLOG: Final = 2048
_RESERVE: Final = 64
"""Minimum number of file descriptors that are reserved for other purposes than clients."""
log = logging.getLogger("mcpproxy.http")
ENDING: Final = 1.0
"""Seconds that cancelled requests have to clean up."""


class HttpServer:
    """Server of one application on listening sockets."""

    def __init__(
        self,
        app: Application,
        acceptor: ConnectionAcceptor | None = None,
        before_close: bytes = b"",
    ) -> None:
        """`acceptor` gets connections that do not begin with HTTP. Needs a running loop.

        `before_close` is sent before a connection without a request is closed.
        """
        self.app = app
        self.heads: HeadCache[RequestHead] = HeadCache()
        self.loop = asyncio.get_running_loop()
        self.pings = TimerQueue(self.loop, PING_EVERY)
        self.draining = False
        self.lingers = False
        """True while the server still accepts connections, although it is about to stop."""
        self.connections: set[ServerConnection] = set()
        self.acceptor = acceptor
        self.before_close = before_close
        self.room = BodyMemory()
        self._most = connections_of_clients()
        self._full = False
        """True if no further client can connect."""
        self._emptied: asyncio.Future[None] | None = None
        self._servers: list[asyncio.Server] = []
        self._sweeper: asyncio.TimerHandle | None = None

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Accept connections."""
        for listener in sockets:
            server = await self.loop.create_server(
                self.new_connection, sock=listener, backlog=BACKLOG
            )
            self._servers.append(server)
        self._sweep()

    def new_connection(self) -> ServerConnection:
        """Return the protocol of a connection that this server serves."""
        return ServerConnection(self)

    def _sweep(self) -> None:
        for connection in list(self.connections):
            connection.sweep()
        self._sweeper = self.loop.call_later(SWEEP_EVERY, self._sweep)

    @property
    def held(self) -> int:
        """Bytes of request bodies in memory."""
        return self.room.held

    def admits(self, connection: ServerConnection) -> bool:
        full = len(self.connections) >= self._most
        if full:
            DESCRIPTORS.record()
            self._close_waiting()
        if full != self._full:
            self._full = full
            if full:
                log.warning("%d clients are connected; closing idle connections", self._most)
        if len(self.connections) >= self._most:
            return False
        self.connections.add(connection)
        return True

    def _close_waiting(self) -> None:
        """Close the longest idle connections of the addresses with the most connections."""
        waiting = [c for c in self.connections if not c.answering and not c.lost]
        counts = Counter(c.address for c in waiting)
        waiting.sort(key=lambda c: (counts[c.address], c.waited), reverse=True)
        # Several at once, because the search takes time.
        for connection in waiting[: max(1, self._most // 100)]:
            self.connections.discard(connection)
            connection.abort()

    def gone(self, connection: ServerConnection) -> None:
        self.connections.discard(connection)
        if self._emptied is not None and not (self.connections or self._emptied.done()):
            self._emptied.set_result(None)

    def linger(self) -> None:
        """Close every connection after its next response, but still accept others."""
        self.draining = self.lingers = True
        for connection in self.connections:
            connection.drain(when_idle=False)

    @property
    def expects_requests(self) -> bool:
        """True if a client that sent a request lately has kept its connection."""
        return any(c.idle and not c.waited for c in self.connections)

    async def drain(self, seconds: float) -> None:
        """Accept no more connections, and wait for responses in flight; abort after `seconds`."""
        self.draining, self.lingers = True, False
        if self.acceptor is not None:
            self.acceptor.close()
        for server in self._servers:
            server.close()
        for connection in list(self.connections):
            connection.drain()
        await self._emptied_within(seconds)
        for connection in list(self.connections):
            connection.cancel()
        await self._emptied_within(ENDING)
        if self._sweeper is not None:
            self._sweeper.cancel()

    async def _emptied_within(self, seconds: float) -> None:
        if self.connections:
            self._emptied = self.loop.create_future()
            await asyncio.wait([self._emptied], timeout=seconds)


def connections_of_clients() -> int:
    """Return how many connections clients may have: a part of the process's file descriptors."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most in (resource.RLIM_INFINITY, -1):
        most = DESCRIPTORS.value
    reserve = max(_RESERVE, most // 4)
    return max(most - reserve, most // 2)
