"""JSON-RPC batches over HTTP (revision 2025-03-26), served as if each message came alone.

The instance that owns the session serves the whole batch, so that only responses to server
requests may have to be forwarded to another instance.
"""

import asyncio
import contextlib
from typing import Final

from mcpproxy.limits.clients import BATCH_REQUESTS, HTTP_BATCH
from mcpproxy.proxy.core.exchange import PROGRESS
from mcpproxy.proxy.core.tokens.session_token import SessionToken
from mcpproxy.proxy.downstream.legacy import requests as legacy_requests
from mcpproxy.proxy.downstream.legacy.http import LegacyEndpoint
from mcpproxy.proxy.downstream.legacy.sessions import SessionState
from mcpproxy.proxy.downstream.legacy.sse_response import SseResponse
from mcpproxy.proxy.downstream.peers.forwarding import PeerForwarder, PeerUnavailable
from mcpproxy.proxy.downstream.peers.session_sync import SessionSync
from mcpproxy.proxy.downstream.request_context import RequestContext, rpc_refusal
from mcpproxy.proxy.http1.errors import HttpError, log_failure
from mcpproxy.proxy.http1.server.request import Request
from mcpproxy.proxy.http1.server.response_writer import ResponseWriter
from mcpproxy.proxy.protocol import batches, jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message, RpcError

_FAILED: Final = RpcError(jsonrpc.INTERNAL_ERROR, "internal error")


class BatchEndpoint:
    """Handler of batches from clients with sessions."""

    def __init__(self, front: LegacyEndpoint, peers: PeerForwarder) -> None:
        self._front = front
        self._peers = peers
        self._session_sync = SessionSync(front.live, peers)

    async def serve(self, inbound: Request, reply: ResponseWriter) -> None:
        """Answer a POST whose body is a JSON array. Raises HttpError."""
        token = self._front.session_token(inbound)
        context: RequestContext = inbound.head.context
        if token.client.revision != batches.REVISION or not context.carries_message:
            # The handler of single messages refuses the batch with the reason.
            await self._front.serve(inbound, reply)
            return
        try:
            messages = batches.of_client(inbound.body, HTTP_BATCH.value, HTTP_BATCH.record)
        except RpcError as error:
            raise rpc_refusal(400, error) from None
        if await self._handed_over(inbound, token, messages, reply):
            return
        live = self._front.live.acquire(token.client.session, reply.loop.time())
        try:
            await self._serve_all(messages, inbound, token, live, reply)
        finally:
            self._front.live.release(token.client, live)

    async def _handed_over(
        self,
        inbound: Request,
        token: SessionToken,
        messages: list[Message | bytes],
        reply: ResponseWriter,
    ) -> bool:
        if inbound.head.context.handed_over or self._peers.is_local(token.owner):
            return False
        try:
            await self._peers.forward(token.owner, inbound, reply)
        except PeerUnavailable as error:
            valid = [message for message in messages if not isinstance(message, bytes)]
            now = reply.loop.time()
            if not self._front.handover.check_continuation(error, token, valid, now):
                return False
            for message in messages:
                if isinstance(message, bytes):
                    await reply.event(message)
                elif batches.is_request(message):
                    await reply.event(self._front.handover.lost_response(message))
            await reply.end()
        return True

    async def _serve_all(
        self,
        messages: list[Message | bytes],
        inbound: Request,
        token: SessionToken,
        live: SessionState,
        reply: ResponseWriter,
    ) -> None:
        requests = [m for m in messages if isinstance(m, bytes) or batches.is_request(m)]
        await self._session_sync.ensure_synced(token, inbound, live)
        room = asyncio.Semaphore(BATCH_REQUESTS.value)
        if len(requests) > BATCH_REQUESTS.value:
            BATCH_REQUESTS.record()
        if requests:
            reply.keep_alive()
        async with asyncio.TaskGroup() as tasks:
            for message in messages:
                if isinstance(message, bytes):
                    await reply.event(message)
                elif batches.is_request(message):
                    tasks.create_task(self._answer(message, inbound, token, live, reply, room))
                    # The request starts before the next message, which may cancel it.
                    await asyncio.sleep(0)
                else:
                    await self._note(message, inbound, token, live)
        await (reply.end() if requests else reply.empty(202))

    async def _answer(
        self,
        message: Message,
        inbound: Request,
        token: SessionToken,
        live: SessionState,
        reply: ResponseWriter,
        room: asyncio.Semaphore,
    ) -> None:
        response = SseResponse(reply)
        caller = legacy_requests.http_call_context(token.client, live, self._front.live, response)
        gateway, task = self._front.gateway, asyncio.current_task()
        async with room:
            try:
                body = await legacy_requests.handle_request(gateway, live, message, caller, task)
                await self._spread(message, inbound, token, live)
            except RpcError as error:
                # A batch has one HTTP status, so that a challenge can't be part of it.
                body = jsonrpc.error_response(message["id"], error)
            except Exception as failure:
                log_failure(failure)
                body = jsonrpc.error_response(message["id"], _FAILED)
            await reply.event(body)

    async def _note(
        self, message: Message, inbound: Request, token: SessionToken, live: SessionState
    ) -> None:
        """Handle a notification or response."""
        method = jsonrpc.decode_str(message.get("method"))
        owner = None
        if method is None or method == PROGRESS:
            owner = self._front.handover.owner_of_request(message)
        if owner is not None and not self._peers.is_local(owner):
            with contextlib.suppress(PeerUnavailable, HttpError):
                await self._peers.send(owner, "POST", inbound, jsonrpc.encode(message))
            return
        with contextlib.suppress(RpcError):
            await legacy_requests.handle_notification(
                self._front.gateway, live, token.client, message
            )
            await self._spread(message, inbound, token, live)

    async def _spread(
        self, message: Message, inbound: Request, token: SessionToken, live: SessionState
    ) -> None:
        """Forward a message to the other instances whose requests it concerns."""
        method = jsonrpc.decode_str(message.get("method"))
        alone = Request(inbound.head, jsonrpc.encode(message))
        await self._session_sync.broadcast(alone, token, method, live)
