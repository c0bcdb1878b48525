"""Construction of the credentials for one backend: client credentials (RFC 6749), token exchange
(RFC 8693), grants of an identity provider (ID-JAG) and mounted tokens."""

import functools
import ssl
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from mcpproxy.api.constants import ACTOR_FILE, TOKEN_FILE
from mcpproxy.api.defaults import refresh_before
from mcpproxy.proxy.core.exchange import BackendCredentials
from mcpproxy.proxy.upstream.credentials.client_proof import build_proof
from mcpproxy.proxy.upstream.credentials.exchanged import Exchange, ExchangedTokens
from mcpproxy.proxy.upstream.credentials.id_jag import AssertionGrants
from mcpproxy.proxy.upstream.credentials.own import OwnToken, ServiceAccountCredentials
from mcpproxy.proxy.upstream.credentials.probe import ProbeCredentials
from mcpproxy.proxy.upstream.credentials.token_endpoint import TokenEndpoint
from mcpproxy.proxy.upstream.credentials.token_requests import (
    ACCESS_TOKEN,
    JWT,
    TokenExchanges,
    client_credentials_form,
)
from mcpproxy.proxy.upstream.credentials.token_server import TokenServerFinder
from mcpproxy.proxy.upstream.credentials.token_slot import TokenSlot
from mcpproxy.proxy.upstream.mounted.tls import TlsContext
from mcpproxy.proxy.upstream.mounted.values import MountedToken, MountedValues

if TYPE_CHECKING:
    from mcpproxy.api.v1alpha1 import BackendSpec, IdJag, OAuthClient, TokenClient, TokenExchange

TlsSource = Callable[[], ssl.SSLContext]


class CredentialsFactory:
    """Builder of the credentials for one backend."""

    def __init__(
        self,
        spec: "BackendSpec",
        url: str,
        values: MountedValues,
        system_tls: TlsSource,
        backend_tls: TlsSource,
        resolve: Mapping[str, str],
        on_result: Callable[[str], None],
    ) -> None:
        """`url` is that of the backend; `on_result` is that of `TokenEndpoint`."""
        self._spec = spec
        self._url = url
        self._values = values
        self._system_tls = system_tls
        self._backend_tls = backend_tls
        self._resolve = resolve
        self._on_result = on_result
        self._refresh_before = refresh_before(spec)

    def build(self) -> BackendCredentials | None:
        """Return the credentials; None if the proxy sends none."""
        auth = self._spec.auth
        if auth is None:
            return None
        if auth.service_account is not None:
            return self._mounted(TOKEN_FILE)
        if auth.client_credentials is not None:
            client = auth.client_credentials
            return OwnToken(self._own_slot(client, self._endpoint(client)))
        if auth.id_jag is not None:
            return self._granted(auth.id_jag)
        return None if auth.token_exchange is None else self._exchanged(auth.token_exchange)

    def _mounted(self, file: str) -> ServiceAccountCredentials:
        return ServiceAccountCredentials(self._values, MountedToken(self._spec.name, file))

    def _endpoint(self, client: "OAuthClient") -> TokenEndpoint:
        tls = self._system_tls
        if client.tls is not None:
            tls = TlsContext(client.tls, self._values)
        finder = TokenServerFinder(
            self._spec.name, self._url, client, tls, self._backend_tls, self._resolve
        )
        return TokenEndpoint(finder, build_proof(client, self._values), self._on_result)

    def _own_slot(self, client: "TokenClient", endpoint: TokenEndpoint) -> TokenSlot:
        form = functools.partial(client_credentials_form, client, self._url)
        return TokenSlot(lambda: endpoint.request(form), self._refresh_before)

    def _exchanged(self, client: "TokenExchange") -> ExchangedTokens:
        endpoint, actor = self._endpoint(client), self._actor(client)
        exchanges = TokenExchanges(client, self._url, endpoint, actor)
        others = [actor[0]] if actor else []
        return self._of_callers(exchanges.exchange, client, endpoint, *others)

    def _granted(self, client: "IdJag") -> ExchangedTokens:
        endpoint, provider = self._endpoint(client), self._endpoint(client.identity_provider)
        grants = AssertionGrants(client, self._url, provider, endpoint)
        return self._of_callers(grants.exchange, client.own_client, endpoint)

    def _of_callers(
        self,
        exchange: Exchange,
        client: "TokenClient",
        endpoint: TokenEndpoint,
        *others: BackendCredentials,
    ) -> ExchangedTokens:
        """Return the tokens of all callers, and the proxy's own for checks."""
        probe = ProbeCredentials(self._own_slot(client, endpoint))
        exchanged = ExchangedTokens(exchange, probe, self._refresh_before, *others)
        probe.depend_on(exchanged.serve_anyone)
        return exchanged

    def _actor(self, client: "TokenExchange") -> tuple[BackendCredentials, str] | None:
        """Return the credentials of the actor and the type of its tokens."""
        actor = client.actor
        if actor is None:
            return None
        if actor.service_account is not None:
            return self._mounted(ACTOR_FILE), JWT
        return OwnToken(self._own_slot(client.actor_client, self._endpoint(client))), ACCESS_TOKEN
