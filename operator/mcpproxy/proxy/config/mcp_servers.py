"""`mcpServers` entries, as Claude Desktop, VS Code, FastMCP and others write them → backends.

What can't be honoured is named in a warning; what can't be understood is an error that names it.
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
_TELLING: Final = {"name", "description", "icon", "version", "gallery", "source"}
"""Fields for people, which change nothing."""
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
    """One server of the mapping, as a backend."""

    where: str
    """The member that describes it, as `mcpServers.NAME`."""
    server: Mapping[str, Any]
    """What the file says of it."""
    backend: dict[str, Any]


def parse_servers(content: Any) -> list[ServerEntry]:
    """The servers to start: a single one has no prefix, several have their keys.

    Raises ManifestError.
    """
    servers = find_servers(content)
    enabled = servers.enabled()
    found: list[ServerEntry] = []
    taken: set[str] = set()
    for key, server in enabled.items():
        where = servers.member(key)
        backend = _Server(where, server, servers.inputs).backend()
        prefix = "" if len(enabled) == 1 else re.sub(r"[^A-Za-z0-9_-]", "_", key)[:MAX_PREFIX]
        if any(other.backend["prefix"] == prefix for other in found):
            raise ManifestError(f"{where}: another server's prefix is {prefix!r}, too")
        named = {"name": _unique(key, taken), "prefix": prefix, **backend}
        found.append(ServerEntry(where, server, named))
    return found


def in_words_of_the_file(message: str, found: Sequence[ServerEntry]) -> str:
    """A message about an MCPProxy's backends, with the members of the file it was made from."""

    def told(match: re.Match[str]) -> str:
        entry = found[int(match[1])]
        member, why = _named(entry, match[2]), match[3] or ""
        if match[2] == ".url" and "pattern" in why:
            why = _NO_ADDRESS
        return f"{entry.where}{member}{why}"

    return _FIELD.sub(told, message)


def _named(entry: ServerEntry, field: str) -> str:
    """The member of the file that a field of its backend comes from."""
    listed = _LISTED.match(field)
    if listed is not None:
        given = entry.backend["stdio"]["env"] if listed[1] == "env" else entry.backend["headers"]
        member = _present(entry.server, _ENVIRONMENTS) if listed[1] == "env" else "headers"
        return f".{member}.{given[int(listed[2])]['name']}"
    field = field.removeprefix(".stdio")
    if field in ("", ".name", ".prefix"):
        return ""
    aliases = {
        ".url": URLS,
        ".transport": _TYPES,
        ".timeouts.request": ("timeout",),
    }.get(field)
    return field if aliases is None else f".{_present(entry.server, aliases)}"


def _present(server: Mapping[str, Any], members: Sequence[str]) -> str:
    return next((member for member in members if server.get(member)), members[0])


def _text(where: str, value: Any) -> str:
    """A value as the text that programs and HTTP get. Raises ManifestError."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise ManifestError(f"{where}: expected a string, a number, true or false")


class _Server:
    """One server of the mapping."""

    def __init__(self, where: str, server: Mapping[str, Any], inputs: Mapping[str, Any]) -> None:
        self._where = where
        self._server = server
        self._inputs = inputs

    def backend(self) -> dict[str, Any]:
        """The backend without name and prefix. Raises ManifestError."""
        server = self._server
        self._warn()
        url = next((server[key] for key in URLS if server.get(key)), None)
        command = server.get("command")
        if (url is None) == (command is None):
            raise ManifestError(f"{self._where}: needs exactly one of url and command")
        found = self._session()
        if timeouts := timeouts_of(server, self._where):
            found["timeouts"] = timeouts
        if command is not None:
            return {**found, "stdio": self._stdio()}
        if not isinstance(url, str):
            raise ManifestError(f"{self._where}.{_present(server, URLS)}: expected a string")
        found["url"] = self._expanded(url)
        transport = self._transport()
        if transport is not None:
            found["transport"] = transport
        return {**found, "headers": self._headers()}

    def _warn(self) -> None:
        unknown = set(self._server) - _HONOURED - _TELLING
        if self._server.get("keep_alive") is False:
            # No process outlives the session of its client.
            unknown.discard("keep_alive")
        if unknown:
            log.warning("%s: not honoured: %s", self._where, ", ".join(sorted(unknown)))

    def _session(self) -> dict[str, Any]:
        given = self._server.get("session")
        if given is None:
            return {}
        if not isinstance(given, Mapping):
            raise ManifestError(
                f'{self._where}.session: expected an object such as {{"mode": "PerClient"}}'
            )
        return {"session": dict(given)}

    def _transport(self) -> str | None:
        member = _present(self._server, _TYPES)
        given = self._server.get(member)
        if not given:
            return None
        if not isinstance(given, str) or given not in _TRANSPORTS:
            raise ManifestError(f"{self._where}.{member}: {given!r} is not http or sse")
        return _TRANSPORTS[given]

    def _stdio(self) -> dict[str, Any]:
        server = self._server
        program, *args = self._command()
        given = server.get("args") or []
        if not isinstance(given, list):
            raise ManifestError(f"{self._where}.args: expected a list of strings")
        args += [_text(f"{self._where}.args[{i}]", one) for i, one in enumerate(given)]
        stdio: dict[str, Any] = {
            "command": os.path.expanduser(self._expanded(program)),
            "args": [self._expanded(arg) for arg in args],
            "env": self._named_values(_present(server, _ENVIRONMENTS)),
        }
        cwd = server.get("cwd") or ""
        if not isinstance(cwd, str):
            raise ManifestError(f"{self._where}.cwd: expected a string")
        if cwd:
            stdio["cwd"] = os.path.expanduser(self._expanded(cwd))
        return stdio

    def _command(self) -> list[str]:
        """The program, and the arguments that some editors write behind it in one list."""
        given = self._server["command"]
        words = given if isinstance(given, list) else [given]
        if not words or not all(isinstance(word, str) for word in words):
            raise ManifestError(f"{self._where}.command: expected a string or a list of strings")
        return words

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
        # null is how a file says that there is no such value.
        return [
            {"name": name, "value": self._expanded(_text(f"{self._where}.{field}.{name}", value))}
            for name, value in given.items()
            if value is not None
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
