"""Requests of the modern era over HTTP: one POST, one response."""

import asyncio
import functools
from typing import Final, NamedTuple

import msgspec
from msgspec import Raw

from mcpproxy.proxy.core.access import CallLimitExceeded, InsufficientScope
from mcpproxy.proxy.core.exchange import SENT, ClientIdentity
from mcpproxy.proxy.core.translation.era_translation import MAX_KEPT
from mcpproxy.proxy.core.translation.request_names import unknown_component_error
from mcpproxy.proxy.downstream.modern import requests, validation
from mcpproxy.proxy.downstream.modern.input_required import SuspendedCalls, expired_call_error
from mcpproxy.proxy.downstream.peers.forwarding import PeerForwarder, PeerUnavailable
from mcpproxy.proxy.downstream.request_context import (
    METHODS,
    RequestContext,
    RequestMeta,
    parse_message,
)
from mcpproxy.proxy.downstream.stream_shares import OpenStreams
from mcpproxy.proxy.gateway.gateway import Gateway
from mcpproxy.proxy.gateway.routing.route_finder import Route
from mcpproxy.proxy.http1.server.request import Request, RequestHead
from mcpproxy.proxy.http1.server.response_writer import ResponseWriter
from mcpproxy.proxy.protocol import headers as h
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import INVALID_REQUEST, Message, RpcError
from mcpproxy.proxy.protocol.kinds import BY_METHOD, RESULTS, ComponentKind
from mcpproxy.proxy.protocol.revisions import MODERN
from mcpproxy.proxy.relay import Call
from mcpproxy.proxy.telemetry.operation_durations import ServedOperation

_ALLOW: Final = (b"allow", b"POST")


class ModernRequest(NamedTuple):
    """Validated request."""

    params: Message
    client: ClientIdentity
    level: str | None
    """The requested log level."""
    route: Route | None
    """The backend and the name there, if the request is about a component."""
    owner: str | None
    """The instance that has the parked call or the kept result, if the request is about one."""


class ModernEndpoint:
    """Handler of requests from clients without sessions."""

    def __init__(
        self, gateway: Gateway, parking: SuspendedCalls, peers: PeerForwarder, streams: OpenStreams
    ) -> None:
        self.gateway = gateway
        self._parking = parking
        self._peers = peers
        self._streams = streams

    async def serve(self, inbound: Request, reply: ResponseWriter) -> None:
        """Answer one request. Raises HttpError."""
        if inbound.method != "POST":
            await reply.empty(405, _ALLOW)
            return
        request_id = None
        message = parse_message(inbound)
        try:
            if "id" not in message or "method" not in message:
                await self._noted(message, inbound, reply)
                return
            request_id = message["id"]
            with self._operation(message, inbound) as operation:
                operation.end(await self._request(message, inbound, reply))
        except RpcError as error:
            self.gateway.routing.record_refusal(error, message)
            if isinstance(error, InsufficientScope):
                raise
            _fail(reply, request_id, error)

    def _list(
        self, kind: ComponentKind, request_id: Raw, asked: ModernRequest, reply: ResponseWriter
    ) -> bool:
        """Answer with a list if a recent one is cached. Raises RpcError."""
        now, client = reply.loop.time(), asked.client
        result = self.gateway.list_at_once(kind, asked.params, modern=True, client=client, now=now)
        if result is not None:
            reply.whole(jsonrpc.response_parts(request_id, result), streamed=False)
        return result is not None

    async def go_on(
        self, message: Message, asked: ModernRequest, reply: ResponseWriter, call: Call
    ) -> None:
        """Answer a call that was sent, or that only a task can send."""
        operations, revision = self.gateway.metrics.operations, asked.client.revision
        try:
            with operations.serve(message, revision, call.began_at) as operation:
                operation.end(await self._answer(message, asked, reply, call))
        except RpcError as error:
            self.gateway.routing.record_refusal(error, message)
            _fail(reply, message["id"], error)

    def _operation(self, message: Message, inbound: Request) -> ServedOperation:
        revision = inbound.headers[h.PROTOCOL_VERSION].decode("latin-1")
        return self.gateway.metrics.operations.serve(message, revision)

    def at_once(self, inbound: Request, reply: ResponseWriter) -> bool:
        """Begin to answer a request that needs no task; return False for others.

        Raises HttpError.
        """
        call = jsonrpc.parse_request_fast(inbound.body)
        if call is None or not (call.method in METHODS or call.method in BY_METHOD):
            return False
        try:
            asked = self._validate(call.params or {}, call.method, inbound)
            kind = BY_METHOD.get(call.method)
            if kind is not None:
                return self._list(kind, call.id, asked, reply)
            if asked.owner is not None or asked.route is None or asked.route.backend.asks:
                return False
            if not self.gateway.routing.decides_at_once:
                return False
            responder = _ModernResponder(self, inbound, asked, reply)
            relayed = Call.start(self.gateway, call, asked.client, responder, asked.route)
        except RpcError:
            return False
        if relayed.state is SENT:
            reply.ping_on_sweep(functools.partial(_on_gone, relayed, reply))
        return True

    async def _noted(self, message: Message, inbound: Request, reply: ResponseWriter) -> None:
        if "method" not in message:
            raise RpcError(INVALID_REQUEST, "clients of modern revisions do not send responses")
        version = inbound.headers[h.PROTOCOL_VERSION].decode("latin-1")
        if version not in MODERN:
            raise validation.unsupported_version_error(version)
        await reply.empty(202)

    async def _request(
        self, message: Message, inbound: Request, reply: ResponseWriter
    ) -> Message | bytes | None:
        """Answer a request; return the response as `ServedOperation.end` expects it."""
        method = jsonrpc.decode_str(message["method"]) or ""
        params = jsonrpc.decode_object(message.get("params", jsonrpc.EMPTY))
        if not self.gateway.aggregate.first_round_over and self.gateway.routing.is_routed(method):
            await self.gateway.routing.wait_for_route(method, params)
        asked = self._validate(params, method, inbound)
        if asked.owner is not None and not self._peers.is_local(asked.owner):
            await self._hand_over(asked.owner, message, asked, inbound, reply)
            return b""
        return await self._answer(message, asked, reply)

    def _validate(self, params: Message, method: str, inbound: Request) -> ModernRequest:
        """Validate a request. Raises RpcError."""
        request_meta = self._read_meta(params, method, inbound.head)
        route = requests.find_route(self.gateway, method, params, request_meta.client)
        if route is not None and route.properties:
            validation.check_param_headers(route.properties, params, inbound.lines)
        owner = self._parking.owner(params)
        if route is not None and route.kind is RESULTS and self.gateway.kept_results is not None:
            owner = self.gateway.kept_results.owner_of(route.name)
        return ModernRequest(params, request_meta.client, request_meta.level, route, owner)

    def _read_meta(self, params: Message, method: str, head: RequestHead) -> RequestMeta:
        """Return the metadata of a request; requests with one head mostly share it.

        Raises RpcError.
        """
        member = h.NAME_MEMBER.get(method)
        meta, name = params.get("_meta"), params.get(member) if member else None
        about = method, meta, name
        context: RequestContext = head.context
        if context.meta is not None and context.meta.about == about:
            return context.meta
        if len(head.headers) != len(head.lines):
            validation.reject_duplicate_headers(head.lines)
        client, level = validation.parse_client(method, params, head.headers, context.principal)
        client = context.identified(self.gateway.with_forwarded_headers(client, head.lines))
        client = self.gateway.routing.restrict(client)
        request_meta = RequestMeta(about, client, level)
        if meta is not None and len(bytes(meta)) + len(bytes(name or b"")) <= MAX_KEPT:
            # Copies, because slices would keep the whole message in memory.
            kept = method, meta.copy(), None if name is None else name.copy()
            context.remember_meta(request_meta._replace(about=kept))
        return request_meta

    async def _hand_over(
        self,
        owner: str,
        message: Message,
        asked: ModernRequest,
        inbound: Request,
        reply: ResponseWriter,
    ) -> None:
        unknown = None
        if asked.route is not None and asked.route.kind is RESULTS:
            unknown = unknown_component_error(RESULTS, asked.route.name)
        if inbound.head.context.handed_over:
            raise unknown or expired_call_error()
        try:
            await self._peers.forward(owner, inbound, reply)
        except PeerUnavailable:
            lost = self._parking.lost_call_error
            raise unknown or lost(message, asked.params, asked.client) from None

    async def _answer(
        self,
        message: Message,
        asked: ModernRequest,
        reply: ResponseWriter,
        call: Call | None = None,
    ) -> Message | bytes | None:
        cancelling = _CancelOnDisconnect(reply)
        caller = requests.ModernCallContext(asked.client, asked.level, reply.event, reply.network)
        params = asked.params
        try:
            if jsonrpc.decode_str(message["method"]) == requests.LISTEN:
                await reply.finish(await self._listen(message, params, asked.client, reply))
                return b""
            reply.keep_alive()
            answer = await requests.handle_modern_request(
                self.gateway,
                self._parking,
                message,
                params,
                caller,
                asked.route,
                call,
                reply if call else None,
            )
        except asyncio.CancelledError:
            if not cancelling.done():
                raise
            await reply.end()
            return None
        await _finish(reply, answer)
        return answer

    async def _listen(
        self, message: Message, params: Message, client: ClientIdentity, reply: ResponseWriter
    ) -> bytes:
        holder = (reply.network, client.user)
        outbox = self._streams.open(reply.network, client)
        try:
            listening = requests.SubscriptionStream(
                self.gateway, message, params, outbox, holder, client
            )
            return await listening.run(reply.event, reply.ping)
        finally:
            self._streams.close(outbox)


class _ModernResponder(msgspec.Struct, eq=False, frozen=True):
    """The side of a client without a session in a call that callbacks relay."""

    _front: ModernEndpoint
    _inbound: Request
    _asked: ModernRequest
    _reply: ResponseWriter

    def respond(self, body: bytes, answer: Message | None) -> None:
        self._reply.complete(body, 200 if answer is None else _status(answer))

    def run_in_task(self, call: Call) -> None:
        message = parse_message(self._inbound)
        self._reply.go_on(self._front.go_on(message, self._asked, self._reply, call))


def _on_gone(call: Call, reply: ResponseWriter) -> None:
    """Let a task handle the disconnect of the client."""
    call.detach()
    # The task sets its callback in its first step.
    reply.loop.call_soon(reply.gone)


async def _finish(reply: ResponseWriter, answer: Message | bytes) -> None:
    if isinstance(answer, bytes):
        await reply.finish(answer)
        return
    await reply.finish(jsonrpc.encode(answer), _status(answer))


def _fail(reply: ResponseWriter, request_id: Raw | None, error: RpcError) -> None:
    body, status = jsonrpc.error_response(request_id, error), validation.STATUS.get(error.code, 200)
    if isinstance(error, CallLimitExceeded):
        status = 429
        reply.add_header(b"retry-after", b"%d" % error.retry_after)
    reply.complete(body, status)


def _status(answer: Message) -> int:
    """Return the HTTP status of a response."""
    error = jsonrpc.error_of(answer)
    return validation.STATUS.get(error.code, 200) if error else 200


class _CancelOnDisconnect:
    """Cancellation of the current task when the client disconnects, as this era specifies."""

    __slots__ = ("_gone", "_task")

    def __init__(self, reply: ResponseWriter) -> None:
        self._task = asyncio.current_task(reply.loop)
        self._gone = False
        reply.on_disconnect(self._cancel)

    def _cancel(self) -> None:
        self._gone = True
        assert self._task is not None
        self._task.cancel()

    def done(self) -> bool:
        """True if the disconnect cancelled the task; this withdraws the cancellation."""
        if self._gone:
            assert self._task is not None
            self._task.uncancel()
        return self._gone
