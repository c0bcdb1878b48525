"""Parameters of token requests: client credentials (RFC 6749) and token exchange (RFC 8693)."""

from typing import Final

from mcpproxy.api.v1alpha1 import TokenClient
from mcpproxy.proxy.upstream.credentials.client_proof import Form
from mcpproxy.proxy.upstream.credentials.token_server import TokenServer

_TYPE: Final = "urn:ietf:params:oauth:token-type:"
ACCESS_TOKEN: Final = f"{_TYPE}access_token"
JWT: Final = f"{_TYPE}jwt"
_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"


def client_credentials_form(client: TokenClient, url: str, server: TokenServer) -> Form:
    """Return the parameters of a request for the proxy itself. `url` is that of the backend."""
    return {"grant_type": "client_credentials", **_target(client, url, server)}


def exchange_form(
    client: TokenClient,
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
        "requested_token_type": ACCESS_TOKEN,
    }
    if actor is not None:
        form |= {"actor_token": actor[0], "actor_token_type": actor[1]}
    return {**form, **_target(client, url, server)}


def _target(client: TokenClient, url: str, server: TokenServer) -> Form:
    """Return the parameters that say for what the token is."""
    resource = (server.resource or url) if client.resource is None else client.resource
    form = {"resource": resource} if resource else {}
    if client.audience is not None:
        form["audience"] = client.audience
    if client.scopes:
        form["scope"] = " ".join(client.scopes)
    return form
