"""Where requests about components go: by the name in them to the backend that has it."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from msgspec import Raw

from mcpproxy.proxy.core.catalog.catalog import Catalog
from mcpproxy.proxy.core.catalog.extensions import is_denied
from mcpproxy.proxy.core.tokens.sealed_tokens import Sealer
from mcpproxy.proxy.core.translation.namespacing import find_owner
from mcpproxy.proxy.core.translation.request_names import (
    ROUTED,
    component_ref,
    name_conflict_error,
    replace_name,
    unknown_component_error,
    upstream_name,
)
from mcpproxy.proxy.core.translation.task_ids import decode_task_id
from mcpproxy.proxy.protocol import headers as h
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import INVALID_PARAMS, METHOD_NOT_FOUND, Message, RpcError
from mcpproxy.proxy.protocol.kinds import PROMPTS, RESOURCES, TASKS, TOOLS, ComponentKind
from mcpproxy.proxy.upstream.backend import Backend
from mcpproxy.proxy.upstream.transports.session import UpstreamRequest

MAX_ROUTES: Final = 4096
"""Names of components whose ways are kept."""
MAX_ROUTE: Final = 512
"""Bytes of a name whose way is kept."""
_KNOWN: Final = frozenset({"jsonrpc", "id", "method", "params"})
"""The members of a request; the first three are always there."""


class Route(NamedTuple):
    """Where a request about a component goes."""

    backend: Backend
    name: str
    """The component's outward name or URI."""
    kind: ComponentKind
    own: Raw | None
    """The backend's own name or URI, as JSON; None when it is the same."""
    properties: Sequence[tuple[h.Path, str]]
    """The arguments of a tool that are repeated in headers."""


class Router:
    """Finds the way of a request, and keeps it until the catalog changes."""

    def __init__(
        self, backends: Mapping[str, Backend], catalog: Catalog, denied: Collection[str] = ()
    ) -> None:
        """`denied` are the names of extensions whose methods are refused."""
        self.sealer: Sealer | None = None
        """Opens ids of tasks, and seals cursors."""
        self.denied = denied
        self._backends = backends
        self._catalog = catalog
        self._names = [(backend.name, backend.names) for backend in backends.values()]
        self._routes: dict[tuple[str, bytes], Route] = {}
        self._version = -1
        self._bare: tuple[int, dict[str, list[tuple[str, str]]]] = (-1, {})

    def route(self, method: str, params: Message, principal: str | None = None) -> Route:
        """The backend a request is for, the outward name in it and its kind. Raises RpcError.

        `principal` is the client's, where it has to be the one that a task is for.
        """
        if self._version != self._catalog.version:
            self._version = self._catalog.version
            self._routes.clear()
        raw = params.get(ROUTED[method][0]) if method in ROUTED else None
        key = method, b"" if raw is None else bytes(raw)
        found = self._routes.get(key)
        if found is None:
            found = self._routed(method, params, principal)
            if raw is not None and len(key[1]) <= MAX_ROUTE and found.kind is not TASKS:
                if len(self._routes) >= MAX_ROUTES:
                    self._routes.clear()
                self._routes[key] = found
        return found

    def _routed(self, method: str, params: Message, principal: str | None) -> Route:
        if is_denied(method, self.denied):
            raise denied_method_error(method)
        name, kind = self.named(method, params)
        return self._task(name, principal) if kind is TASKS else self._component(name, kind)

    def _component(self, name: str, kind: ComponentKind) -> Route:
        owner = self._catalog.owner(kind, name)
        if owner is None and kind is TOOLS:
            owner, name = self._by_bare_name(name)
        if owner is None:
            if claims := self._catalog.claimed_by(kind, name):
                raise name_conflict_error(kind, name, claims)
            owner = find_owner(name, self._names, uri=kind.by_uri)
        if owner is None or self._catalog.withholds(owner, kind, name):
            raise unknown_component_error(kind, name)
        return self.way(owner, name, kind)

    def _task(self, shown: str, principal: str | None) -> Route:
        if len(self._backends) == 1:
            return Route(next(iter(self._backends.values())), shown, TASKS, None, ())
        found = None if self.sealer is None else decode_task_id(self.sealer, shown)
        backend = None if found is None else self._backends.get(found[0])
        if found is None or backend is None or principal not in (None, found[2]):
            # Whose it is, nobody else is told.
            raise unknown_component_error(TASKS, shown)
        return Route(backend, shown, TASKS, jsonrpc.encode_raw(found[1]), ())

    def _by_bare_name(self, name: str) -> tuple[str | None, str]:
        """The backend of a tool that an app calls by the backend's own name, and its outward name.

        Raises RpcError where several backends have it.
        """
        version, bare = self._bare
        if version != self._catalog.version:
            bare = self._bare_names()
            self._bare = self._catalog.version, bare
        found = bare.get(name, [])
        if len(found) > 1:
            both = ", ".join(outward for _, outward in found)
            why = f"{name} stands for several tools: {both}; call one of them by that name"
            raise RpcError(INVALID_PARAMS, why)
        return found[0] if found else (None, name)

    def _bare_names(self) -> dict[str, list[tuple[str, str]]]:
        found: dict[str, list[tuple[str, str]]] = {}
        for backend in self._backends.values():
            if backend.settings.accepts_bare_names:
                for outward in dict.fromkeys(self._catalog.names(backend.name, TOOLS)):
                    own = backend.names.inward(outward) or outward
                    if self._catalog.owner(TOOLS, outward) == backend.name:
                        found.setdefault(own, []).append((backend.name, outward))
        return found

    def guessed(self, method: str, params: Message, principal: str | None) -> Route | None:
        """The way of a request of an unknown extension, by what its params name; None without.

        Raises RpcError.
        """
        if is_denied(method, self.denied):
            raise denied_method_error(method)
        for member, kind in (("taskId", TASKS), ("uri", RESOURCES), ("name", TOOLS)):
            name = jsonrpc.decode_str(params.get(member))
            if name is None:
                continue
            if kind is TASKS:
                return self._task(name, principal)
            if kind is TOOLS and self._catalog.owner(PROMPTS, name) is not None:
                kind = PROMPTS
            return self._component(name, kind)
        return None

    def shows(self, owner: str, uri: str) -> bool:
        """Whether clients may use a resource of this backend, by its outward URI."""
        if self._catalog.withholds(owner, RESOURCES, uri):
            return False
        try:
            self.way(owner, uri, RESOURCES)
        except RpcError:
            return False
        return True

    def named(self, method: str, params: Message) -> tuple[str, ComponentKind]:
        """The name or URI that a request is for, spelled as in lists, and its kind.

        Case makes no difference in the prefix of a URI, so it must make none to what is withheld.
        Raises RpcError.
        """
        name, kind = component_ref(method, params)
        owner = find_owner(name, self._names, uri=True) if kind.by_uri else None
        if owner is None:
            return name, kind
        names = self._backends[owner].names
        return names.outward_uri(names.inward_uri(name) or ""), kind

    def way(self, owner: str, name: str, kind: ComponentKind) -> Route:
        """The way to a component of this backend. Raises RpcError when clients may not use it."""
        backend = self._backends[owner]
        own = upstream_name(kind, backend.names, name, backend.selection(kind, name))
        properties = self._catalog.header_properties(owner, name) if kind is TOOLS else ()
        return Route(backend, name, kind, own, properties)


def upstream_request_of(
    request_id: Raw, method: str, params: Message, route: Route, extra: Message | None = None
) -> UpstreamRequest:
    """A request about a component as it leaves: the names in it are the backend's own."""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if route.properties:
        arguments = jsonrpc.decode(params.get("arguments"))
        headers = tuple(h.param_headers(route.properties, arguments))
    if route.own is not None:
        params = replace_name(method, params, route.kind, route.own)
    return UpstreamRequest(request_id, method, params, extra, headers)


def denied_method_error(method: str) -> RpcError:
    """The error for a method of an extension that is denied."""
    why = "its extension is denied by spec.extensions.deny"
    return RpcError(METHOD_NOT_FOUND, f"method not found: {method}; {why}")


def extension_router_of(request: Message) -> Message | None:
    """Members of its envelope that JSON-RPC does not know; they pass."""
    if len(request) == 3 + ("params" in request):
        return None
    return {name: Raw(raw) for name, raw in request.items() if name not in _KNOWN}
