"""State that the connections of one server share."""

import asyncio
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Any, Protocol

from mcpproxy.proxy.http1.head_cache import HeadCache
from mcpproxy.proxy.http1.server.application import Application
from mcpproxy.proxy.http1.server.body_memory import BodyMemory
from mcpproxy.proxy.http1.server.request import RequestHead
from mcpproxy.proxy.timers import TimerQueue

if TYPE_CHECKING:
    from mcpproxy.proxy.http1.server.connection import ServerConnection


class ConnectionAcceptor(Protocol):
    """Handler of connections that begin with another protocol than HTTP, such as TLS."""

    def accept(self, transport: asyncio.Transport, data: bytes) -> bool:
        """Take over a connection whose first bytes are `data`.

        Return False, and leave the transport alone, unless the bytes begin a known protocol.
        """

    def close(self) -> None:
        """Abort the connections that have not switched to their new protocol yet."""


class ServerState(Protocol):
    """State that the connections of one server share."""

    app: Application
    heads: HeadCache[RequestHead]
    pings: TimerQueue
    loop: asyncio.AbstractEventLoop
    draining: bool
    lingers: bool
    """True if connections are still accepted while `draining`."""
    before_close: bytes
    """Response that the client gets before an idle connection is closed; may be empty."""
    connections: "set[ServerConnection]"
    room: BodyMemory
    """Memory for request bodies."""
    acceptor: ConnectionAcceptor | None
    """Handler of connections that do not begin with HTTP."""

    def gone(self, connection: "ServerConnection") -> None:
        """Forget a connection that is closed and whose requests are complete."""

    def admits(self, connection: "ServerConnection") -> bool:
        """Count a new connection; return False if no file descriptor is left for it."""


def network_of(peer: Any) -> str:
    """Return the network of a peer's socket address; empty if unknown.

    An IPv6 host has a whole /64 (RFC 7934), so all addresses in it count as one network.
    """
    if not isinstance(peer, tuple) or not peer:
        return ""
    host = str(peer[0]).partition("%")[0]
    if ":" not in host:
        return host
    try:
        address = IPv6Address(host)
    except ValueError:
        return ""
    mapped = address.ipv4_mapped
    return str(mapped) if mapped is not None else address.packed[:8].hex()
