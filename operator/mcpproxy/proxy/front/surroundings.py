"""What the connections of one server share."""

import asyncio
from typing import TYPE_CHECKING, Protocol

from mcpproxy.proxy.core.deadlines import Deadlines
from mcpproxy.proxy.front.app import App
from mcpproxy.proxy.front.body_room import BodyRoom
from mcpproxy.proxy.front.instance_acceptor import InstanceAcceptor
from mcpproxy.proxy.front.request import Head
from mcpproxy.proxy.wire.heads import Heads

if TYPE_CHECKING:
    from mcpproxy.proxy.front.connection import Connection


class Surroundings(Protocol):
    """What the connections of one server share."""

    app: App
    heads: Heads[Head]
    pings: Deadlines
    loop: asyncio.AbstractEventLoop
    draining: bool
    connections: "set[Connection]"
    room: BodyRoom
    """Memory for bodies."""
    acceptor: InstanceAcceptor | None
    """Takes connections of other instances."""

    def gone(self, connection: "Connection") -> None:
        """A connection has ended, and what was asked on it."""

    def admits(self, connection: "Connection") -> bool:
        """Count a new connection; False where there is no descriptor left for it."""
