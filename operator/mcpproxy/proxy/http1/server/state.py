"""What the connections of one server share."""

import asyncio
from typing import TYPE_CHECKING, Protocol

from mcpproxy.proxy.downstream.peers.acceptor import PeerAcceptor
from mcpproxy.proxy.http1.head_cache import HeadCache
from mcpproxy.proxy.http1.server.application import Application
from mcpproxy.proxy.http1.server.body_memory import BodyMemory
from mcpproxy.proxy.http1.server.request import RequestHead
from mcpproxy.proxy.timers import TimerQueue

if TYPE_CHECKING:
    from mcpproxy.proxy.http1.server.connection import ServerConnection


class ServerState(Protocol):
    """What the connections of one server share."""

    app: Application
    heads: HeadCache[RequestHead]
    pings: TimerQueue
    loop: asyncio.AbstractEventLoop
    draining: bool
    connections: "set[ServerConnection]"
    room: BodyMemory
    """Memory for bodies."""
    acceptor: PeerAcceptor | None
    """Takes connections of other instances."""

    def gone(self, connection: "ServerConnection") -> None:
        """A connection has ended, and what was asked on it."""

    def admits(self, connection: "ServerConnection") -> bool:
        """Count a new connection; False where there is no descriptor left for it."""
