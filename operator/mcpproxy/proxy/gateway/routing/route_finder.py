"""Finder of the backend of a request, by the component or task that it names."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from msgspec import Raw

from mcpproxy.proxy.core.access import Access
from mcpproxy.proxy.core.catalog.catalog import Catalog
from mcpproxy.proxy.core.catalog.extensions import is_denied
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.core.tokens.sealed_tokens import Sealer
from mcpproxy.proxy.core.translation.namespacing import find_owner
from mcpproxy.proxy.core.translation.request_names import (
    KNOWN_PARAMS,
    NAMED,
    component_ref,
    name_conflict_error,
    refuse_case_variants,
    unknown_component_error,
    upstream_name,
)
from mcpproxy.proxy.core.translation.task_ids import decode_task_id
from mcpproxy.proxy.core.translation.uri_templates import other_forms
from mcpproxy.proxy.protocol import headers as h
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import INVALID_PARAMS, METHOD_NOT_FOUND, Message, RpcError
from mcpproxy.proxy.protocol.kinds import (
    PROMPTS,
    RESOURCES,
    RESULTS,
    TASKS,
    TEMPLATES,
    TOOLS,
    ComponentKind,
)
from mcpproxy.proxy.upstream.backend import Backend

if TYPE_CHECKING:
    from mcpproxy.proxy.results.kept_results import KeptResults


class Route(NamedTuple):
    """Destination of a request about a component."""

    backend: Backend
    name: str
    """Downstream name or URI of the component."""
    kind: ComponentKind
    own: Raw | None
    """Upstream name or URI as JSON; None if it equals the downstream name."""
    properties: Sequence[tuple[h.Path, str]]
    """Arguments of a tool that headers repeat."""
    aliases: Sequence[str] = ()
    """Other downstream forms of an unlisted URI, which must be allowed as well."""
    rule: str = ""
    """Rule of spec.authorization whose condition the request meets; empty for other requests."""


class Visibility(Protocol):
    """Routes to components that no list shows."""

    def locate(self, catalog: Catalog, kind: ComponentKind, name: str) -> str | None:
        """Return the backend of a component without an owner; None if the usual rules apply.

        Raise RpcError if clients must not use the component.
        """

    def check_guess(self, params: Message) -> None:
        """Raise RpcError if a request of an unknown extension names a component that clients must
        not use."""


class RouteFinder:
    """Finder of routes, which looks into the catalog for each of them."""

    def __init__(
        self,
        backends: Mapping[str, Backend],
        catalog: Catalog,
        sealer: Sealer,
        denied: Collection[str] = (),
        visibility: Visibility | None = None,
        kept_results: "KeptResults | None" = None,
        *,
        seals_tasks: bool,
        restricts: bool = False,
    ) -> None:
        """Create a finder. `sealer` opens task ids. Methods of extensions in `denied` are rejected.

        `kept_results` are found by their URIs.

        `seals_tasks` means that clients know tasks by sealed ids, not by those of their backend;
        `restricts`, that rules decide who may use a route.
        """
        self._sealer = sealer
        self._visibility, self._kept_results = visibility, kept_results
        self.denied = denied
        self._seals_tasks = seals_tasks
        self._restricts = restricts or visibility is not None
        shows_all = all(backend.selection.shows_all for backend in backends.values())
        self.hides = self._restricts or not shows_all
        """True if backends may have components that some client must not use."""
        self._backends = backends
        self._catalog = catalog
        self._names = [(backend.name, backend.names) for backend in backends.values()]
        self._bare: tuple[int, dict[str, list[tuple[str, str]]]] = (-1, {})

    def find_route(
        self, method: str, params: Message, client: ClientIdentity | None, access: Access | None
    ) -> tuple[Route, bool]:
        """Return the route of a request, and True if it is the same for all clients.

        The arguments are those of `Router.route`. Raise RpcError.
        """
        if is_denied(method, self.denied):
            raise denied_method_error(method)
        name, kind = self.named(method, params)
        if kind is TASKS:
            return self._route_to_task(name, client), False
        if self._kept_results is not None and self._kept_results.reads(method, name):
            return self._route_to_result(self._kept_results, name), False
        route = self._route_to_component(name, kind, access)
        return route, access is None or route.name == name

    def _route_to_component(
        self, name: str, kind: ComponentKind, access: Access | None = None
    ) -> Route:
        owner = listed = self._catalog.owner(kind, name)
        if owner is None and self._visibility is not None:
            owner = self._visibility.locate(self._catalog, kind, name)
        if owner is None and kind is TOOLS:
            owner, name = self._by_bare_name(name, access)
        if owner is None:
            claims = [
                backend
                for backend in self._catalog.claimed_by(kind, name)
                if access is None or access.shows(kind, backend, name)
            ]
            if claims:
                raise name_conflict_error(kind, name, claims)
            owner = find_owner(name, self._names, uri=kind.by_uri)
        if owner is None or self._catalog.is_withheld(owner, kind, name):
            raise unknown_component_error(kind, name)
        route = self.route_to(owner, name, kind)
        if kind.by_uri and listed is None and self._catalog.owner(TEMPLATES, name) is None:
            return route._replace(aliases=self._aliases(route))
        return route

    def _aliases(self, route: Route) -> list[str]:
        """Return the other downstream forms of an unlisted URI. Raise RpcError if clients may not
        use one of them."""
        backend, kind = route.backend, route.kind
        if backend.selection.shows_all and not self._restricts:
            return []
        aliases = []
        for form in other_forms(backend.names.uri_to_upstream(route.name) or route.name):
            alias = backend.names.uri_to_downstream(form)
            hidden = self._catalog.is_withheld(backend.name, kind, alias)
            if self._visibility is not None and self._catalog.owner(kind, alias) is None:
                self._visibility.locate(self._catalog, kind, alias)
            if hidden or not self._selects(backend.name, kind, alias):
                raise unknown_component_error(kind, route.name)
            aliases.append(alias)
        return aliases

    def _selects(self, owner: str, kind: ComponentKind, name: str) -> bool:
        try:
            self.route_to(owner, name, kind)
        except RpcError:
            return False
        return True

    def _route_to_task(self, downstream_id: str, client: ClientIdentity | None) -> Route:
        if not self._seals_tasks:
            return Route(next(iter(self._backends.values())), downstream_id, TASKS, None, ())
        decoded = decode_task_id(self._sealer, downstream_id)
        backend = None if decoded is None else self._backends.get(decoded[0])
        is_foreign = decoded is not None and client is not None and client.principal != decoded[2]
        if decoded is None or backend is None or is_foreign:
            # The error does not reveal that the task belongs to another principal.
            raise unknown_component_error(TASKS, downstream_id)
        return Route(backend, downstream_id, TASKS, jsonrpc.encode_raw(decoded[1]), ())

    def _route_to_result(self, kept_results: "KeptResults", uri: str) -> Route:
        backend = self._backends.get(kept_results.backend_of(uri) or "")
        if backend is None:
            raise unknown_component_error(RESULTS, uri)
        return Route(backend, uri, RESULTS, None, ())

    def _by_bare_name(self, name: str, access: Access | None) -> tuple[str | None, str]:
        """Return the backend and the downstream name of a tool that an app calls by its upstream
        name.

        Raise RpcError if several backends have the tool, and `access` shows it of several.
        """
        version, bare = self._bare
        if version != self._catalog.version:
            bare = self._bare_names()
            self._bare = self._catalog.version, bare
        matches = bare.get(name, [])
        if access is not None:
            matches = [(b, tool) for b, tool in matches if access.shows(TOOLS, b, tool)]
        if len(matches) > 1:
            both = ", ".join(downstream_name for _, downstream_name in matches)
            why = f"several tools have the name {name}: {both}; call one of them by its full name"
            raise RpcError(INVALID_PARAMS, why)
        return matches[0] if matches else (None, name)

    def _bare_names(self) -> dict[str, list[tuple[str, str]]]:
        by_name: dict[str, list[tuple[str, str]]] = {}
        for backend in self._backends.values():
            if backend.settings.accepts_bare_names:
                for downstream_name in dict.fromkeys(self._catalog.names(backend.name, TOOLS)):
                    upstream = backend.names.to_upstream(downstream_name) or downstream_name
                    if self._catalog.owner(TOOLS, downstream_name) == backend.name:
                        by_name.setdefault(upstream, []).append((backend.name, downstream_name))
        return by_name

    def guess_routes(
        self, method: str, params: Message, client: ClientIdentity | None, access: Access | None
    ) -> Iterator[Route]:
        """Yield the routes to all that the params of an unknown extension may name.

        Raise RpcError.
        """
        if is_denied(method, self.denied):
            raise denied_method_error(method)
        refuse_case_variants(params, KNOWN_PARAMS, "params")
        for member, kind in NAMED:
            name = jsonrpc.decode_str(params.get(member))
            if name is None:
                continue
            if kind is TASKS:
                yield self._route_to_task(name, client)
                continue
            name = self._normalized(name, kind)
            prompt = kind is TOOLS and self._catalog.owner(PROMPTS, name) is not None
            if prompt:
                yield self._route_to_component(name, PROMPTS, access)
            if not prompt or self._catalog.owner(TOOLS, name) is not None:
                yield self._route_to_component(name, kind, access)

    def shows(self, owner: str, uri: str) -> bool:
        """Return True if clients may use a resource of this backend; `uri` is downstream."""
        if self._catalog.is_withheld(owner, RESOURCES, uri):
            return False
        return self._selects(owner, RESOURCES, uri)

    def named(self, method: str, params: Message) -> tuple[str, ComponentKind]:
        """Return the name or URI in a request, normalized as in lists, and its kind.

        Raise RpcError.
        """
        name, kind = component_ref(method, params)
        return self._normalized(name, kind), kind

    def _normalized(self, name: str, kind: ComponentKind) -> str:
        """Return a name or URI as in lists: the prefix of a URI is compared without case, so its
        case must not bypass a withheld URI."""
        owner = find_owner(name, self._names, uri=True) if kind.by_uri else None
        if owner is None:
            return name
        names = self._backends[owner].names
        return names.uri_to_downstream(names.uri_to_upstream(name) or "")

    def route_to(self, owner: str, name: str, kind: ComponentKind) -> Route:
        """Return the route to a component of a backend. Raise RpcError if clients may not use
        it."""
        backend = self._backends[owner]
        upstream = upstream_name(kind, backend.names, name, backend.selection.filter_of(kind, name))
        properties = self._catalog.header_properties(owner, name) if kind is TOOLS else ()
        return Route(backend, name, kind, upstream, properties)


def denied_method_error(method: str) -> RpcError:
    """Return the error for a method of an extension that is denied."""
    why = "spec.extensions.deny denies its extension"
    return RpcError(METHOD_NOT_FOUND, f"method not found: {method}; {why}")
