"""What fronts see of the backends: what they offer together, their lists, and calls by name."""

import asyncio
import functools
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from mcpproxy.proxy.core.catalog.catalog import Catalog
from mcpproxy.proxy.core.catalog.extensions import OF_FRONTS
from mcpproxy.proxy.core.errors import BackendError
from mcpproxy.proxy.core.exchange import CallContext, ClientIdentity
from mcpproxy.proxy.core.tokens.sealed_tokens import Sealer
from mcpproxy.proxy.core.translation.request_names import COMPLETE, ROUTED, component_name
from mcpproxy.proxy.fair_shares import Holder
from mcpproxy.proxy.gateway.aggregate import Aggregate
from mcpproxy.proxy.gateway.extension_lists import ExtensionLists
from mcpproxy.proxy.gateway.resource_subscriptions import ResourceSubscriptions
from mcpproxy.proxy.gateway.router import Route, Router, extension_router_of, upstream_request_of
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import METHOD_NOT_FOUND, Message, RequestEnvelope, RpcError
from mcpproxy.proxy.protocol.kinds import KINDS, ComponentKind
from mcpproxy.proxy.telemetry.metrics import RuntimeMetrics
from mcpproxy.proxy.upstream.attribution import unattributed
from mcpproxy.proxy.upstream.backend import Backend
from mcpproxy.proxy.upstream.transports.session import UpstreamRequest

if TYPE_CHECKING:
    # It is large, and most proxies have no need of it.
    from mcpproxy.proxy.telemetry.tracing import CallTracing

Subscriber = Callable[[str], None]


class PreparedCall(NamedTuple):
    """A request that is ready to be sent."""

    backend: Backend
    outgoing: UpstreamRequest


class Gateway(Aggregate):
    """All backends of one proxy, seen as one server."""

    def __init__(
        self,
        name: str,
        version: str,
        backends: Iterable[Backend],
        catalog: Catalog,
        denied: Collection[str] = (),
    ) -> None:
        """`denied` are the names of extensions that are neither advertised nor routed."""
        super().__init__(name, version, backends, catalog, denied)
        self.metrics = RuntimeMetrics()
        self.tracing: CallTracing | None = None
        self._router = Router(self.backends, catalog, denied)
        self._lists = ExtensionLists(self.backends, self._router)
        self.seal_with(Sealer([secrets.token_bytes(32)], secrets.token_bytes))
        modes = {backend.settings.session_mode for backend in self.backends.values()}
        self.holds_state = "PerClient" in modes
        """Whether clients have sessions of their own with any backend."""
        self._subscribers: dict[Subscriber, str | None] = {}
        """By the session of the client that each of them is for; see `subscribe`."""
        self._resources = ResourceSubscriptions(self.route)
        self._watchers: set[Callable[[], None]] = set()
        self.in_flight = 0
        """Calls that backends have not answered yet."""
        self.metrics.in_flight.set_function(lambda: self.in_flight)
        self.metrics.count(
            "mcpproxy_list_requests",
            "Lists that clients asked for: hit, from the cache alone; miss, a backend was asked",
            ("method", "cache"),
            self._listed.items,
        )
        self.metrics.count(
            "mcpproxy_isolated_requests",
            "Requests with a session of their own: warm, it was open; cold, they waited for it",
            ("backend", "session"),
            self._isolated,
        )
        self.metrics.count(
            "mcpproxy_unattributed_messages",
            "Messages of backends that reached no client: they named no request, and the session"
            " served several clients",
            ("kind",),
            lambda: (((kind,), count) for kind, count in unattributed.items()),
        )
        for backend in self.backends.values():
            opened = self.metrics.upstream.labels(backend.name)
            opened.set_function(functools.partial(_open_sessions, backend))
            backend.watch.on_change = self._changed
            backend.watch.on_updated = functools.partial(self._resources.updated, backend)

    def _isolated(self) -> Iterator[tuple[tuple[str, str], int]]:
        for backend in self.backends.values():
            for found, count in backend.sessions.found.items():
                yield (backend.name, found), count

    def start(self) -> None:
        """Begin to watch the backends."""
        for backend in self.backends.values():
            backend.start()
        self._begin_round()

    async def close(self) -> None:
        """End every session with every backend."""
        self._end_round()
        await asyncio.gather(*(backend.close() for backend in self.backends.values()))
        if self.tracing is not None:
            await asyncio.to_thread(self.tracing.close)

    # Calls

    def known(self, client: ClientIdentity, lines: Iterable[tuple[bytes, bytes]]) -> ClientIdentity:
        """The client of a request with these headers, as far as backends are to know them."""
        if not self.passed:
            return client
        return replace(client, headers=tuple(line for line in lines if line[0] in self.passed))

    def seal_with(self, sealer: Sealer) -> None:
        """Seal what clients bring back to any instance: ids of tasks, and cursors."""
        self._router.sealer = sealer
        if len(self.backends) > 1:
            for backend in self.backends.values():
                backend.names.tasks.sealer = sealer

    def route(self, method: str, params: Message, principal: str | None = None) -> Route:
        """Where a request about a component or task goes; a task is one of this principal's.

        Raises RpcError.
        """
        return self._router.route(method, params, principal)

    def guessed(self, method: str, params: Message, principal: str | None = None) -> Route | None:
        """Where a request of an unknown extension goes, by what it names; None for the one
        backend that there is, and for what fronts answer. Raises RpcError."""
        if method in OF_FRONTS or self._lists.has(method):
            return None
        try:
            found = self._router.guessed(method, params, principal)
        except RpcError as error:
            if len(self.backends) > 1 or error.code == METHOD_NOT_FOUND:
                raise
            # The backend may know more things by such a name than we do.
            return None
        if found is None and len(self.backends) != 1:
            why = "it names no taskId, uri or name by which its backend could be found"
            raise RpcError(METHOD_NOT_FOUND, f"method not found: {method}; {why}")
        return found

    async def located(self, method: str, params: Message | None) -> None:
        """Wait until it is known where a request goes: in the first round it may not be."""
        while not (self.first_round_over or self._locates(method, params or {})):
            await self.another_settled()

    def _locates(self, method: str, params: Message) -> bool:
        if not self.routes(method):
            return False
        try:
            name, kind = self._router.named(method, params)
        except RpcError:
            # It is for none, whatever backends there are.
            return True
        if self.catalog.owner(kind, name) is not None:
            return True
        try:
            backend = self.route(method, params).backend
        except RpcError:
            return False
        # What is not listed goes by its prefix.
        return bool(backend.settings.prefix) and backend.watch.settled.is_set()

    def way(self, owner: str, name: str, kind: ComponentKind) -> Route:
        """The way to a component of this backend. Raises RpcError when clients may not use it."""
        return self._router.way(owner, name, kind)

    def routes(self, method: str) -> bool:
        """Whether a method is about a component or task, and so goes to the backend that has it."""
        return method in ROUTED or method == COMPLETE

    def may_ask(self, route: Route, params: Message) -> bool:
        """Whether the backend may ask while it answers, and the request has to wait for it: by
        requests of its own (legacy era), or in a process that nobody else finds again."""
        backend = route.backend
        greeting = backend.watch.greeting
        if greeting is None or not greeting.modern:
            return True
        # A requestState that is none of ours is the backend's own: the client goes on with it.
        return (backend.asks or backend.is_program) and "requestState" not in params

    async def call(
        self,
        request: Message,
        method: str,
        params: Message | None,
        caller: CallContext,
        prepared: PreparedCall | None = None,
    ) -> Message:
        """Send a client's request to the backend it is for; the response, with the same id.

        Raises RpcError, also for what a backend did wrong.
        """
        if prepared is None and self._lists.has(method):
            return await self._listed_by_all(request, method, params or {}, caller)
        if prepared is None:
            prepared = self.prepared(request, method, params, principal=caller.client.principal)
        backend, outgoing = prepared
        started = time.perf_counter()
        outcome = "ok"
        self.in_flight += 1
        try:
            answer = await self._traced(backend, outgoing, caller, request)
            if "error" in answer:
                outcome = "error"
            answer["id"] = request["id"]
            return answer
        except BackendError as error:
            outcome = error.reason
            raise error.rpc(backend.name) from None
        except BaseException:
            outcome = "cancelled"
            raise
        finally:
            self.in_flight -= 1
            self.metrics.call(backend.name, method, outcome, time.perf_counter() - started)

    async def _listed_by_all(
        self, request: Message, method: str, params: Message, caller: CallContext
    ) -> Message:
        async def send(backend: Backend, outgoing: UpstreamRequest) -> Message:
            return await self.call(request, method, params, caller, PreparedCall(backend, outgoing))

        return await self._lists.answer(request, method, params, caller, send)

    async def _traced(
        self, backend: Backend, outgoing: UpstreamRequest, caller: CallContext, request: Message
    ) -> Message:
        if self.tracing is None:
            return await backend.call(outgoing, caller)
        with self.tracing.call(backend.name, component_name(request), outgoing) as span:
            answer = await backend.call(outgoing, caller)
            span.answered(answer)
            return answer

    def prepared(
        self,
        request: Message,
        method: str,
        params: Message | None,
        route: Route | None = None,
        principal: str | None = None,
    ) -> PreparedCall:
        """A request as it leaves; `route` where it goes, if that is known. Raises RpcError."""
        if route is None:
            find = self.route if self.routes(method) else self.guessed
            route = find(method, params or {}, principal)
        if route is None:
            outgoing = UpstreamRequest(request["id"], method, params, extension_router_of(request))
            return PreparedCall(self._only_backend(method), outgoing)
        extra = extension_router_of(request)
        outgoing = upstream_request_of(request["id"], method, params or {}, route, extra)
        return PreparedCall(route.backend, outgoing)

    def prepared_call(self, call: RequestEnvelope, route: Route | None = None) -> PreparedCall:
        """The same for a call as nearly all of them are. Raises RpcError."""
        params = call.params or {}
        route = route or self.route(call.method, params)
        return PreparedCall(route.backend, upstream_request_of(call.id, call.method, params, route))

    def _only_backend(self, method: str) -> Backend:
        if len(self.backends) == 1:
            return next(iter(self.backends.values()))
        raise RpcError(METHOD_NOT_FOUND, f"method not found: {method}")

    def set_standing(self, standing: Callable[[ClientIdentity], CallContext]) -> None:
        """Who takes what backends send to a client outside of its requests."""
        for backend in self.backends.values():
            backend.sessions.standing = backend.through(standing)

    def keeps_state(self, method: str | None, message: Message) -> bool:
        """Whether a request is served by a session with a backend that is the client's own."""
        if not self.holds_state or method is None or method in OF_FRONTS:
            return False
        if self._lists.has(method):
            asked = self._lists.contributors(method, modern=False)
            return any(backend.settings.session_mode == "PerClient" for backend in asked)
        find = self.route if self.routes(method) else self.guessed
        try:
            route = find(method, jsonrpc.decode_object(message.get("params", jsonrpc.EMPTY)))
            backend = self._only_backend(method) if route is None else route.backend
        except RpcError:
            return False
        return backend.settings.session_mode == "PerClient"

    async def noted(
        self, client: ClientIdentity, message: Message, *, running_only: bool = False
    ) -> None:
        """A client's notification, for every session with a backend that is its own.

        `running_only`: for those alone that serve one request each (see `Backend.notify`).
        """
        alone = len(self.backends) == 1
        await asyncio.gather(
            *(
                backend.notify(client, message, running_only=running_only, alone=alone)
                for backend in self.backends.values()
            )
        )

    def end_client(self, session: str) -> None:
        """A client ended its session."""
        for backend in self.backends.values():
            backend.end_client(session)

    # Changes

    def subscribe(self, subscriber: Subscriber, session: str | None = None) -> Callable[[], None]:
        """Call `subscriber` with the notification's method when a list changes; returns the end.

        Changes that only one session sees are told to those that are for this `session`, or, with
        None, for whichever.
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
        """Call `watcher` when anything that the status shows may have changed."""
        self._watchers.add(watcher)
        return lambda: self._watchers.discard(watcher)

    def look(self) -> None:
        """Something that the status shows may have changed."""
        for watcher in list(self._watchers):
            watcher()

    def _changed(self, kinds: set[ComponentKind], session: str = "") -> None:
        """Lists have changed: that of the client of a session, or any without one."""
        self.look()
        for method in {kind.changed for kind in KINDS if kind in kinds}:
            for subscriber, own in list(self._subscribers.items()):
                if not session or own in (None, session):
                    subscriber(method)


def _open_sessions(backend: Backend) -> int:
    return backend.sessions.upstream.count
