"""What instances tell each other about a session that more than one of them serves.

An instance that gets a request of another one's session asks the owner once for what concerns
requests (the log level, whether it has ended); the owner remembers who asked, and passes on what
changes: a level, a cancellation, the end.
"""

import asyncio
from typing import Any, Final

from mcpproxy.proxy.core.exchange import INITIALIZED, PROGRESS
from mcpproxy.proxy.core.tokens.session_token import SessionToken
from mcpproxy.proxy.downstream.legacy.sessions import SessionRegistry, SessionState
from mcpproxy.proxy.downstream.peers.forwarding import PeerForwarder, PeerSilent, PeerUnavailable
from mcpproxy.proxy.http1.errors import HttpError
from mcpproxy.proxy.http1.server.request import Request
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message

INTRODUCE: Final = "mcpproxy/introduce"
SPREAD: Final = ("logging/setLevel", "DELETE")
_NOT_SPREAD: Final = (INITIALIZED, PROGRESS)


def should_broadcast(method: str | None) -> bool:
    """Whether the owner passes something on to those who serve the session, too."""
    if method is None or method in _NOT_SPREAD:
        return False
    return method in SPREAD or method.startswith("notifications/")


class SessionSync:
    """Who else serves which session."""

    def __init__(self, live: SessionRegistry, peers: PeerForwarder) -> None:
        self._live = live
        self._peers = peers

    async def made(self, ticket: SessionToken, inbound: Request, live: SessionState) -> bool:
        """Make sure that we know what the owner knows; False when the session has ended."""
        params = {"owner": self._peers.owner}
        body = jsonrpc.request("introduce", INTRODUCE, params)
        try:
            status, answer = await self._peers.tell(ticket.owner, "POST", inbound, body)
        except PeerSilent:
            # It is asked again with the next request.
            return True
        except PeerUnavailable:
            # Whatever it knew has gone with it.
            live.acquainted = True
            return True
        if status == 404:
            await self._live.end(ticket.client, asyncio.get_running_loop().time())
            return False
        found = jsonrpc.decode(answer)
        result: Any = found.get("result") if isinstance(found, dict) else None
        if isinstance(result, dict):
            live.log_level = result.get("level") or live.log_level
            live.acquainted = True
        return True

    @staticmethod
    def introduces(message: Message, live: SessionState) -> bool:
        """Whether this is another instance that asks about the session."""
        return jsonrpc.decode_str(message.get("method")) == INTRODUCE

    @staticmethod
    def answer(message: Message, live: SessionState) -> bytes:
        """The answer to it; from now on it is told what changes."""
        owner = jsonrpc.decode_str(jsonrpc.decode_object(message["params"]).get("owner"))
        if owner is not None:
            live.share_with(owner)
        return jsonrpc.response(message["id"], jsonrpc.encode({"level": live.log_level}))

    async def spread(
        self, inbound: Request, ticket: SessionToken, method: str | None, live: SessionState | None
    ) -> None:
        """Pass on to the others what concerns requests that they serve."""
        if live is None or not should_broadcast(method) or not self._peers.mine(ticket.owner):
            return
        await asyncio.gather(*(self._tell(owner, inbound, live) for owner in live.shared_with))

    async def _tell(self, owner: str, inbound: Request, live: SessionState) -> None:
        try:
            await self._peers.tell(owner, inbound.method, inbound, inbound.body)
        except (PeerSilent, HttpError):
            return
        except PeerUnavailable:
            live.shared_with.pop(owner, None)
