"""Targets of `mcpproxy run`: a URL, a server's source file, an mcpServers file, a manifest.

Every target becomes an MCPProxy, so that the runtime has a single form of configuration.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mcpproxy.api import constants
from mcpproxy.api.manifest import ManifestError, config_hash, load, parse
from mcpproxy.api.v1alpha1 import MCPProxy
from mcpproxy.proxy.config import mcp_json, mcp_servers

NAME: Final = "mcpproxy"
_PROGRAMS: Final = {".py": sys.executable, ".js": "node", ".mjs": "node"}


@dataclass(frozen=True, slots=True)
class ProxyConfig:
    """Proxy to run, and its origin."""

    proxy: MCPProxy
    hash: str
    directory: Path
    """Base of relative paths."""


def is_url(target: str) -> bool:
    """Return True if a target is the URL of a server."""
    return target.startswith(("http://", "https://"))


def from_manifest(path: Path) -> ProxyConfig:
    """Return the MCPProxy of a YAML file. Raise ManifestError."""
    text = _read(path)
    return ProxyConfig(load(text), config_hash(text), Path.cwd())


def from_target(target: str) -> ProxyConfig:
    """Return the MCPProxy for a URL or a file. Raise ManifestError."""
    if is_url(target):
        return from_backends([{"name": "backend", "prefix": "", "url": target}])
    path = Path(target)
    if path.suffix in (".yaml", ".yml"):
        return from_manifest(path)
    if path.suffix == ".json":
        return _from_json(path)
    if path.suffix not in _PROGRAMS:
        raise ManifestError(
            f"{target}: expected a URL, a .py or .js file, an mcpServers .json file or -f MANIFEST"
        )
    if not path.is_file():
        raise ManifestError(f"{target}: no such file")
    stdio = {"command": _PROGRAMS[path.suffix], "args": [str(path)]}
    return from_backends([{"name": "backend", "prefix": "", "stdio": stdio}])


def from_mcp_servers(content: Any) -> ProxyConfig:
    """Return the MCPProxy for an mcpServers mapping. Raise ManifestError."""
    entries = mcp_servers.parse_servers(content)
    try:
        return from_backends([entry.backend for entry in entries])
    except ManifestError as error:
        raise ManifestError(mcp_servers.to_file_message(str(error), entries)) from None


def _from_json(path: Path) -> ProxyConfig:
    try:
        content = mcp_json.read_json(mcp_json.decode_text(path.read_bytes()))
    except json.JSONDecodeError as error:
        raise ManifestError(f"{path}: invalid JSON: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    try:
        return from_mcp_servers(content)
    except ManifestError as error:
        raise ManifestError(f"{path}: {error}") from None


def from_backends(backends: list[dict[str, Any]]) -> ProxyConfig:
    """Return the MCPProxy with these entries of `spec.backends`. Raise ManifestError."""
    manifest = {
        "apiVersion": constants.API_VERSION,
        "kind": constants.KIND,
        "metadata": {"name": NAME},
        "spec": {"backends": backends},
    }
    return ProxyConfig(
        parse(manifest), config_hash(json.dumps(manifest, sort_keys=True)), Path.cwd()
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
