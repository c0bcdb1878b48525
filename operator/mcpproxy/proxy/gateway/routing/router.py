"""Router of requests, and the messages on a route: the request in its upstream form, and the
response in that of the client, with its era, its id and its names.

Most responses need no change, or a change of a few bytes at known places. The others are decoded.
"""

from typing import Final

from msgspec import Raw

from mcpproxy.proxy.core.access import Access
from mcpproxy.proxy.core.catalog.catalog import Catalog
from mcpproxy.proxy.core.errors import BackendError
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.core.translation.namespacing import PrefixMapping
from mcpproxy.proxy.core.translation.plain_results import (
    ERROR_FLAG,
    LARGE,
    is_tool_error,
    plain_response_id,
)
from mcpproxy.proxy.core.translation.request_names import (
    COMPLETE,
    KNOWN_PARAMS,
    ROUTED,
    refuse_case_variants,
    replace_name,
)
from mcpproxy.proxy.core.translation.result_names import (
    may_name_component,
    to_downstream_response,
)
from mcpproxy.proxy.gateway.routing.route_finder import Route, RouteFinder
from mcpproxy.proxy.protocol import headers as h
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message, RpcError
from mcpproxy.proxy.upstream.era_bridge import (
    is_unfinished,
    to_legacy_response,
    to_modern_response,
    translate_result_bytes,
)
from mcpproxy.proxy.upstream.json_responses import single_message
from mcpproxy.proxy.upstream.transports.session import (
    HttpExchange,
    ServerDescription,
    UpstreamRequest,
)

MAX_ROUTES: Final = 4096
"""Maximum number of cached routes."""
MAX_ROUTE: Final = 512
"""Maximum size in bytes of a name whose route is cached."""
_NO_ERROR: Final = ERROR_FLAG + b":false"
_ENVELOPE: Final = frozenset({"jsonrpc", "id", "method", "params"})
"""Fields of a request; only `params` is optional."""


class Router:
    """Router of requests, with a cache of routes that is cleared when the catalog changes."""

    def __init__(self, finder: RouteFinder, catalog: Catalog) -> None:
        """`finder` finds the routes that are not cached, in the same catalog."""
        self._finder, self._catalog = finder, catalog
        self._routes: dict[tuple[str, bytes], Route] = {}
        self._version = -1

    def route(
        self,
        method: str,
        params: Message,
        client: ClientIdentity | None = None,
        access: Access | None = None,
    ) -> Route:
        """Return the route of a request. Raise RpcError.

        Tasks must belong to `client`, unless it is None. With `access`, the choice between
        components and the errors depend only on those that it shows; whether the client may use the
        route is for the caller to check.
        """
        if self._version != self._catalog.version:
            self._version = self._catalog.version
            self._routes.clear()
        if not params.keys() <= KNOWN_PARAMS:
            refuse_case_variants(params, KNOWN_PARAMS, "params")
        raw = params.get(ROUTED[method][0]) if method in ROUTED else None
        key = method, b"" if raw is None else bytes(raw)
        route = self._routes.get(key)
        if route is None:
            route, shared = self._finder.find_route(method, params, client, access)
            if raw is not None and len(key[1]) <= MAX_ROUTE and shared:
                if len(self._routes) >= MAX_ROUTES:
                    self._routes.clear()
                self._routes[key] = route
        return route

    def keeps(self, key: tuple[str, bytes], route: Route) -> bool:
        """Return True if a route is that of all requests with the same key, until the catalog
        changes: the method, and the name or URI as JSON."""
        return self._routes.get(key) is route


def upstream_request_of(
    request_id: Raw, method: str, params: Message, route: Route, extra: Message | None = None
) -> UpstreamRequest:
    """Return a request about a component in its upstream form, with upstream names."""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if route.properties:
        arguments = jsonrpc.decode(params.get("arguments"))
        headers = tuple(h.param_headers(route.properties, arguments))
    if route.own is not None:
        params = replace_name(method, params, route.kind, route.own)
    elif method == COMPLETE:
        # Parsers differ on repeated fields, so the backend gets each one once.
        params = replace_name(method, params, route.kind, jsonrpc.encode_raw(route.name))
    name, rule = route.name, route.rule
    return UpstreamRequest(request_id, method, params, extra, headers, target=name, rule=rule)


def extra_fields_of(request: Message) -> Message | None:
    """Return the fields of a request envelope that JSON-RPC does not define; they are forwarded."""
    if len(request) == 3 + ("params" in request):
        return None
    return {name: Raw(raw) for name, raw in request.items() if name not in _ENVELOPE}


def map_response_bytes(
    exchange: HttpExchange,
    request: UpstreamRequest,
    server: ServerDescription,
    names: PrefixMapping,
) -> bytes | None:
    """Return the encoded response for the client if it is a success, or None if the response has
    to be decoded.

    `request` is the client's request, with the backend's names.
    """
    response = exchange.response
    assert response is not None
    if response.single is not None and response.status == 200 and response.media_type == h.JSON:
        body: bytes | None = response.single
    else:
        body = single_message(response)
    if body is None:
        return None
    plain_id = None
    if len(body) > LARGE and request.method == "tools/call":
        plain_id = plain_response_id(body)
        if plain_id == exchange.id and exchange.id is request.id and exchange.request is request:
            return body
    parsed = jsonrpc.parse_result_fast(body)
    if parsed is None or parsed.id != exchange.id:
        return None
    flags = body.count(ERROR_FLAG) if plain_id is None else 0
    if flags and flags != body.count(_NO_ERROR) and is_tool_error(parsed.result):
        return None
    if exchange.request is not request:
        result = translate_result_bytes(request.method, bytes(parsed.result), server)
        if result is None:
            return None
        body = jsonrpc.response(request.id, result)
    elif exchange.id is not request.id:
        body = jsonrpc.response(request.id, parsed.result)
    # As `names.change`, but without a call.
    changes = plain_id is None and (names.prefix or names.tasks.sealer is not None)
    return None if changes and may_name_component(body, names) else body


def map_response(
    exchange: HttpExchange,
    request: UpstreamRequest,
    server: ServerDescription,
    names: PrefixMapping,
    principal: str,
) -> Message | None:
    """Return the response for the client with the client's id, or None if only a task can.

    A task reads responses that are not one message, asks for the input that an unfinished result
    requires, handles the loss of a session, and reports errors of the backend.
    """
    response = exchange.response
    assert response is not None
    body = single_message(response)
    if not body:
        return None
    try:
        message = jsonrpc.parse_bounded(body)
        if "method" in message or not jsonrpc.answers(message, exchange.id):
            return None
        if "error" in message and exchange.number:
            return None
        if exchange.request is not request:
            if server.modern and is_unfinished(message):
                return None
            translate = to_legacy_response if server.modern else to_modern_response
            message = translate(request, message)
        mapped = to_downstream_response(request.method, message, names, principal)
    except (BackendError, RpcError):
        return None
    mapped["id"] = request.id
    return mapped
