"""Text of `mcpServers` files of various editors, and the place of the servers in it."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from mcpproxy.api.manifest import ManifestError

URLS: Final = ("url", "serverUrl", "httpUrl")
_ROOTS: Final = ("mcpServers", "servers", "context_servers")
_COMMENT: Final = re.compile(
    r'("(?:[^"\\]|\\.)*")|//[^\n]*|/\*.*?\*/|,(?=(?:\s|//[^\n]*|/\*.*?\*/)*[}\]])', re.DOTALL
)


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
                f"{self.root or 'mcpServers'}: every server is disabled; enable at least one"
            )
        return servers

    def _is_off(self, key: str, server: Any) -> bool:
        where = self.member(key)
        if not isinstance(server, Mapping):
            raise ManifestError(f"{where}: expected an object")
        off = False
        for member, means_off in (("disabled", True), ("enabled", False)):
            flag = server.get(member)
            if flag is not None and not isinstance(flag, bool):
                shown = json.dumps(flag, ensure_ascii=False)
                raise ManifestError(f"{where}.{member}: expected true or false, found {shown}")
            off = off or flag is means_off
        return off


def decode_text(content: bytes) -> str:
    """Return the text of a JSON file in its detected encoding. Raise UnicodeDecodeError."""
    return content.decode(json.detect_encoding(content))


def read_json(text: str) -> Any:
    """Parse JSON with comments and trailing commas. Raise JSONDecodeError."""
    text = text.removeprefix("\ufeff")
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        # The expression matches strings first, so that text like a comment stays in them.
        return json.loads(_COMMENT.sub(lambda match: match[1] or _blank(match[0]), text))


def _blank(comment: str) -> str:
    """Return whitespace of the comment's size, so that errors have the file's lines and columns."""
    return re.sub(r"[^\n]", " ", comment)


def _path_of(root: str, key: str) -> str:
    return f"{root}.{key}" if root else key


def find_servers(content: Any) -> ServersObject:
    """Return the servers of a file's content. Raise ManifestError."""
    expected = ManifestError('expected an object with "mcpServers": {NAME: {...}}')
    if not isinstance(content, Mapping):
        raise expected
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
            raise expected
        root = _path_of(path, key) if key else path
        return ServersObject(root, servers, _by_id(place.get("inputs")))
    raise expected


def _by_id(inputs: Any) -> Mapping[str, Any]:
    entries = inputs if isinstance(inputs, list) else ()
    return {entry["id"]: entry for entry in entries if isinstance(entry, Mapping) and "id" in entry}


def _is_server(entry: Any) -> bool:
    return isinstance(entry, Mapping) and any(key in entry for key in (*URLS, "command"))
