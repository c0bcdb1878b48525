"""Where requests about components go: by the name in them to the backend that has it."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from msgspec import Raw

from mcpproxy.proxy.back.backend import Backend
from mcpproxy.proxy.back.link import Outgoing
from mcpproxy.proxy.core.catalog import Catalog
from mcpproxy.proxy.core.kinds import TOOLS, Kind
from mcpproxy.proxy.core.names import owner_of
from mcpproxy.proxy.core.rewrite import ROUTED, contested, own_name, target, unknown, with_name
from mcpproxy.proxy.wire import headers as h
from mcpproxy.proxy.wire import jsonrpc
from mcpproxy.proxy.wire.jsonrpc import Message

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
    kind: Kind
    own: Raw | None
    """The backend's own name or URI, as JSON; None when it is the same."""
    properties: Sequence[tuple[h.Path, str]]
    """The arguments of a tool that are repeated in headers."""


class Router:
    """Finds the way of a request, and keeps it until the catalog changes."""

    def __init__(self, backends: Mapping[str, Backend], catalog: Catalog) -> None:
        self._backends = backends
        self._catalog = catalog
        self._names = [(backend.name, backend.names) for backend in backends.values()]
        self._routes: dict[tuple[str, bytes], Route] = {}
        self._version = -1

    def route(self, method: str, params: Message) -> Route:
        """The backend a request is for, the outward name in it and its kind. Raises RpcError."""
        if self._version != self._catalog.version:
            self._version = self._catalog.version
            self._routes.clear()
        raw = params.get(ROUTED[method][0]) if method in ROUTED else None
        key = method, b"" if raw is None else bytes(raw)
        found = self._routes.get(key)
        if found is None:
            found = self._routed(method, params)
            if raw is not None and len(key[1]) <= MAX_ROUTE:
                if len(self._routes) >= MAX_ROUTES:
                    self._routes.clear()
                self._routes[key] = found
        return found

    def _routed(self, method: str, params: Message) -> Route:
        name, kind = self.named(method, params)
        owner = self._catalog.owner(kind, name)
        if owner is None:
            if claims := self._catalog.claimed_by(kind, name):
                raise contested(kind, name, claims)
            owner = owner_of(name, self._names, uri=kind.by_uri)
        if owner is None or self._catalog.withholds(owner, kind, name):
            raise unknown(kind, name)
        return self.way(owner, name, kind)

    def named(self, method: str, params: Message) -> tuple[str, Kind]:
        """The name or URI that a request is for, spelled as in lists, and its kind.

        Case makes no difference in the prefix of a URI, so it must make none to what is withheld.
        Raises RpcError.
        """
        name, kind = target(method, params)
        owner = owner_of(name, self._names, uri=True) if kind.by_uri else None
        if owner is None:
            return name, kind
        names = self._backends[owner].names
        return names.outward_uri(names.inward_uri(name) or ""), kind

    def way(self, owner: str, name: str, kind: Kind) -> Route:
        """The way to a component of this backend. Raises RpcError when clients may not use it."""
        backend = self._backends[owner]
        own = own_name(kind, backend.names, name, backend.selection(kind, name))
        properties = self._catalog.header_properties(owner, name) if kind is TOOLS else ()
        return Route(backend, name, kind, own, properties)


def outgoing_of(
    request_id: Raw, method: str, params: Message, route: Route, extra: Message | None = None
) -> Outgoing:
    """A request about a component as it leaves: the names in it are the backend's own."""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if route.properties:
        arguments = jsonrpc.value(params.get("arguments"))
        headers = tuple(h.param_headers(route.properties, arguments))
    if route.own is not None:
        params = with_name(method, params, route.kind, route.own)
    return Outgoing(request_id, method, params, extra, headers)


def extra_of(request: Message) -> Message | None:
    """Members of its envelope that JSON-RPC does not know; they pass."""
    if len(request) == 3 + ("params" in request):
        return None
    return {name: Raw(raw) for name, raw in request.items() if name not in _KNOWN}
