"""The SDK's OAuth client of one backend, with what it knows from earlier processes."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Final, TypeVar

from mcp.client.auth import OAuthClientProvider
from mcp.shared.auth import (
    AuthorizationCodeResult,
    OAuthClientInformationFull,
    OAuthClientMetadata,
    OAuthMetadata,
    OAuthToken,
    ProtectedResourceMetadata,
)
from pydantic import AnyUrl, BaseModel, ValidationError

from mcpproxy.proxy.upstream.sign_in.settings import SignIn

Model = TypeVar("Model", bound=BaseModel)
_PAST: Final = 1.0
_ANY_PORT: Final = AnyUrl("http://127.0.0.1/callback")
# The SDK logs responses of servers, with a traceback. What failed is in the status of the backend.
logging.getLogger("mcp.client.auth").setLevel(logging.CRITICAL + 1)


class _Memory:
    """Storage of the SDK, in memory."""

    def __init__(
        self, client: OAuthClientInformationFull | None, tokens: OAuthToken | None = None
    ) -> None:
        self._client = client
        self._tokens = tokens

    async def get_tokens(self) -> OAuthToken | None:
        """Return the tokens."""
        return self._tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        """Keep tokens."""
        self._tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        """Return the registered client."""
        return self._client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        """Keep a registered client."""
        self._client = client_info


class SignInProvider(OAuthClientProvider):
    """The SDK's OAuth client, whose knowledge can be stored."""

    def __init__(
        self,
        url: str,
        settings: SignIn,
        open_url: Callable[[str], Awaitable[None]],
        result: Callable[[], Awaitable[AuthorizationCodeResult]],
    ) -> None:
        """`url` is that of the backend; `open_url` and `result` are those of `Browser`."""
        metadata = OAuthClientMetadata(client_name="mcpproxy", redirect_uris=[_ANY_PORT])
        super().__init__(
            *(url, metadata, _Memory(None), open_url, result),
            client_metadata_url=settings.metadata_url or None,
        )
        self._configured = _configured_client(settings)

    def load(self, content: dict[str, Any], may_use: Callable[[str], bool]) -> None:
        """Take over what was stored, unless it names a token endpoint that may not be used."""
        tokens = _model(OAuthToken, content.get("tokens"))
        client = self._configured or _model(OAuthClientInformationFull, content.get("client"))
        resource = _model(ProtectedResourceMetadata, content.get("resource"))
        server = _model(OAuthMetadata, content.get("server"))
        if server is None or not may_use(str(server.token_endpoint)):
            tokens = server = None
        expires = content.get("expires")
        is_time = isinstance(expires, int | float) and not isinstance(expires, bool)
        self.context = replace(
            self.context,
            protected_resource_metadata=resource,
            oauth_metadata=server,
            auth_server_url=_first_server(resource),
            token_expiry_time=expires if is_time else None,
        )
        self._remember(client, tokens)

    def _remember(
        self, client: OAuthClientInformationFull | None, tokens: OAuthToken | None
    ) -> None:
        self.context = replace(
            self.context,
            storage=_Memory(client, tokens),
            client_info=client,
            current_tokens=tokens,
        )

    def stored(self) -> dict[str, Any]:
        """Return what `load` takes over. A configured client is not part of it."""
        context = self.context
        return {
            "tokens": _json(context.current_tokens),
            "client": None if self._configured else _json(context.client_info),
            "resource": _json(context.protected_resource_metadata),
            "server": _json(context.oauth_metadata),
            "expires": context.token_expiry_time,
        }

    def expire(self) -> None:
        """Let the next request refresh the token."""
        self.context = replace(self.context, token_expiry_time=_PAST)

    def prepare(self, redirect_uri: str, *, step_up: bool) -> None:
        """Let the next request lead to a sign-in, which keeps the scopes if `step_up`."""
        metadata = self.context.client_metadata.model_copy(
            update={"redirect_uris": [AnyUrl(redirect_uri)]}
        )
        self.context = replace(self.context, client_metadata=metadata, token_expiry_time=None)
        self._remember(self.context.client_info, self.context.current_tokens if step_up else None)

    @property
    def registered_uri(self) -> str:
        """The redirect URI of a client that was registered in a sign-in; empty without one."""
        client = self.context.client_info
        if client is None or self._configured or not client.redirect_uris:
            return ""
        return str(client.redirect_uris[0])

    def forget_client(self) -> None:
        """Register another client in the next sign-in."""
        self._remember(self._configured, self.context.current_tokens)


def _first_server(resource: ProtectedResourceMetadata | None) -> str | None:
    servers = resource.authorization_servers if resource is not None else None
    return str(servers[0]) if servers else None


def _configured_client(settings: SignIn) -> OAuthClientInformationFull | None:
    if not settings.client_id:
        return None
    method = "client_secret_basic" if settings.client_secret else "none"
    return OAuthClientInformationFull(
        client_id=settings.client_id,
        client_secret=settings.client_secret or None,
        token_endpoint_auth_method=method,
    )


def _model(kind: type[Model], content: object) -> Model | None:
    """Return stored data as a model; None if it is not valid."""
    try:
        return None if content is None else kind.model_validate(content)
    except ValidationError:
        return None


def _json(model: BaseModel | None) -> Any:
    return None if model is None else model.model_dump(mode="json", exclude_none=True)
