"""Cross-origin resource sharing (Fetch standard, section 3.2): responses that pages may read.

Only pages of `allowedOrigins` get these headers. Credentials of the browser (cookies) are never
allowed, because MCP clients send `Authorization` themselves.
"""

import re
from typing import Final

from mcpproxy.proxy.downstream.host_origin import HostOriginPolicy
from mcpproxy.proxy.http1.server.request import RequestHead
from mcpproxy.proxy.protocol import headers as h

HeaderFields = tuple[tuple[bytes, bytes], ...]

METHODS: Final = b"GET, POST, DELETE"
MAX_AGE: Final = b"7200"
"""Seconds for which a browser caches a preflight; Chromium allows no more."""
EXPOSED: Final = b", ".join((h.SESSION_ID, h.PROTOCOL_VERSION, b"www-authenticate", b"retry-after"))
_REQUEST_HEADERS: Final = frozenset(
    {
        b"accept",
        b"accept-language",
        b"authorization",
        b"baggage",
        b"cache-control",
        b"content-language",
        b"content-type",
        h.LAST_EVENT_ID,
        b"traceparent",
        b"tracestate",
    }
)
_OF_MCP: Final = re.compile(rb"mcp-[!#$%&'*+\-.^_`|~0-9a-z]+")
_VARIES: Final = (b"vary", b"origin")


class CorsPolicy:
    """CORS response headers for pages of other origins."""

    def __init__(self, guard: HostOriginPolicy, passed: frozenset[bytes] = frozenset()) -> None:
        """Create a policy; `passed` are more headers that pages may send (lower-case names)."""
        self._guard = guard
        self._sendable = _REQUEST_HEADERS | passed

    def headers_for(self, head: RequestHead) -> HeaderFields:
        """Return the headers for responses to this request; none unless its page may read them."""
        origin = head.headers.get(b"origin")
        if origin is None or not self._guard.shares_with(origin):
            return ()
        return (
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", EXPOSED),
            _VARIES,
        )

    def preflight(self, head: RequestHead) -> HeaderFields | None:
        """Return the additional headers of the response to a preflight; None for other requests."""
        if head.method != "OPTIONS" or b"access-control-request-method" not in head.headers:
            return None
        origin = head.headers.get(b"origin")
        if origin is None or not self._guard.shares_with(origin):
            return None
        fields = [(b"access-control-allow-methods", METHODS), (b"access-control-max-age", MAX_AGE)]
        requested = head.headers.get(b"access-control-request-headers", b"").lower().split(b",")
        names = [name.strip() for name in requested]
        allowed = [name for name in names if name in self._sendable or _OF_MCP.fullmatch(name)]
        if allowed:
            fields.append((b"access-control-allow-headers", b", ".join(allowed)))
        private = head.headers.get(b"access-control-request-private-network") == b"true"
        # A page from the Internet may reach a private address only if its origin is allowed by
        # name.
        if private and self._guard.names_origin(origin):
            fields.append((b"access-control-allow-private-network", b"true"))
        return tuple(fields)
