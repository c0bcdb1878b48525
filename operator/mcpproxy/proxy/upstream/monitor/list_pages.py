"""Fetches of a backend's lists: all their pages, as one list with downstream names."""

import asyncio
from dataclasses import replace
from typing import Final

from msgspec import Raw

from mcpproxy.limits.backends import LIST_BYTES, LIST_COMPONENTS, LIST_PAGES
from mcpproxy.proxy.core.catalog.component_filter import ComponentFilter
from mcpproxy.proxy.core.catalog.component_list import ComponentList, parse_component_list
from mcpproxy.proxy.core.errors import ProtocolError
from mcpproxy.proxy.core.translation.namespacing import PrefixMapping
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message, RpcError
from mcpproxy.proxy.protocol.kinds import ComponentKind
from mcpproxy.proxy.upstream.monitor.requester import Requester
from mcpproxy.proxy.upstream.transports.session import UpstreamSession

_NO_CURSOR: Final = Raw(b'""')


async def fetch_pages(
    asker: Requester, link: UpstreamSession, kind: ComponentKind
) -> list[Message] | None:
    """Fetch all pages of a list; None if the backend does not know the method.

    Raises BackendError.
    """
    pages: list[Message] = []
    cursor: Raw | None = None
    seen: set[bytes] = set()
    size = 0
    while True:
        if len(pages) >= LIST_PAGES.value:
            LIST_PAGES.record()
            break
        params = {} if cursor is None else {"cursor": cursor}
        try:
            answer = await asker.ask(link, kind.method, params, optional=True)
        except (RpcError, ProtocolError) as error:
            if cursor == _NO_CURSOR:
                # The server sends an empty cursor for a page that does not exist.
                break
            if isinstance(error, ProtocolError):
                raise
            text = f"{kind.method} failed with error {error.code}: {error.message}"
            raise ProtocolError(text) from None
        if answer is None:
            return pages or None
        if pages and _repeats(kind, answer, pages):
            break
        pages.append(answer)
        size += sum(map(len, answer.values()))
        if size > LIST_BYTES.value:
            LIST_BYTES.record()
            raise ProtocolError(
                f"{kind.method} returned more than {LIST_BYTES.value} bytes in total"
            )
        cursor = answer.get("nextCursor")
        if cursor is None or cursor == jsonrpc.NULL or bytes(cursor) in seen:
            break
        seen.add(bytes(cursor))
    return pages


def _repeats(kind: ComponentKind, page: Message, pages: list[Message]) -> bool:
    """Return True if a nonempty page equals the previous or the first one."""
    items = page.get(kind.member)
    if items is None or bytes(items) in (b"[]", b"null"):
        # An empty page may be followed by others.
        return False
    return any(items == earlier.get(kind.member) for earlier in (pages[0], pages[-1]))


async def fetch_list(
    asker: Requester,
    link: UpstreamSession,
    kind: ComponentKind,
    names: PrefixMapping,
    selection: ComponentFilter,
) -> ComponentList | None:
    """Fetch a list as clients see it; None if the backend does not know the method.

    Raises BackendError.
    """
    started = asyncio.get_running_loop().time()
    pages = await fetch_pages(asker, link, kind)
    if pages is None:
        return None
    return with_elapsed_ttl(build_list(kind, names, pages, selection), started)


def with_elapsed_ttl(component_list: ComponentList, started: float) -> ComponentList:
    """Shorten the TTL by the duration of the fetch, because it starts with the first page."""
    if not component_list.ttl_ms:
        return component_list
    elapsed_ms = int((component_list.fetched_at - started) * 1000)
    return replace(component_list, ttl_ms=max(component_list.ttl_ms - elapsed_ms, 0))


def build_list(
    kind: ComponentKind, names: PrefixMapping, pages: list[Message], selection: ComponentFilter
) -> ComponentList:
    """Build the list that clients see from its pages. Raises ProtocolError."""
    remaining = LIST_COMPONENTS.value
    try:
        for page in pages:
            remaining -= jsonrpc.length(page.get(kind.member), remaining)
            if remaining < 0:
                LIST_COMPONENTS.record()
                maximum = LIST_COMPONENTS.value
                raise ProtocolError(
                    f"{kind.method} returned more than {maximum} components in total"
                )
        return parse_component_list(
            kind, names, pages, asyncio.get_running_loop().time(), selection
        )
    except RpcError as error:
        raise ProtocolError(f"cannot parse the result of {kind.method}: {error.message}") from None
