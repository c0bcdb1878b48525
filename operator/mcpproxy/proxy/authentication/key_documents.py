"""The key set of an issuer over HTTP, at a configured URL or at the one in its metadata."""

import asyncio
import ssl
from collections.abc import Callable, Mapping

from mcpproxy.api.v1alpha1 import JwtIssuer
from mcpproxy.limits.authentication import KEY_DOCUMENT, KEYS_FETCH
from mcpproxy.proxy.issuers.documents import IssuerError, IssuerHttp
from mcpproxy.proxy.issuers.metadata import discover_metadata


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
        self._http = IssuerHttp(tls, resolve, KEY_DOCUMENT)

    async def fetch_keys(self) -> bytes:
        """Return the key set. Raise IssuerError."""
        try:
            async with asyncio.timeout(KEYS_FETCH.value):
                url = self._issuer.jwks_url or await self._discover()
                return (await self._http.fetch(url)).body
        except TimeoutError:
            KEYS_FETCH.record()
            raise IssuerError(f"no answer within {KEYS_FETCH.value} s") from None

    async def _discover(self) -> str:
        """Return the URL of the key set from the issuer's metadata. Raise IssuerError."""
        metadata = await discover_metadata(self._issuer.issuer, self._http, "jwks_uri")
        return metadata.url_of("jwks_uri")
