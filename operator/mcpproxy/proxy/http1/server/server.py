"""The HTTP server of the endpoint: listens, looks after its connections, and stops gracefully."""

import asyncio
import logging
import resource
import socket
from collections import Counter
from collections.abc import Sequence
from typing import Final

from mcpproxy.limits.http import DESCRIPTORS
from mcpproxy.proxy.downstream.peers.acceptor import PeerAcceptor
from mcpproxy.proxy.downstream.peers.tls import PeerCertificates
from mcpproxy.proxy.http1.head_cache import HeadCache
from mcpproxy.proxy.http1.server.application import Application
from mcpproxy.proxy.http1.server.body_memory import BodyMemory
from mcpproxy.proxy.http1.server.connection import SWEEP_EVERY, ServerConnection
from mcpproxy.proxy.http1.server.request import RequestHead
from mcpproxy.proxy.http1.server.response_writer import PING_EVERY
from mcpproxy.proxy.timers import TimerQueue

BACKLOG: Final = 2048
_RESERVE: Final = 64
"""Descriptors that are not for clients, at least."""
log = logging.getLogger("mcpproxy.http")
ENDING: Final = 1.0
"""Seconds that those who are cancelled have to clean up."""


class HttpServer:
    """Serves one app on sockets that listen."""

    def __init__(self, app: Application) -> None:
        """Needs a running loop."""
        self.app = app
        self.heads: HeadCache[RequestHead] = HeadCache()
        self.loop = asyncio.get_running_loop()
        self.pings = TimerQueue(self.loop, PING_EVERY)
        self.draining = False
        self.connections: set[ServerConnection] = set()
        self.acceptor: PeerAcceptor | None = None
        """See `accept_instances`."""
        self.room = BodyMemory()
        self._most = connections_of_clients()
        self._full = False
        """Whether no further client can connect."""
        self._emptied: asyncio.Future[None] | None = None
        self._servers: list[asyncio.Server] = []
        self._sweeper: asyncio.TimerHandle | None = None

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Accept connections."""
        for found in sockets:
            server = await self.loop.create_server(
                lambda: ServerConnection(self), sock=found, backlog=BACKLOG
            )
            self._servers.append(server)
        self._sweep()

    def _sweep(self) -> None:
        for connection in list(self.connections):
            connection.sweep()
        self._sweeper = self.loop.call_later(SWEEP_EVERY, self._sweep)

    def accept_instances(self, credentials: PeerCertificates, server: "HttpServer") -> None:
        """Let other instances connect, too; their requests are served by another server."""
        self.acceptor = PeerAcceptor(credentials, lambda: ServerConnection(server))

    @property
    def held(self) -> int:
        """Bytes of bodies that are held."""
        return self.room.held

    def admits(self, connection: ServerConnection) -> bool:
        full = len(self.connections) >= self._most
        if full:
            DESCRIPTORS.record()
            self._close_waiting()
        if full != self._full:
            self._full = full
            if full:
                log.warning("%d clients are connected: idle connections are closed", self._most)
        if len(self.connections) >= self._most:
            return False
        self.connections.add(connection)
        return True

    def _close_waiting(self) -> None:
        """Close the connections that have waited longest, of whichever address has most of them."""
        waiting = [one for one in self.connections if not one.answering and not one.lost]
        counts = Counter(one.address for one in waiting)
        waiting.sort(key=lambda one: (counts[one.address], one.waited), reverse=True)
        # Several at once: looking for them takes a while.
        for one in waiting[: max(1, self._most // 100)]:
            self.connections.discard(one)
            one.abort()

    def gone(self, connection: ServerConnection) -> None:
        self.connections.discard(connection)
        if self._emptied is not None and not (self.connections or self._emptied.done()):
            self._emptied.set_result(None)

    async def drain(self, seconds: float) -> None:
        """Accept no more; answers in flight end by themselves, after `seconds` all are ended."""
        self.draining = True
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
    """Connections that clients may have: a part of the descriptors that the process may open."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most in (resource.RLIM_INFINITY, -1):
        most = DESCRIPTORS.value
    reserve = max(_RESERVE, most // 4)
    return max(most - reserve, most // 2)
