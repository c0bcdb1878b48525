"""Token requests: the parameters of each grant, and the exchange of callers' tokens (RFC 8693)."""

import time
from typing import TYPE_CHECKING, Final

from mcpproxy.proxy.core.exchange import BackendCredentials
from mcpproxy.proxy.core.identity import Identity
from mcpproxy.proxy.upstream.credentials.access_tokens import AccessToken, Line
from mcpproxy.proxy.upstream.credentials.client_proof import Form
from mcpproxy.proxy.upstream.credentials.token_endpoint import TokenEndpoint
from mcpproxy.proxy.upstream.credentials.token_server import TokenServer

if TYPE_CHECKING:
    from mcpproxy.api.v1alpha1 import TokenClient

TYPE: Final = "urn:ietf:params:oauth:token-type:"
ACCESS_TOKEN: Final = f"{TYPE}access_token"
JWT: Final = f"{TYPE}jwt"
EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"


def resource_of(client: "TokenClient", url: str, server: TokenServer) -> str:
    """Return the resource for which a token is requested (RFC 8707); "" for none.

    `url` is that of the backend.
    """
    return (server.resource or url) if client.resource is None else client.resource


def target_form(client: "TokenClient", url: str, server: TokenServer) -> Form:
    """Return the parameters that say for what a token is. `url` is that of the backend."""
    resource = resource_of(client, url, server)
    form = {"resource": resource} if resource else {}
    if client.audience is not None:
        form["audience"] = client.audience
    return {**form, **scope_form(client)}


def scope_form(client: "TokenClient") -> Form:
    """Return the parameter with the scopes of a token; empty if none are requested."""
    return {"scope": " ".join(client.scopes)} if client.scopes else {}


def client_credentials_form(client: "TokenClient", url: str, server: TokenServer) -> Form:
    """Return the parameters of a request for the proxy itself. `url` is that of the backend."""
    return {"grant_type": "client_credentials", **target_form(client, url, server)}


def exchange_form(
    client: "TokenClient",
    url: str,
    server: TokenServer,
    subject: tuple[str, str],
    actor: tuple[str, str] | None,
) -> Form:
    """Return the parameters of an exchange; `subject` and `actor` are tokens with their types."""
    form = {
        "grant_type": EXCHANGE,
        "subject_token": subject[0],
        "subject_token_type": subject[1],
        "requested_token_type": ACCESS_TOKEN,
    }
    if actor is not None:
        form |= {"actor_token": actor[0], "actor_token_type": actor[1]}
    return {**form, **target_form(client, url, server)}


def lifetime_of(subject: Identity) -> float | None:
    """Return the seconds for which the token of a caller is still valid; None without a limit."""
    return None if subject.expires is None else max(subject.expires - time.time(), 0.0)


class TokenExchanges:
    """Exchange of the tokens of callers for those of one backend."""

    def __init__(
        self,
        client: "TokenClient",
        url: str,
        endpoint: TokenEndpoint,
        actor: tuple[BackendCredentials, str] | None,
    ) -> None:
        """`url` is that of the backend; `actor` are credentials, with the type of their tokens."""
        self._client = client
        self._url = url
        self._endpoint = endpoint
        self._actor = actor

    async def exchange(self, subject: Identity) -> AccessToken:
        """Return the token for a caller. Raise BackendError."""
        actor = self._actor
        acting = None if actor is None else _token_of(await actor[0].obtain(), actor[1])
        token = subject.token, JWT if subject.method == "serviceAccount" else ACCESS_TOKEN

        def build(server: TokenServer) -> Form:
            return exchange_form(self._client, self._url, server, token, acting)

        return await self._endpoint.request(build, lifetime_of(subject))


def _token_of(line: Line | None, kind: str) -> tuple[str, str] | None:
    """Return the token in a header field, with its type."""
    return None if line is None else (line[1].removeprefix(b"Bearer ").decode("ascii"), kind)
