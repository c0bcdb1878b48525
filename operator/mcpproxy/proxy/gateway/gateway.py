"""Gateway: downstream view of all backends, with merged lists and routing of calls by name."""

import asyncio
import functools
import secrets
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from mcpproxy.proxy.core.catalog.catalog import Catalog
from mcpproxy.proxy.core.catalog.extensions import DOWNSTREAM_METHODS
from mcpproxy.proxy.core.exchange import CallContext, ClientIdentity
from mcpproxy.proxy.core.tokens.sealed_tokens import Sealer
from mcpproxy.proxy.core.translation.request_names import COMPLETE, ROUTED
from mcpproxy.proxy.fair_shares import Holder
from mcpproxy.proxy.gateway.aggregate import Aggregate
from mcpproxy.proxy.gateway.extension_lists import ExtensionLists
from mcpproxy.proxy.gateway.resource_subscriptions import ResourceSubscriptions
from mcpproxy.proxy.gateway.router import Route, Router, extra_fields_of, upstream_request_of
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import METHOD_NOT_FOUND, Message, RpcError
from mcpproxy.proxy.protocol.kinds import KINDS, ComponentKind
from mcpproxy.proxy.telemetry.metrics import RuntimeMetrics
from mcpproxy.proxy.upstream.attribution import unattributed
from mcpproxy.proxy.upstream.backend import Backend
from mcpproxy.proxy.upstream.transports.session import UpstreamRequest

if TYPE_CHECKING:
    # The import is slow, and most proxies have tracing disabled.
    from mcpproxy.proxy.telemetry.tracing import CallTracing

Subscriber = Callable[[str], None]


class Gateway(Aggregate):
    """All backends of one proxy as one server."""

    def __init__(
        self,
        name: str,
        version: str,
        backends: Iterable[Backend],
        catalog: Catalog,
        denied: Collection[str] = (),
    ) -> None:
        """Create a gateway. Extensions in `denied` are neither advertised nor routed."""
        super().__init__(name, version, backends, catalog, denied)
        self.metrics = RuntimeMetrics()
        self.tracing: CallTracing | None = None
        self.router = Router(self.backends, catalog, denied)
        self.lists = ExtensionLists(self.backends, self.router)
        self.seal_with(Sealer([secrets.token_bytes(32)], secrets.token_bytes))
        modes = {backend.settings.session_mode for backend in self.backends.values()}
        self.holds_state = "PerClient" in modes
        """True if some backend has separate sessions for each client."""
        self._subscribers: dict[Subscriber, str | None] = {}
        """Session for which each subscriber gets changes; see `subscribe`."""
        self._resources = ResourceSubscriptions(self.route)
        self._watchers: set[Callable[[], None]] = set()
        self.running: set[Hashable] = set()
        """Calls without a response so far."""
        self.metrics.in_flight.set_function(lambda: len(self.running))
        self.metrics.count(
            "mcpproxy_list_requests",
            "List requests of clients: hit, served from the cache; miss, sent to a backend",
            ("method", "cache"),
            self._list_requests.items,
        )
        self.metrics.count(
            "mcpproxy_isolated_requests",
            "Isolated requests: warm, a session was available; cold, the proxy had to open one",
            ("backend", "session"),
            self._isolated,
        )
        self.metrics.count(
            "mcpproxy_unattributed_messages",
            "Messages of backends that the proxy dropped because they named no request and the"
            " session served several clients",
            ("kind",),
            lambda: (((kind,), count) for kind, count in unattributed.items()),
        )
        for backend in self.backends.values():
            opened = self.metrics.upstream.labels(backend.name)
            opened.set_function(functools.partial(_open_sessions, backend))
            backend.watch.on_change = self._on_change
            backend.watch.on_updated = functools.partial(self._resources.updated, backend)

    def _isolated(self) -> Iterator[tuple[tuple[str, str], int]]:
        for backend in self.backends.values():
            for kind, count in backend.sessions.acquisitions.items():
                yield (backend.name, kind), count

    def start(self) -> None:
        """Start to monitor the backends."""
        for backend in self.backends.values():
            backend.start()
        self._begin_round()

    async def close(self) -> None:
        """Close every session with every backend."""
        self._end_round()
        await asyncio.gather(*(backend.close() for backend in self.backends.values()))
        if self.tracing is not None:
            await asyncio.to_thread(self.tracing.close)

    def with_forwarded_headers(
        self, client: ClientIdentity, headers: Iterable[tuple[bytes, bytes]]
    ) -> ClientIdentity:
        """Return the client with those of its request headers that some backend gets."""
        if not self.passed:
            return client
        return replace(
            client, headers=tuple(header for header in headers if header[0] in self.passed)
        )

    def seal_with(self, sealer: Sealer) -> None:
        """Set the sealer for task ids and cursors, which clients may send to any instance."""
        self.router.sealer = sealer
        if len(self.backends) > 1:
            for backend in self.backends.values():
                backend.names.tasks.sealer = sealer

    def route(self, method: str, params: Message, principal: str | None = None) -> Route:
        """Return the route of a request about a component, or about a task of this principal.

        Raise RpcError.
        """
        return self.router.route(method, params, principal)

    def guess_route(
        self, method: str, params: Message, principal: str | None = None
    ) -> Route | None:
        """Return the route of a request of an unknown extension by the names in its params.

        Return None if the only backend gets it, or if the downstream side handles it. Raise
        RpcError.
        """
        if method in DOWNSTREAM_METHODS or self.lists.has(method):
            return None
        try:
            route = self.router.guess_route(method, params, principal)
        except RpcError as error:
            if len(self.backends) > 1 or error.code == METHOD_NOT_FOUND:
                raise
            # The backend may have names that the proxy does not know.
            return None
        if route is None and len(self.backends) != 1:
            why = (
                "several backends could serve it, and it has no taskId, uri or name that selects"
                " one"
            )
            raise RpcError(METHOD_NOT_FOUND, f"method not found: {method}; {why}")
        return route

    async def wait_for_route(self, method: str, params: Message | None) -> None:
        """Wait until the route of a request is known or the first round over the backends ends."""
        while not (self.first_round_over or self._locates(method, params or {})):
            await self.wait_for_next_backend()

    def _locates(self, method: str, params: Message) -> bool:
        if not self.is_routed(method):
            return False
        try:
            name, kind = self.router.named(method, params)
        except RpcError:
            # The request is invalid regardless of the backends.
            return True
        if self.catalog.owner(kind, name) is not None:
            return True
        try:
            backend = self.route(method, params).backend
        except RpcError:
            return False
        # Requests for unlisted components are routed by prefix.
        return bool(backend.settings.prefix) and backend.watch.settled.is_set()

    def route_to(self, owner: str, name: str, kind: ComponentKind) -> Route:
        """Return the route to a component of a backend. Raise RpcError if clients may not use
        it."""
        return self.router.route_to(owner, name, kind)

    def is_routed(self, method: str) -> bool:
        """Return True if requests of this method are routed by a component or task."""
        return method in ROUTED or method == COMPLETE

    def can_request_input(self, route: Route, params: Message) -> bool:
        """Return True if the backend may send server requests for which the call must wait.

        These are requests of a legacy backend, or input requests of a process that only this
        instance can reach.
        """
        backend = route.backend
        greeting = backend.watch.greeting
        if greeting is None or not greeting.modern:
            return True
        # A requestState that the proxy did not seal is the backend's; it identifies the call.
        return (backend.asks or backend.is_program) and "requestState" not in params

    def prepare(
        self, request: Message, method: str, params: Message | None, principal: str | None = None
    ) -> tuple[Backend, UpstreamRequest]:
        """Return the backend of a request, and the request in its upstream form. Raise RpcError."""
        find = self.route if self.is_routed(method) else self.guess_route
        route = find(method, params or {}, principal)
        extra = extra_fields_of(request)
        if route is None:
            upstream = UpstreamRequest(request["id"], method, params, extra)
            return self._only_backend(method), upstream
        return route.backend, upstream_request_of(request["id"], method, params or {}, route, extra)

    def _only_backend(self, method: str) -> Backend:
        if len(self.backends) == 1:
            return next(iter(self.backends.values()))
        raise RpcError(METHOD_NOT_FOUND, f"method not found: {method}")

    def set_session_context(self, standing: Callable[[ClientIdentity], CallContext]) -> None:
        """Set the factory of contexts that receive what backends send outside of requests."""
        for backend in self.backends.values():
            backend.sessions.standing = backend.wrap_context(standing)

    def is_session_bound(self, method: str | None, message: Message) -> bool:
        """Return True if a request uses a session that the client has for itself with a backend."""
        if not self.holds_state or method is None or method in DOWNSTREAM_METHODS:
            return False
        if self.lists.has(method):
            contributors = self.lists.contributors(method, modern=False)
            return any(backend.settings.session_mode == "PerClient" for backend in contributors)
        find = self.route if self.is_routed(method) else self.guess_route
        try:
            route = find(method, jsonrpc.decode_object(message.get("params", jsonrpc.EMPTY)))
            backend = self._only_backend(method) if route is None else route.backend
        except RpcError:
            return False
        return backend.settings.session_mode == "PerClient"

    async def notify_backends(
        self, client: ClientIdentity, message: Message, *, running_only: bool = False
    ) -> None:
        """Forward a client's notification to all upstream sessions of this client.

        `running_only` limits it to sessions that serve one request each; see `Backend.notify`.
        """
        alone = len(self.backends) == 1
        await asyncio.gather(
            *(
                backend.notify(client, message, running_only=running_only, alone=alone)
                for backend in self.backends.values()
            )
        )

    def end_client(self, session: str) -> None:
        """Close the upstream sessions of a client that ended its session."""
        for backend in self.backends.values():
            backend.end_client(session)

    def subscribe(self, subscriber: Subscriber, session: str | None = None) -> Callable[[], None]:
        """Call `subscriber` with the notification's method when a list changes; return the
        canceller.

        Changes in only one session's lists go to the subscribers of that session and to those with
        None.
        """
        self._subscribers[subscriber] = session

        def end() -> None:
            self._subscribers.pop(subscriber, None)

        return end

    async def subscribe_resource(
        self, uri: str, listener: Callable[[Message], None], holder: Holder = ("", "")
    ) -> Callable[[], Awaitable[None]]:
        return await self._resources.subscribe(uri, listener, holder)

    def watch(self, watcher: Callable[[], None]) -> Callable[[], None]:
        """Call `watcher` whenever the reported state may have changed; return the canceller."""
        self._watchers.add(watcher)
        return lambda: self._watchers.discard(watcher)

    def notify_status_watchers(self) -> None:
        """Notify the watchers that the reported state may have changed."""
        for watcher in list(self._watchers):
            watcher()

    def _on_change(self, kinds: set[ComponentKind], session: str = "") -> None:
        """Notify subscribers of changed lists: those of one session, or all if it is empty."""
        self.notify_status_watchers()
        for method in {kind.changed for kind in KINDS if kind in kinds}:
            for subscriber, own in list(self._subscribers.items()):
                if not session or own in (None, session):
                    subscriber(method)


def _open_sessions(backend: Backend) -> int:
    return backend.sessions.upstream.count
