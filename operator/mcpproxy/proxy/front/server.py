"""The HTTP server of the endpoint: listens, looks after its connections, and stops gracefully."""

import asyncio
import socket
from collections.abc import Sequence
from typing import Final

from mcpproxy.proxy.core.deadlines import Deadlines
from mcpproxy.proxy.front.connection import SWEEP_EVERY, App, Connection
from mcpproxy.proxy.front.instance_acceptor import InstanceAcceptor
from mcpproxy.proxy.front.instance_tls import Credentials
from mcpproxy.proxy.front.reply import PING_EVERY
from mcpproxy.proxy.front.request import Head
from mcpproxy.proxy.wire.heads import Heads

MAX_HELD: Final = 256 * 1024 * 1024
"""Bytes of the bodies of all requests at once; beyond it large ones are answered with 503."""
BACKLOG: Final = 2048
ENDING: Final = 1.0
"""Seconds that those who are cancelled have to clean up."""


class Server:
    """Serves one app on sockets that listen."""

    def __init__(self, app: App) -> None:
        """Needs a running loop."""
        self.app = app
        self.heads: Heads[Head] = Heads()
        self.loop = asyncio.get_running_loop()
        self.pings = Deadlines(self.loop, PING_EVERY)
        self.draining = False
        self.connections: set[Connection] = set()
        self.acceptor: InstanceAcceptor | None = None
        """See `accept_instances`."""
        self.held = 0
        """Bytes of bodies that are held."""
        self._emptied: asyncio.Future[None] | None = None
        self._servers: list[asyncio.Server] = []
        self._sweeper: asyncio.TimerHandle | None = None

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Accept connections."""
        for found in sockets:
            server = await self.loop.create_server(
                lambda: Connection(self), sock=found, backlog=BACKLOG
            )
            self._servers.append(server)
        self._sweep()

    def _sweep(self) -> None:
        for connection in list(self.connections):
            connection.sweep()
        self._sweeper = self.loop.call_later(SWEEP_EVERY, self._sweep)

    def accept_instances(self, credentials: Credentials, server: "Server") -> None:
        """Let other instances connect, too; their requests are served by another server."""
        self.acceptor = InstanceAcceptor(credentials, lambda: Connection(server))

    def has_room(self, size: int) -> bool:
        """See Surroundings."""
        if self.held + size > MAX_HELD:
            return False
        self.held += size
        return True

    def gone(self, connection: Connection) -> None:
        """See Surroundings."""
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
