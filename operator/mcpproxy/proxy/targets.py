"""What `mcpproxy run` is pointed at: a URL, a server's file, an mcpServers file, a manifest.

Everything becomes an MCPProxy: there is one way to configure the runtime.
"""

import json
import logging
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mcpproxy.api import names
from mcpproxy.api.manifest import ManifestError, config_hash, load, parse
from mcpproxy.api.v1alpha1 import MCPProxy

log = logging.getLogger("mcpproxy.config")

NAME: Final = "mcpproxy"
_HONOURED: Final = {
    "url",
    "serverUrl",
    "type",
    "transport",
    "headers",
    "command",
    "args",
    "env",
    "cwd",
    "timeout",
    "disabled",
}
_TRANSPORTS: Final = {
    "http": "streamable-http",
    "streamable-http": "streamable-http",
    "streamableHttp": "streamable-http",
    "sse": "sse",
}
_VARIABLE: Final = re.compile(r"\$\{(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


@dataclass(frozen=True, slots=True)
class Configuration:
    """A proxy to run, and where it came from."""

    proxy: MCPProxy
    hash: str
    directory: Path
    """Where relative paths begin."""


def from_manifest(path: Path) -> Configuration:
    """The MCPProxy of a YAML file. Raises ManifestError."""
    text = _read(path)
    return Configuration(load(text), config_hash(text), Path.cwd())


def from_target(target: str) -> Configuration:
    """The MCPProxy that a URL or a file stands for. Raises ManifestError."""
    if target.startswith(("http://", "https://")):
        return _configured([{"name": "backend", "prefix": "", "url": target}])
    path = Path(target)
    if path.suffix in (".yaml", ".yml"):
        return from_manifest(path)
    if path.suffix == ".json":
        text = _read(path)
        try:
            return from_mcp_servers(json.loads(text))
        except json.JSONDecodeError as error:
            raise ManifestError(f"{path}: not JSON: {error}") from error
    programs = {".py": sys.executable, ".js": "node", ".mjs": "node"}
    if path.suffix not in programs:
        raise ManifestError(
            f"{target}: expected a URL, a .py or .js file, an mcpServers .json file or -f MANIFEST"
        )
    if not path.is_file():
        raise ManifestError(f"{target}: there is no such file")
    stdio = {"command": programs[path.suffix], "args": [str(path)]}
    return _configured([{"name": "backend", "prefix": "", "stdio": stdio}])


def from_mcp_servers(content: Any) -> Configuration:
    """The MCPProxy of an mcpServers mapping, as Claude Desktop, VS Code and others have it.

    One server has no prefix, several have their keys. Raises ManifestError.
    """
    servers = content.get("mcpServers", content.get("servers")) if _is_map(content) else None
    if not _is_map(servers) or not servers:
        raise ManifestError('expected an object with "mcpServers": {NAME: {...}}')
    enabled = {key: server for key, server in servers.items() if not _disabled(key, server)}
    backends: list[dict[str, Any]] = []
    taken: set[str] = set()
    for key, server in enabled.items():
        backend = _backend(key, server)
        backend["name"] = _unique(key, taken)
        backend["prefix"] = "" if len(enabled) == 1 else re.sub(r"[^A-Za-z0-9_-]", "_", key)[:32]
        backends.append(backend)
    return _configured(backends)


def _disabled(key: str, server: Any) -> bool:
    if not _is_map(server):
        raise ManifestError(f"mcpServers.{key}: expected an object")
    return bool(server.get("disabled"))


def _backend(key: str, server: Mapping[str, Any]) -> dict[str, Any]:
    unknown = sorted(set(server) - _HONOURED)
    if unknown:
        log.warning("mcpServers.%s: not honoured: %s", key, ", ".join(unknown))
    url, command = server.get("url") or server.get("serverUrl"), server.get("command")
    if (url is None) == (command is None):
        raise ManifestError(f"mcpServers.{key}: needs exactly one of url and command")
    backend: dict[str, Any] = {}
    if server.get("timeout") is not None:
        backend["timeouts"] = {"request": f"{_milliseconds(key, server['timeout'])}ms"}
    if command is not None:
        backend["stdio"] = _stdio(key, server)
        return backend
    backend["url"] = _expanded(str(url))
    given = server.get("transport") or server.get("type")
    if given is not None:
        if given not in _TRANSPORTS:
            raise ManifestError(f"mcpServers.{key}.transport: {given!r} is not http or sse")
        backend["transport"] = _TRANSPORTS[given]
    backend["headers"] = _named_values(key, "headers", server.get("headers") or {})
    return backend


def _milliseconds(key: str, given: Any) -> int:
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise ManifestError(f"mcpServers.{key}.timeout: expected a number of milliseconds")
    return int(given)


def _stdio(key: str, server: Mapping[str, Any]) -> dict[str, Any]:
    args = server.get("args") or []
    if not isinstance(args, list) or not all(isinstance(arg, str) for arg in args):
        raise ManifestError(f"mcpServers.{key}.args: expected a list of strings")
    for field in ("command", "cwd"):
        if not isinstance(server.get(field) or "", str):
            raise ManifestError(f"mcpServers.{key}.{field}: expected a string")
    stdio: dict[str, Any] = {
        "command": _expanded(server["command"]),
        "args": [_expanded(arg) for arg in args],
        "env": _named_values(key, "env", server.get("env") or {}),
    }
    if server.get("cwd"):
        stdio["cwd"] = _expanded(server["cwd"])
    return stdio


def _named_values(key: str, field: str, given: Any) -> list[dict[str, str]]:
    if not _is_map(given):
        raise ManifestError(f"mcpServers.{key}.{field}: expected an object of strings")
    return [{"name": name, "value": _expanded(str(value))} for name, value in given.items()]


def _expanded(text: str) -> str:
    """Text with ${NAME}, ${env:NAME} and ${NAME:-default} replaced from our environment."""

    def value(found: re.Match[str]) -> str:
        name, default = found[1], found[2]
        if name not in os.environ and default is None:
            raise ManifestError(f"the environment variable {name} is not set")
        return os.environ.get(name, default or "")

    return _VARIABLE.sub(value, text)


def _unique(key: str, taken: set[str]) -> str:
    base = re.sub(r"[^a-z0-9-]+", "-", key.lower()).strip("-")[:50] or "server"
    base = base if base[0].isalpha() else f"s-{base}"
    name, number = base, 2
    while name in taken:
        name, number = f"{base}-{number}", number + 1
    taken.add(name)
    return name


def _configured(backends: list[dict[str, Any]]) -> Configuration:
    manifest = {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": NAME},
        "spec": {"backends": backends},
    }
    return Configuration(
        parse(manifest), config_hash(json.dumps(manifest, sort_keys=True)), Path.cwd()
    )


def _is_map(value: Any) -> bool:
    return isinstance(value, dict)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
