"""Targets of `mcpproxy run`: a URL, a server's source file, an mcpServers file, a manifest.

Every target becomes an MCPProxy, so that the runtime has a single form of configuration.
"""

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from mcpproxy.api import constants
from mcpproxy.api.manifest import config_hash, load, parse
from mcpproxy.api.manifest_errors import ManifestError, Problem
from mcpproxy.api.yaml_documents import MAX_CHARACTERS
from mcpproxy.proxy.config import mcp_json, mcp_servers
from mcpproxy.proxy.config.proxy_config import ProxyConfig
from mcpproxy.proxy.config.variables import Ask

NAME: Final = "mcpproxy"
Headers = Sequence[tuple[str, str]]
_PROGRAMS: Final = {".py": sys.executable, ".js": "node", ".mjs": "node"}


def is_url(target: str) -> bool:
    """Return True if a target is the URL of a server."""
    return target.startswith(("http://", "https://"))


def from_manifest(path: Path) -> ProxyConfig:
    """Return the MCPProxy of a YAML file. Raise ManifestError."""
    text = read_text(path)
    try:
        return ProxyConfig(load(text), config_hash(text), Path.cwd())
    except ManifestError as error:
        raise error.in_file(str(path)) from error.__cause__


def from_file(path: Path, ask: Ask | None = None) -> ProxyConfig:
    """Return the MCPProxy of a manifest or of an mcpServers file. Raise ManifestError."""
    if path.suffix in (".json", mcp_json.TOML) and not is_manifest(path):
        return _from_servers_file(path, ask, NAME)
    return from_manifest(path)


def is_manifest(path: Path) -> bool:
    """True if a JSON file is a Kubernetes manifest rather than a file with servers.

    Raise ManifestError.
    """
    content = mcp_json.read_file(path).content
    return isinstance(content, dict) and "kind" in content


def from_target(
    target: str, ask: Ask | None = None, headers: Headers = (), proxy_name: str | None = None
) -> ProxyConfig:
    """Return the MCPProxy for a URL or a file. Raise ManifestError.

    `ask` asks the user for the inputs of an mcpServers file. `headers` are sent to a URL.
    `proxy_name` is the name that clients see.
    """
    if is_url(target):
        name = mcp_servers.backend_name(_host_name(target), set())
        backend: dict[str, Any] = {"name": name, "prefix": "", "url": target}
        if headers:
            backend["headers"] = [{"name": name, "value": value} for name, value in headers]
        return _of_url(backend, proxy_name or NAME)
    if headers:
        raise ManifestError(f"{target} is not a URL, so headers cannot be sent", "-H")
    path = Path(target)
    if path.suffix in (".yaml", ".yml"):
        if proxy_name is not None:
            raise ManifestError(f"{target} has a manifest; set metadata.name there", "--name")
        return from_manifest(path)
    if path.suffix in (".json", mcp_json.TOML):
        return _from_servers_file(path, ask, proxy_name or NAME)
    if path.suffix not in _PROGRAMS:
        raise ManifestError(
            f"{target}: expected a URL, a .py or .js file, an mcpServers .json or .toml file,"
            f" or the .yaml file of an MCPProxy{_scheme_hint(target)}"
        )
    if not path.is_file():
        raise ManifestError(f"{target}: no such file")
    stdio = {"command": _PROGRAMS[path.suffix], "args": [str(path)]}
    name = mcp_servers.backend_name(path.stem, set())
    backends = [{"name": name, "prefix": "", "stdio": stdio}]
    return from_backends(backends, proxy_name or NAME)


def _of_url(backend: dict[str, Any], proxy_name: str) -> ProxyConfig:
    try:
        return from_backends([backend], proxy_name)
    except ManifestError as error:
        raise error.rename_fields(_target_field) from error.__cause__


def _target_field(problem: Problem) -> Problem:
    """Return a problem of the only backend as a problem of the command line."""
    field = problem.field.removeprefix("spec.backends[0]")
    return replace(problem, field="-H" if field.startswith(".headers") else "TARGET")


def _scheme_hint(target: str) -> str:
    """Return the URL that was probably meant."""
    host = target.partition("/")[0]
    is_host = "." in host or ":" in host or host == "localhost"
    return f"; did you mean http://{target}?" if is_host and not Path(target).exists() else ""


def _host_name(url: str) -> str:
    """Return the host of a URL, which may be invalid, without its top-level domain."""
    host = url.partition("://")[2].partition("/")[0].rpartition("@")[2].partition("?")[0]
    name = re.sub(r":\d+$", "", host)
    return (
        "backend"
        if re.fullmatch(r"[0-9.:\[\]]*|localhost", name)
        else name.rpartition(".")[0] or name
    )


def from_mcp_servers(content: Any, ask: Ask | None = None, proxy_name: str = NAME) -> ProxyConfig:
    """Return the MCPProxy for an mcpServers mapping. Raise ManifestError."""
    entries = mcp_servers.parse_servers(content, ask)
    try:
        configuration = from_backends([entry.backend for entry in entries], proxy_name)
    except ManifestError as error:
        raise mcp_servers.to_file_error(error, entries) from None
    wanted = ((entry.backend["name"], entry.sign_in) for entry in entries)
    sign_ins = {name: sign_in for name, sign_in in wanted if sign_in is not None}
    return replace(configuration, sign_ins=sign_ins)


def _from_servers_file(path: Path, ask: Ask | None, proxy_name: str) -> ProxyConfig:
    file = mcp_json.read_file(path)
    try:
        return from_mcp_servers(file.content, ask, proxy_name)
    except ManifestError as error:
        raise file.locate(error).in_file(str(path)) from None


def from_backends(backends: list[dict[str, Any]], proxy_name: str = NAME) -> ProxyConfig:
    """Return the MCPProxy with these entries of `spec.backends`. Raise ManifestError."""
    manifest = {
        "apiVersion": constants.API_VERSION,
        "kind": constants.KIND,
        "metadata": {"name": proxy_name},
        "spec": {"backends": backends},
    }
    return ProxyConfig(
        parse(manifest), config_hash(json.dumps(manifest, sort_keys=True)), Path.cwd()
    )


def read_text(path: Path) -> str:
    """Return the text of a file. Raise ManifestError."""
    try:
        with path.open("rb") as file:
            data = file.read(4 * MAX_CHARACTERS)
        return data.decode("utf-8-sig")
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        message = f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8"
        raise ManifestError(message) from error
