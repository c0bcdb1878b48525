"""Conversion of `mcpServers` entries (Claude Desktop, VS Code, FastMCP and others) to backends.

Unsupported fields cause a warning. Fields that cannot be interpreted cause an error.
"""

import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mcpproxy.api.manifest import ManifestError
from mcpproxy.api.v1alpha1.references import RESERVED_HEADERS
from mcpproxy.proxy.config.mcp_json import URLS, find_servers
from mcpproxy.proxy.config.start_times import MEMBERS, timeouts_of

log = logging.getLogger("mcpproxy.config")

MAX_PREFIX: Final = 32
_ENVIRONMENTS: Final = ("env", "environment")
_TYPES: Final = ("transport", "type")
_HONOURED: Final = {
    *URLS,
    *_ENVIRONMENTS,
    *_TYPES,
    "headers",
    "auth",
    "command",
    "args",
    "cwd",
    "session",
    *MEMBERS,
    "disabled",
    "enabled",
}
_DESCRIPTIVE: Final = {"name", "description", "icon", "version", "gallery", "source"}
"""Descriptive fields, which change nothing."""
_TRANSPORTS: Final = {
    "http": "streamable-http",
    "streamable-http": "streamable-http",
    "streamableHttp": "streamable-http",
    "streamable_http": "streamable-http",
    "sse": "sse",
    "remote": "auto",
}
_VARIABLE: Final = re.compile(r"\$\{([^{}]*)\}")
_NAME: Final = re.compile(r"(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
_FIELD: Final = re.compile(r"spec\.backends\[(\d+)\]((?:\.\w+|\[\d+\])*)(: [^;]*)?")
_LISTED: Final = re.compile(r"\.(?:stdio\.)?(env|headers)\[(\d+)\](?:\.\w+)*")
_NO_ADDRESS: Final = (
    ": expected http:// or https:// and a host, without a user name, a fragment or spaces"
)


@dataclass(frozen=True, slots=True)
class ServerEntry:
    """One server of the file, as a backend."""

    where: str
    """Path of the server in the file, such as `mcpServers.NAME`."""
    server: Mapping[str, Any]
    """Entry in the file."""
    backend: dict[str, Any]


def parse_servers(content: Any) -> list[ServerEntry]:
    """Return the servers to start. A single one has no prefix; several have their keys as prefixes.

    Raise ManifestError.
    """
    servers = find_servers(content)
    enabled = servers.enabled()
    entries: list[ServerEntry] = []
    taken: set[str] = set()
    for key, server in enabled.items():
        where = servers.member(key)
        backend = _Server(where, server, servers.inputs).backend()
        prefix = "" if len(enabled) == 1 else re.sub(r"[^A-Za-z0-9_-]", "_", key)[:MAX_PREFIX]
        if any(other.backend["prefix"] == prefix for other in entries):
            raise ManifestError(
                f"{where}: another server has the same prefix {prefix!r}; change one of them"
            )
        with_name = {"name": _unique(key, taken), "prefix": prefix, **backend}
        entries.append(ServerEntry(where, server, with_name))
    return entries


def to_file_message(message: str, entries: Sequence[ServerEntry]) -> str:
    """Replace the fields of an MCPProxy in a message by the fields of the file."""

    def rewrite(match: re.Match[str]) -> str:
        entry = entries[int(match[1])]
        member, why = _file_field(entry, match[2]), match[3] or ""
        if match[2] == ".url" and "pattern" in why:
            why = _NO_ADDRESS
        return f"{entry.where}{member}{why}"

    return _FIELD.sub(rewrite, message)


def _file_field(entry: ServerEntry, field: str) -> str:
    """Return the field of the file from which a field of the backend was made."""
    listed = _LISTED.match(field)
    if listed is not None:
        named_values = (
            entry.backend["stdio"]["env"] if listed[1] == "env" else entry.backend["headers"]
        )
        member = _first_present(entry.server, _ENVIRONMENTS) if listed[1] == "env" else "headers"
        return f".{member}.{named_values[int(listed[2])]['name']}"
    field = field.removeprefix(".stdio")
    if field in ("", ".name", ".prefix"):
        return ""
    aliases = {
        ".url": URLS,
        ".transport": _TYPES,
        ".timeouts.request": ("timeout",),
    }.get(field)
    return field if aliases is None else f".{_first_present(entry.server, aliases)}"


def _first_present(server: Mapping[str, Any], members: Sequence[str]) -> str:
    return next((member for member in members if server.get(member)), members[0])


def _text(where: str, value: Any) -> str:
    """Return a value as text for programs and HTTP. Raise ManifestError."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise ManifestError(f"{where}: expected a string, a number, true or false")


class _Server:
    """Converter of one server."""

    def __init__(self, where: str, server: Mapping[str, Any], inputs: Mapping[str, Any]) -> None:
        self._where = where
        self._server = server
        self._inputs = inputs

    def backend(self) -> dict[str, Any]:
        """Return the backend without name and prefix. Raise ManifestError."""
        server = self._server
        self._warn()
        url = next((server[key] for key in URLS if server.get(key)), None)
        command = server.get("command")
        if (url is None) == (command is None):
            raise ManifestError(f"{self._where}: requires exactly one of url and command")
        backend = self._session()
        if timeouts := timeouts_of(server, self._where):
            backend["timeouts"] = timeouts
        if command is not None:
            return {**backend, "stdio": self._stdio()}
        if not isinstance(url, str):
            raise ManifestError(f"{self._where}.{_first_present(server, URLS)}: expected a string")
        backend["url"] = self._expand(url)
        transport = self._transport()
        if transport is not None:
            backend["transport"] = transport
        return {**backend, "headers": self._headers()}

    def _warn(self) -> None:
        unknown = set(self._server) - _HONOURED - _DESCRIPTIVE
        if self._server.get("keep_alive") is False:
            # Processes never outlive the session of their client.
            unknown.discard("keep_alive")
        if unknown:
            log.warning("%s: ignored: %s", self._where, ", ".join(sorted(unknown)))

    def _session(self) -> dict[str, Any]:
        session = self._server.get("session")
        if session is None:
            return {}
        if not isinstance(session, Mapping):
            raise ManifestError(
                f'{self._where}.session: expected an object such as {{"mode": "PerClient"}}'
            )
        return {"session": dict(session)}

    def _transport(self) -> str | None:
        member = _first_present(self._server, _TYPES)
        transport = self._server.get(member)
        if not transport:
            return None
        if not isinstance(transport, str) or transport not in _TRANSPORTS:
            raise ManifestError(
                f"{self._where}.{member}: expected http or sse, found {transport!r}"
            )
        return _TRANSPORTS[transport]

    def _stdio(self) -> dict[str, Any]:
        server = self._server
        program, *args = self._command()
        arguments = server.get("args") or []
        if not isinstance(arguments, list):
            raise ManifestError(f"{self._where}.args: expected a list of strings")
        args += [
            _text(f"{self._where}.args[{i}]", argument) for i, argument in enumerate(arguments)
        ]
        stdio: dict[str, Any] = {
            "command": os.path.expanduser(self._expand(program)),
            "args": [self._expand(arg) for arg in args],
            "env": self._named_values(_first_present(server, _ENVIRONMENTS)),
        }
        cwd = server.get("cwd") or ""
        if not isinstance(cwd, str):
            raise ManifestError(f"{self._where}.cwd: expected a string")
        if cwd:
            stdio["cwd"] = os.path.expanduser(self._expand(cwd))
        return stdio

    def _command(self) -> list[str]:
        """Return the program and the arguments that some editors add to it in one list."""
        command = self._server["command"]
        words = command if isinstance(command, list) else [command]
        if not words or not all(isinstance(word, str) for word in words):
            raise ManifestError(f"{self._where}.command: expected a string or a list of strings")
        return words

    def _headers(self) -> list[dict[str, str]]:
        headers = []
        for header in self._named_values("headers"):
            if header["name"].lower() in RESERVED_HEADERS:
                name = header["name"]
                log.warning(
                    "%s: ignored the header %s, which is reserved for HTTP or MCP",
                    self._where,
                    name,
                )
            else:
                headers.append(header)
        auth = self._server.get("auth")
        if isinstance(auth, str) and auth != "oauth":
            value = f"Bearer {self._expand(auth)}"
            headers = [h for h in headers if h["name"].lower() != "authorization"]
            return [*headers, {"name": "Authorization", "value": value}]
        if auth is not None:
            log.warning("%s: ignored auth, because only a token is supported", self._where)
        return headers

    def _named_values(self, field: str) -> list[dict[str, str]]:
        mapping = self._server.get(field) or {}
        if not isinstance(mapping, Mapping):
            raise ManifestError(f"{self._where}.{field}: expected an object of strings")
        # In such a file, null means that the value is absent.
        return [
            {"name": name, "value": self._expand(_text(f"{self._where}.{field}.{name}", value))}
            for name, value in mapping.items()
            if value is not None
        ]

    def _expand(self, text: str) -> str:
        """Replace ${NAME}, ${env:NAME}, ${NAME:-default} and the variables of VS Code."""
        return _VARIABLE.sub(lambda match: self._value(match[1]), text)

    def _value(self, variable: str) -> str:
        kind, _, name = variable.partition(":")
        if kind == "input":
            return self._input(name)
        places = {"workspaceFolder": Path.cwd, "cwd": Path.cwd, "userHome": Path.home}
        if variable in places:
            return str(places[variable]())
        match = _NAME.fullmatch(variable)
        if match is None:
            raise ManifestError(f"{self._where}: unknown variable ${{{variable}}}")
        value = os.environ.get(match[1], match[2])
        if value is None:
            raise ManifestError(f"{self._where}: the environment variable {match[1]} is not set")
        return value

    def _input(self, name: str) -> str:
        prompt = self._inputs.get(name, {})
        if prompt.get("default") is not None:
            return str(prompt["default"])
        description = prompt.get("description") or name
        raise ManifestError(
            f"{self._where}: ${{input:{name}}} requires interactive input for {description!r},"
            " which mcpproxy does not support; write ${env:NAME} and set that environment variable"
        )


def _unique(key: str, taken: set[str]) -> str:
    base = re.sub(r"[^a-z0-9-]+", "-", key.lower()).strip("-")[:50].strip("-") or "server"
    base = base if base[0].isalpha() else f"s-{base}"
    name, number = base, 2
    while name in taken:
        name, number = f"{base}-{number}", number + 1
    taken.add(name)
    return name
