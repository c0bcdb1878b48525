"""Subscriptions of clients to resources of backends."""

import itertools
from collections.abc import Awaitable, Callable

from mcpproxy.limits.clients import ALL_SUBSCRIPTIONS, RESOURCE_URI
from mcpproxy.proxy.core.access import Access
from mcpproxy.proxy.core.errors import BackendError
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.core.translation.result_names import to_downstream_message
from mcpproxy.proxy.fair_shares import FairShares, Holder
from mcpproxy.proxy.gateway.routing.route_finder import Route
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import INVALID_PARAMS, UNAVAILABLE, Message, RpcError
from mcpproxy.proxy.protocol.kinds import SUBSCRIBE
from mcpproxy.proxy.upstream.backend import Backend
from mcpproxy.proxy.upstream.transports.session import NO_ID, UpstreamRequest

Listener = Callable[[Message], None]
FindRoute = Callable[[str, Message, ClientIdentity | None], Awaitable[Route]]
"""Coroutine function that finds the backend of a client's request. Raises RpcError."""
RecordSubscription = Callable[[UpstreamRequest, str, ClientIdentity], None]
"""Function that records a request for which the backend with this name sends notifications."""


class ResourceSubscriptions:
    """Subscriptions of all clients."""

    def __init__(self, route: FindRoute, record: RecordSubscription) -> None:
        """`record` is called with each new subscription of a client."""
        self._route, self._record = route, record
        self._listeners: dict[tuple[str, str], list[Listener]] = {}
        """Backend and upstream URI → callbacks for changes."""
        self._holders: FairShares[int] = FairShares(ALL_SUBSCRIPTIONS.value)
        self._numbers = itertools.count(1)

    async def subscribe(
        self,
        uri: str,
        listener: Listener,
        holder: Holder = ("", ""),
        client: ClientIdentity | None = None,
    ) -> Callable[[], Awaitable[None]]:
        """Call `listener` with a notification whenever a resource changes; return the canceller.

        The subscription counts for `holder`. `client` is the subscriber, if its access may be
        restricted. Raise RpcError, also for failures of the backend.
        """
        number = self._admit(uri, holder)
        try:
            return await self._subscribe(uri, listener, number, client)
        except BaseException:
            self._holders.discard(number)
            raise

    def _admit(self, uri: str, holder: Holder) -> int:
        """Return the number of a new subscription. Raise RpcError if a limit is reached."""
        size = len(uri.encode("utf-8", "surrogatepass"))
        if size > RESOURCE_URI.value:
            RESOURCE_URI.record()
            raise RpcError(
                INVALID_PARAMS,
                f"params.uri has {size} bytes; the maximum is {RESOURCE_URI.value}",
            )
        if not self._holders.admits(holder):
            ALL_SUBSCRIPTIONS.record()
            raise RpcError(
                UNAVAILABLE, "clients have too many subscriptions; end some of them or retry later"
            )
        number = next(self._numbers)
        self._holders.add(number, holder)
        return number

    async def _subscribe(
        self, uri: str, listener: Listener, number: int, client: ClientIdentity | None
    ) -> Callable[[], Awaitable[None]]:
        params = {"uri": jsonrpc.encode_raw(uri)}
        route = await self._route(SUBSCRIBE, params, client)
        backend = route.backend
        if client is not None and client.access is not None:
            listener = _restricted(listener, route, client.access)
        upstream_uri = jsonrpc.decode_str(route.own) or uri
        try:
            await backend.watch.subscribe(upstream_uri)
        except BackendError as error:
            raise error.rpc(backend.name) from None
        if client is not None:
            upstream = {"uri": jsonrpc.encode_raw(upstream_uri)}
            request = UpstreamRequest(NO_ID, SUBSCRIBE, upstream, target=route.name)
            self._record(request, backend.name, client)
        key = (backend.name, upstream_uri)
        self._listeners.setdefault(key, []).append(listener)

        async def end() -> None:
            self._holders.discard(number)
            listeners = self._listeners.get(key, [])
            if listener in listeners:
                listeners.remove(listener)
                if not listeners:
                    del self._listeners[key]
                await backend.watch.unsubscribe(upstream_uri)

        return end

    def updated(self, backend: Backend, message: Message) -> None:
        """Forward a backend's notification that a resource changed."""
        params = jsonrpc.decode_object(message.get("params", jsonrpc.EMPTY))
        upstream_uri = jsonrpc.decode_str(params.get("uri")) or ""
        downstream = to_downstream_message(message, backend.names)
        for listener in list(self._listeners.get((backend.name, upstream_uri), ())):
            listener(downstream)


def _restricted(listener: Listener, route: Route, access: Access) -> Listener:
    """Return a listener that is not called once the access does not show the resource."""

    def listen(message: Message) -> None:
        names = (route.name, *route.aliases)
        if all(access.shows(route.kind, route.backend.name, name) for name in names):
            listener(message)

    return listen
