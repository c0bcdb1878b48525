"""Requests to issuers over HTTP: bounded, and without redirects.

Redirects are never followed, because the address of an issuer is configured, not negotiated, and
because a request may contain secrets.
"""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from mcpproxy.proxy.core.errors import MissingReference, TlsInvalid
from mcpproxy.proxy.http1.client.client import HttpClient
from mcpproxy.proxy.http1.client.connection import ClientResponse
from mcpproxy.proxy.http1.errors import HttpClientError, InvalidResponse

CONNECT: Final = 5.0
"""Seconds in which a connection to an issuer must be opened."""
_ACCEPT: Final = ((b"accept", b"application/json"), (b"user-agent", b"mcpproxy"))
Lines = tuple[tuple[bytes, bytes], ...]


class IssuerError(Exception):
    """The server of an issuer sent nothing that can be used. The message is for the status."""


class IssuerUnreachable(IssuerError):
    """The server of an issuer can't be reached at any URL."""


class IssuerAbsent(IssuerError):
    """The server of an issuer has no document at a URL."""


@dataclass(frozen=True, slots=True)
class IssuerResponse:
    """A response of the server of an issuer, with its whole body."""

    url: str
    status: int
    media_type: bytes
    body: bytes
    headers: Mapping[bytes, bytes] = field(default_factory=dict)

    def json_object(self) -> dict[str, Any]:
        """Return the JSON object in the body. Raise IssuerError."""
        try:
            content = msgspec.json.decode(self.body)
        except (msgspec.DecodeError, RecursionError, ValueError):
            content = None
        if not isinstance(content, dict):
            raise IssuerError(f"{self.url}: the response is not a JSON object")
        return content


class IssuerHttp:
    """Client of the servers of issuers. Each request opens a new connection."""

    def __init__(
        self,
        tls: Callable[[], ssl.SSLContext],
        resolve: Mapping[str, str],
        limit: int,
        on_excess: Callable[[], None],
    ) -> None:
        """`tls` returns the context of the next connection. `resolve` maps hosts to `host:port`.

        `limit` is that of the bytes of a response; `on_excess` is called beyond it.
        """
        self._tls = tls
        self._resolve = resolve
        self._limit = limit
        self._on_excess = on_excess

    async def fetch(self, url: str) -> IssuerResponse:
        """Return the document at a URL. Raise IssuerError."""
        response = await self.send(b"GET", url)
        if response.status != 200:
            kind = IssuerAbsent if response.status == 404 else IssuerError
            raise kind(f"{url}: HTTP {response.status}")
        return response

    async def send(
        self, method: bytes, url: str, headers: Lines = (), body: bytes = b""
    ) -> IssuerResponse:
        """Send a request, and return its response whatever the status. Raise IssuerError."""
        try:
            client = HttpClient(url, CONNECT, self._tls, self._resolve)
            head = client.head(method, client.origin.path, (*_ACCEPT, *headers))
            try:
                response = await client.send(head, body)
                if response.headers.get(b"content-encoding", b"identity").lower() != b"identity":
                    raise IssuerError(f"{url}: a content coding that was not asked for")
                content = await self._read(url, response)
                return IssuerResponse(
                    url, response.status, response.media_type, content, dict(response.headers)
                )
            finally:
                client.close()
        except InvalidResponse as error:
            raise IssuerError(f"{url}: {error}") from None
        except (HttpClientError, MissingReference, TlsInvalid, ValueError) as error:
            raise IssuerUnreachable(f"{url}: {error}") from None

    async def _read(self, url: str, response: ClientResponse) -> bytes:
        """Return the whole body. Raise IssuerError beyond the limit."""
        body = bytearray()
        while chunk := await response.next_chunk():
            body += chunk
            if len(body) > self._limit:
                self._on_excess()
                response.close()
                raise IssuerError(f"{url}: the document has more than {self._limit} bytes")
        return bytes(body)


def is_fetchable(url: object, base: str) -> bool:
    """Return True for an https URL, and for one with the scheme, host and port of `base`."""
    if not isinstance(url, str) or not url.isascii() or not url.isprintable() or " " in url:
        return False
    try:
        parts, own = urlsplit(url), urlsplit(base)
        if not parts.hostname or "@" in parts.netloc or parts.port == 0:
            return False
    except ValueError:
        return False
    same = parts.scheme == own.scheme and parts.netloc.lower() == own.netloc.lower()
    return parts.scheme == "https" or same
