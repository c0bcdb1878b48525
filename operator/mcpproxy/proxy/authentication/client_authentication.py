"""All parts of the authentication of one proxy, as its spec configures them."""

import asyncio
import functools
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from mcpproxy.proxy.authentication.authenticator import Authenticator, ignore_refusal
from mcpproxy.proxy.authentication.mounted_keys import ApiKeyHashes, ClusterKeys
from mcpproxy.proxy.authentication.refusals import Challenges
from mcpproxy.proxy.authentication.remote_keys import KeyDocuments, RemoteKeys
from mcpproxy.proxy.authentication.resource_metadata import ResourceMetadataDocument
from mcpproxy.proxy.authentication.token_rules import (
    AudienceRule,
    JwtIdentities,
    ServiceAccountIdentities,
    TokenIssuer,
)
from mcpproxy.proxy.authentication.tokens import IdTokens
from mcpproxy.proxy.authentication.verification_keys import KeyListener
from mcpproxy.proxy.core.reports import KeysReport
from mcpproxy.proxy.upstream.mounted.tls import TlsContext
from mcpproxy.proxy.upstream.mounted.values import MountedValues

if TYPE_CHECKING:
    from mcpproxy.api.v1alpha1 import Authentication, JwtIssuer, MCPProxy, MCPProxySpec

REREAD: Final = 5.0
"""Seconds between two readings of mounted keys and hashes."""
_system_tls: Final = functools.cache(ssl.create_default_context)


class ClientAuthentication:
    """The authenticator of a proxy, its published metadata, and its keys."""

    def __init__(
        self,
        proxy: "MCPProxy",
        path: str,
        values: MountedValues,
        resolve: Mapping[str, str],
        listener: KeyListener,
        now: Callable[[], float] = time.time,
        on_refused: Callable[[str, str], None] = ignore_refusal,
    ) -> None:
        """`proxy` has `spec.authentication`; `path` is that of the endpoint.

        `now` returns the seconds since the epoch; `on_refused` is that of `Authenticator`.
        """
        spec = proxy.spec.authentication
        assert spec is not None
        public_url = proxy.spec.public_url
        self.metadata: ResourceMetadataDocument | None = None
        """The published metadata, if tokens of OAuth are accepted."""
        if public_url is not None and spec.jwt:
            self.metadata = ResourceMetadataDocument(proxy.spec, path)
        self._remote = [
            RemoteKeys(
                entry.issuer,
                KeyDocuments(entry, _tls(entry, values), resolve).fetch_keys,
                now,
                listener,
            )
            for entry in spec.jwt or ()
        ]
        issuers = _token_issuers(proxy.spec, self._remote)
        self._cluster: ClusterKeys | None = None
        if spec.service_accounts is not None:
            cluster = self._cluster = ClusterKeys(proxy.metadata.name, values, listener)
            audience = AudienceRule([spec.service_accounts.audience])
            issuers.append(
                TokenIssuer(lambda: cluster.issuer, cluster, audience, ServiceAccountIdentities())
            )
        self._api_keys = ApiKeyHashes(spec.api_keys, values, listener) if spec.api_keys else None
        self.challenges = _challenges(spec, self.metadata)
        self.authenticator = Authenticator(
            issuers,
            self._api_keys,
            self.challenges,
            allows_anonymous=spec.mode == "Optional",
            id_tokens=find_id_tokens(proxy.spec),
            now=now,
            on_refused=on_refused,
        )
        self._tasks: list[asyncio.Task[None]] = []

    def statuses(self) -> list[KeysReport]:
        """Return the states of all keys, for the report of the pod."""
        mounted = [source for source in (self._cluster, self._api_keys) if source is not None]
        return [*(keys.status for keys in self._remote), *(source.status for source in mounted)]

    def start(self) -> None:
        """Read all keys, and keep them fresh."""
        self._reread()
        self._tasks = [asyncio.create_task(keys.run()) for keys in self._remote]
        self._tasks.append(asyncio.create_task(self._keep_rereading()))

    def _reread(self) -> None:
        for source in (self._cluster, self._api_keys):
            if source is not None:
                source.refresh()

    async def _keep_rereading(self) -> None:
        while self._cluster is not None or self._api_keys is not None:
            await asyncio.sleep(REREAD)
            self._reread()

    async def close(self) -> None:
        """Cancel the background tasks."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for keys in self._remote:
            await keys.close()


def reads_claims(spec: "MCPProxySpec") -> bool:
    """Return True if anything but the identity depends on the claims of tokens."""
    rules = spec.authorization
    if rules is not None and (rules.external or any(rule.when for rule in rules.rules or ())):
        return True
    # A token for a caller is requested again when the rights in the claims change.
    return any(backend.is_called_for_callers for backend in spec.backends)


def find_id_tokens(spec: "MCPProxySpec") -> IdTokens:
    """Return the ID tokens that a backend exchanges, by issuer and client."""
    grants = (backend.auth.id_jag for backend in spec.backends if backend.auth is not None)
    providers = (grant.identity_provider for grant in grants if grant is not None)
    return frozenset(
        (provider.issuer, provider.client_id)
        for provider in providers
        if provider.subject_token_type == "IdToken" and provider.issuer is not None
    )


def _token_issuers(spec: "MCPProxySpec", keys: Sequence[RemoteKeys]) -> list[TokenIssuer]:
    assert spec.authentication is not None
    keeps_claims = reads_claims(spec)
    pairs = zip(spec.authentication.jwt or (), keys, strict=True)
    return [
        _token_issuer(entry, source, spec.public_url, keeps_claims=keeps_claims)
        for entry, source in pairs
    ]


def _token_issuer(
    entry: "JwtIssuer", keys: RemoteKeys, public_url: str | None, *, keeps_claims: bool
) -> TokenIssuer:
    audience = AudienceRule(entry.audiences or (), public_url)
    identities = JwtIdentities(entry, keeps_claims=keeps_claims)
    return TokenIssuer(lambda: entry.issuer, keys, audience, identities)


def _tls(entry: "JwtIssuer", values: MountedValues) -> Callable[[], ssl.SSLContext]:
    return _system_tls if entry.tls is None else TlsContext(entry.tls, values)


def _challenges(spec: "Authentication", metadata: ResourceMetadataDocument | None) -> Challenges:
    more = spec.resource_metadata
    scopes = (more.scopes_supported if more else None) or []
    return Challenges(metadata.url if metadata else None, scopes)
