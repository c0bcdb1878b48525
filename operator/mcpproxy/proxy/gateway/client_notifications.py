"""Notifications of clients, within their access, to the upstream sessions of these clients."""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Final

from mcpproxy.proxy.core.access import AccessDenied
from mcpproxy.proxy.core.catalog.extensions import DOWNSTREAM_METHODS, LISTS, is_denied
from mcpproxy.proxy.core.exchange import ROOTS_CHANGED, ClientIdentity
from mcpproxy.proxy.core.translation.request_names import COMPLETE, ROUTED, replace_name
from mcpproxy.proxy.gateway.request_routing import RequestRouting
from mcpproxy.proxy.gateway.routing.route_finder import denied_method_error
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import INVALID_REQUEST, METHOD_NOT_FOUND, Message, RpcError
from mcpproxy.proxy.upstream.backend import Backend
from mcpproxy.proxy.upstream.transports.session import NO_ID, UpstreamRequest

if TYPE_CHECKING:
    # Most proxies have none, so only bootstrap imports it, where it is configured.
    from mcpproxy.proxy.call_limits.call_limits import CallLimits

_OF_MCP: Final = frozenset({ROOTS_CHANGED, "notifications/tasks/status"})
"""Notifications that MCP defines and that use no component."""
_REQUESTS: Final = frozenset({*ROUTED, COMPLETE, *LISTS, *DOWNSTREAM_METHODS})
"""Methods that a client sends as requests only."""


class ClientNotifications:
    """Forwarding of the notifications of clients."""

    def __init__(
        self,
        backends: Mapping[str, Backend],
        routing: RequestRouting,
        denied: Collection[str],
        limits: "CallLimits | None",
    ) -> None:
        """Notifications of extensions in `denied` are refused; `limits` admits the others."""
        self._backends, self._routing, self._denied = backends, routing, denied
        self._limits = limits

    async def forward(
        self, client: ClientIdentity, message: Message, *, running_only: bool = False
    ) -> None:
        """Forward a notification to all upstream sessions of this client that may get it.

        `running_only` limits it to sessions that serve one request each; see
        `ClientSessions.notify`. Raise RpcError if no backend may get it.
        """
        method = jsonrpc.decode_str(message.get("method")) or ""
        if method in _REQUESTS:
            # A lenient backend would run it, although no rule was checked.
            raise RpcError(INVALID_REQUEST, f"{method} is a request; send it with an id")
        if is_denied(method, self._denied):
            raise denied_method_error(method)
        if method in _OF_MCP:
            await self._send(self._reachable(client), message, client, running_only=running_only)
            return
        backends, request, message = self._permitted(client, method, message)
        if running_only:
            # The instance that received it from the client has asked and counted.
            await self._send(backends, message, client, running_only=True)
            return
        attempts = (self._attempt(request, item, message, client) for item in backends)
        refusals = await asyncio.gather(*attempts)
        if None not in refusals:
            refusal = next((error for error in refusals if error is not None), None)
            raise refusal or AccessDenied(client, METHOD_NOT_FOUND, f"method not found: {method}")

    def _reachable(self, client: ClientIdentity) -> list[Backend]:
        """Return the backends of which the client may use anything."""
        access, backends = self._routing.access_of(client), self._backends.values()
        return [item for item in backends if access is None or access.may_reach(item.name)]

    def _permitted(
        self, client: ClientIdentity, method: str, message: Message
    ) -> tuple[list[Backend], UpstreamRequest, Message]:
        """Return the backends that a notification of an extension may reach, and its forms for
        records and for these backends, with their names.

        The rules are those for requests of extensions. Raise RpcError.
        """
        params = jsonrpc.decode_object(message.get("params", jsonrpc.EMPTY))
        route = self._routing.find_named(method, params, client)
        if route is None:
            access, backends = self._routing.access_of(client), self._backends.values()
            whole = [item for item in backends if access is None or access.has_whole(item.name)]
            return whole, UpstreamRequest(NO_ID, method, params), message
        if route.own is not None:
            params = replace_name(method, params, route.kind, route.own)
            message = {**message, "params": jsonrpc.encode_raw(params)}
        return [route.backend], UpstreamRequest(NO_ID, method, params, target=route.name), message

    async def _attempt(
        self, request: UpstreamRequest, backend: Backend, message: Message, client: ClientIdentity
    ) -> RpcError | None:
        """Send a notification to one backend, as a call that is decided on, counted and recorded;
        return the error if it may not be sent."""
        permit = None
        try:
            await self._routing.decide(request, backend.name, client)
            if self._limits is not None:
                permit = await self._limits.admit(request, backend.name, client)
        except RpcError as error:
            return error
        try:
            await self._send((backend,), message, client)
        finally:
            if permit is not None:
                permit.release()
        self._routing.record_notification(request, backend.name, client)
        return None

    async def _send(
        self,
        backends: Iterable[Backend],
        message: Message,
        client: ClientIdentity,
        *,
        running_only: bool = False,
    ) -> None:
        alone = len(self._backends) == 1
        await asyncio.gather(
            *(
                backend.clients.notify(client, message, running_only=running_only, alone=alone)
                for backend in backends
            )
        )
