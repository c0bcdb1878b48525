"""Construction of the credentials for one backend, and the parameters of its token requests:
client credentials (RFC 6749) and token exchange (RFC 8693)."""

import functools
import ssl
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from mcpproxy.api.constants import ACTOR_FILE, TOKEN_FILE
from mcpproxy.api.defaults import refresh_before
from mcpproxy.proxy.core.exchange import BackendCredentials
from mcpproxy.proxy.core.identity import Identity
from mcpproxy.proxy.upstream.credentials.access_tokens import AccessToken, Line
from mcpproxy.proxy.upstream.credentials.client_proof import Form, build_proof
from mcpproxy.proxy.upstream.credentials.exchanged import ExchangedTokens
from mcpproxy.proxy.upstream.credentials.own import OwnToken, ServiceAccountCredentials
from mcpproxy.proxy.upstream.credentials.probe import ProbeCredentials
from mcpproxy.proxy.upstream.credentials.token_endpoint import TokenEndpoint
from mcpproxy.proxy.upstream.credentials.token_server import TokenServer, TokenServerFinder
from mcpproxy.proxy.upstream.credentials.token_slot import TokenSlot
from mcpproxy.proxy.upstream.mounted.tls import TlsContext
from mcpproxy.proxy.upstream.mounted.values import MountedToken, MountedValues

if TYPE_CHECKING:
    from mcpproxy.api.v1alpha1 import BackendSpec, TokenClient, TokenExchange

_TYPE: Final = "urn:ietf:params:oauth:token-type:"
_ACCESS_TOKEN: Final = f"{_TYPE}access_token"
_JWT: Final = f"{_TYPE}jwt"
_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
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
        return None if auth.token_exchange is None else self._exchanged(auth.token_exchange)

    def _mounted(self, file: str) -> ServiceAccountCredentials:
        return ServiceAccountCredentials(self._values, MountedToken(self._spec.name, file))

    def _endpoint(self, client: "TokenClient") -> TokenEndpoint:
        tls = self._system_tls
        if client.tls is not None:
            tls = TlsContext(client.tls, self._values)
        finder = TokenServerFinder(
            self._spec.name, self._url, client, tls, self._backend_tls, self._resolve
        )
        return TokenEndpoint(finder, build_proof(client, self._values), self._on_result)

    def _own_slot(self, client: "TokenClient", endpoint: TokenEndpoint) -> TokenSlot:
        form = functools.partial(_client_credentials_form, client, self._url)
        return TokenSlot(lambda: endpoint.request(form), self._refresh_before)

    def _exchanged(self, client: "TokenExchange") -> ExchangedTokens:
        endpoint, actor = self._endpoint(client), self._actor(client)

        async def exchange(subject: Identity) -> AccessToken:
            acting = None if actor is None else _token_of(await actor[0].obtain(), actor[1])
            token = subject.token, _JWT if subject.method == "serviceAccount" else _ACCESS_TOKEN

            def build(server: TokenServer) -> Form:
                return _exchange_form(client, self._url, server, token, acting)

            return await endpoint.request(build, _lifetime_of(subject))

        probe = ProbeCredentials(self._own_slot(client, endpoint))
        exchanged = ExchangedTokens(
            exchange, probe, self._refresh_before, *([actor[0]] if actor else ())
        )
        probe.depend_on(exchanged.serve_anyone)
        return exchanged

    def _actor(self, client: "TokenExchange") -> tuple[BackendCredentials, str] | None:
        """Return the credentials of the actor and the type of its tokens."""
        actor = client.actor
        if actor is None:
            return None
        if actor.service_account is not None:
            return self._mounted(ACTOR_FILE), _JWT
        return OwnToken(self._own_slot(client.actor_client, self._endpoint(client))), _ACCESS_TOKEN


def _token_of(line: Line | None, kind: str) -> tuple[str, str] | None:
    """Return the token in a header field, with its type."""
    return None if line is None else (line[1].removeprefix(b"Bearer ").decode("ascii"), kind)


def _lifetime_of(subject: Identity) -> float | None:
    """Return the seconds for which the token of a caller is still valid."""
    return None if subject.expires is None else max(subject.expires - time.time(), 0.0)


def _client_credentials_form(client: "TokenClient", url: str, server: TokenServer) -> Form:
    """Return the parameters of a request for the proxy itself. `url` is that of the backend."""
    return {"grant_type": "client_credentials", **_target(client, url, server)}


def _exchange_form(
    client: "TokenClient",
    url: str,
    server: TokenServer,
    subject: tuple[str, str],
    actor: tuple[str, str] | None,
) -> Form:
    """Return the parameters of an exchange; `subject` and `actor` are tokens with their types."""
    form = {
        "grant_type": _EXCHANGE,
        "subject_token": subject[0],
        "subject_token_type": subject[1],
        "requested_token_type": _ACCESS_TOKEN,
    }
    if actor is not None:
        form |= {"actor_token": actor[0], "actor_token_type": actor[1]}
    return {**form, **_target(client, url, server)}


def _target(client: "TokenClient", url: str, server: TokenServer) -> Form:
    """Return the parameters that say for what the token is."""
    resource = (server.resource or url) if client.resource is None else client.resource
    form = {"resource": resource} if resource else {}
    if client.audience is not None:
        form["audience"] = client.audience
    if client.scopes:
        form["scope"] = " ".join(client.scopes)
    return form
