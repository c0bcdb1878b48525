"""Requests and notifications of legacy clients."""

import asyncio
import functools
import json
from collections.abc import Awaitable
from typing import Any, Final, Protocol

from mcpproxy.limits.clients import SUBSCRIPTIONS
from mcpproxy.proxy.core.access import InsufficientScope
from mcpproxy.proxy.core.errors import SessionEnded
from mcpproxy.proxy.core.exchange import (
    CANCELLED,
    INITIALIZED,
    PROGRESS,
    ClientIdentity,
    NotificationHandler,
    ResumableStream,
)
from mcpproxy.proxy.core.tokens.session_token import canonical_capabilities
from mcpproxy.proxy.core.translation.era_translation import to_legacy_rpc_error
from mcpproxy.proxy.downstream.legacy.sessions import RunningRequest, SessionRegistry, SessionState
from mcpproxy.proxy.downstream.legacy.sse_response import Resumption, SseResponse
from mcpproxy.proxy.gateway.aggregate import INITIALIZE_WAIT
from mcpproxy.proxy.gateway.gateway import Gateway
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import (
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    UNAVAILABLE,
    Message,
    RpcError,
)
from mcpproxy.proxy.protocol.kinds import BY_METHOD, SUBSCRIBE
from mcpproxy.proxy.protocol.revisions import negotiate_revision
from mcpproxy.proxy.relay import Call, relay_request
from mcpproxy.proxy.upstream.large_results import ResultSink

RESUMABLE: Final = "2025-11-25"
"""First revision in which a server may close a stream that the client then resumes."""
LEVELS: Final = (
    "debug",
    "info",
    "notice",
    "warning",
    "error",
    "critical",
    "alert",
    "emergency",
)
SUBSCRIBING: Final = (SUBSCRIBE, "resources/unsubscribe")
OF_THE_SESSION: Final = (*SUBSCRIBING, "logging/setLevel")
"""Requests that change the session itself."""
_MODERN_ONLY: Final = ("server/discover", "subscriptions/listen")


def request_cancelled_error() -> RpcError:
    """Return the error for a request that the client cancelled."""
    return RpcError(jsonrpc.REQUEST_CANCELLED, "the request was cancelled")


def client_of_session(params: Message, principal: str, session: str) -> ClientIdentity:
    """Return the client identity of an initialize request. Raise RpcError."""
    requested = jsonrpc.decode_str(params.get("protocolVersion"))
    if requested is None:
        raise RpcError(INVALID_PARAMS, "initialize: params.protocolVersion must be a string")
    info = params.get("clientInfo")
    return ClientIdentity(
        revision=negotiate_revision(requested),
        capabilities=canonical_capabilities(params.get("capabilities")),
        info=None if info is None else bytes(info),
        principal=principal,
        session=session,
    )


async def initialize(gateway: Gateway, client: ClientIdentity) -> bytes:
    """Return the result of initialize."""
    await gateway.aggregate.settled(INITIALIZE_WAIT)
    result: dict[str, Any] = {
        "protocolVersion": client.revision,
        "capabilities": gateway.aggregate.capabilities(modern=False, access=client.access),
        "serverInfo": gateway.aggregate.server_info(),
    }
    instructions = gateway.aggregate.instructions(client.access)
    if instructions is not None:
        result["instructions"] = instructions
    return jsonrpc.encode(result)


class SessionStream(Protocol):
    """Stream for the response to a request."""

    def event(self, message: bytes) -> Awaitable[None]:
        """Send a message before the response."""


class LegacyCallContext:
    """Call context of a legacy request: all messages go to the stream of the request."""

    def __init__(
        self,
        client: ClientIdentity,
        live: SessionState,
        sessions: SessionRegistry,
        stream: SessionStream,
        resumption: ResumableStream | None = None,
    ) -> None:
        self.client = client
        self.resumption = resumption
        self.log_level = live.log_level
        self.cancelled = False
        """True if the client has cancelled the request."""
        self._live = live
        self._sessions = sessions
        self._stream = stream

    async def notify(self, message: Message) -> None:
        await self._stream.event(jsonrpc.encode(message))

    async def ask(
        self, request: Message, on_notification: NotificationHandler | None = None
    ) -> Message:
        request_id = self._sessions.question_id()
        return await self._live.asked.send(request_id, request, on_notification, self._stream.event)


def http_call_context(
    client: ClientIdentity, live: SessionState, sessions: SessionRegistry, response: SseResponse
) -> LegacyCallContext:
    """Return the context of a request whose response the client may be able to resume."""
    resumption = None
    # Clients of older revisions do not support events without data.
    if client.revision >= RESUMABLE:
        resumption = Resumption(response, functools.partial(sessions.open_log, client))
    return LegacyCallContext(client, live, sessions, response, resumption)


async def handle_request(
    gateway: Gateway,
    live: SessionState,
    request: Message,
    caller: LegacyCallContext,
    task: "asyncio.Task[Any] | None",
    call: Call | None = None,
    sink: ResultSink | None = None,
) -> bytes:
    """Return the response to a request of an initialized client, including errors.

    `task` is the current task, which is cancelled if the client cancels the request. `call` is the
    call if it was routed already, and `sink` gets the parts of its large result.
    """
    request_id = request["id"]
    running = RunningRequest(task)
    key = jsonrpc.id_key(request_id)
    live.take_over(key, running, call)
    operations, began = gateway.metrics.operations, None if call is None else call.began_at
    try:
        with operations.serve(request, caller.client.revision, began) as operation:
            answer = await _result(gateway, live, request, caller, call, sink)
            operation.end(answer)
        return answer if isinstance(answer, bytes) else jsonrpc.encode(answer)
    except SessionEnded:
        # Over HTTP, the response is 404.
        raise
    except InsufficientScope as error:
        gateway.routing.record_refusal(error, request)
        # The front of the request has its own response: over HTTP, a challenge.
        raise
    except RpcError as error:
        gateway.routing.record_refusal(error, request)
        return jsonrpc.error_response(request_id, to_legacy_rpc_error(error))
    except asyncio.CancelledError:
        if not running.cancelled:
            raise
        assert running.task is not None
        running.task.uncancel()
        caller.cancelled = True
        return jsonrpc.error_response(request_id, request_cancelled_error())
    finally:
        if live.in_flight.get(key) is running:
            del live.in_flight[key]


async def _result(
    gateway: Gateway,
    live: SessionState,
    request: Message,
    caller: LegacyCallContext,
    call: Call | None,
    sink: ResultSink | None,
) -> bytes | Message:
    method = jsonrpc.decode_str(request["method"]) or ""
    params = jsonrpc.decode_object(request["params"]) if "params" in request else None
    kind = BY_METHOD.get(method)
    if kind is not None:
        merged = await gateway.aggregate.listing(kind, params, modern=False, client=caller.client)
        return jsonrpc.response(request["id"], merged)
    if method == "ping":
        return jsonrpc.response(request["id"], b"{}")
    if method == "logging/setLevel":
        return jsonrpc.response(request["id"], _set_level(live, params or {}))
    if method == "initialize":
        raise RpcError(jsonrpc.INVALID_REQUEST, "the session is already initialized")
    if method in SUBSCRIBING:
        await _handle_subscription(gateway, live, method, params or {}, caller.client)
        return jsonrpc.response(request["id"], b"{}")
    if method in _MODERN_ONLY:
        raise RpcError(METHOD_NOT_FOUND, f"method not found: {method}")
    if call is not None:
        return await call.run(request, caller, sink)
    if not gateway.aggregate.first_round_over and gateway.routing.is_routed(method):
        await gateway.routing.wait_for_route(method, params)
    return await relay_request(gateway, request, method, params, caller)


async def _handle_subscription(
    gateway: Gateway, live: SessionState, method: str, params: Message, client: ClientIdentity
) -> None:
    uri = jsonrpc.decode_str(params.get("uri"))
    if uri is None:
        raise RpcError(INVALID_PARAMS, f"{method}: params.uri must be a string")
    if method == SUBSCRIBE:
        await _subscribe(gateway, live, uri, client)
        return
    end = live.subscriptions.pop(uri, None)
    if end is not None:
        await end()


async def _subscribe(
    gateway: Gateway, live: SessionState, uri: str, client: ClientIdentity
) -> None:
    if uri in live.subscriptions:
        return
    if len(live.subscriptions) >= SUBSCRIPTIONS.value:
        SUBSCRIPTIONS.record()
        raise RpcError(
            UNAVAILABLE,
            f"the session has {SUBSCRIPTIONS.value} subscriptions, which is the maximum; end"
            " some of them",
        )

    async def pending() -> None:
        """Placeholder for a subscription that the backend has not confirmed."""

    # Reserved before any await, because requests of one session run concurrently.
    live.subscriptions[uri] = pending
    try:
        end = await gateway.subscribe_resource(uri, live.updated, client.holder, client)
    except BaseException:
        if live.subscriptions.get(uri) is pending:
            del live.subscriptions[uri]
        raise
    if live.subscriptions.get(uri) is pending:
        live.subscriptions[uri] = end
    else:
        # The client has unsubscribed, or its session has ended.
        await end()


def _set_level(live: SessionState, params: Message) -> bytes:
    level = jsonrpc.decode_str(params.get("level"))
    if level not in LEVELS:
        raise RpcError(INVALID_PARAMS, f"params.level must be one of {json.dumps(LEVELS)}")
    live.log_level = level
    return b"{}"


async def handle_notification(
    gateway: Gateway,
    live: SessionState,
    client: ClientIdentity | None,
    message: Message,
    *,
    running_only: bool = False,
) -> None:
    """Handle a notification or response of a client; `client` is None before initialize.

    For `running_only`, see `Gateway.notify_backends`. Raise RpcError if it can't be accepted.
    """
    method = jsonrpc.decode_str(message.get("method"))
    if "method" not in message:
        live.asked.answer(message)
    elif method == CANCELLED:
        request_id = jsonrpc.decode_object(message.get("params", jsonrpc.EMPTY)).get("requestId")
        if request_id is not None:
            live.cancel(request_id, message)
    elif method == PROGRESS:
        await live.asked.forward_progress(message)
    elif method != INITIALIZED and client is not None:
        try:
            await gateway.notify_backends(client, message, running_only=running_only)
        except RpcError as error:
            gateway.routing.record_refusal(error, message)
            raise
