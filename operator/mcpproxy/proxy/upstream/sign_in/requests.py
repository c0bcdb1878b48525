"""Requests that the SDK makes for a sign-in, sent by the client with the rules for issuers."""

import asyncio
import ipaddress
import ssl
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

import httpx2

from mcpproxy.limits.tokens import TOKEN_TIME
from mcpproxy.proxy.issuers.documents import IssuerError, IssuerUnreachable, is_fetchable
from mcpproxy.proxy.upstream.credentials.token_server import http_for_named

_SENT: Final = ("authorization", "content-type", "mcp-protocol-version")


class NamedServers:
    """Client of the servers that a backend, or the metadata that it names, names."""

    def __init__(
        self, url: str, tls: Callable[[], ssl.SSLContext], resolve: Mapping[str, str]
    ) -> None:
        """`url` is that of the backend."""
        self._url = url
        self._tls = tls
        self._resolve = resolve

    async def send(self, request: httpx2.Request) -> httpx2.Response:
        """Return the response to a request of the SDK. Raise IssuerError."""
        url = str(request.url)
        if not self.may_use(url):
            raise IssuerError(f"{url}: not an https URL")
        headers = tuple(
            (name.encode("ascii"), request.headers[name].encode("latin-1"))
            for name in _SENT
            if name in request.headers
        )
        try:
            async with asyncio.timeout(TOKEN_TIME.value):
                http = await http_for_named(self._url, url, self._tls, self._resolve)
                method = request.method.encode("ascii")
                response = await http.send(method, url, headers, request.content)
        except TimeoutError:
            TOKEN_TIME.record()
            raise IssuerUnreachable(f"{url}: no response within {TOKEN_TIME.value} s") from None
        return httpx2.Response(
            response.status,
            headers={"content-type": response.media_type.decode("latin-1")},
            content=response.body,
            request=request,
        )

    def may_use(self, url: str) -> bool:
        """True for https, for the backend's own origin, and between servers of this machine."""
        if is_fetchable(url, self._url):
            return True
        parts = urlsplit(url)
        return (
            parts.scheme == "http"
            and is_fetchable(url, url)
            and is_loopback(parts.hostname or "")
            and is_loopback(urlsplit(self._url).hostname or "")
        )


def is_loopback(host: str) -> bool:
    """Return True for a host that is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
