"""Synchronization of a session that several instances serve.

An instance that gets a request of another instance's session fetches the state that affects
requests (the log level, the termination) from the owner once. The owner records the instance and
sends it all changes: a level, a cancellation, the termination.
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

SYNC_METHOD: Final = "mcpproxy/introduce"
BROADCAST_METHODS: Final = ("logging/setLevel", "DELETE")
_NOT_BROADCAST: Final = (INITIALIZED, PROGRESS)


def should_broadcast(method: str | None) -> bool:
    """Return True if the owner sends this method to the other instances of the session."""
    if method is None or method in _NOT_BROADCAST:
        return False
    return method in BROADCAST_METHODS or method.startswith("notifications/")


class SessionSync:
    """Exchange of session state between instances."""

    def __init__(self, live: SessionRegistry, peers: PeerForwarder) -> None:
        self._live = live
        self._peers = peers

    async def fetch_session_state(
        self, token: SessionToken, inbound: Request, live: SessionState
    ) -> bool:
        """Fetch the session state from its owner. Return False if the session was terminated."""
        params = {"owner": self._peers.owner}
        body = jsonrpc.request("introduce", SYNC_METHOD, params)
        level = live.log_level
        try:
            status, answer = await self._peers.send(token.owner, "POST", inbound, body)
        except PeerSilent:
            # The next request tries again.
            return True
        except PeerUnavailable:
            # The state was lost with the owner.
            live.synchronize(None)
            return True
        if status == 404:
            await self._live.end(token.client, asyncio.get_running_loop().time())
            return False
        response = jsonrpc.decode(answer)
        result: Any = response.get("result") if isinstance(response, dict) else None
        if isinstance(result, dict):
            # A change that the owner has sent since is newer than its answer.
            is_newest = live.log_level == level
            live.synchronize(result.get("level") if is_newest else None)
        return True

    @staticmethod
    def is_sync_request(message: Message, live: SessionState) -> bool:
        """Return True if a message is another instance's request for the session state."""
        return jsonrpc.decode_str(message.get("method")) == SYNC_METHOD

    @staticmethod
    def answer(message: Message, live: SessionState) -> bytes:
        """Return the session state, and send all later changes to the requesting instance."""
        owner = jsonrpc.decode_str(jsonrpc.decode_object(message["params"]).get("owner"))
        if owner is not None:
            live.share_with(owner)
        return jsonrpc.response(message["id"], jsonrpc.encode({"level": live.log_level}))

    async def broadcast(
        self, inbound: Request, token: SessionToken, method: str | None, live: SessionState | None
    ) -> None:
        """Send a change to the other instances that serve the session."""
        if live is None or not should_broadcast(method) or not self._peers.is_local(token.owner):
            return
        await asyncio.gather(*(self._send(owner, inbound, live) for owner in live.shared_with))

    async def _send(self, owner: str, inbound: Request, live: SessionState) -> None:
        try:
            await self._peers.send(owner, inbound.method, inbound, inbound.body)
        except (PeerSilent, HttpError):
            return
        except PeerUnavailable:
            live.shared_with.pop(owner, None)
