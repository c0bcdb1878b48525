"""Pagination of a backend's lists."""

from typing import Final

from msgspec import Raw

from mcpproxy.limits.backends import LIST_BYTES, LIST_PAGES
from mcpproxy.proxy.core.errors import ProtocolError
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
