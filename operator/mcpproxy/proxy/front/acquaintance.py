"""What instances tell each other about a session that more than one of them serves.

An instance that gets a request of another one's session asks the owner once for what concerns
requests (the log level, whether it has ended); the owner remembers who asked, and passes on what
changes: a level, a cancellation, the end.
"""

import asyncio
from typing import Any, Final

from mcpproxy.proxy.core.exchange import INITIALIZED, PROGRESS
from mcpproxy.proxy.core.sessions import Ticket
from mcpproxy.proxy.front.handover import Gone, Peers, Silent
from mcpproxy.proxy.front.live import Live, LiveSessions
from mcpproxy.proxy.front.request import HttpRefusal, Inbound
from mcpproxy.proxy.wire import jsonrpc
from mcpproxy.proxy.wire.jsonrpc import Message

INTRODUCE: Final = "mcpproxy/introduce"
SPREAD: Final = ("logging/setLevel", "DELETE")
_NOT_SPREAD: Final = (INITIALIZED, PROGRESS)


def spreads(method: str | None) -> bool:
    """Whether the owner passes something on to those who serve the session, too."""
    if method is None or method in _NOT_SPREAD:
        return False
    return method in SPREAD or method.startswith("notifications/")


class Acquaintance:
    """Who else serves which session."""

    def __init__(self, live: LiveSessions, peers: Peers) -> None:
        self._live = live
        self._peers = peers

    async def made(self, ticket: Ticket, inbound: Inbound, live: Live) -> bool:
        """Make sure that we know what the owner knows; False when the session has ended."""
        params = {"owner": self._peers.owner}
        body = jsonrpc.request("introduce", INTRODUCE, params)
        try:
            status, answer = await self._peers.tell(ticket.owner, "POST", inbound, body)
        except Silent:
            # It is asked again with the next request.
            return True
        except Gone:
            # Whatever it knew has gone with it.
            live.acquainted = True
            return True
        if status == 404:
            await self._live.end(ticket.client, asyncio.get_running_loop().time())
            return False
        found = jsonrpc.value(answer)
        result: Any = found.get("result") if isinstance(found, dict) else None
        if isinstance(result, dict):
            live.log_level = result.get("level") or live.log_level
            live.acquainted = True
        return True

    @staticmethod
    def introduces(message: Message, live: Live) -> bool:
        """Whether this is another instance that asks about the session."""
        return jsonrpc.string(message.get("method")) == INTRODUCE

    @staticmethod
    def answer(message: Message, live: Live) -> bytes:
        """The answer to it; from now on it is told what changes."""
        owner = jsonrpc.string(jsonrpc.members(message["params"]).get("owner"))
        if owner is not None:
            live.share_with(owner)
        return jsonrpc.response(message["id"], jsonrpc.encode({"level": live.log_level}))

    async def spread(
        self, inbound: Inbound, ticket: Ticket, method: str | None, live: Live | None
    ) -> None:
        """Pass on to the others what concerns requests that they serve."""
        if live is None or not spreads(method) or not self._peers.mine(ticket.owner):
            return
        await asyncio.gather(*(self._tell(owner, inbound, live) for owner in live.shared_with))

    async def _tell(self, owner: str, inbound: Inbound, live: Live) -> None:
        try:
            await self._peers.tell(owner, inbound.method, inbound, inbound.body)
        except (Silent, HttpRefusal):
            return
        except Gone:
            live.shared_with.pop(owner, None)
