"""`mcpServers` entries, as Claude Desktop, VS Code, FastMCP and others write them → backends.

What can't be honoured is named in a warning; what can't be understood is an error that names it.
"""

import json
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mcpproxy.api.manifest import ManifestError
from mcpproxy.api.values import RESERVED_HEADERS
from mcpproxy.proxy.start_times import MEMBERS, timeouts_of

log = logging.getLogger("mcpproxy.config")

MAX_PREFIX: Final = 32
_HONOURED: Final = {
    "url",
    "serverUrl",
    "type",
    "transport",
    "headers",
    "auth",
    "command",
    "args",
    "env",
    "cwd",
    *MEMBERS,
    "disabled",
}
_TELLING: Final = {"name", "description", "icon", "version", "gallery"}
"""Fields for people, which change nothing."""
_TRANSPORTS: Final = {
    "http": "streamable-http",
    "streamable-http": "streamable-http",
    "streamableHttp": "streamable-http",
    "streamable_http": "streamable-http",
    "sse": "sse",
}
_VARIABLE: Final = re.compile(r"\$\{([^{}]*)\}")
_NAME: Final = re.compile(r"(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
_COMMENT: Final = re.compile(
    r'("(?:[^"\\]|\\.)*")|//[^\n]*|/\*.*?\*/|,(?=(?:\s|//[^\n]*|/\*.*?\*/)*[}\]])', re.DOTALL
)


def read_json(text: str) -> Any:
    """JSON as editors write it: with comments and trailing commas. Raises JSONDecodeError."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        # Texts keep what looks like a comment: they are matched first.
        return json.loads(_COMMENT.sub(lambda found: found[1] or "", text))


def backends(content: Any) -> list[dict[str, Any]]:
    """The backends of an mcpServers mapping: one has no prefix, several have their keys.

    Raises ManifestError.
    """
    servers, inputs = _servers(content)
    enabled = {key: server for key, server in servers.items() if not _disabled(key, server)}
    if not enabled:
        raise ManifestError("mcpServers: every server is disabled")
    found: list[dict[str, Any]] = []
    taken: set[str] = set()
    for key, server in enabled.items():
        backend = _Entry(key, server, inputs).backend()
        prefix = "" if len(enabled) == 1 else re.sub(r"[^A-Za-z0-9_-]", "_", key)[:MAX_PREFIX]
        if any(other["prefix"] == prefix for other in found):
            raise ManifestError(f"mcpServers.{key}: another server's prefix is {prefix!r}, too")
        found.append({"name": _unique(key, taken), "prefix": prefix, **backend})
    return found


def _servers(content: Any) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The servers, and what a person is asked for, by its id."""
    expected = ManifestError('expected an object with "mcpServers": {NAME: {...}}')
    if not isinstance(content, Mapping):
        raise expected
    # VS Code's settings have everything below "mcp"; a bare mapping of servers will do, too.
    found = content.get("mcp", content)
    inputs = found.get("inputs", ()) if isinstance(found, Mapping) else ()
    servers = next((found[key] for key in ("mcpServers", "servers") if key in found), None)
    if servers is None and content and all(_is_server(one) for one in content.values()):
        servers = content
    if not isinstance(servers, Mapping) or not servers:
        raise expected
    by_id = {one["id"]: one for one in inputs if isinstance(one, Mapping) and "id" in one}
    return servers, by_id


def _is_server(entry: Any) -> bool:
    return isinstance(entry, Mapping) and ("url" in entry or "command" in entry)


def _disabled(key: str, server: Any) -> bool:
    if not isinstance(server, Mapping):
        raise ManifestError(f"mcpServers.{key}: expected an object")
    return bool(server.get("disabled"))


class _Entry:
    """One server of the mapping."""

    def __init__(self, key: str, server: Mapping[str, Any], inputs: Mapping[str, Any]) -> None:
        self._where = f"mcpServers.{key}"
        self._server = server
        self._inputs = inputs

    def backend(self) -> dict[str, Any]:
        """The backend without name and prefix. Raises ManifestError."""
        server = self._server
        self._warn()
        url, command = server.get("url") or server.get("serverUrl"), server.get("command")
        if (url is None) == (command is None):
            raise ManifestError(f"{self._where}: needs exactly one of url and command")
        found: dict[str, Any] = {}
        if timeouts := timeouts_of(server, self._where):
            found["timeouts"] = timeouts
        if command is not None:
            return {**found, "stdio": self._stdio()}
        found["url"] = self._expanded(str(url))
        transport = self._transport()
        if transport is not None:
            found["transport"] = transport
        return {**found, "headers": self._headers()}

    def _warn(self) -> None:
        unknown = set(self._server) - _HONOURED - _TELLING
        if self._server.get("keep_alive") is False:
            # A process of its own for every request is what there is anyway.
            unknown.discard("keep_alive")
        if unknown:
            log.warning("%s: not honoured: %s", self._where, ", ".join(sorted(unknown)))

    def _transport(self) -> str | None:
        given = self._server.get("transport") or self._server.get("type")
        if given is None:
            return None
        if given not in _TRANSPORTS:
            raise ManifestError(f"{self._where}.transport: {given!r} is not http or sse")
        return _TRANSPORTS[given]

    def _stdio(self) -> dict[str, Any]:
        server = self._server
        args = server.get("args") or []
        if not isinstance(args, list) or not all(isinstance(arg, str) for arg in args):
            raise ManifestError(f"{self._where}.args: expected a list of strings")
        for field in ("command", "cwd"):
            if not isinstance(server.get(field) or "", str):
                raise ManifestError(f"{self._where}.{field}: expected a string")
        stdio: dict[str, Any] = {
            "command": self._expanded(server["command"]),
            "args": [self._expanded(arg) for arg in args],
            "env": self._named_values("env"),
        }
        if server.get("cwd"):
            stdio["cwd"] = self._expanded(server["cwd"])
        return stdio

    def _headers(self) -> list[dict[str, str]]:
        found = []
        for header in self._named_values("headers"):
            if header["name"].lower() in RESERVED_HEADERS:
                name = header["name"]
                log.warning("%s: dropped: the header %s is HTTP's or MCP's", self._where, name)
            else:
                found.append(header)
        auth = self._server.get("auth")
        if isinstance(auth, str) and auth != "oauth":
            value = f"Bearer {self._expanded(auth)}"
            found = [h for h in found if h["name"].lower() != "authorization"]
            return [*found, {"name": "Authorization", "value": value}]
        if auth is not None:
            log.warning("%s: not honoured: auth other than a token", self._where)
        return found

    def _named_values(self, field: str) -> list[dict[str, str]]:
        given = self._server.get(field) or {}
        if not isinstance(given, Mapping):
            raise ManifestError(f"{self._where}.{field}: expected an object of strings")
        return [
            {"name": name, "value": self._expanded(str(value))} for name, value in given.items()
        ]

    def _expanded(self, text: str) -> str:
        """Text with ${NAME}, ${env:NAME}, ${NAME:-default} and VS Code's variables replaced."""
        return _VARIABLE.sub(lambda found: self._value(found[1]), text)

    def _value(self, variable: str) -> str:
        kind, _, name = variable.partition(":")
        if kind == "input":
            return self._input(name)
        places = {"workspaceFolder": Path.cwd, "cwd": Path.cwd, "userHome": Path.home}
        if variable in places:
            return str(places[variable]())
        found = _NAME.fullmatch(variable)
        if found is None:
            raise ManifestError(f"{self._where}: ${{{variable}}} has no meaning here")
        value = os.environ.get(found[1], found[2])
        if value is None:
            raise ManifestError(f"{self._where}: the environment variable {found[1]} is not set")
        return value

    def _input(self, name: str) -> str:
        asked = self._inputs.get(name, {})
        if asked.get("default") is not None:
            return str(asked["default"])
        what = asked.get("description") or name
        raise ManifestError(
            f"{self._where}: ${{input:{name}}} asks a person for {what!r}, and there is nobody to"
            " ask: write ${env:NAME} in its place, and set that environment variable"
        )


def _unique(key: str, taken: set[str]) -> str:
    base = re.sub(r"[^a-z0-9-]+", "-", key.lower()).strip("-")[:50].strip("-") or "server"
    base = base if base[0].isalpha() else f"s-{base}"
    name, number = base, 2
    while name in taken:
        name, number = f"{base}-{number}", number + 1
    taken.add(name)
    return name
