"""Hand-over of requests about a session to the instance that owns it, and what follows its end.

The owner of a session is the instance at which it began. If the owner has ended, every other
instance can use the upstream sessions whose records are in the session id. Sessions with programs
and over HTTP+SSE end with their owner.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace

from mcpproxy.limits.sessions import OPENING_WAIT
from mcpproxy.proxy.core.errors import BackendError
from mcpproxy.proxy.core.exchange import PROGRESS, ClientIdentity
from mcpproxy.proxy.core.session_records import SessionRecord
from mcpproxy.proxy.core.tokens.session_token import SessionToken
from mcpproxy.proxy.downstream.legacy import requests
from mcpproxy.proxy.downstream.legacy.sent_requests import progress_token
from mcpproxy.proxy.downstream.legacy.sessions import SessionRegistry
from mcpproxy.proxy.downstream.peers.forwarding import PeerForwarder, PeerUnavailable
from mcpproxy.proxy.gateway.gateway import Gateway
from mcpproxy.proxy.http1.server.request import Request
from mcpproxy.proxy.http1.server.response_writer import ResponseWriter
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import UNAVAILABLE, Message, RpcError
from mcpproxy.proxy.upstream.backend import Backend

LOST: RpcError = RpcError(
    UNAVAILABLE,
    "the instance that relayed the request has ended; the request may have run",
    {"reason": "InstanceLost", "mayHaveRun": True},
)


class SessionHandover:
    """Owners of sessions, and sessions whose owners have ended."""

    def __init__(self, gateway: Gateway, live: SessionRegistry, peers: PeerForwarder) -> None:
        self._gateway = gateway
        self._live = live
        self._peers = peers

    async def open_sessions(self, client: ClientIdentity) -> ClientIdentity:
        """Open the upstream sessions of a client that initializes; return it with their records.

        A session that is not open in time has no record. Never raises.
        """
        backends = [b for b in self._gateway.backends.values() if b.opens_for_clients]
        if not backends or not self._gateway.routing.sealer.shared:
            return client
        opened = await asyncio.gather(*(_open_session(backend, client) for backend in backends))
        records = zip((backend.name for backend in backends), opened, strict=True)
        kept = tuple((name, record) for name, record in records if record is not None)
        return replace(client, upstream=kept)

    async def serve_by_owner(
        self,
        inbound: Request,
        token: SessionToken,
        message: Message,
        method: str | None,
        reply: ResponseWriter,
    ) -> bool:
        """Let another instance answer if it owns the state that the message concerns.

        Return False if this instance has to answer. Raises HttpError.
        """
        if inbound.head.context.handed_over:
            return False
        owner = self._owner(token, message, method)
        if owner is None or self._peers.is_local(owner):
            return False
        try:
            await self._peers.forward(owner, inbound, reply)
        except PeerUnavailable as error:
            is_lost = self.check_continuation(error, token, [message], reply.loop.time())
            if not (is_lost and "id" in message):
                return False
            await reply.finish(self.lost_response(message))
        return True

    def _owner(self, token: SessionToken, message: Message, method: str | None) -> str | None:
        """Return the owner of the state that a message concerns; None if there is none."""
        if method is None or method == PROGRESS:
            return self.owner_of_request(message)
        if "id" not in message or method in requests.OF_THE_SESSION:
            return token.owner
        if self._gateway.routing.session_backends(method, message, token.client):
            return token.owner
        return self._gateway.routing.owner_of_result(method, message)

    def owner_of_request(self, message: Message) -> str | None:
        """Return the owner of the server request to which a response or progress belongs."""
        own_id = progress_token(message) if "method" in message else message["id"]
        return self._live.owner_of_request(own_id)

    def check_continuation(
        self, error: PeerUnavailable, token: SessionToken, messages: Iterable[Message], now: float
    ) -> bool:
        """Return True if the owner that has ended may have run some of these messages.

        Raise HttpError, and end the session, unless this instance can continue the upstream
        sessions that they use.
        """
        find, client = self._gateway.routing.session_backends, token.client
        backends = [
            backend
            for message in messages
            for backend in find(jsonrpc.decode_str(message.get("method")), message, client)
        ]
        if not all(backend.continuation.can_resume(client) for backend in backends):
            self._live.mark_terminated(client, now)
            raise error.session_lost() from None
        return bool(backends) and error.may_have_run

    @staticmethod
    def lost_response(request: Message) -> bytes:
        """Return the response to a request that an instance may have run before it ended."""
        return jsonrpc.error_response(request["id"], LOST)

    async def follow(self, client: ClientIdentity) -> Callable[[], None]:
        """Receive what backends send outside of requests, if their sessions are continued here.

        Return the canceller.
        """
        backends = self._gateway.backends.values() if client.upstream else ()
        cancellers = await asyncio.gather(*(b.continuation.follow(client) for b in backends))

        def cancel() -> None:
            for canceller in filter(None, cancellers):
                canceller()

        return cancel

    async def end_sessions(self, client: ClientIdentity) -> None:
        """End the upstream sessions of a client whose owner has ended. Never raises."""
        backends = self._gateway.backends.values()
        await asyncio.gather(*(backend.continuation.end(client) for backend in backends))


async def _open_session(backend: Backend, client: ClientIdentity) -> SessionRecord | None:
    try:
        async with asyncio.timeout(OPENING_WAIT.value):
            return await backend.continuation.open(client)
    except TimeoutError:
        OPENING_WAIT.record()
    except (BackendError, RpcError):
        # The first request reports the failure.
        pass
    return None
