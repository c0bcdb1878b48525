"""Files with `mcpServers` as editors write them: their text, and where the servers are in it."""

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
    """The servers that a file has."""

    root: str
    """The member that holds them; empty where the file does."""
    by_key: Mapping[str, Any]
    inputs: Mapping[str, Any]
    """The questions to a person, by their ids."""

    def member(self, key: str) -> str:
        """The path of one of them in the file."""
        return _member(self.root, key)

    def enabled(self) -> dict[str, Mapping[str, Any]]:
        """The servers to start, by key. Raises ManifestError."""
        found = {key: one for key, one in self.by_key.items() if not self._is_off(key, one)}
        if not found:
            raise ManifestError(f"{self.root or 'mcpServers'}: every server is disabled")
        return found

    def _is_off(self, key: str, server: Any) -> bool:
        where = self.member(key)
        if not isinstance(server, Mapping):
            raise ManifestError(f"{where}: expected an object")
        off = False
        for member, means_off in (("disabled", True), ("enabled", False)):
            given = server.get(member)
            if given is not None and not isinstance(given, bool):
                found = json.dumps(given, ensure_ascii=False)
                raise ManifestError(f"{where}.{member}: expected true or false, found {found}")
            off = off or given is means_off
        return off


def decode_text(content: bytes) -> str:
    """The text of a JSON file, in the encoding that it begins with. Raises UnicodeDecodeError."""
    return content.decode(json.detect_encoding(content))


def read_json(text: str) -> Any:
    """JSON as editors write it: with comments and trailing commas. Raises JSONDecodeError."""
    text = text.removeprefix("\ufeff")
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        # Texts keep what looks like a comment: they are matched first.
        return json.loads(_COMMENT.sub(lambda found: found[1] or _blank(found[0]), text))


def _blank(comment: str) -> str:
    """As much space as a comment takes: errors name lines and columns of the file."""
    return re.sub(r"[^\n]", " ", comment)


def _member(root: str, key: str) -> str:
    return f"{root}.{key}" if root else key


def find_servers(content: Any) -> ServersObject:
    """The servers of a file's content. Raises ManifestError."""
    expected = ManifestError('expected an object with "mcpServers": {NAME: {...}}')
    if not isinstance(content, Mapping):
        raise expected
    # VS Code's settings have everything below "mcp".
    places = [("mcp", content.get("mcp")), ("", content)]
    for path, place in places:
        if not isinstance(place, Mapping) or not place:
            continue
        key = next((key for key in _ROOTS if key in place), None)
        # A bare mapping of servers will do, too.
        servers = place[key] if key else place
        if key is None and not all(_is_server(one) for one in place.values()):
            continue
        if not isinstance(servers, Mapping) or not servers:
            raise expected
        root = _member(path, key) if key else path
        return ServersObject(root, servers, _by_id(place.get("inputs")))
    raise expected


def _by_id(inputs: Any) -> Mapping[str, Any]:
    given = inputs if isinstance(inputs, list) else ()
    return {one["id"]: one for one in given if isinstance(one, Mapping) and "id" in one}


def _is_server(entry: Any) -> bool:
    return isinstance(entry, Mapping) and any(key in entry for key in (*URLS, "command"))
