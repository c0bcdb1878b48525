"""Lists of extensions (skills, tasks): each backend has a part, and all are asked at once.

A page is the next page of every backend that has one, so the cursor carries theirs, sealed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, Protocol

from msgspec import Raw

from mcpproxy.limits.extensions import (
    EXTENSION_LIST_WAIT,
    EXTENSION_PAGE_BYTES,
    EXTENSION_PAGE_ITEMS,
)
from mcpproxy.proxy.core.catalog.extensions import LISTS, SKILLS, is_denied, offers
from mcpproxy.proxy.core.exchange import CallContext
from mcpproxy.proxy.core.tokens.sealed_tokens import InvalidToken, Sealer, TokenTooLarge
from mcpproxy.proxy.gateway.router import denied_method_error, extension_router_of
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import (
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    UNAVAILABLE,
    Message,
    RpcError,
)
from mcpproxy.proxy.upstream.backend import Backend
from mcpproxy.proxy.upstream.transports.session import UpstreamRequest

PURPOSE: Final = "cursor"
TASKS_LIST: Final = "tasks/list"
Send = Callable[[Backend, UpstreamRequest], Awaitable[Message]]
"""Sends a request to a backend; the answer has outward names. Raises RpcError."""


class ExtensionRouter(Protocol):
    """What decides what clients may use."""

    denied: Any
    sealer: Sealer | None

    def shows(self, owner: str, uri: str) -> bool:
        """Whether clients may use a resource of this backend, by its outward URI."""


class ListPage(NamedTuple):
    """A backend's part of a list."""

    items: list[Raw]
    cursor: str | None
    ttl: int
    public: bool


class ExtensionLists:
    """The lists that the backends of one proxy have parts of."""

    def __init__(self, backends: Mapping[str, Backend], router: ExtensionRouter) -> None:
        self._backends = backends
        self._router = router

    def has(self, method: str) -> bool:
        """Whether this is such a list; where there is one backend, it may pass as it is."""
        if method not in LISTS:
            return False
        if len(self._backends) > 1 or is_denied(method, self._router.denied):
            return True
        if method == TASKS_LIST:
            return not all(one.tells_apart for one in self._backends.values())
        return not all(one.shows_all for one in self._backends.values())

    def contributors(self, method: str, *, modern: bool) -> list[Backend]:
        """The backends that have a part of a list for clients of this era."""
        return [b for b in self._backends.values() if _contributes(b, method, modern=modern)]

    async def answer(
        self, request: Message, method: str, params: Message, caller: CallContext, send: Send
    ) -> Message:
        """The response with a page of the list. Raises RpcError."""
        if is_denied(method, self._router.denied):
            raise denied_method_error(method)
        modern = caller.client.modern
        asked = self.contributors(method, modern=modern)
        if not asked:
            raise RpcError(METHOD_NOT_FOUND, f"method not found: {method}; no backend offers it")
        cursors = self._cursors(method, params)
        if cursors is not None:
            asked = [backend for backend in asked if backend.name in cursors]
        pages = await self._pages(request, method, params, asked, cursors or {}, send)
        result: dict[str, Any] = {}
        if modern:
            result["resultType"] = "complete"
        result[LISTS[method]] = [item for page in pages.values() for item in page.items]
        following = {name: page.cursor for name, page in pages.items() if page.cursor is not None}
        if following:
            result["nextCursor"] = self._sealed(method, following)
        if modern:
            result["ttlMs"] = min((page.ttl for page in pages.values()), default=0)
            public = all(page.public for page in pages.values())
            result["cacheScope"] = "public" if public and pages else "private"
        return {
            "jsonrpc": jsonrpc.VERSION,
            "id": request["id"],
            "result": jsonrpc.encode_raw(result),
        }

    async def _pages(
        self,
        request: Message,
        method: str,
        params: Message,
        asked: Iterable[Backend],
        cursors: Mapping[str, str],
        send: Send,
    ) -> dict[str, ListPage]:
        """The parts of the backends that answer in time. Raises RpcError where none does."""
        flights: dict[asyncio.Task[ListPage], Backend] = {}
        for backend in asked:
            kept = {name: raw for name, raw in params.items() if name != "cursor"}
            if backend.name in cursors:
                kept["cursor"] = jsonrpc.encode_raw(cursors[backend.name])
            outgoing = UpstreamRequest(request["id"], method, kept, extension_router_of(request))
            page = self._page(backend, outgoing, send)
            flights[asyncio.create_task(page)] = backend
        if not flights:
            return {}
        try:
            await asyncio.wait(flights, timeout=EXTENSION_LIST_WAIT.value)
        finally:
            late = [flight for flight in flights if not flight.done()]
            for flight in late:
                flight.cancel()
            await asyncio.gather(*flights, return_exceptions=True)
        if late:
            EXTENSION_LIST_WAIT.record()
        return _collected(flights, method)

    async def _page(self, backend: Backend, outgoing: UpstreamRequest, send: Send) -> ListPage:
        answer = await send(backend, outgoing)
        error = jsonrpc.error_of(answer)
        if error is not None:
            raise error
        result = jsonrpc.decode_object(answer["result"])
        items = _items(outgoing.method, result.get(LISTS[outgoing.method], Raw(b"[]")))
        if outgoing.method in SKILLS.lists:
            items = [item for item in items if self._shows(backend, item)]
        ttl = jsonrpc.decode(result.get("ttlMs"))
        public = jsonrpc.decode_str(result.get("cacheScope")) == "public"
        cursor = jsonrpc.decode_str(result.get("nextCursor"))
        return ListPage(items, cursor, ttl if isinstance(ttl, int) else 0, public)

    def _shows(self, backend: Backend, item: Raw) -> bool:
        uri = jsonrpc.decode_str(jsonrpc.decode_object(item).get("uri"))
        return uri is not None and self._router.shows(backend.name, uri)

    def _sealed(self, method: str, cursors: Mapping[str, str]) -> str:
        assert self._router.sealer is not None
        try:
            return self._router.sealer.seal(PURPOSE, [method, cursors])
        except TokenTooLarge:
            names = ", ".join(cursors)
            why = f"the cursors of backends {names} are too long to be carried by one cursor"
            raise RpcError(UNAVAILABLE, why) from None

    def _cursors(self, method: str, params: Message) -> dict[str, str] | None:
        """The cursor of each backend; None for the first page. Raises RpcError."""
        raw = params.get("cursor", jsonrpc.NULL)
        if raw == jsonrpc.NULL:
            return None
        try:
            assert self._router.sealer is not None
            sealed = self._router.sealer.open(PURPOSE, jsonrpc.decode_str(raw) or "")
        except InvalidToken:
            sealed = [None]
        if sealed[0] != method:
            why = f"params.cursor is not one of ours; begin {method} without a cursor"
            raise RpcError(INVALID_PARAMS, why)
        found: dict[str, str] = sealed[1]
        return found


def _items(method: str, raw: Raw) -> list[Raw]:
    """The items of a backend's page. Raises RpcError where they are too many or too large."""
    most, largest = EXTENSION_PAGE_ITEMS.value, EXTENSION_PAGE_BYTES.value
    if len(raw) > largest:
        EXTENSION_PAGE_BYTES.record()
        raise RpcError(UNAVAILABLE, f"a page of its {method} has more than {largest} bytes")
    if jsonrpc.length(raw, most) > most:
        EXTENSION_PAGE_ITEMS.record()
        raise RpcError(UNAVAILABLE, f"a page of its {method} has more than {most} items")
    return jsonrpc.decode_array(raw)


def _contributes(backend: Backend, method: str, *, modern: bool) -> bool:
    greeting = backend.watch.greeting
    if greeting is None:
        return False
    if method in SKILLS.lists:
        return offers(greeting.capabilities, SKILLS)
    tasks = greeting.capabilities.get("tasks")
    # Any other one would list the tasks of all clients to each of them.
    return not modern and backend.tells_apart and isinstance(tasks, Mapping) and "list" in tasks


def _collected(
    flights: Mapping["asyncio.Task[ListPage]", Backend], method: str
) -> dict[str, ListPage]:
    """The pages that came. Raises RpcError where all failed, and names why."""
    pages, failures = {}, []
    for flight, backend in flights.items():
        if flight.cancelled():
            seconds = EXTENSION_LIST_WAIT.value
            failures.append(f"backend {backend.name}: no answer within {seconds} s")
            continue
        error = flight.exception()
        if isinstance(error, RpcError):
            failures.append(f"backend {backend.name}: {error.message}")
        elif error is not None:
            raise error
        else:
            pages[backend.name] = flight.result()
    if not pages:
        raise RpcError(UNAVAILABLE, f"{method} failed: {'; '.join(failures)}")
    return pages
