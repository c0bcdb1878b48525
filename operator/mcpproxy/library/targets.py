"""One MCP server as a Python program names it, and how sessions with it are opened.

SDK transports that only say where a server is (`streamable_http_client(url)`, `sse_client(url)`,
`stdio_client(parameters)`) are taken apart: the runtime's own connections lose nothing on the way
and are faster. What carries code of the user (an HTTP client, an auth flow) is used as it is.
"""

import contextlib
import inspect
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

from mcpproxy.api.defaults import BackendSettings, effective_settings
from mcpproxy.api.manifest import ManifestError
from mcpproxy.library.sessions.backend_factory import OpenerOf, default_settings
from mcpproxy.proxy.config.targets import ProxyConfig, from_backends, from_mcp_servers, from_target
from mcpproxy.proxy.upstream.backend import BackendContext
from mcpproxy.proxy.upstream.connect.negotiation import Connector, StdioConnector
from mcpproxy.proxy.upstream.factory import build_connector
from mcpproxy.proxy.upstream.transports.sdk_streams import Transport, connect, in_memory_streams
from mcpproxy.proxy.upstream.transports.session import TaskSet

MODERN_HTTP: Final = "streamable-http"


@dataclass(frozen=True)
class ServerTarget:
    """One server."""

    key: Hashable
    """Equal for sources that reach the same server in the same way."""
    settings: BackendSettings
    opener: OpenerOf
    once: bool = False
    """Whether only one session can ever be opened: the transport can't be entered again."""


@dataclass(frozen=True)
class RemoteTarget:
    """A server at a URL, with the headers that it gets."""

    url: str
    transport: str
    headers: Mapping[str, str]


def target_of(target: Any, protocol: str | None = None, **fields: Any) -> ServerTarget:
    """The source that a target names.

    `fields` are those of a backend in an MCPProxy (headers, timeouts, transport). Raises
    ManifestError or TypeError for what names no single server.
    """
    if protocol is not None:
        fields["protocol"] = protocol
    if isinstance(target, MCPServer | Server):
        return _streams(in_memory_streams(target), id(target), fields)
    if isinstance(target, StdioServerParameters):
        return _stdio(target, fields)
    if isinstance(target, RemoteTarget):
        headers = [*named_headers(target.headers), *fields.get("headers", ())]
        return _url(target.url, {**fields, "transport": target.transport, "headers": headers})
    if isinstance(target, AnyUrl):
        target = str(target)
    if isinstance(target, str | Path):
        return _only(from_target(str(target)), target, fields)
    if isinstance(target, Mapping):
        return _only(from_mcp_servers(target), target, fields)
    if _is_transport(target):
        return _transport(target, fields)
    raise TypeError(
        f"a proxy can't be made from {type(target).__name__}: expected a URL, a path, a client, a"
        " transport, a server or a configuration"
    )


def _is_transport(target: Any) -> bool:
    """True for context managers, except those that have methods of a client."""
    return hasattr(target, "__aenter__") and not hasattr(target, "call_tool")


def server_targets(configuration: ProxyConfig) -> list[tuple[str, ServerTarget]]:
    """The name and the source of every backend of a configuration."""
    return [
        (spec.name, _specified(configuration, index))
        for index, spec in enumerate(configuration.proxy.spec.backends)
    ]


def _specified(configuration: ProxyConfig, index: int) -> ServerTarget:
    proxy, spec = configuration.proxy, configuration.proxy.spec.backends[index]

    def opener(given: BackendSettings, around: BackendContext, background: TaskSet) -> Connector:
        return build_connector(proxy, spec, given, around, background)

    given = effective_settings(proxy.spec, spec)
    if given.session_mode_from == "Transport":
        # A program that a proxy is created for serves each request afresh, as all servers do here.
        given = replace(given, session_mode="Isolated")
    return ServerTarget(spec.model_dump_json(), given, opener)


def _only(configuration: ProxyConfig, target: Any, fields: Mapping[str, Any]) -> ServerTarget:
    if fields:
        (backend,) = configuration.proxy.to_manifest()["spec"]["backends"]
        configuration = from_backends([{**backend, **fields}])
    found = server_targets(configuration)
    if len(found) != 1:
        raise ManifestError(f"{target}: a client is for one server, {len(found)} are named")
    return found[0][1]


def _url(url: str, fields: Mapping[str, Any]) -> ServerTarget:
    return server_targets(from_backends([{"name": "backend", "prefix": "", "url": url, **fields}]))[
        0
    ][1]


def _stdio(given: StdioServerParameters, fields: Mapping[str, Any]) -> ServerTarget:
    env = {**get_default_environment(), **(given.env or {})}
    stdio: dict[str, Any] = {
        "command": given.command,
        "args": list(given.args),
        "env": [{"name": name, "value": value} for name, value in env.items()],
    }
    if given.cwd is not None:
        stdio["cwd"] = str(given.cwd)
    backend = {"name": "backend", "prefix": "", "stdio": stdio, **fields}
    return server_targets(from_backends([backend]))[0][1]


def _transport(target: Any, fields: Mapping[str, Any]) -> ServerTarget:
    """A transport of the SDK: an async context manager."""
    if not isinstance(target, contextlib._AsyncGeneratorContextManager):
        return _streams(lambda: target, id(target), fields, once=True)
    given = _arguments(target)
    if target.func is streamable_http_client.__wrapped__ and _only_given(given, "url"):  # type: ignore[attr-defined]
        return _url(given["url"], {**fields, "transport": MODERN_HTTP})
    if target.func is sse_client.__wrapped__ and _only_given(given, "url", "headers"):  # type: ignore[attr-defined]
        headers = named_headers(given.get("headers") or {})
        return _url(given["url"], {**fields, "transport": "sse", "headers": headers})
    if target.func is stdio_client.__wrapped__ and _only_given(given, "server"):  # type: ignore[attr-defined]
        return _stdio(given["server"], fields)
    return _streams(_again(target), id(target), fields)


def _arguments(target: Any) -> dict[str, Any]:
    bound = inspect.signature(target.func).bind(*target.args, **target.kwds)
    defaults = {name: p.default for name, p in inspect.signature(target.func).parameters.items()}
    return {name: given for name, given in bound.arguments.items() if given is not defaults[name]}


def _only_given(given: Mapping[str, Any], *names: str) -> bool:
    return set(given) <= {*names}


def _again(target: Any) -> Callable[[], Transport]:
    """Makes the transport anew: one that has been entered can't be entered again."""
    return lambda: contextlib.asynccontextmanager(target.func)(*target.args, **target.kwds)


def reopenable(target: Any) -> Any:
    """What an SDK client was made from, fit to be connected to once more."""
    again = isinstance(target, contextlib._AsyncGeneratorContextManager)
    return _again(target)() if again else target


def _streams(
    make: Callable[[], Transport], key: Hashable, fields: Mapping[str, Any], *, once: bool = False
) -> ServerTarget:
    if "headers" in fields:
        raise TypeError("headers are for servers that are named by a URL")
    url = "http://localhost/mcp"
    found = from_backends([{"name": "backend", "prefix": "", "url": url, **fields}]).proxy.spec
    given = effective_settings(found, found.backends[0]) if fields else default_settings()

    def opener(given: BackendSettings, around: BackendContext, background: TaskSet) -> Connector:
        return StdioConnector(lambda: connect(make()), given, background)

    return ServerTarget(("streams", key), given, opener, once)


def named_headers(headers: Mapping[str, str]) -> list[dict[str, str]]:
    """Headers as a backend of an MCPProxy has them."""
    return [{"name": name, "value": value} for name, value in headers.items()]


def is_multi_server(target: Any) -> bool:
    """Whether a target may name several servers: a configuration."""
    if isinstance(target, Mapping):
        return True
    return isinstance(target, str | Path) and re.search(r"\.(json|ya?ml)$", str(target)) is not None
