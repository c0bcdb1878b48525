"""The authorization server of a backend: configured, or named by the metadata of the backend."""

import asyncio
import ipaddress
import logging
import re
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from mcpproxy.api.authority import is_secure_url
from mcpproxy.limits.tokens import TOKEN_RESPONSE
from mcpproxy.proxy.issuers.documents import (
    IssuerError,
    IssuerHttp,
    IssuerResponse,
    IssuerUnreachable,
    is_fetchable,
)
from mcpproxy.proxy.issuers.metadata import TOKENS, discover_metadata

if TYPE_CHECKING:
    from mcpproxy.api.v1alpha1 import OAuthClient

_WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"
_CHALLENGE: Final = re.compile(rb'resource_metadata\s*=\s*"([^"\\\x00-\x20\x7f]{1,2048})"')
_PROBE: Final = b'{"jsonrpc":"2.0","id":"mcpproxy-authorization","method":"ping"}'
_MCP: Final = (
    (b"accept", b"application/json, text/event-stream"),
    (b"content-type", b"application/json"),
)
log = logging.getLogger("mcpproxy.backend")


@dataclass(frozen=True, slots=True)
class TokenServer:
    """Address and properties of an authorization server, as a token request needs them."""

    token_url: str
    issuer: str = ""
    """Issuer identifier; empty if only the token endpoint is configured."""
    resource: str = ""
    """The resource that the metadata of the backend names; empty without it."""
    authentication_methods: tuple[str, ...] = ()
    signing_algorithms: tuple[str, ...] = ()

    @property
    def wants_secret_in_form(self) -> bool:
        """True if the server accepts a secret in the parameters and not in a header."""
        methods = self.authentication_methods
        return "client_secret_post" in methods and "client_secret_basic" not in methods


class TokenServerFinder:
    """Finder of the authorization server of one backend."""

    def __init__(
        self,
        backend: str,
        url: str,
        client: "OAuthClient",
        tls: Callable[[], ssl.SSLContext],
        backend_tls: Callable[[], ssl.SSLContext],
        resolve: Mapping[str, str],
    ) -> None:
        """`url` is that of the backend, which is reached with `backend_tls`."""
        self._backend = backend
        self._url = url
        self._client = client
        self._tls = tls
        self._resolve = resolve
        self._backend_tls = backend_tls
        self.http = _http(tls, resolve)
        """Client for requests to the server that was found."""
        self._backend_http = _http(backend_tls, resolve)
        self._pinned = ""
        """The issuer that the backend named first."""
        self._known: TokenServer | None = None

    async def find(self) -> TokenServer:
        """Return the server, from its metadata if necessary. Raise IssuerError."""
        if self._known is None:
            self._known = await self._find()
        return self._known

    def forget(self) -> None:
        """Read the metadata again before the next request, because requests fail."""
        self._known = None

    async def _find(self) -> TokenServer:
        client = self._client
        if client.token_url is not None:
            return TokenServer(client.token_url)
        if client.issuer is not None:
            return await self._of_issuer(client.issuer, self.http)
        issuer, resource = await self._of_backend()
        http = await self._checked(self._tls, issuer)
        server = await self._of_issuer(issuer, http, resource)
        self.http = await self._checked(self._tls, server.token_url)
        return server

    async def _of_issuer(self, issuer: str, http: IssuerHttp, resource: str = "") -> TokenServer:
        metadata = await discover_metadata(issuer, http, TOKENS)
        return TokenServer(
            metadata.url,
            issuer,
            resource,
            tuple(metadata.strings("token_endpoint_auth_methods_supported")),
            tuple(metadata.strings("token_endpoint_auth_signing_alg_values_supported")),
        )

    async def _of_backend(self) -> tuple[str, str]:
        """Return the issuer and the resource in the backend's metadata (RFC 9728).

        Raise IssuerError.
        """
        issuer, resource = self._read(await self._resource_metadata())
        if self._pinned not in ("", issuer):
            raise IssuerError(
                f"the backend named {self._pinned} and now names {issuer} as its authorization"
                " server; set issuer to the right one"
            )
        if not self._pinned:
            log.info("backend %s: its authorization server is %s", self._backend, issuer)
        self._pinned = issuer
        return issuer, resource

    async def _resource_metadata(self) -> IssuerResponse:
        challenge = await self._backend_http.send(b"POST", self._url, _MCP, _PROBE)
        match = _CHALLENGE.search(challenge.headers.get(b"www-authenticate", b""))
        if match is not None and challenge.status == 401:
            url = match[1].decode("latin-1")
            if not is_fetchable(url, self._url):
                raise IssuerError(f"{self._url}: resource_metadata is not an https URL")
            return await (await self._checked(self._backend_tls, url)).fetch(url)
        parts = urlsplit(self._url)
        base, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
        problem: IssuerError | None = None
        for url in dict.fromkeys((f"{base}{_WELL_KNOWN}{path}", f"{base}{_WELL_KNOWN}")):
            try:
                return await self._backend_http.fetch(url)
            except IssuerUnreachable:
                raise
            except IssuerError as error:
                problem = problem or error
        assert problem is not None
        raise problem

    def _read(self, document: IssuerResponse) -> tuple[str, str]:
        content = document.json_object()
        resource, servers = content.get("resource"), content.get("authorization_servers")
        if not isinstance(resource, str) or not covers(resource, self._url):
            raise IssuerError(f"{document.url}: the metadata is that of another resource")
        issuer = servers[0] if isinstance(servers, list) and servers else None
        insecure = bool(self._client.insecure_http)
        if not isinstance(issuer, str) or not (
            is_fetchable(issuer, issuer) and is_secure_url(issuer, insecure_http=insecure)
        ):
            raise IssuerError(
                f"{document.url}: authorization_servers does not begin with an https URL"
            )
        return issuer, resource

    async def _checked(self, tls: Callable[[], ssl.SSLContext], url: str) -> IssuerHttp:
        """Return a client for a URL that a public backend named; its address must be public too.

        Otherwise a backend could direct requests to any server in the network of the pods. The
        checked address is the one that is connected to. Raise IssuerError.
        """
        parts = urlsplit(url)
        own, host = urlsplit(self._url).hostname or "", parts.hostname or ""
        addresses = self._resolve
        if host != own and host not in self._resolve and await _is_public(own):
            checked = await _lookup(host)
            if not checked or not all(map(is_public, checked)):
                raise IssuerError(
                    f"{url}: the backend named a server without a public address; set issuer if it"
                    " is the right one"
                )
            addresses = {**addresses, host: f"{checked[0]}:{parts.port or 443}"}
        return _http(tls, addresses)


def _http(tls: Callable[[], ssl.SSLContext], resolve: Mapping[str, str]) -> IssuerHttp:
    return IssuerHttp(tls, resolve, TOKEN_RESPONSE.value, TOKEN_RESPONSE.record)


_EMBEDDING: Final = (ipaddress.IPv6Network("::/96"), ipaddress.IPv6Network("64:ff9b::/96"))
"""IPv4-compatible addresses, and those of NAT64 (RFC 6052)."""
_LOCAL_NAT64: Final = ipaddress.IPv6Network("64:ff9b:1::/48")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


async def _is_public(host: str) -> bool:
    addresses = await _lookup(host)
    return bool(addresses) and all(map(is_public, addresses))


def is_public(address: Address) -> bool:
    """Return True if an address belongs to the public Internet.

    An IPv6 address that contains an IPv4 address leads to that one.
    """
    if isinstance(address, ipaddress.IPv6Address):
        inner = _embedded(address)
        if inner is not None:
            return is_public(inner)
        if address in _LOCAL_NAT64:
            return False
    return address.is_global and not address.is_multicast


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that a mapped, compatible, 6to4, Teredo or NAT64 address contains."""
    if address.ipv4_mapped is not None or address.sixtofour is not None:
        return address.ipv4_mapped or address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if any(address in network for network in _EMBEDDING):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


async def _lookup(host: str) -> list[Address]:
    loop = asyncio.get_running_loop()
    try:
        result = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in result]


def covers(resource: str, url: str) -> bool:
    """Return True if a resource is the one at a URL, or contains it: the origin or a parent path.

    Its metadata is then that of the URL (RFC 9728, section 3.3).
    """
    try:
        whole, part = urlsplit(resource), urlsplit(url)
        same = (whole.scheme, whole.hostname, _port(whole)) == (
            part.scheme,
            part.hostname,
            _port(part),
        )
    except ValueError:
        return False
    if not same or whole.query or whole.fragment or "@" in whole.netloc:
        return same and resource == url
    path = whole.path.rstrip("/") + "/"
    return (part.path.rstrip("/") + "/").startswith(path)


def _port(parts: object) -> int:
    port = getattr(parts, "port", None)
    return int(port) if port else (443 if getattr(parts, "scheme", "") == "https" else 80)
