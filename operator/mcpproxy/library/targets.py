"""Targets of a Python program: one MCP server each, with a connector that opens its sessions.

SDK transports that only contain an address or a program (`streamable_http_client(url)`,
`sse_client(url)`, `stdio_client(parameters)`) are replaced by the runtime's own connections, which
lose nothing and are faster. Transports with the user's code (an HTTP client, an auth flow) are used
unchanged.
"""

import contextlib
import inspect
import logging
import re
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from mcp.client.sse import sse_client
from mcp.client.stdio import StdioServerParameters, get_default_environment, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.server import MCPServer, Server
from pydantic import AnyUrl

from mcpproxy.api.defaults import BackendSettings, default_settings, effective_settings
from mcpproxy.api.manifest_errors import ManifestError
from mcpproxy.library.sessions.backend_factory import ConnectorFactory
from mcpproxy.proxy.embed import (
    BackendContext,
    Connector,
    ProxyConfig,
    StdioConnector,
    TaskSet,
    Transport,
    build_connector,
    connect,
    from_backends,
    from_mcp_servers,
    from_target,
    in_memory_streams,
)

MODERN_HTTP: Final = "streamable-http"

log = logging.getLogger("mcpproxy.config")


@dataclass(frozen=True)
class ServerTarget:
    """One server, and the settings for its sessions."""

    key: Hashable
    """Equal for targets that reach the same server in the same way."""
    settings: BackendSettings
    make_connector: ConnectorFactory
    once: bool = False
    """True if only one session can ever be opened, because the transport cannot be entered
    again."""


@dataclass(frozen=True)
class RemoteTarget:
    """A server at a URL, and the headers that are sent to it."""

    url: str
    transport: str
    headers: Mapping[str, str]


def target_of(target: Any, protocol: str | None = None, **fields: Any) -> ServerTarget:
    """Return the server that a target names.

    `fields` are fields of a backend in an MCPProxy (headers, timeouts, transport). Raise
    ManifestError or TypeError if the target does not name a single server.
    """
    if protocol is not None:
        fields["protocol"] = protocol
    if isinstance(target, MCPServer | Server):
        return _streams_target(in_memory_streams(target), id(target), fields)
    if isinstance(target, StdioServerParameters):
        return _stdio_target(target, fields)
    if isinstance(target, RemoteTarget):
        headers = [*named_headers(target.headers), *fields.get("headers", ())]
        return _url_target(
            target.url, {**fields, "transport": target.transport, "headers": headers}
        )
    if isinstance(target, AnyUrl):
        target = str(target)
    if isinstance(target, str | Path):
        return _single_target(from_target(str(target)), target, fields)
    if isinstance(target, Mapping):
        return _single_target(from_mcp_servers(target), target, fields)
    if _is_transport(target):
        return _transport_target(target, fields)
    raise TypeError(
        f"cannot create a proxy from {type(target).__name__}; expected a URL, a path, a client, a"
        " transport, a server or a configuration"
    )


def _is_transport(target: Any) -> bool:
    """True for context managers, except for those with methods of a client."""
    return hasattr(target, "__aenter__") and not hasattr(target, "call_tool")


def server_targets(configuration: ProxyConfig) -> list[tuple[str, ServerTarget]]:
    """Return the name and the target of every backend of a configuration."""
    for backend in configuration.sign_ins:
        log.warning("backend %s: ignored auth: only mcpproxy run signs in to servers", backend)
    return [
        (spec.name, _backend_target(configuration, index))
        for index, spec in enumerate(configuration.proxy.spec.backends)
    ]


def _backend_target(configuration: ProxyConfig, index: int) -> ServerTarget:
    proxy, spec = configuration.proxy, configuration.proxy.spec.backends[index]

    def make_connector(
        settings: BackendSettings, context: BackendContext, background: TaskSet
    ) -> Connector:
        return build_connector(proxy, spec, settings, context, background)

    settings = effective_settings(proxy.spec, spec)
    if settings.session_mode_from == "Transport":
        # All servers of the library use a new session for each request, including stdio servers.
        settings = replace(settings, session_mode="Isolated")
    return ServerTarget(spec.to_json(), settings, make_connector)


def _single_target(
    configuration: ProxyConfig, target: Any, fields: Mapping[str, Any]
) -> ServerTarget:
    if fields:
        (backend,) = configuration.proxy.to_manifest()["spec"]["backends"]
        configuration = from_backends([{**backend, **fields}])
    targets = server_targets(configuration)
    if len(targets) != 1:
        raise ManifestError(
            f"{target}: a client connects to one server, but the configuration has {len(targets)}"
        )
    return targets[0][1]


def _url_target(url: str, fields: Mapping[str, Any]) -> ServerTarget:
    return server_targets(from_backends([{"name": "backend", "prefix": "", "url": url, **fields}]))[
        0
    ][1]


def _stdio_target(parameters: StdioServerParameters, fields: Mapping[str, Any]) -> ServerTarget:
    env = {**get_default_environment(), **(parameters.env or {})}
    stdio: dict[str, Any] = {
        "command": parameters.command,
        "args": list(parameters.args),
        "env": [{"name": name, "value": value} for name, value in env.items()],
    }
    if parameters.cwd is not None:
        stdio["cwd"] = str(parameters.cwd)
    backend = {"name": "backend", "prefix": "", "stdio": stdio, **fields}
    return server_targets(from_backends([backend]))[0][1]


def _transport_target(target: Any, fields: Mapping[str, Any]) -> ServerTarget:
    """Return the target of an SDK transport, which is an async context manager."""
    if not isinstance(target, contextlib._AsyncGeneratorContextManager):
        return _streams_target(lambda: target, id(target), fields, once=True)
    arguments = _arguments(target)
    if target.func is streamable_http_client.__wrapped__ and _has_only(arguments, "url"):  # type: ignore[attr-defined]
        return _url_target(arguments["url"], {**fields, "transport": MODERN_HTTP})
    if target.func is sse_client.__wrapped__ and _has_only(arguments, "url", "headers"):  # type: ignore[attr-defined]
        headers = named_headers(arguments.get("headers") or {})
        return _url_target(arguments["url"], {**fields, "transport": "sse", "headers": headers})
    if target.func is stdio_client.__wrapped__ and _has_only(arguments, "server"):  # type: ignore[attr-defined]
        return _stdio_target(arguments["server"], fields)
    return _streams_target(_recreate(target), id(target), fields)


def _arguments(target: Any) -> dict[str, Any]:
    bound = inspect.signature(target.func).bind(*target.args, **target.kwds)
    defaults = {name: p.default for name, p in inspect.signature(target.func).parameters.items()}
    return {name: value for name, value in bound.arguments.items() if value is not defaults[name]}


def _has_only(arguments: Mapping[str, Any], *names: str) -> bool:
    return set(arguments) <= {*names}


def _recreate(target: Any) -> Callable[[], Transport]:
    """Return a function that recreates a transport, which can be entered only once."""
    return lambda: contextlib.asynccontextmanager(target.func)(*target.args, **target.kwds)


def reopenable(target: Any) -> Any:
    """Return the target of an SDK client in a form that can be connected to again."""
    is_generator = isinstance(target, contextlib._AsyncGeneratorContextManager)
    return _recreate(target)() if is_generator else target


def _streams_target(
    make: Callable[[], Transport], key: Hashable, fields: Mapping[str, Any], *, once: bool = False
) -> ServerTarget:
    if "headers" in fields:
        raise TypeError("headers require a server that has a URL")
    url = "http://localhost/mcp"
    spec = from_backends([{"name": "backend", "prefix": "", "url": url, **fields}]).proxy.spec
    settings = effective_settings(spec, spec.backends[0]) if fields else default_settings()

    def make_connector(
        settings: BackendSettings, context: BackendContext, background: TaskSet
    ) -> Connector:
        return StdioConnector(lambda: connect(make()), settings, background)

    return ServerTarget(("streams", key), settings, make_connector, once)


def named_headers(headers: Mapping[str, str]) -> list[dict[str, str]]:
    """Return headers in the form of a backend of an MCPProxy."""
    return [{"name": name, "value": value} for name, value in headers.items()]


def is_multi_server(target: Any) -> bool:
    """True if a target is a configuration, which may name several servers."""
    if isinstance(target, Mapping):
        return True
    return isinstance(target, str | Path) and re.search(r"\.(json|ya?ml)$", str(target)) is not None
