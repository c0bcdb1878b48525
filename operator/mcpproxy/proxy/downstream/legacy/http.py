"""Requests of the legacy era over HTTP: sessions, their streams, and their owners.

Any instance serves any session. Some state lives only in the process that owns the session: the
GET stream, subscriptions, the log level, and backend sessions that belong to the client. Requests
about that state are forwarded to the owner; all others are served where they arrive.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, Final

import msgspec

from mcpproxy.limits.instances import TICKETS
from mcpproxy.proxy.core.errors import SessionEnded
from mcpproxy.proxy.core.exchange import SENT
from mcpproxy.proxy.core.tokens import session_token
from mcpproxy.proxy.core.tokens.sealed_tokens import InvalidToken, Sealer
from mcpproxy.proxy.core.tokens.session_token import SessionToken
from mcpproxy.proxy.downstream.legacy import requests
from mcpproxy.proxy.downstream.legacy.event_store import parse_event_id
from mcpproxy.proxy.downstream.legacy.get_stream import RelayedStreams, pump, resume
from mcpproxy.proxy.downstream.legacy.handover import SessionHandover
from mcpproxy.proxy.downstream.legacy.sessions import SessionRegistry, SessionState
from mcpproxy.proxy.downstream.legacy.sse_response import SseResponse
from mcpproxy.proxy.downstream.peers.forwarding import (
    MISDIRECTED,
    PeerForwarder,
    PeerUnavailable,
)
from mcpproxy.proxy.downstream.peers.session_sync import SessionSync, should_broadcast
from mcpproxy.proxy.downstream.request_context import METHODS, RequestContext, parse_message
from mcpproxy.proxy.downstream.stream_shares import OpenStreams
from mcpproxy.proxy.gateway.gateway import Gateway
from mcpproxy.proxy.http1.errors import HttpError
from mcpproxy.proxy.http1.server.request import Request
from mcpproxy.proxy.http1.server.response_writer import ResponseWriter
from mcpproxy.proxy.protocol import headers as h
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message, RequestEnvelope, RpcError
from mcpproxy.proxy.protocol.kinds import BY_METHOD
from mcpproxy.proxy.relay import Call

_ALLOW: Final = (b"allow", b"GET, POST, DELETE")


class LegacyEndpoint:
    """Handler of requests from clients with sessions."""

    def __init__(
        self,
        gateway: Gateway,
        sealer: Sealer,
        live: SessionRegistry,
        peers: PeerForwarder,
        streams: OpenStreams,
    ) -> None:
        self.closing = False
        """True once the process stops: no stream may start."""
        self.gateway, self.live = gateway, live
        self._sealer, self._peers, self._streams = sealer, peers, streams
        self._tokens: dict[tuple[bytes, str], SessionToken] = {}
        """Decoded session ids; decoding one costs more than the rest of a request head."""
        self.relayed = RelayedStreams(peers)
        self._session_sync = SessionSync(live, peers)
        self.handover = SessionHandover(gateway, live, peers)

    def serve(self, inbound: Request, reply: ResponseWriter) -> Coroutine[Any, Any, None]:
        """Answer one request. Raises HttpError."""
        if inbound.method == "POST":
            return self._post(inbound, reply)
        if inbound.method == "GET":
            return self._get(inbound, reply)
        if inbound.method == "DELETE":
            return self._delete(inbound, reply)
        return reply.empty(405, _ALLOW)

    def session_token(self, inbound: Request) -> SessionToken:
        """Return the session that a request names. Raises HttpError."""
        head = inbound.head
        context: RequestContext = head.context
        token = context.session_token
        if token is None or time.time() > context.session_token_ends:
            sealed = head.headers.get(h.SESSION_ID)
            if sealed is None:
                raise HttpError(400, "the header Mcp-Session-Id is missing; initialize first")
            token = self._opened(sealed, context.principal)
            client = self.gateway.with_forwarded_headers(token.client, head.lines)
            client = self.gateway.routing.restrict(context.identified(client))
            token = token if client is token.client else replace(token, client=client)
            context.remember_session_token(token)
        if token.client.session in self.live.ended:
            raise HttpError(404, "this session has ended; initialize again")
        return token

    def _opened(self, sealed: bytes, principal: str) -> SessionToken:
        known = self._tokens.get((sealed, principal))
        if known is not None and session_token.is_valid_session_token(known, time.time()):
            return known
        try:
            token = session_token.decode_session_token(
                self._sealer, sealed.decode("latin-1"), principal, time.time()
            )
        except InvalidToken:
            raise HttpError(404, "this session does not exist; initialize again") from None
        if token.client.upstream and self._peers.is_local(token.owner):
            # The owner has these sessions, or later ones.
            token = replace(token, client=replace(token.client, upstream=()))
        if len(self._tokens) >= TICKETS.value:
            TICKETS.record()
            self._tokens.clear()
        self._tokens[sealed, principal] = token
        return token

    # POST

    def at_once(self, inbound: Request, reply: ResponseWriter) -> bool:
        """Begin to answer a request that needs no task; return False for others.

        Raises HttpError.
        """
        call = jsonrpc.parse_request_fast(inbound.body)
        if call is None or not self.gateway.routing.decides_at_once:
            return False
        if call.method not in METHODS:
            return call.method in BY_METHOD and self._list(inbound, call, reply)
        token = self.session_token(inbound)
        if token.owner != self._peers.owner:
            live, now = self.live.find(token.client.session), reply.loop.time()
            if self.gateway.routing.holds_state or live is None or not live.is_synced(now):
                return False
        client, key = token.client, jsonrpc.id_key(call.id)
        live = self.live.acquire(client.session, reply.loop.time())
        responder = _LegacyResponder(self, inbound, token, live, reply, key)
        has_level = live.log_level is not None
        try:
            relayed = Call.start(self.gateway, call, client, responder, has_log_level=has_level)
        except BaseException as error:
            self.live.release(client, live)
            if isinstance(error, RpcError):
                return False
            raise
        if relayed.state is SENT:
            live.in_flight[key] = relayed
            reply.ping_on_sweep()
        return True

    def _list(self, inbound: Request, call: RequestEnvelope, reply: ResponseWriter) -> bool:
        """Answer with a list if a recent one is cached. Raises HttpError."""
        token = self.session_token(inbound)
        if not self._peers.is_local(token.owner):
            return False
        kind, now = BY_METHOD[call.method], reply.loop.time()
        client, listed = token.client, self.gateway.list_at_once
        try:
            result = listed(kind, call.params, modern=False, client=client, now=now)
        except RpcError:
            return False
        if result is not None:
            # Servers of this era stream their lists, and clients may rely on that.
            reply.whole(jsonrpc.response_parts(call.id, result), streamed=True)
        return result is not None

    async def go_on(
        self,
        inbound: Request,
        token: SessionToken,
        live: SessionState,
        reply: ResponseWriter,
        call: Call,
    ) -> None:
        """Answer a call that was sent, or that only a task can send."""
        try:
            await self._answer(inbound, token, live, parse_message(inbound), reply, call)
        finally:
            live.drop(call)
            self.live.release(token.client, live)

    async def _post(self, inbound: Request, reply: ResponseWriter) -> None:
        message = parse_message(inbound)
        handed_over = inbound.head.context.handed_over
        method = jsonrpc.decode_str(message.get("method"))
        if method == "initialize" and "id" in message:
            await self._initialize(inbound, message, reply)
            return
        token = self.session_token(inbound)
        if await self.handover.serve_by_owner(inbound, token, message, method, reply):
            return
        session = token.client.session
        live = self.live.acquire(session, reply.loop.time())
        try:
            if handed_over and self._session_sync.is_sync_request(message, live):
                await reply.finish(self._session_sync.answer(message, live))
            elif method is None or "id" not in message:
                # A notification from the session's owner concerns only calls in this process.
                spread = handed_over and not self._peers.is_local(token.owner)
                try:
                    await requests.handle_notification(
                        self.gateway, live, token.client, message, running_only=spread
                    )
                except RpcError as error:
                    raise HttpError(400, str(error)) from None
                await self._session_sync.broadcast(inbound, token, method, live)
                await reply.empty(202)
            else:
                await self._answer(inbound, token, live, message, reply)
        finally:
            self.live.release(token.client, live)

    async def _answer(
        self,
        inbound: Request,
        token: SessionToken,
        live: SessionState,
        message: Message,
        reply: ResponseWriter,
        call: Call | None = None,
    ) -> None:
        method = jsonrpc.decode_str(message["method"])
        await self._session_sync.ensure_synced(token, inbound, live)
        response = SseResponse(reply)
        caller = requests.http_call_context(token.client, live, self.live, response)
        reply.keep_alive()
        task = asyncio.current_task(reply.loop)
        try:
            body = await requests.handle_request(
                self.gateway, live, message, caller, task, call, response if call else None
            )
            if should_broadcast(method):
                await self._session_sync.broadcast(inbound, token, method, live)
            # Servers of this era stream their lists, and clients may rely on that. The SDK's
            # client fails if the response to a request that it cancelled is not a stream.
            response.finish(body, streamed=method in BY_METHOD or caller.cancelled)
        except SessionEnded as error:
            self.live.mark_terminated(token.client, reply.loop.time())
            raise HttpError(404, str(error)) from None
        finally:
            response.close()

    async def _initialize(self, inbound: Request, message: Message, reply: ResponseWriter) -> None:
        try:
            params = jsonrpc.decode_object(message.get("params", jsonrpc.EMPTY))
            context: RequestContext = inbound.head.context
            session = secrets.token_urlsafe(16)
            client = requests.client_of_session(params, context.principal, session)
            client = replace(client, network=reply.network)
            client = self.gateway.routing.restrict(context.identified(client))
            with self.gateway.metrics.operations.serve(message, client.revision):
                result = await requests.initialize(self.gateway, client)
                client = self.gateway.with_forwarded_headers(client, inbound.head.lines)
                client = await self.handover.open_sessions(client)
            token = SessionToken(client, int(time.time()), self._peers.owner, client.rules)
            session_id = session_token.encode_session_token(self._sealer, token)
        except RpcError as error:
            await reply.finish(jsonrpc.error_response(message["id"], error))
            return
        reply.add_header(h.SESSION_ID, session_id.encode())
        await reply.finish(jsonrpc.response(message["id"], result))

    # GET

    async def _get(self, inbound: Request, reply: ResponseWriter) -> None:
        if not h.accepts(inbound.headers.get(b"accept"), h.EVENT_STREAM):
            raise HttpError(406, "the header Accept of a GET must include text/event-stream")
        token = self.session_token(inbound)
        where = parse_event_id(inbound.headers.get(h.LAST_EVENT_ID, b""))
        keeper = self.live.owner_of_stream(where[0]) if where else None
        owner, handed_over = keeper or token.owner, inbound.head.context.handed_over
        if self.closing and keeper is None:
            if handed_over:
                # The other instance opens the stream itself.
                raise HttpError(MISDIRECTED, "the instance is shutting down")
            # The client opens the stream again, at another instance.
            await reply.ping()
            await reply.end()
            return
        stands_in = not handed_over and not self._peers.is_local(owner)
        if stands_in:
            with contextlib.suppress(PeerUnavailable):
                await self.relayed.relay(owner, inbound, reply)
                return
        session = token.client.session
        if where is not None and keeper is not None:
            log = self.live.logs.find(where[0], session)
            if log is None or not log.has(where[1]):
                # A new stream instead would end the one that the client has open.
                raise HttpError(400, "Last-Event-ID: these events are no longer available")
            await resume(log, where[1], reply, inbound.head.context.identity)
        else:
            live = self.live.acquire(session, reply.loop.time())
            try:
                await self._stream(token, live, reply, inbound if stands_in else None)
            finally:
                self.live.release(token.client, live)

    def end_streams(self) -> None:
        """Accept no more streams, and end those that are forwarded from other instances."""
        self.closing = True
        self.relayed.end()

    async def _stream(
        self,
        token: SessionToken,
        live: SessionState,
        reply: ResponseWriter,
        for_owner: Request | None,
    ) -> None:
        """Serve the session's stream; `for_owner` is its request if the owner is unavailable."""
        client = token.client
        if live.stream is not None:
            # The client reconnected before its disconnect was noticed.
            live.stream.end()
        stream = self._streams.open(reply.network, client)
        live.attach(stream)
        unsubscribe = self.gateway.subscribe(
            lambda method: stream.announce(jsonrpc.notification(method)),
            *(client.session, client, token.rules),
        )
        self.gateway.metrics.streams.inc()
        reply.on_disconnect(stream.end)
        unfollow = waiting = None
        if for_owner is not None:
            back = self._session_sync.wait_for_owner(token, for_owner, live)
            waiting = asyncio.ensure_future(back)
            # The client then opens the stream again, which the owner serves.
            waiting.add_done_callback(lambda _: stream.end())
        try:
            unfollow = await self.handover.follow(client)
            await pump(stream, reply)
        finally:
            if unfollow is not None:
                unfollow()
            if waiting is not None:
                waiting.cancel()
            self.gateway.metrics.streams.dec()
            unsubscribe()
            self._streams.close(stream)
            live.detach(stream)

    # DELETE

    async def _delete(self, inbound: Request, reply: ResponseWriter) -> None:
        token = self.session_token(inbound)
        session = token.client.session
        live = self.live.find(session)
        await self._session_sync.broadcast(inbound, token, "DELETE", live)
        await self.live.end(token.client, reply.loop.time())
        self.gateway.end_client(session)
        if not inbound.head.context.handed_over and not self._peers.is_local(token.owner):
            try:
                await self._peers.send(token.owner, "DELETE", inbound, b"")
            except PeerUnavailable:
                # The state of the owner is gone with it, except for these.
                await self.handover.end_sessions(token.client)
            except HttpError:
                pass
        await reply.empty(204)


class _LegacyResponder(msgspec.Struct, eq=False, frozen=True):
    """The side of a client with a session in a call that callbacks relay."""

    _front: LegacyEndpoint
    _inbound: Request
    _token: SessionToken
    _live: SessionState
    _reply: ResponseWriter
    _key: bytes
    """The key under which the client may cancel the call."""

    def respond(self, body: bytes, answer: Message | None) -> None:
        self._live.in_flight.pop(self._key, None)
        self._front.live.release(self._token.client, self._live)
        self._reply.complete(body)

    def run_in_task(self, call: Call) -> None:
        about = (self._inbound, self._token, self._live, self._reply, call)
        self._reply.go_on(self._front.go_on(*about))
