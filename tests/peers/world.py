"""Servers and clients of other makers, npm packages all, and how they are called."""

import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from scripts import npm

ERAS: Final = {"legacy": "2025-11-25", "2026-07-28": "2026-07-28"}
"""The mode of a client, and the revision that it speaks in this mode."""
ANSWERS_EVERYTHING: Final[dict[str, Any]] = {
    "sampling": {},
    "elicitation": {"form": {}},
    "roots": {},
}
NODE: Final = os.fspath(npm.NODE)
EVERYTHING: Final = os.fspath(
    npm.module("@modelcontextprotocol/server-everything", "dist/index.js")
)
FILESYSTEM: Final = os.fspath(
    npm.module("@modelcontextprotocol/server-filesystem", "dist/index.js")
)
MEMORY: Final = os.fspath(npm.module("@modelcontextprotocol/server-memory", "dist/index.js"))
THINKING: Final = os.fspath(
    npm.module("@modelcontextprotocol/server-sequential-thinking", "dist/index.js")
)
PLAYWRIGHT: Final = os.fspath(npm.module("@playwright/mcp", "cli.js"))
INSPECTOR: Final = os.fspath(
    npm.module("@modelcontextprotocol/inspector", "clients/launcher/build/index.js")
)
CLIENT_SECONDS: Final = 90.0
TYPESCRIPT: Final = (NODE, "client.mjs")
"""The client of the TypeScript SDK's current major version."""

Request = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class Server:
    """A server as the TypeScript client reaches it: its transport, and a URL or a command."""

    transport: str
    target: str


def ask(
    server: Server,
    mode: str,
    requests: Sequence[Request],
    capabilities: Mapping[str, Any] = MappingProxyType({}),
    client: Sequence[str] = TYPESCRIPT,
) -> Any:
    """Output of a client in peers/: its revision, and a response to each request."""
    value = json.dumps([{"method": method, "params": params} for method, params in requests])
    command = [
        *client,
        server.transport,
        server.target,
        mode,
        json.dumps(dict(capabilities)),
    ]
    done = subprocess.run(
        command,
        cwd=npm.PEERS,
        input=value,
        capture_output=True,
        text=True,
        timeout=CLIENT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def inspect(url: str, era: str, home: Path, method: str, *arguments: str) -> Any:
    """Output of the Inspector's command line for one request over HTTP."""
    command = [NODE, INSPECTOR, "--cli", url, "--transport", "http", "--protocol-era", era]
    done = subprocess.run(
        [*command, "--method", method, *arguments, "--format", "json"],
        env={**os.environ, "HOME": os.fspath(home)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=CLIENT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["result"]


# What a proxy adds

_LISTS: Final = ("tools", "prompts", "resources", "resourceTemplates")
_PREFIXED: Final = ("tools", "prompts")
LEGACY_MEMBERS: Final = ("execution",)
"""Of a tool: what the TypeScript client's model of the modern era no longer has."""
_ERAS_OWN: Final = ("resultType", "ttlMs", "cacheScope", "_meta")
_CLOCK: Final = re.compile(r"\b\d{1,2}:\d\d:\d\d\b( [AP]M)?")


def through(request: Request, prefix: str) -> Request:
    """A request of one backend as a client of the proxy sends it."""
    method, params = request
    changed = json.loads(json.dumps(params))
    if "name" in changed:
        changed["name"] = f"{prefix}_{changed['name']}"
    if changed.get("ref", {}).get("name"):
        changed["ref"]["name"] = f"{prefix}_{changed['ref']['name']}"
    for place in (changed, changed.get("ref", {})):
        if "uri" in place:
            place["uri"] = place["uri"].replace("://", f"://{prefix}/", 1)
    return method, changed


def undone(answer: Any, prefix: str, dropped: Sequence[str] = ()) -> Any:
    """An answer of the proxy as the backend itself gives it; of lists, only the backend's part.

    Without what no two answers have in common: the time of day, members of one era alone, and the
    members of listed items that are to be dropped.
    """
    if "result" not in answer:
        return {"error": answer["error"]}
    result = {key: value for key, value in answer["result"].items() if key not in _ERAS_OWN}
    for key in _LISTS:
        if isinstance(result.get(key), list):
            result[key] = [_own(key, item, prefix) for item in result[key]]
            result[key] = [
                {name: value for name, value in item.items() if name not in dropped}
                for item in result[key]
                if item is not None
            ]
    return {"result": _plain(result, f"://{prefix}/")}


def plain(answer: Any, dropped: Sequence[str] = ()) -> Any:
    """An answer of a server itself, to compare with."""
    return undone(answer, "", dropped)


def _own(key: str, item: dict[str, Any], prefix: str) -> dict[str, Any] | None:
    if not prefix:
        return item
    if key in _PREFIXED:
        name = item["name"]
        mine = name.startswith(f"{prefix}_")
        return {**item, "name": name.removeprefix(f"{prefix}_")} if mine else None
    return item if f"://{prefix}/" in item.get("uri", item.get("uriTemplate", "")) else None


def _plain(value: Any, authority: str) -> Any:
    if isinstance(value, dict):
        return {
            key: _uri(item, authority) if key in ("uri", "uriTemplate") else _plain(item, authority)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_plain(entry, authority) for entry in value]
    return _CLOCK.sub("TIME", value) if isinstance(value, str) else value


def _uri(uri: Any, authority: str) -> Any:
    """A URI without the proxy's prefix; one that lacks it equals none of the server's."""
    if not isinstance(uri, str) or authority == ":///":
        return uri
    return uri.replace(authority, "://", 1) if authority in uri else f"unmapped: {uri}"
