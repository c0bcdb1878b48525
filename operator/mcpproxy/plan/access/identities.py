"""The identity with which the proxy calls a backend, in words. Pure."""

from mcpproxy.api.v1alpha1 import BackendSpec
from mcpproxy.api.v1alpha1.access.backend_auth import TokenClient

_AUTHORIZATION = "authorization"


def describe_identity(backend: BackendSpec) -> str:
    """Return as whom a backend is called, such as `as client mcpproxy of https://login.example`."""
    auth = backend.auth
    if auth is not None and auth.service_account is not None:
        audience = auth.service_account.audience
        return f"with a token of the pods' ServiceAccount for {audience}"
    if auth is not None and auth.client_credentials is not None:
        return f"as client {_client(auth.client_credentials)}"
    if auth is not None and auth.token_exchange is not None:
        return f"on behalf of each caller, by client {_client(auth.token_exchange)}"
    if backend.stdio is not None:
        return "as a program of the proxy"
    if backend.forwards_credentials:
        return "with the Authorization of each client"
    headers = {header.name.lower() for header in backend.headers or ()}
    return "with a configured Authorization" if _AUTHORIZATION in headers else "without a token"


def _client(client: TokenClient) -> str:
    server = client.issuer or client.token_url or "the server that the backend names"
    return f"{client.client_id} of {server}"
