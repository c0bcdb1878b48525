"""Documents of an issuer over HTTP: its metadata and its key set.

Redirects are never followed, because the address of an issuer is configured, not negotiated.
"""

import asyncio
import ssl
from collections.abc import Callable, Iterator, Mapping
from typing import Final
from urllib.parse import urlsplit

import msgspec

from mcpproxy.api.untrusted_text import quote
from mcpproxy.api.v1alpha1 import JwtIssuer
from mcpproxy.limits.authentication import KEY_DOCUMENT, KEYS_FETCH
from mcpproxy.proxy.core.errors import MissingReference, TlsInvalid
from mcpproxy.proxy.http1.client.client import HttpClient
from mcpproxy.proxy.http1.client.response import ClientResponse
from mcpproxy.proxy.http1.errors import HttpClientError, InvalidResponse

CONNECT: Final = 5.0
"""Seconds in which a connection to an issuer must be opened."""
_OAUTH: Final = "/.well-known/oauth-authorization-server"
_OPENID: Final = "/.well-known/openid-configuration"
_ACCEPT: Final = ((b"accept", b"application/json"), (b"user-agent", b"mcpproxy"))


class KeysUnavailable(Exception):
    """The keys of an issuer could not be read. The message is for the status."""


class KeyDocuments:
    """Fetcher of the key set of one issuer."""

    def __init__(
        self,
        issuer: JwtIssuer,
        tls: Callable[[], ssl.SSLContext],
        resolve: Mapping[str, str],
    ) -> None:
        """`tls` returns the context of the next connection. `resolve` maps hosts to `host:port`."""
        self._issuer = issuer
        self._tls = tls
        self._resolve = resolve

    async def fetch_keys(self) -> bytes:
        """Return the key set. Raise KeysUnavailable."""
        try:
            async with asyncio.timeout(KEYS_FETCH.value):
                url = self._issuer.jwks_url or await self._discover()
                return await self._fetch(url)
        except TimeoutError:
            KEYS_FETCH.record()
            raise KeysUnavailable(f"no answer within {KEYS_FETCH.value} s") from None

    async def _discover(self) -> str:
        """Return the URL of the key set from the issuer's metadata. Raise KeysUnavailable."""
        problem: KeysUnavailable | None = None
        for url in metadata_urls(self._issuer.issuer):
            try:
                return self._key_set_of(url, await self._fetch(url))
            except _Unreachable:
                raise
            except KeysUnavailable as error:
                # The first problem concerns the form of the URL that issuers should have.
                problem = problem or error
        assert problem is not None
        if isinstance(problem, _Absent):
            raise KeysUnavailable(
                f"{problem}; no metadata of this issuer is there: correct issuer, or set jwksUrl"
            )
        raise problem

    def _key_set_of(self, url: str, document: bytes) -> str:
        try:
            content = msgspec.json.decode(document)
        except (msgspec.DecodeError, RecursionError):
            content = None
        if not isinstance(content, dict):
            raise KeysUnavailable(f"{url}: the metadata is not a JSON object")
        if content.get("issuer") != self._issuer.issuer:
            raise KeysUnavailable(
                f"{url}: the metadata names another issuer, {quote(content.get('issuer'))}; if it"
                " is in the tokens, set issuer to it, and jwksUrl if the pods can not reach it"
            )
        keys = content.get("jwks_uri")
        if not isinstance(keys, str) or not self._may_fetch(keys):
            raise KeysUnavailable(
                f"{url}: jwks_uri is not an https URL but {quote(keys)}; correct the issuer, or set"
                " jwksUrl"
            )
        return keys

    def _may_fetch(self, url: str) -> bool:
        """Return True for https, and for http if the issuer itself is reached by it."""
        parts, issuer = urlsplit(url), urlsplit(self._issuer.issuer)
        if not parts.hostname or "@" in parts.netloc or not url.isprintable() or " " in url:
            return False
        own = parts.scheme == issuer.scheme and parts.netloc.lower() == issuer.netloc.lower()
        return parts.scheme == "https" or own

    async def _fetch(self, url: str) -> bytes:
        """Return the document at a URL. Raise KeysUnavailable."""
        try:
            client = HttpClient(url, CONNECT, self._tls, self._resolve)
            head = client.head(b"GET", client.origin.path, _ACCEPT)
            try:
                response = await client.send(head, b"")
                if response.status != 200:
                    kind = _Absent if response.status == 404 else KeysUnavailable
                    raise kind(f"{url}: HTTP {response.status}")
                if response.headers.get(b"content-encoding", b"identity").lower() != b"identity":
                    raise KeysUnavailable(f"{url}: a content coding that was not asked for")
                return await _read(url, response)
            finally:
                client.close()
        except InvalidResponse as error:
            raise KeysUnavailable(f"{url}: {error}") from None
        except (HttpClientError, MissingReference, TlsInvalid, ValueError) as error:
            raise _Unreachable(f"{url}: {error}") from None


async def _read(url: str, response: ClientResponse) -> bytes:
    """Return the whole body. Raise KeysUnavailable beyond the limit."""
    body = b""
    while chunk := await response.next_chunk():
        body += chunk
        if len(body) > KEY_DOCUMENT.value:
            KEY_DOCUMENT.record()
            response.close()
            raise KeysUnavailable(f"{url}: the document has more than {KEY_DOCUMENT.value} bytes")
    return body


class _Unreachable(KeysUnavailable):
    """The issuer can't be reached at any URL."""


class _Absent(KeysUnavailable):
    """The issuer has no document at a URL."""


def metadata_urls(issuer: str) -> Iterator[str]:
    """Yield the URLs at which an issuer may publish its metadata, in the order to try them.

    RFC 8414 inserts the well-known part before the path; OpenID Connect appends it. Issuers mix
    both.
    """
    parts = urlsplit(issuer)
    base, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
    yield f"{base}{_OAUTH}{path}"
    yield f"{base}{path}{_OPENID}"
    if path:
        yield f"{base}{path}{_OAUTH}"
        yield f"{base}{_OPENID}{path}"
