"""Gateway: downstream view of all backends, with merged lists and routing of calls by name."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.core.reports import CallLimitsReport
from mcpproxy.proxy.gateway.aggregate import Aggregate
from mcpproxy.proxy.gateway.client_notifications import ClientNotifications
from mcpproxy.proxy.gateway.list_subscribers import ListSubscribers, Subscriber
from mcpproxy.proxy.gateway.request_routing import RequestRouting
from mcpproxy.proxy.gateway.resource_subscriptions import ResourceSubscriptions
from mcpproxy.proxy.gateway.routing.route_finder import Route, Visibility
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.protocol.kinds import TOOLS, ComponentKind
from mcpproxy.proxy.telemetry.gauges import register_gauges
from mcpproxy.proxy.telemetry.loop_delay import LoopDelay
from mcpproxy.proxy.telemetry.metrics import RuntimeMetrics
from mcpproxy.proxy.upstream.backend import Backend
from mcpproxy.proxy.upstream.context import BackendContext, ContextFactory

if TYPE_CHECKING:
    # Most proxies have none of these, so only bootstrap imports them, where they are configured.
    from mcpproxy.proxy.call_limits.call_limits import CallLimits
    from mcpproxy.proxy.gateway.access_guard import AccessGuard
    from mcpproxy.proxy.gateway.audited_requests import AuditedRequests
    from mcpproxy.proxy.gateway.external_decisions import ExternalDecisions
    from mcpproxy.proxy.instances.members import InstanceLink
    from mcpproxy.proxy.instances.watch_sharing import WatchSharing
    from mcpproxy.proxy.telemetry.recent_calls import RecentCalls
    from mcpproxy.proxy.telemetry.tracing import CallTracing

    ShareWatches = Callable[[InstanceLink, Mapping[str, Backend]], WatchSharing]
    """Function that divides the watches of backends among the instances on a link."""


class Gateway:
    """All backends of one proxy as one server."""

    def __init__(
        self,
        name: str,
        version: str,
        backends: Iterable[Backend],
        context: BackendContext,
        denied: Collection[str] = (),
        tracing: "CallTracing | None" = None,
        guard: "AccessGuard | None" = None,
        decisions: "ExternalDecisions | None" = None,
        audit: "AuditedRequests | None" = None,
        visibility: Visibility | None = None,
        recent_calls: "RecentCalls | None" = None,
        limits: "CallLimits | None" = None,
        share_watches: "ShareWatches | None" = None,
    ) -> None:
        """Create a gateway. `context` is that of the backends. Extensions in `denied` are neither
        advertised nor routed.

        `guard` and `decisions` restrict the clients. `audit` records requests, and
        `recent_calls` keeps the last calls. `visibility` locates components that no list shows.
        `limits` admits calls. `share_watches` divides the watches of backends among instances.
        """
        self.aggregate = Aggregate(name, version, backends, context.catalog, denied, audit)
        self.routing = RequestRouting(
            *(self.aggregate, context.sealer, denied, guard, decisions, audit, visibility),
            kept_results=context.kept_results,
            seals_tasks=context.seals_task_ids,
        )
        self.backends, self.catalog, self._audit = self.aggregate.backends, context.catalog, audit
        self.metrics = RuntimeMetrics(self.catalog)
        self.end_call = self.metrics.operations.end_call
        self.events = context.events
        self._session_contexts = context.session_contexts
        self.tracing, self.limits, self.kept_results = tracing, limits, context.kept_results
        self.recent_calls, self._share_watches = recent_calls, share_watches
        self.watches: WatchSharing | None = None
        """Division of the watches of backends among instances; None without other instances."""
        self.call_records = tuple(log.record_call for log in (recent_calls, audit) if log)
        """Functions that record each ended call."""
        self._subscribers = ListSubscribers(self.catalog)
        self._resources = ResourceSubscriptions(
            self.routing.decide_route, self.routing.record_notification
        )
        self.subscribe_resource = self._resources.subscribe
        self._notifications = ClientNotifications(self.backends, self.routing, denied, limits)
        self._watchers: set[Callable[[], None]] = set()
        self.events.list_change.subscribe(self._on_change)
        self.events.resource_update.subscribe(self._on_resource_update)
        self.running: set[Hashable] = set()
        """Calls without a response so far."""
        self._token_requests: Counter[tuple[str, str]] = Counter()
        self.events.token_request.subscribe(self._count_token_request)
        self._register_metrics(audit)

    def _register_metrics(self, audit: "AuditedRequests | None") -> None:
        self.metrics.count(
            "mcpproxy_token_requests",
            "Requests of tokens for backends to authorization servers, by result",
            ["backend", "result"],
            self._token_requests.items,
        )
        lists = self.aggregate.list_requests
        self._delay = delay = LoopDelay()
        register_gauges(self.metrics, self.backends, lists, lambda: len(self.running), delay)
        if self.limits is not None:
            self.limits.register_metrics(self.metrics.count)
        if audit is not None:
            self.metrics.count(
                "mcpproxy_audit_dropped",
                "Audit records that could not be written",
                (),
                lambda: [((), audit.log.dropped)],
            )

    def _count_token_request(self, backend: str, result: str) -> None:
        self._token_requests[backend, result] += 1

    def start(self) -> None:
        """Start to monitor the backends."""
        self._delay.start()
        for backend in self.backends.values():
            backend.start()
        if self.limits is not None:
            self.limits.start(self.notify_status_watchers)
        self.aggregate.begin_round()

    def connect(self, link: "InstanceLink") -> None:
        """Work together with the other instances from now on."""
        if self.limits is not None:
            self.limits.connect(link)
        if self._share_watches is not None:
            watches = self.watches = self._share_watches(link, self.backends)
            self.events.list_change.subscribe(lambda kinds, session: watches.wake())
            watches.start()

    async def leave(self) -> None:
        """Tell the other instances that this one ends."""
        parts = (self.limits, self.watches)
        await asyncio.gather(*(part.leave() for part in parts if part is not None))

    async def close(self) -> None:
        """Close every session with every backend."""
        self._delay.stop()
        self.aggregate.end_round()
        if self.watches is not None:
            await self.watches.close()
        await asyncio.gather(*(backend.close() for backend in self.backends.values()))
        await self.routing.close()
        if self.kept_results is not None:
            self.kept_results.close()
        if self.limits is not None:
            await self.limits.close()
        if self.tracing is not None:
            await asyncio.to_thread(self.tracing.close)
        if self._audit is not None:
            await self._audit.log.close()

    def limits_report(self, *, complete: bool) -> CallLimitsReport | None:
        """Return the state of the limits; `complete` means that all components are known."""
        if self.limits is None:
            return None
        tools = (name for backend in self.backends for name in self.catalog.names(backend, TOOLS))
        return CallLimitsReport(
            rules=len(self.limits.rules.rules),
            unused=self.limits.unused(tools) if complete else None,
            failure=self.limits.store.failure(),
        )

    def with_forwarded_headers(
        self, client: ClientIdentity, headers: Iterable[tuple[bytes, bytes]]
    ) -> ClientIdentity:
        """Return the client with those of its request headers that some backend gets."""
        passed = self.aggregate.passed
        if not passed:
            return client
        return replace(client, headers=tuple(header for header in headers if header[0] in passed))

    def list_at_once(
        self,
        kind: ComponentKind,
        params: Message | None,
        *,
        modern: bool,
        client: ClientIdentity,
        now: float,
    ) -> tuple[bytes, bytes, bytes] | None:
        """Return the cached list for a client, and record the request; see `Aggregate.listed`."""
        began = time.perf_counter()
        parts = self.aggregate.listed(kind, params, modern=modern, client=client, now=now)
        if parts is not None:
            seconds = time.perf_counter() - began
            self.metrics.operations.add_served(kind.method, "", client.revision, "", seconds)
        return parts

    def can_request_input(self, route: Route, params: Message) -> bool:
        """Return True if the backend may send server requests for which the call must wait.

        These are requests of a legacy backend, or input requests of a process that only this
        instance can reach.
        """
        backend = route.backend
        server = backend.watch.server
        if server is None or not server.modern:
            return True
        # A requestState that the proxy did not seal is the backend's; it identifies the call.
        return (backend.asks or backend.is_program) and "requestState" not in params

    def provide_session_contexts(
        self, build: ContextFactory, session: str | None = None
    ) -> Callable[[], None]:
        """Set the factory of contexts that receive what backends send outside of requests.

        The factory is for one session, or for all that have none of their own. Return its
        canceller.
        """
        return self._session_contexts.provide(build, session)

    async def notify_backends(
        self, client: ClientIdentity, message: Message, *, running_only: bool = False
    ) -> None:
        """Forward a client's notification; see `ClientNotifications.forward`. Raise RpcError."""
        await self._notifications.forward(client, message, running_only=running_only)

    def end_client(self, session: str) -> None:
        """Close the upstream sessions of a client that ended its session."""
        for backend in self.backends.values():
            backend.end_client(session)

    def subscribe(
        self,
        subscriber: Subscriber,
        session: str | None = None,
        client: ClientIdentity | None = None,
        known_rules: str | None = None,
    ) -> Callable[[], None]:
        """Call `subscriber` with the notification's method when a list changes; return the
        canceller.

        See `ListSubscribers.add`; `client` is the subscriber, and gets only changes that it sees.
        """
        access = self.routing.access_of(client)
        return self._subscribers.add(subscriber, session, access, known_rules)

    def watch(self, watcher: Callable[[], None]) -> Callable[[], None]:
        """Call `watcher` whenever the reported state may have changed; return the canceller."""
        self._watchers.add(watcher)
        return lambda: self._watchers.discard(watcher)

    def notify_status_watchers(self) -> None:
        """Notify the watchers that the reported state may have changed."""
        for watcher in list(self._watchers):
            watcher()

    def _on_resource_update(self, backend: str, message: Message) -> None:
        self._resources.updated(self.backends[backend], message)

    def _on_change(self, kinds: set[ComponentKind], session: str = "") -> None:
        """Notify subscribers of changed lists: those of one session, or all if it is empty."""
        self.notify_status_watchers()
        self._subscribers.announce(kinds, session)
