"""Text of the configuration files of MCP clients, and the place of the servers in it."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mcpproxy.api.field_messages import did_you_mean
from mcpproxy.api.manifest_errors import ManifestError, Problem
from mcpproxy.api.yaml_documents import MAX_CHARACTERS, read_documents

URLS: Final = ("url", "serverUrl", "httpUrl")
TOML: Final = ".toml"
_ROOTS: Final = (
    "mcpServers",
    "servers",
    "context_servers",
    "mcp_servers",
    "amp.mcpServers",
)
_TOKEN: Final = re.compile(
    r'"(?:[^"\\\n]|\\.)*"?|//[^\n]*|/\*(?:.*?\*/|.*)|,|\s+|[^\s"/,]+|/', re.DOTALL
)
"""Part of a JSON text. Each alternative matches its unfinished form, so no part is read twice."""


@dataclass(frozen=True, slots=True)
class ServersObject:
    """Servers in a file."""

    root: str
    """Name of the field that contains them; empty if they are the whole file."""
    by_key: Mapping[str, Any]
    inputs: Mapping[str, Any]
    """Prompts for a user, by id."""

    def member(self, key: str) -> str:
        """Return the path of a server in the file."""
        return _path_of(self.root, key)

    def enabled(self) -> dict[str, Mapping[str, Any]]:
        """Return the servers to start, by key. Raise ManifestError."""
        servers = {
            key: server for key, server in self.by_key.items() if not self._is_off(key, server)
        }
        if not servers:
            raise ManifestError(
                "every server is disabled; enable at least one", self.root or "mcpServers"
            )
        return servers

    def _is_off(self, key: str, server: Any) -> bool:
        where = self.member(key)
        if not isinstance(server, Mapping):
            raise ManifestError("expected an object", where)
        off = False
        for member, means_off in (("disabled", True), ("enabled", False)):
            flag = server.get(member)
            if flag is not None and not isinstance(flag, bool):
                shown = json.dumps(flag, ensure_ascii=False)
                raise ManifestError(f"expected true or false, found {shown}", f"{where}.{member}")
            off = off or flag is means_off
        return off


@dataclass(frozen=True, slots=True)
class ServersFile:
    """Content of a file, and the lines of its fields."""

    content: Any
    line_of: Callable[[str], int] | None = None

    def locate(self, error: ManifestError) -> ManifestError:
        """Return an error about the content with the lines of the fields, as far as they can be
        known."""
        if self.line_of is None:
            return error
        try:
            return error.with_lines(self.line_of)
        except ManifestError:
            # Not every JSON text is YAML.
            return error


def read_file(path: Path) -> ServersFile:
    """Return the content of a JSON or TOML file. Raise ManifestError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CHARACTERS + 1)
        if len(data) > MAX_CHARACTERS:
            raise ManifestError(f"more than {MAX_CHARACTERS // 1024**2} MiB; split the file")
        if path.suffix == TOML:
            return ServersFile(_read_toml(data.decode("utf-8-sig")))
        text = decode_text(data)
        return ServersFile(read_json(text), _lines_of(text))
    except ManifestError as error:
        raise error.in_file(str(path)) from error.__cause__
    except OSError as error:
        raise ManifestError(error.strerror or "cannot be read").in_file(str(path)) from error
    except UnicodeDecodeError as error:
        message = f"byte {error.start} is not UTF-8; save the file as UTF-8"
        raise ManifestError(message).in_file(str(path)) from error


def _read_toml(text: str) -> Any:
    import tomllib  # Pods do without it.

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ManifestError(f"invalid TOML: {error}") from error
    except RecursionError:
        raise ManifestError("invalid TOML: the values are nested too deeply") from None


def decode_text(content: bytes) -> str:
    """Return the text of a JSON file in its detected encoding. Raise UnicodeDecodeError."""
    return content.decode(json.detect_encoding(content)).removeprefix("\ufeff")


def read_json(text: str) -> Any:
    """Parse JSON with comments and trailing commas, or the members of an object without its braces.

    Raise ManifestError.
    """
    text = text.removeprefix("\ufeff")
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        plain = _without_comments(text)
    except RecursionError:
        raise ManifestError("invalid JSON: the values are nested too deeply") from None
    try:
        return json.loads(plain)
    except RecursionError:
        raise ManifestError("invalid JSON: the values are nested too deeply") from None
    except json.JSONDecodeError as error:
        if plain.lstrip().startswith('"'):
            # Settings of an editor are often shown in part.
            try:
                return json.loads(f"{{{plain.rstrip().removesuffix(',')}}}")
            except (json.JSONDecodeError, RecursionError):
                pass
        problem = Problem(f"invalid JSON: {error.msg}", "", f"{error.lineno}:{error.colno}")
        raise ManifestError.of([problem]) from error


def _without_comments(text: str) -> str:
    """Return the text with spaces in place of comments and trailing commas."""
    parts: list[str] = []
    comma: int | None = None
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token.startswith(("//", "/*")):
            # Errors keep the lines and columns of the file.
            parts.append(re.sub(r"[^\n]", " ", token))
            continue
        if not token.isspace():
            if comma is not None and token[0] in "}]":
                parts[comma] = " "
            comma = len(parts) if token == "," else None
        parts.append(token)
    return "".join(parts)


def _lines_of(text: str) -> Callable[[str], int] | None:
    """Return a function for the lines of fields, which reads the text again when it is needed."""

    def line_of(field: str) -> int:
        # JSON without tabs between its values is YAML.
        documents = read_documents(_without_comments(text).replace("\t", " "))
        return documents[0].line_of(field)

    return line_of


def _path_of(root: str, key: str) -> str:
    return f"{root}.{key}" if root else key


def find_servers(content: Any) -> ServersObject:
    """Return the servers of a file's content. Raise ManifestError."""
    if not isinstance(content, Mapping):
        raise _no_servers(content)
    # The settings of VS Code have all of it below "mcp".
    places = [("mcp", content.get("mcp")), ("", content)]
    for path, place in places:
        if not isinstance(place, Mapping) or not place:
            continue
        key = next((key for key in _ROOTS if key in place), None)
        # A mapping of servers without a field around it is valid as well.
        servers = place[key] if key else place
        if key is None and not all(_is_server(entry) for entry in place.values()):
            continue
        if not isinstance(servers, Mapping) or not servers:
            raise _no_servers(content)
        root = _path_of(path, key) if key else path
        return ServersObject(root, servers, _by_id(place.get("inputs")))
    raise _no_servers(content)


def _no_servers(content: Any) -> ManifestError:
    expected = 'expected an object with "mcpServers": {NAME: {...}}'
    if not isinstance(content, Mapping):
        return ManifestError(expected)
    if any(key in content for key in ("command", *URLS)):
        return ManifestError(f"{expected}, found one server without its name")
    near = (did_you_mean(key, _ROOTS) for key in content if isinstance(key, str))
    return ManifestError(expected + next(filter(None, near), ""))


def _by_id(inputs: Any) -> Mapping[str, Any]:
    entries = inputs if isinstance(inputs, list) else ()
    return {
        entry["id"]: entry
        for entry in entries
        if isinstance(entry, Mapping) and isinstance(entry.get("id"), str)
    }


def _is_server(entry: Any) -> bool:
    return isinstance(entry, Mapping) and any(key in entry for key in (*URLS, "command"))
