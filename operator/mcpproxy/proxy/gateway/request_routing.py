"""Routing of the requests of clients, within their access."""

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from msgspec import DecodeError

from mcpproxy.proxy.core.access import Access
from mcpproxy.proxy.core.catalog.extensions import DOWNSTREAM_METHODS
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.core.reports import RulesReport
from mcpproxy.proxy.core.tokens.sealed_tokens import Sealer
from mcpproxy.proxy.core.translation.request_names import (
    COMPLETE,
    KNOWN_PARAMS,
    ROUTED,
    component_ref,
    first_name,
    has_unreadable_name,
    replace_name,
)
from mcpproxy.proxy.gateway.aggregate import Aggregate
from mcpproxy.proxy.gateway.extension_lists import ExtensionLists
from mcpproxy.proxy.gateway.routing.route_finder import Route, RouteFinder, Visibility
from mcpproxy.proxy.gateway.routing.router import (
    MAX_ROUTES,
    Router,
    extra_fields_of,
    upstream_request_of,
)
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import METHOD_NOT_FOUND, Message, RpcError, decode_any
from mcpproxy.proxy.results.result_limit import READ_RESOURCE
from mcpproxy.proxy.upstream.backend import Backend
from mcpproxy.proxy.upstream.transports.session import NO_ID, UpstreamRequest

if TYPE_CHECKING:
    # Most proxies have none of these, so only bootstrap imports them, where they are configured.
    from mcpproxy.proxy.gateway.access_guard import AccessGuard
    from mcpproxy.proxy.gateway.audited_requests import AuditedRequests
    from mcpproxy.proxy.gateway.external_decisions import ExternalDecisions
    from mcpproxy.proxy.results.kept_results import KeptResults


class RequestRouting:
    """Backends of requests by the components that they name, and access of clients to these."""

    def __init__(
        self,
        aggregate: Aggregate,
        sealer: Sealer,
        denied: Collection[str] = (),
        guard: "AccessGuard | None" = None,
        decisions: "ExternalDecisions | None" = None,
        audit: "AuditedRequests | None" = None,
        visibility: Visibility | None = None,
        *,
        kept_results: "KeptResults | None" = None,
        seals_tasks: bool,
    ) -> None:
        """`aggregate` has the backends and their catalog. `kept_results` and `seals_tasks` are
        those of RouteFinder.

        Other arguments are those of Gateway.
        """
        self._aggregate, self.sealer = aggregate, sealer
        self._backends, self._catalog = backends, catalog = aggregate.backends, aggregate.catalog
        self._guard, self._kept_results = guard, kept_results
        self._visibility = visibility
        self._decisions, self._audit = decisions, audit
        self.decides_at_once = not (decisions or kept_results or (audit and audit.log.refuses))
        """True if calls are sent without asking an external service or the audit log, and without
        looking for results that another instance keeps."""
        restricts = guard is not None
        self._finder = RouteFinder(
            *(backends, catalog, sealer, denied, visibility, kept_results),
            seals_tasks=seals_tasks,
            restricts=restricts,
        )
        self._router = Router(self._finder, catalog)
        self._recording = audit if audit and audit.log.records_arguments else None
        checks = guard is not None or self._recording is not None
        self.route = self._route_checked if checks else self._router.route
        """Return the route of a client's request about a component or a task.

        Raise RpcError, also if the client may not send it.
        """
        self._allowed: dict[tuple[str, str, bytes], Route] = {}
        """Routes that all clients with the same rules may use without a condition, by the digest of
        the rules, the method and the name, for one catalog."""
        self._version = -1
        self.lists = ExtensionLists(backends, self._finder, sealer, restricts=restricts)
        modes = {backend.settings.session_mode for backend in backends.values()}
        self.holds_state = "PerClient" in modes
        """True if some backend has separate sessions for each client."""

    def access_of(self, client: ClientIdentity | None) -> Access | None:
        """Return the access of a client; None without `spec.authorization`."""
        return None if self._guard is None else self._guard.access_of(client)

    async def close(self) -> None:
        """Close the connections to the external service."""
        if self._decisions is not None:
            await self._decisions.close()

    def authorization_report(self, *, complete: bool) -> RulesReport | None:
        """Return the state of the rules; `complete` means that all components are known."""
        return None if self._guard is None else self._guard.report(complete=complete)

    def restrict(self, client: ClientIdentity) -> ClientIdentity:
        """Return the client with the access that its identity has; all clients pass through here.

        With `spec.authorization`, clients without access may use nothing.
        """
        if self._guard is None:
            return client
        return replace(client, access=self._guard.restrict(client))

    async def decide(self, request: UpstreamRequest, backend: str, client: ClientIdentity) -> None:
        """Ask the external service, if any, about a client's request.

        `request` has the names of clients or those of the backend. Raise RpcError if the service
        denies the request, or if no record of the request could be written.
        """
        if self._audit is not None:
            self._audit.check_room()
        if self._decisions is not None:
            params = self._judged_params(request, client)
            await self._decisions.check(request.method, params, backend, client)

    def _judged_params(self, request: UpstreamRequest, client: ClientIdentity) -> Message:
        """Return the params with the names of lists, whatever spelling the client has used."""
        method, params = request.method, request.params or {}
        if not request.target:
            return params
        name = jsonrpc.encode_raw(request.target)
        if self.is_routed(method):
            return replace_name(method, params, component_ref(method, params)[1], name)
        params = {**params, first_name(params): name}
        for route in self._finder.guess_routes(method, params, client, self.access_of(client)):
            params = {**params, route.kind.key: jsonrpc.encode_raw(route.name)}
        return params

    def record_notification(
        self, request: UpstreamRequest, backend: str, client: ClientIdentity
    ) -> None:
        """Record a notification or subscription that a backend got."""
        if self._audit is not None:
            self._audit.record_notification(request, backend, client)

    def record_refusal(self, error: RpcError, request: Message) -> None:
        """Record the response to a request if it is that `spec.authorization` denies it."""
        if self._audit is not None:
            self._audit.record_refusal(error, request)

    def record_failed_authentication(self, result: str, network: str) -> None:
        """Record credentials that were not accepted, with the reason and the sender's network."""
        if self._audit is not None:
            self._audit.record_failed_authentication(result, network)

    def restrict_result(
        self, method: str, backend: str, answer: Message, client: ClientIdentity
    ) -> None:
        """Remove what the client may not use from a response that lists components."""
        if self._guard is not None:
            self._guard.restrict_result(method, backend, answer, client)

    def _route_checked(
        self, method: str, params: Message, client: ClientIdentity | None = None
    ) -> Route:
        if self._recording is not None and "arguments" in params:
            try:
                # As `check_arguments`, but without a call for each request.
                decode_any(params["arguments"])
            except (DecodeError, RecursionError):
                self._recording.check_arguments(params["arguments"], client)
        if self._guard is None:
            return self._router.route(method, params, client, None)
        if self._version != self._catalog.version:
            self._version = self._catalog.version
            self._allowed.clear()
        access = None if client is None else client.access
        if access is not None and method in ROUTED and params.keys() <= KNOWN_PARAMS:
            raw = params.get(ROUTED[method][0])
            if raw is not None:
                key = access.digest, method, bytes(raw)
                return self._allowed.get(key) or self._route_guarded(method, params, client, key)
        return self._route_guarded(method, params, client)

    def _route_guarded(
        self,
        method: str,
        params: Message,
        client: ClientIdentity | None,
        key: tuple[str, str, bytes] | None = None,
    ) -> Route:
        """Return a route that the client may use, and keep it by `key` if that is always so."""
        guard = self._guard
        assert guard is not None
        access = guard.access_of(client)
        route = self._router.route(method, params, client, access)
        rule = guard.check(route, method, params, client, access)
        if rule:
            return route._replace(rule=rule)
        is_kept = key is not None and self._router.keeps(key[1:], route)
        if key is not None and is_kept and guard.allows_all(route, access):
            if len(self._allowed) >= MAX_ROUTES:
                self._allowed.clear()
            self._allowed[key] = route
        return route

    async def decide_route(
        self, method: str, params: Message, client: ClientIdentity | None
    ) -> Route:
        """Return a route once the external service, if any, allows the request. Raise RpcError."""
        route = self.route(method, params, client)
        if client is not None:
            request = UpstreamRequest(NO_ID, method, params, target=route.name)
            await self.decide(request, route.backend.name, client)
        return route

    def guess_route(
        self, method: str, params: Message, client: ClientIdentity | None = None
    ) -> Route | None:
        """Return the route of a request of an unknown extension by the names in its params.

        Return None if the only backend gets it, or if the downstream side handles it. Raise
        RpcError.
        """
        if method in DOWNSTREAM_METHODS or self.lists.has(method):
            return None
        self._check_guess(params, client)
        try:
            route = self._guess(method, params, client)
        except RpcError as error:
            alone = len(self._backends) == 1 and self._guard is None
            if not alone or error.code == METHOD_NOT_FOUND:
                raise
            # The backend may have names that the proxy does not know.
            return None
        if route is None and self._guard is not None:
            self._guard.check_method(method, self.only_backend(method).name, client)
        elif route is None and len(self._backends) != 1:
            raise _no_target_error(method)
        return route

    def find_named(
        self, method: str, params: Message, client: ClientIdentity | None
    ) -> Route | None:
        """Return the route of a notification of an extension by the names in its params; None
        without a name, or if no component that is hidden can be meant.

        Raise RpcError if the client may not use what the params name.
        """
        self._check_guess(params, client)
        try:
            return self._guess(method, params, client)
        except RpcError:
            if self._finder.hides:
                raise
            return None

    def _check_guess(self, params: Message, client: ClientIdentity | None) -> None:
        """Raise RpcError for params that no backend may get, whatever else they name."""
        if self._recording is not None and "arguments" in params:
            self._recording.check_arguments(params["arguments"], client)
        if self._visibility is not None:
            self._visibility.check_guess(params)

    def _guess(self, method: str, params: Message, client: ClientIdentity | None) -> Route | None:
        """Return the route by the first of the names in the params; all of them are checked."""
        access = self.access_of(client)
        routes = [*self._finder.guess_routes(method, params, client, access)]
        if self._guard is not None and access is not None:
            for route in routes:
                self._guard.check(route, method, params, client, access)
            if routes and has_unreadable_name(params):
                # The backend may read what the proxy does not.
                self._guard.check_method(method, routes[0].backend.name, client)
        return routes[0] if routes else None

    async def wait_for_route(self, method: str, params: Message | None) -> None:
        """Wait until the route of a request is known or the first round over the backends ends."""
        while not (self._aggregate.first_round_over or self._locates(method, params or {})):
            await self._aggregate.wait_for_next_backend()

    def _locates(self, method: str, params: Message) -> bool:
        if not self.is_routed(method):
            return False
        try:
            name, kind = self._finder.named(method, params)
        except RpcError:
            # The request is invalid regardless of the backends.
            return True
        if self._catalog.owner(kind, name) is not None:
            return True
        try:
            backend = self._router.route(method, params).backend
        except RpcError:
            return False
        # Requests for unlisted components are routed by prefix.
        return bool(backend.settings.prefix) and backend.watch.settled.is_set()

    def is_routed(self, method: str) -> bool:
        """Return True if requests of this method are routed by a component or task."""
        return method in ROUTED or method == COMPLETE

    def only_backend(self, method: str) -> Backend:
        """Return the backend of methods that name nothing. Raise RpcError if there are several."""
        if len(self._backends) == 1:
            return next(iter(self._backends.values()))
        raise RpcError(METHOD_NOT_FOUND, f"method not found: {method}")

    def prepare(
        self, request: Message, method: str, params: Message | None, client: ClientIdentity
    ) -> tuple[Backend, UpstreamRequest]:
        """Return the backend of a request, and the request in its upstream form. Raise RpcError."""
        find = self.route if self.is_routed(method) else self.guess_route
        route = find(method, params or {}, client)
        extra = extra_fields_of(request)
        if route is None:
            upstream = UpstreamRequest(request["id"], method, params, extra)
            return self.only_backend(method), upstream
        return route.backend, upstream_request_of(request["id"], method, params or {}, route, extra)

    def owner_of_result(self, method: str, request: Message) -> str | None:
        """Return the instance that keeps the result which a request reads; None for others."""
        if self._kept_results is None or method != READ_RESOURCE:
            return None
        try:
            params = jsonrpc.decode_object(request.get("params", jsonrpc.EMPTY))
        except RpcError:
            # Whoever serves the request refuses it.
            return None
        return self._kept_results.owner_of(jsonrpc.decode_str(params.get("uri")) or "")

    def session_backends(
        self, method: str | None, message: Message, client: ClientIdentity
    ) -> list[Backend]:
        """Return the backends of a request with which the client has a session for itself."""
        if not self.holds_state or method is None or method in DOWNSTREAM_METHODS:
            return []
        if self.lists.has(method):
            backends = self.lists.contributors(method, modern=False)
        else:
            backend = self._backend_of(method, message, client)
            backends = [] if backend is None else [backend]
        return [backend for backend in backends if backend.settings.session_mode == "PerClient"]

    def _backend_of(self, method: str, message: Message, client: ClientIdentity) -> Backend | None:
        find = self.route if self.is_routed(method) else self.guess_route
        try:
            params = jsonrpc.decode_object(message.get("params", jsonrpc.EMPTY))
            route = find(method, params, client)
            return self.only_backend(method) if route is None else route.backend
        except RpcError:
            return None


def _no_target_error(method: str) -> RpcError:
    """Return the error for a method whose backend can't be found."""
    why = "several backends could serve it, and it has no taskId, uri or name that selects one"
    return RpcError(METHOD_NOT_FOUND, f"method not found: {method}; {why}")
