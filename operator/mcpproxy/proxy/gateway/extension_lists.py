"""Lists of extensions (skills, tasks), merged from all backends, which get the request in parallel.

A page consists of the next page of every backend that has one. Its cursor seals theirs.
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
from mcpproxy.proxy.core.access import Access
from mcpproxy.proxy.core.catalog.extensions import LISTS, SKILLS, is_denied, offers
from mcpproxy.proxy.core.exchange import CallContext
from mcpproxy.proxy.core.tokens.sealed_tokens import InvalidToken, Sealer, TokenTooLarge
from mcpproxy.proxy.gateway.routing.route_finder import denied_method_error
from mcpproxy.proxy.gateway.routing.router import extra_fields_of
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import (
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    UNAVAILABLE,
    Message,
    RpcError,
)
from mcpproxy.proxy.protocol.kinds import RESOURCES
from mcpproxy.proxy.upstream.backend import Backend
from mcpproxy.proxy.upstream.transports.session import UpstreamRequest

PURPOSE: Final = "cursor"
TASKS_LIST: Final = "tasks/list"
Send = Callable[[Backend, UpstreamRequest], Awaitable[Message]]
"""Coroutine function that sends a request to a backend; its response has downstream names."""


class ExtensionRouter(Protocol):
    """Router that decides which components clients may use."""

    denied: Any

    def shows(self, owner: str, uri: str) -> bool:
        """Return True if clients may use a resource of this backend; `uri` is downstream."""


class ListPage(NamedTuple):
    """One backend's page of a list."""

    items: list[Raw]
    cursor: str | None
    ttl: int
    public: bool


class ExtensionLists:
    """Lists to which the backends of one proxy contribute."""

    def __init__(
        self,
        backends: Mapping[str, Backend],
        router: ExtensionRouter,
        sealer: Sealer,
        *,
        restricts: bool = False,
    ) -> None:
        """`restricts` means that clients may have access to a part of the lists only."""
        self._backends = backends
        self._router = router
        self._sealer = sealer
        self._restricts = restricts

    def has(self, method: str) -> bool:
        """Return True if the proxy must merge this list instead of forwarding the request."""
        if method not in LISTS:
            return False
        if self._restricts or len(self._backends) > 1 or is_denied(method, self._router.denied):
            return True
        if method == TASKS_LIST:
            return not all(backend.tells_apart for backend in self._backends.values())
        return not all(backend.selection.shows_all for backend in self._backends.values())

    def contributors(
        self, method: str, *, modern: bool, access: Access | None = None
    ) -> list[Backend]:
        """Return the backends that contribute to a list for clients of this era."""
        return [
            backend
            for backend in self._backends.values()
            if _contributes(backend, method, modern=modern)
            and (access is None or _shows_backend(access, backend.name, method))
        ]

    async def answer(
        self, request: Message, method: str, params: Message, caller: CallContext, send: Send
    ) -> Message:
        """Return the response with a page of the list. Raise RpcError."""
        if is_denied(method, self._router.denied):
            raise denied_method_error(method)
        modern = caller.client.modern
        access = caller.client.access
        contributors = self.contributors(method, modern=modern, access=access)
        if not contributors:
            raise RpcError(METHOD_NOT_FOUND, f"method not found: {method}; no backend offers it")
        cursors = self._cursors(method, params)
        if cursors is not None:
            contributors = [backend for backend in contributors if backend.name in cursors]
        pages = await self._request_pages(
            request, method, params, contributors, cursors or {}, send, access
        )
        result: dict[str, Any] = {}
        if modern:
            result["resultType"] = "complete"
        result[LISTS[method]] = [item for page in pages.values() for item in page.items]
        # The page of a backend that failed is part of the next one.
        failed = {name: own for name, own in (cursors or {}).items() if name not in pages}
        following = {
            **failed,
            **{name: page.cursor for name, page in pages.items() if page.cursor is not None},
        }
        if following:
            result["nextCursor"] = self._seal_cursors(method, following)
        if modern:
            whole = len(pages) == len(contributors) > 0
            result["ttlMs"] = min(page.ttl for page in pages.values()) if whole else 0
            public = whole and access is None and all(page.public for page in pages.values())
            result["cacheScope"] = "public" if public else "private"
        return {
            "jsonrpc": jsonrpc.VERSION,
            "id": request["id"],
            "result": jsonrpc.encode_raw(result),
        }

    async def _request_pages(
        self,
        request: Message,
        method: str,
        params: Message,
        contributors: Iterable[Backend],
        cursors: Mapping[str, str],
        send: Send,
        access: Access | None,
    ) -> dict[str, ListPage]:
        """Return the pages of the backends that respond in time. Raise RpcError if all fail."""
        requests: dict[asyncio.Task[ListPage], Backend] = {}
        for backend in contributors:
            page_params = {name: raw for name, raw in params.items() if name != "cursor"}
            if backend.name in cursors:
                page_params["cursor"] = jsonrpc.encode_raw(cursors[backend.name])
            outgoing = UpstreamRequest(request["id"], method, page_params, extra_fields_of(request))
            page = self._request_page(backend, outgoing, send, access)
            requests[asyncio.create_task(page)] = backend
        if not requests:
            return {}
        try:
            await asyncio.wait(requests, timeout=EXTENSION_LIST_WAIT.value)
        finally:
            late = [request_task for request_task in requests if not request_task.done()]
            for request_task in late:
                request_task.cancel()
            await asyncio.gather(*requests, return_exceptions=True)
        if late:
            EXTENSION_LIST_WAIT.record()
        return _successful_pages(requests, method)

    async def _request_page(
        self, backend: Backend, outgoing: UpstreamRequest, send: Send, access: Access | None
    ) -> ListPage:
        answer = await send(backend, outgoing)
        error = jsonrpc.error_of(answer)
        if error is not None:
            raise error
        result = jsonrpc.decode_object(answer["result"])
        items = _items(outgoing.method, result.get(LISTS[outgoing.method], Raw(b"[]")))
        if outgoing.method in SKILLS.lists:
            items = [item for item in items if self._shows(backend, item, access)]
        ttl = jsonrpc.decode(result.get("ttlMs"))
        public = jsonrpc.decode_str(result.get("cacheScope")) == "public"
        cursor = jsonrpc.decode_str(result.get("nextCursor"))
        return ListPage(items, cursor, ttl if isinstance(ttl, int) else 0, public)

    def _shows(self, backend: Backend, item: Raw, access: Access | None) -> bool:
        uri = jsonrpc.decode_str(jsonrpc.decode_object(item).get("uri"))
        if uri is None or not self._router.shows(backend.name, uri):
            return False
        return access is None or access.shows(RESOURCES, backend.name, uri)

    def _seal_cursors(self, method: str, cursors: Mapping[str, str]) -> str:
        try:
            return self._sealer.seal(PURPOSE, [method, cursors])
        except TokenTooLarge:
            names = ", ".join(cursors)
            why = f"the cursors of the backends {names} are too long to combine"
            raise RpcError(UNAVAILABLE, why) from None

    def _cursors(self, method: str, params: Message) -> dict[str, str] | None:
        """Return the cursor of each backend, or None for the first page. Raise RpcError."""
        raw = params.get("cursor", jsonrpc.NULL)
        if raw == jsonrpc.NULL:
            return None
        try:
            sealed = self._sealer.open(PURPOSE, jsonrpc.decode_str(raw) or "")
        except InvalidToken:
            sealed = [None]
        if sealed[0] != method:
            why = f"params.cursor is invalid; send {method} without a cursor"
            raise RpcError(INVALID_PARAMS, why)
        cursors: dict[str, str] = sealed[1]
        return cursors


def _items(method: str, raw: Raw) -> list[Raw]:
    """Return the items of a backend's page. Raise RpcError if they are too many or too large."""
    most, largest = EXTENSION_PAGE_ITEMS.value, EXTENSION_PAGE_BYTES.value
    if len(raw) > largest:
        EXTENSION_PAGE_BYTES.record()
        raise RpcError(UNAVAILABLE, f"a page of {method} has more than {largest} bytes")
    if jsonrpc.length(raw, most) > most:
        EXTENSION_PAGE_ITEMS.record()
        raise RpcError(UNAVAILABLE, f"a page of {method} has more than {most} items")
    return jsonrpc.decode_array(raw)


def _shows_backend(access: Access, backend: str, method: str) -> bool:
    """Return True if a client may see entries of a backend in a list."""
    return access.uses_tools(backend) if method == TASKS_LIST else access.may_reach(backend)


def _contributes(backend: Backend, method: str, *, modern: bool) -> bool:
    server = backend.watch.server
    if server is None:
        return False
    if method in SKILLS.lists:
        return offers(server.capabilities, SKILLS)
    tasks = server.capabilities.get("tasks")
    # A backend that cannot distinguish clients would list the tasks of all clients to each.
    return not modern and backend.tells_apart and isinstance(tasks, Mapping) and "list" in tasks


def _successful_pages(
    requests: Mapping["asyncio.Task[ListPage]", Backend], method: str
) -> dict[str, ListPage]:
    """Return the pages of successful requests. Raise RpcError if every request failed."""
    pages, failures = {}, []
    for request_task, backend in requests.items():
        if request_task.cancelled():
            seconds = EXTENSION_LIST_WAIT.value
            failures.append(f"backend {backend.name}: no response within {seconds} s")
            continue
        error = request_task.exception()
        if isinstance(error, RpcError):
            failures.append(f"backend {backend.name}: {error.message}")
        elif error is not None:
            raise error
        else:
            pages[backend.name] = request_task.result()
    if not pages:
        raise RpcError(UNAVAILABLE, f"{method} failed: {'; '.join(failures)}")
    return pages
