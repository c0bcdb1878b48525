"""Conversion of `mcpServers` entries (Claude Desktop, VS Code, FastMCP and others) to backends.

Unsupported fields cause a warning. Fields that cannot be interpreted cause an error.
"""

import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from mcpproxy.api.field_messages import did_you_mean
from mcpproxy.api.manifest_errors import ManifestError, Problem
from mcpproxy.api.v1alpha1.references import RESERVED_HEADERS
from mcpproxy.proxy.config import tool_filters
from mcpproxy.proxy.config.env_files import read_env_file
from mcpproxy.proxy.config.mcp_json import URLS, find_servers
from mcpproxy.proxy.config.sign_in.spellings import OAUTH, sign_in_of
from mcpproxy.proxy.config.start_times import MEMBERS, timeouts_of
from mcpproxy.proxy.config.variables import Ask, LocalVariables, Variables
from mcpproxy.proxy.upstream.sign_in.settings import SignIn

log = logging.getLogger("mcpproxy.config")

MAX_PREFIX: Final = 32
_ENVIRONMENTS: Final = ("env", "environment")
_ENV_FILES: Final = ("envFile", "env_file")
_HEADERS: Final = ("headers", "http_headers", "env_http_headers")
_TYPES: Final = ("transport", "type", "transportType")
_HONOURED: Final = {
    *URLS,
    *_ENVIRONMENTS,
    *_TYPES,
    "auth",
    OAUTH,
    "command",
    "args",
    "cwd",
    "session",
    *MEMBERS,
    *tool_filters.MEMBERS,
    *_HEADERS,
    "env_vars",
    "bearer_token_env_var",
    *_ENV_FILES,
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
_FIELD: Final = re.compile(r"spec\.backends\[(\d+)\]((?:\.\w+|\[\d+\])*)")
_LISTED: Final = re.compile(r"\.(?:stdio\.)?(env|headers)\[(\d+)\](?:\.\w+)*")


@dataclass(frozen=True, slots=True)
class ServerEntry:
    """One server of the file, as a backend."""

    where: str
    """Path of the server in the file, such as `mcpServers.NAME`."""
    server: Mapping[str, Any]
    """Entry in the file."""
    backend: dict[str, Any]
    sign_in: SignIn | None = None


def parse_servers(
    content: Any, ask: Ask | None = None, variables: Variables | None = None
) -> list[ServerEntry]:
    """Return the servers to start. A single one has no prefix; several have their keys as prefixes.

    `ask` asks the user for the inputs of the file. `variables` replaces the variables of this
    process. Raise ManifestError.
    """
    servers = find_servers(content)
    values = variables or LocalVariables(servers.inputs, ask)
    enabled = servers.enabled()
    entries: list[ServerEntry] = []
    taken: set[str] = set()
    prefixes: set[str] = set()
    for key, server in enabled.items():
        where = servers.member(key)
        converter = _Server(where, server, values)
        backend = converter.backend()
        prefix = "" if len(enabled) == 1 else re.sub(r"[^A-Za-z0-9_-]", "_", key)[:MAX_PREFIX]
        if prefix in prefixes:
            raise ManifestError(
                f"another server has the same prefix {prefix!r}; change one of them", where
            )
        prefixes.add(prefix)
        with_name = {"name": backend_name(key, taken), "prefix": prefix, **backend}
        entries.append(ServerEntry(where, server, with_name, converter.sign_in()))
    return entries


def to_file_error(error: ManifestError, entries: Sequence[ServerEntry]) -> ManifestError:
    """Replace the fields of an MCPProxy in an error by the fields of the file."""

    def rename(problem: Problem) -> Problem:
        match = _FIELD.fullmatch(problem.field)
        if match is None:
            return problem
        entry = entries[int(match[1])]
        return replace(problem, field=f"{entry.where}{_file_field(entry, match[2])}")

    return error.rename_fields(rename)


def _file_field(entry: ServerEntry, field: str) -> str:
    """Return the field of the file from which a field of the backend was made."""
    listed = _LISTED.match(field)
    if listed is not None:
        named_values = (
            entry.backend["stdio"]["env"] if listed[1] == "env" else entry.backend["headers"]
        )
        members = _ENVIRONMENTS if listed[1] == "env" else _HEADERS
        member = _first_present(entry.server, members)
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


def _text(field: str, value: Any) -> str:
    """Return a value as text for programs and HTTP. Raise ManifestError."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise ManifestError("expected a string, a number, true or false", field)


class _Server:
    """Converter of one server."""

    def __init__(self, where: str, server: Mapping[str, Any], variables: Variables) -> None:
        self._where = where
        self._server = _flat(server)
        self._variables = variables

    def _error(self, message: str, member: str = "") -> ManifestError:
        return ManifestError(message, f"{self._where}.{member}" if member else self._where)

    def backend(self) -> dict[str, Any]:
        """Return the backend without name and prefix. Raise ManifestError."""
        server = self._server
        url = next((server[key] for key in URLS if server.get(key)), None)
        command = server.get("command")
        if (url is None) == (command is None):
            raise self._error(f"requires exactly one of url and command{self._suggestion()}")
        tools = tool_filters.tools_of(server, self._where)
        self._warn()
        backend = self._session()
        if tools:
            backend["tools"] = tools
        if timeouts := timeouts_of(server, self._where):
            backend["timeouts"] = timeouts
        if command is not None:
            return {**backend, "stdio": self._stdio()}
        member = _first_present(server, URLS)
        if not isinstance(url, str):
            raise self._error("expected a string", member)
        backend["url"] = self._expand(url, member)
        transport = self._transport()
        if transport is not None:
            backend["transport"] = transport
        return {**backend, "headers": self._headers()}

    def _unknown(self) -> list[str]:
        unknown = set(self._server) - _HONOURED - _DESCRIPTIVE - tool_filters.HARMLESS
        if self._server.get("keep_alive") is False:
            # Processes never outlive the session of their client.
            unknown.discard("keep_alive")
        return sorted(unknown)

    def _suggestion(self) -> str:
        """Return the field that was probably misspelled."""
        hints = ((name, did_you_mean(name, ("url", "command", *URLS))) for name in self._unknown())
        return next((f", found {name}{hint}" for name, hint in hints if hint), "")

    def _warn(self) -> None:
        unknown = [
            name + did_you_mean(name, sorted(_HONOURED)).replace("; ", ", ")
            for name in self._unknown()
        ]
        if unknown:
            log.warning("%s: ignored: %s", self._where, ", ".join(unknown))

    def _session(self) -> dict[str, Any]:
        session = self._server.get("session")
        if session is None:
            return {}
        if not isinstance(session, Mapping):
            raise self._error('expected an object such as {"mode": "PerClient"}', "session")
        return {"session": dict(session)}

    def _transport(self) -> str | None:
        member = _first_present(self._server, _TYPES)
        transport = self._server.get(member)
        if not transport:
            return None
        if not isinstance(transport, str) or transport not in _TRANSPORTS:
            raise self._error(f"expected http or sse, found {transport!r}", member)
        return _TRANSPORTS[transport]

    def _stdio(self) -> dict[str, Any]:
        server = self._server
        program, *args = self._command()
        arguments = server.get("args") or []
        if not isinstance(arguments, list):
            raise self._error("expected a list of strings", "args")
        args += [
            _text(f"{self._where}.args[{i}]", argument) for i, argument in enumerate(arguments)
        ]
        stdio: dict[str, Any] = {
            "command": os.path.expanduser(self._expand(program, "command")),
            "args": [self._expand(arg, "args") for arg in args],
            "env": self._environment(),
        }
        cwd = server.get("cwd") or ""
        if not isinstance(cwd, str):
            raise self._error("expected a string", "cwd")
        if cwd:
            stdio["cwd"] = os.path.expanduser(self._expand(cwd, "cwd"))
        return stdio

    def _command(self) -> list[str]:
        """Return the program and the arguments that some editors add to it in one list."""
        command = self._server["command"]
        words = command if isinstance(command, list) else [command]
        if not words or not all(isinstance(word, str) for word in words):
            raise self._error("expected a string or a list of strings", "command")
        return words

    def _environment(self) -> list[dict[str, str]]:
        member = _first_present(self._server, _ENV_FILES)
        file = self._server.get(member)
        values: dict[str, str] = {}
        if file is not None:
            if not isinstance(file, str):
                raise self._error("expected a string", member)
            path = Path(os.path.expanduser(self._expand(file, member)))
            values = read_env_file(path, f"{self._where}.{member}")
        names = self._server.get("env_vars") or []
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise self._error("expected a list of names", "env_vars")
        for name in names:
            field = f"{self._where}.env_vars"
            values[name] = self._variables.environment_variable(name, field)
        own = self._named_values(_first_present(self._server, _ENVIRONMENTS))
        values |= {value["name"]: value["value"] for value in own}
        return [{"name": name, "value": value} for name, value in values.items()]

    def _headers(self) -> list[dict[str, str]]:
        values = [*self._named_values("headers"), *self._named_values("http_headers")]
        values += self._environment_headers()
        headers = []
        for header in values:
            if header["name"].lower() in RESERVED_HEADERS:
                log.warning(
                    "%s: ignored the header %s, which is reserved for HTTP or MCP",
                    self._where,
                    header["name"],
                )
            else:
                headers.append(header)
        token = self._token()
        if token is None:
            return headers
        headers = [h for h in headers if h["name"].lower() != "authorization"]
        return [*headers, {"name": "Authorization", "value": f"Bearer {token}"}]

    def _environment_headers(self) -> list[dict[str, str]]:
        member = "env_http_headers"
        names = self._server.get(member) or {}
        if not isinstance(names, Mapping) or not all(isinstance(v, str) for v in names.values()):
            raise self._error("expected an object of names of environment variables", member)
        return [
            {
                "name": header,
                "value": self._variables.environment_variable(
                    name, f"{self._where}.{member}.{header}"
                ),
            }
            for header, name in names.items()
        ]

    def _token(self) -> str | None:
        name = self._server.get("bearer_token_env_var")
        if name is not None:
            if not isinstance(name, str):
                raise self._error("expected a string", "bearer_token_env_var")
            field = f"{self._where}.bearer_token_env_var"
            return self._variables.environment_variable(name, field)
        auth = self._server.get("auth")
        if isinstance(auth, str) and auth != OAUTH:
            return self._expand(auth, "auth")
        if not (auth is None or auth == OAUTH or isinstance(auth, Mapping)):
            raise self._error('expected a token or "oauth"', "auth")
        return None

    def sign_in(self) -> SignIn | None:
        """Return the sign-in that the server requires; None without one. Raise ManifestError."""
        wanted = sign_in_of(self._server, self._where, self._expand)
        names = {name.lower() for name in self._server.get("headers") or ()}
        if wanted is not None and "authorization" in names:
            log.warning("%s: ignored OAuth, because headers has Authorization", self._where)
            return None
        return None if self._server.get("command") else wanted

    def _named_values(self, member: str) -> list[dict[str, str]]:
        mapping = self._server.get(member) or {}
        if not isinstance(mapping, Mapping):
            raise self._error("expected an object of strings", member)
        # In such a file, null means that the value is absent.
        return [
            {
                "name": name,
                "value": self._expand(
                    _text(f"{self._where}.{member}.{name}", value), f"{member}.{name}"
                ),
            }
            for name, value in mapping.items()
            if value is not None
        ]

    def _expand(self, text: str, member: str) -> str:
        return self._variables.expand(text, f"{self._where}.{member}")


def _flat(server: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a server of Zed, which has its program in an object, in the form of the others."""
    command = server.get("command")
    if not isinstance(command, Mapping):
        return server
    program = {"command": command.get("path"), "args": command.get("args")}
    environment = {"env": command["env"]} if command.get("env") else {}
    return {**server, **program, **environment}


def backend_name(key: str, taken: set[str]) -> str:
    """Return a name for a backend from any text, unlike those in `taken`, and add it to them."""
    base = re.sub(r"[^a-z0-9-]+", "-", key.lower()).strip("-")[:50].strip("-") or "server"
    base = base if base[0].isalpha() else f"s-{base}"
    name, number = base, 2
    while name in taken:
        name, number = f"{base}-{number}", number + 1
    taken.add(name)
    return name
