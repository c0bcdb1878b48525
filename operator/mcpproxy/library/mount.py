"""Mounting of a proxy into a server of the SDK, which adds items to its lists and targets to calls.

The proxy is a middleware of the SDK. A middleware sees requests before they are parsed, and its
results are sent unchanged, so nothing of the proxied server is lost.
"""

import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

import mcp_types as t
from mcp import MCPError
from mcp.server import Server as SdkServer
from mcp.server import ServerRequestContext
from mcp.shared.message import ServerMessageMetadata
from msgspec import Raw
from pydantic import RootModel

from mcpproxy.library.access import identified, identity_of_request
from mcpproxy.library.client_handlers import to_wire
from mcpproxy.library.fastmcp_objects import unwrapped
from mcpproxy.library.server import Server
from mcpproxy.library.sessions.sdk_session import RawRequest
from mcpproxy.proxy.embed import (
    BY_METHOD,
    COMPLETE,
    PROGRESS,
    AccessDenied,
    ClientIdentity,
    ComponentKind,
    Gateway,
    Identity,
    Message,
    NotificationHandler,
    ResumableStream,
    RpcError,
    Sealer,
    SuspendedCalls,
    component_ref,
    is_modern,
    jsonrpc,
    lowlevel_server,
    parse_meta,
    relay_request,
)

Context = ServerRequestContext[Any, Any]
CallNext = Callable[[Context], Awaitable[Any]]

_EMPTY: Final[dict[str, tuple[Any, Any]]] = {
    "tools/list": (t.PaginatedRequestParams, t.ListToolsResult(tools=[])),
    "prompts/list": (t.PaginatedRequestParams, t.ListPromptsResult(prompts=[])),
    "resources/list": (t.PaginatedRequestParams, t.ListResourcesResult(resources=[])),
    "resources/templates/list": (
        t.PaginatedRequestParams,
        t.ListResourceTemplatesResult(resource_templates=[]),
    ),
}
_CALLS: Final[dict[str, Any]] = {
    "tools/call": t.CallToolRequestParams,
    "prompts/get": t.GetPromptRequestParams,
    "resources/read": t.ReadResourceRequestParams,
    COMPLETE: t.CompleteRequestParams,
}
"""Handlers that are registered if the server has none, so that it offers the capability."""


def mount(
    server: Any,
    proxied: Any,
    prefix: str = "",
    *,
    identify: Callable[[Context], Identity] | None = None,
    **access: Any,
) -> None:
    """Add all components of a proxy (or of a target of `create_proxy`) to a server, live.

    The server is an MCPServer or a low-level server of the SDK, or a FastMCP server. If both have a
    component with the same name, the server's own component wins. Among several proxies, the one
    that was mounted first wins.
    """
    low = lowlevel_server(unwrapped(server))
    for middleware in low.middleware:
        if isinstance(middleware, _Mounted):
            if access or identify is not None:
                raise ValueError(
                    f"server {low.name} has a mounted proxy already; set identify and the access"
                    " of all at the first mount"
                )
            middleware.inner.mount(proxied, prefix)
            return
    inner = Server(low.name, **access)
    inner.mount(proxied, prefix)
    low.middleware.append(_Mounted(low, inner, identify or _identity_of))
    for method, (params, empty) in _EMPTY.items():
        if low.get_request_handler(method) is None:
            low.add_request_handler(method, params, _constant_handler(empty))
    for method, params in _CALLS.items():
        if low.get_request_handler(method) is None:
            low.add_request_handler(method, params, _unknown)
    low.lifespan = _combined_lifespan(inner, low.lifespan)


def _constant_handler(result: Any) -> Callable[[Any, Any], Awaitable[Any]]:
    async def answer(ctx: Any, params: Any) -> Any:
        return result

    return answer


async def _unknown(ctx: Any, params: Any) -> Any:
    raise MCPError(t.INVALID_PARAMS, "unknown component")


def _combined_lifespan(inner: Server, lifespan: Any) -> Any:
    """Return the server's lifespan, extended by that of the mounted server."""

    @asynccontextmanager
    async def both(server: Any) -> Any:
        async with inner, lifespan(server) as state:
            yield state

    return both


def _identity_of(ctx: Context) -> Identity:
    return identity_of_request(ctx.request)


class _Mounted:
    """The middleware for all mounts into one server."""

    def __init__(
        self, server: "SdkServer[Any]", inner: Server, identify: Callable[[Context], Identity]
    ) -> None:
        self._server = server
        self._identify = identify
        self.inner = inner
        self._parking = SuspendedCalls(
            Sealer([secrets.token_bytes(32)], secrets.token_bytes), "mounted", time.time
        )

    async def __call__(self, ctx: Context, call_next: CallNext) -> Any:
        kind = BY_METHOD.get(ctx.method)
        if ctx.request_id is None or not (kind or ctx.method in _CALLS):
            return await call_next(ctx)
        if kind is not None:
            return await self._list_merged(kind, ctx, call_next)
        params = jsonrpc.decode_object(jsonrpc.encode(dict(ctx.params or {})))
        try:
            name, kind = component_ref(ctx.method, params)
            mine = await self._is_mounted(name, kind, ctx, params)
            return await self._call_mounted(ctx, params) if mine else await call_next(ctx)
        except RpcError as error:
            raise MCPError(error.code, error.message, error.data) from None

    def _caller(self, ctx: Context) -> "_SdkCaller":
        return _SdkCaller(ctx, self._identify(ctx), self.inner.gateway)

    async def _list_merged(self, kind: ComponentKind, ctx: Context, call_next: CallNext) -> Any:
        result = await call_next(ctx)
        own = dict(result if isinstance(result, dict) else to_wire(result))
        if own.get("nextCursor") is not None:
            return own
        modern = is_modern(ctx.protocol_version)
        client, gateway = self._caller(ctx).client, self.inner.gateway
        items = list(own.get(kind.member, ()))
        try:
            listed = jsonrpc.decode(
                await gateway.aggregate.listing(kind, None, modern=modern, client=client)
            )
        except RpcError as error:
            if items:
                return {**own, "ttlMs": 0} if "ttlMs" in own else own
            raise MCPError(error.code, error.message, error.data) from None
        taken = {item[kind.key] for item in items}
        own[kind.member] = items + [i for i in listed[kind.member] if i[kind.key] not in taken]
        if "ttlMs" in own:
            own["ttlMs"] = min(own["ttlMs"], listed.get("ttlMs", 0))
        return own

    async def _is_mounted(
        self, name: str, kind: ComponentKind, ctx: Context, params: Message
    ) -> bool:
        """True if the mounted server has the component and the server itself does not."""
        gateway = self.inner.gateway
        await gateway.routing.wait_for_route(ctx.method, params)
        try:
            gateway.routing.route(ctx.method, params, self._caller(ctx).client)
        except AccessDenied as denied:
            if not await self._has(name, kind, ctx):
                gateway.routing.record_refusal(denied, _message_of(ctx, params))
            return False
        except RpcError:
            return False
        prefixed = all(backend.settings.prefix for backend in gateway.backends.values())
        return prefixed or not await self._has(name, kind, ctx)

    async def _has(self, name: str, kind: ComponentKind, ctx: Context) -> bool:
        """True if the server's own lists have a component of this name."""
        entry = self._server.get_request_handler(kind.method)
        assert entry is not None
        cursor = None
        while True:
            request = replace(ctx, method=kind.method, params={"cursor": cursor} if cursor else {})
            listed: Any = await entry.handler(request, t.PaginatedRequestParams(cursor=cursor))
            result = to_wire(listed)
            if any(item[kind.key] == name for item in result.get(kind.member, ())):
                return True
            cursor = result.get("nextCursor")
            if cursor is None:
                return False

    async def _call_mounted(self, ctx: Context, params: Message) -> Any:
        request = _message_of(ctx, params)
        caller = self._caller(ctx)
        gateway, method = self.inner.gateway, ctx.method
        if is_modern(ctx.protocol_version):
            answer = await self._parking.run(
                lambda context: relay_request(gateway, request, method, params, context),
                request,
                params,
                caller.client,
                caller.log_level,
                caller.notify,
            )
        else:
            answer = await relay_request(gateway, request, method, params, caller)
        error = jsonrpc.error_of(answer, understood=True)
        if error is not None:
            raise error
        return jsonrpc.decode(answer["result"])


def _message_of(ctx: Context, params: Message) -> Message:
    return {
        "jsonrpc": jsonrpc.VERSION,
        "id": jsonrpc.encode_raw(ctx.request_id),
        "method": jsonrpc.encode_raw(ctx.method),
        "params": jsonrpc.encode_raw(params),
    }


class _SdkCaller:
    """The client of an SDK server as a call context."""

    # The SDK stores the events of its streams itself.
    resumption: ResumableStream | None = None

    def __init__(self, ctx: Context, identity: Identity, gateway: Gateway) -> None:
        session = ctx.session
        capabilities, client_params = session.client_capabilities, session.client_params
        client = ClientIdentity(
            revision=ctx.protocol_version,
            capabilities=b"{}"
            if capabilities is None
            else jsonrpc.canonical(to_wire(capabilities)),
            info=None
            if client_params is None
            else jsonrpc.encode(to_wire(client_params.client_info)),
        )
        self.client = gateway.routing.restrict(identified(client, identity))
        meta: Any = (ctx.params or {}).get("_meta") or {}
        self.log_level: str | None = meta.get("io.modelcontextprotocol/logLevel")
        self._ctx = ctx

    async def notify(self, message: Message) -> None:
        notification: Any = _raw_request(message)
        quiet = self.client.modern and self.log_level is None
        if quiet and notification.method == "notifications/message":
            return
        await self._ctx.session.send_notification(
            notification, related_request_id=self._ctx.request_id
        )

    async def ask(self, request: Message, told: NotificationHandler | None = None) -> Message:
        sdk_request: Any = _raw_request(request)
        token = parse_meta(jsonrpc.decode_object(request.get("params", jsonrpc.EMPTY))).get(
            "progressToken"
        )

        async def progressed(progress: float, total: float | None, message: str | None) -> None:
            params = {"progress": progress, "total": total, "message": message}
            present = {name: value for name, value in params.items() if value is not None}
            assert told is not None
            await told(jsonrpc.notification_message(PROGRESS, {"progressToken": token, **present}))

        metadata = ServerMessageMetadata(related_request_id=self._ctx.request_id)
        try:
            response = await self._ctx.session.send_request(
                sdk_request,
                RootModel[dict[str, Any]],
                metadata=metadata,
                progress_callback=None if token is None or told is None else progressed,
            )
        except MCPError as error:
            failure = {"code": error.code, "message": error.message, "data": error.data}
            return {"error": jsonrpc.encode_raw(failure)}
        return {"result": jsonrpc.encode_raw(response.root)}


def _raw_request(message: Message) -> RawRequest:
    params: Raw | None = message.get("params")
    return RawRequest(
        method=jsonrpc.decode_str(message["method"]) or "",
        params=None if params is None else jsonrpc.decode(params),
    )
