"""Browsers that visit the endpoint: they get a page that says what the endpoint is for.

MCP clients are not affected: a GET of theirs names text/event-stream, a session or a revision.
"""

from typing import Final

from mcpproxy.proxy.http1.media_types import EVENT_STREAM
from mcpproxy.proxy.http1.server.request import RequestHead
from mcpproxy.proxy.http1.server.response_writer import ResponseWriter
from mcpproxy.proxy.protocol import headers as h

HTML: Final = b"text/html"
_OF_CLIENTS: Final = (h.SESSION_ID, h.PROTOCOL_VERSION, h.LAST_EVENT_ID)


def is_browser_visit(head: RequestHead) -> bool:
    """Return True if a request is that of a browser whose user opens the endpoint's URL."""
    if head.method != "GET":
        return False
    accept = head.headers.get(b"accept", b"").lower()
    if HTML not in accept or EVENT_STREAM in accept or not h.accepts(accept, HTML):
        return False
    return not any(name in head.headers for name in _OF_CLIENTS)


class LandingPage:
    """The page of one endpoint."""

    def __init__(self, name: str, public_url: str | None, path: str) -> None:
        """Without a `public_url`, the URL has the host by which the browser reached the endpoint,
        and `path`."""
        self._name = name
        self._public_url = public_url
        self._path = path

    async def show(self, head: RequestHead, reply: ResponseWriter) -> None:
        """Answer a visit of a browser that may use the endpoint."""
        # Few endpoints are visited by a browser.
        from mcpproxy.pages.landing import endpoint_page, page_headers

        host = head.headers.get(b"host", b"").decode("latin-1")
        url = self._public_url or f"http://{host}{self._path}"
        await reply.document(200, endpoint_page(self._name, url), *_encoded(page_headers()))


async def show_sign_in(reply: ResponseWriter, *challenge: tuple[bytes, bytes]) -> None:
    """Answer a visit of a browser without credentials; `challenge` are headers of the 401."""
    from mcpproxy.pages.landing import page_headers, sign_in_page

    await reply.document(401, sign_in_page(), *challenge, *_encoded(page_headers()))


def _encoded(headers: tuple[tuple[str, str], ...]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in headers]
