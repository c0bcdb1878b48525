"""Conversion of FastMCP objects to targets, without importing FastMCP.

A server is replaced by its SDK server, and a transport by its address or program. A connected
client keeps its session; any other client is replaced by its transport.
"""

import logging
from collections.abc import Mapping
from typing import Any, Final

from mcp import ClientSession
from mcp.client.stdio import StdioServerParameters
from mcp.server import Server

from mcpproxy.library.targets import RemoteTarget

log = logging.getLogger("mcpproxy.library")

_HANDLERS: Final = ("sampling_callback", "list_roots_callback", "elicitation_callback")
_TRANSPORTS: Final = {"StreamableHttpTransport": "streamable-http", "SSETransport": "sse"}


class ConnectedClient:
    """A connected client of FastMCP, with the attributes of an SDK client that a proxy needs."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.input_required_max_rounds: int = client.input_required_max_rounds

    @property
    def session(self) -> ClientSession:
        """The client's session. Raise RuntimeError if the client is not connected."""
        try:
            session: ClientSession = self._client.session
        except Exception as error:
            # After a lost connection, the client raises any error of its transport.
            raise RuntimeError(f"the client is not connected: {error}") from error
        return session

    @property
    def protocol_version(self) -> str:
        """The negotiated revision."""
        return self.session.protocol_version or ""


def is_client(target: Any) -> bool:
    """True for a client of FastMCP."""
    return _is(target, "Client")


def connected_client(target: Any) -> ConnectedClient | None:
    """Return the connected client of FastMCP, or None for any other target."""
    return ConnectedClient(target) if is_client(target) and target.is_connected() else None


def unwrapped(target: Any) -> Any:
    """Return the target that an object of FastMCP wraps. Any other object is returned unchanged.

    Raise TypeError for an object of FastMCP that cannot be converted.
    """
    if _is(target, "FastMCP") and isinstance(target._mcp_server, Server):
        return target._mcp_server
    if is_client(target):
        _warn_of_handlers(target)
        return unwrapped(target.transport)
    if _is(target, "FastMCPTransport"):
        return unwrapped(target.server)
    if _is(target, "MCPConfigTransport"):
        return unwrapped(target.config)
    if _is(target, "MCPConfig"):
        return _mcp_servers(target)
    if _is(target, "StdioTransport"):
        return StdioServerParameters(
            command=target.command,
            args=[str(argument) for argument in target.args or ()],
            env=target.env,
            cwd=target.cwd,
        )
    for name, transport in _TRANSPORTS.items():
        if _is(target, name):
            return _remote(target, transport)
    return target


def _is(target: Any, name: str) -> bool:
    """True for instances of the FastMCP class of this name and of its subclasses."""
    return any(
        base.__name__ == name and base.__module__.partition(".")[0] == "fastmcp"
        for base in type(target).__mro__
    )


def _warn_of_handlers(client: Any) -> None:
    handlers = getattr(client, "_session_kwargs", {})
    ignored = [name for name in _HANDLERS if handlers.get(name) is not None]
    # The handlers of FastMCP's ProxyClient forward messages, which a proxy does in any case.
    if ignored and not _is(client, "ProxyClient"):
        log.warning(
            "the handlers of a FastMCP client that is not connected are ignored (%s); pass them to"
            " a ProxyClient of mcpproxy",
            ", ".join(ignored),
        )


def _mcp_servers(config: Any) -> Mapping[str, Any]:
    servers = {
        name: server.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
        for name, server in config.mcpServers.items()
    }
    return {"mcpServers": servers}


def _remote(target: Any, transport: str) -> RemoteTarget:
    headers = dict(target.headers or {})
    token = getattr(target.auth, "token", None)
    if _is(target.auth, "BearerAuth") and token is not None:
        headers["Authorization"] = f"Bearer {token.get_secret_value()}"
    elif target.auth is not None:
        raise _conversion_error(target, "auth")
    for field in ("httpx_client_factory", "verify"):
        if getattr(target, field, None) is not None:
            raise _conversion_error(target, field)
    return RemoteTarget(str(target.url), transport, headers)


def _conversion_error(target: Any, field: str) -> TypeError:
    return TypeError(
        f"{type(target).__name__}.{field}: not supported by proxies; connect the client first, or"
        " pass streamable_http_client(url, http_client=...) of the SDK"
    )
