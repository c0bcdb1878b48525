"""Synchronization of a session that several instances serve.

An instance that gets requests of another instance's session fetches the state that affects requests
(the log level, the termination) from the owner, and again after SYNC_EVERY. The owner records the
instance and sends it all changes: a level, a cancellation, the termination. A change that does not
arrive, because a connection failed or the owner has dropped its record, has effect with the next
synchronization.
"""

import asyncio
import contextlib
from typing import Any, Final

from mcpproxy.proxy.core.exchange import INITIALIZED, PROGRESS
from mcpproxy.proxy.core.tokens.session_token import SessionToken
from mcpproxy.proxy.downstream.legacy.sessions import SessionRegistry, SessionState
from mcpproxy.proxy.downstream.peers.forwarding import PeerForwarder, PeerSilent, PeerUnavailable
from mcpproxy.proxy.http1.errors import HttpError
from mcpproxy.proxy.http1.server.request import Request
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.protocol.kinds import SUBSCRIBE

SYNC_METHOD: Final = "mcpproxy/introduce"
SYNC_EVERY: Final = 30.0
"""Seconds for which the state from the owner counts; far below SESSION_IDLE."""
RETRY_EVERY: Final = 5.0
"""Seconds between two attempts to reach an owner that is unavailable."""
_SET_LEVEL: Final = "logging/setLevel"
BROADCAST_METHODS: Final = (_SET_LEVEL, "DELETE")
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
        self._retries: dict[str, asyncio.Future[object]] = {}
        """Attempts to reach unavailable owners."""

    async def ensure_synced(
        self, token: SessionToken, inbound: Request, live: SessionState
    ) -> None:
        """Fetch the session state from its owner if it is due. Raise HttpError for an ended one."""
        now = asyncio.get_running_loop().time()
        if self._peers.is_local(token.owner) or live.is_synced(now):
            return
        if live.stands_in:
            live.stand_in(now + RETRY_EVERY)
            self._retry(token, inbound, live)
            return
        await self.fetch_session_state(token, inbound, live)
        if token.client.session in self._live.ended:
            raise HttpError(404, "this session has ended; initialize again")

    def _retry(self, token: SessionToken, inbound: Request, live: SessionState) -> None:
        """Ask an owner that was unavailable again. No request waits for it."""
        owner = token.owner
        if owner not in self._retries:
            task = self._live.spawn(self.fetch_session_state(token, inbound, live))
            self._retries[owner] = task
            task.add_done_callback(lambda _: self._retries.pop(owner, None))

    async def fetch_session_state(
        self, token: SessionToken, inbound: Request, live: SessionState
    ) -> bool:
        """Fetch the session state from its owner. Return False if the owner is unavailable.

        A session that the owner has terminated ends here too.
        """
        params, now = {"owner": self._peers.owner}, asyncio.get_running_loop().time()
        body = jsonrpc.request("introduce", SYNC_METHOD, params)
        level = live.log_level
        try:
            status, answer = await self._peers.send(token.owner, "POST", inbound, body)
        except (PeerSilent, HttpError):
            # The next request tries again.
            return False
        except PeerUnavailable:
            # The state is lost with the owner, unless it can be reached again.
            live.stand_in(now + RETRY_EVERY)
            return False
        if status == 404:
            await self._live.end(token.client, now)
            return True
        response = jsonrpc.decode(answer)
        result: Any = response.get("result") if isinstance(response, dict) else None
        if not isinstance(result, dict):
            return False
        # A change that the owner has sent since is newer than its answer.
        is_newest = live.log_level == level and not live.has_own_level
        live.synchronize(result.get("level") if is_newest else None, now + SYNC_EVERY)
        await self._return_changes(token, inbound, live)
        return True

    async def _return_changes(
        self, token: SessionToken, inbound: Request, live: SessionState
    ) -> None:
        """Let the owner take over what the client has changed here without it."""
        if live.has_own_level:
            live.mark_own_level(False)
            await self._post(token, inbound, _SET_LEVEL, {"level": live.log_level})
        for uri in list(live.subscriptions):
            await self._post(token, inbound, SUBSCRIBE, {"uri": uri})
            end = live.subscriptions.pop(uri, None)
            if end is not None:
                await end()

    async def _post(
        self, token: SessionToken, inbound: Request, method: str, params: dict[str, Any]
    ) -> None:
        body = jsonrpc.request("take over", method, params)
        with contextlib.suppress(PeerUnavailable, HttpError):
            await self._peers.send(token.owner, "POST", inbound, body)

    async def wait_for_owner(
        self, token: SessionToken, inbound: Request, live: SessionState
    ) -> None:
        """Return once the owner, which is unavailable, has sent its state."""
        while True:
            await asyncio.sleep(RETRY_EVERY)
            if await self.fetch_session_state(token, inbound, live):
                return

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
        if live is None or not should_broadcast(method):
            return
        if not self._peers.is_local(token.owner):
            if method == _SET_LEVEL and not inbound.head.context.handed_over:
                live.mark_own_level(True)
            return
        await asyncio.gather(*(self._send(owner, inbound) for owner in live.shared_with))

    async def _send(self, owner: str, inbound: Request) -> None:
        """Send a message once. An instance that does not get it synchronizes later."""
        try:
            await self._peers.send(owner, inbound.method, inbound, inbound.body)
        except (PeerUnavailable, HttpError):
            return
