"""Configuration of MCP clients for the endpoint of a proxy; docs/clients.md has the same texts."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class ClientSetup:
    """Steps with which one client connects to a proxy."""

    name: str
    place: str
    """File that contains the text, or `a shell` for a command."""
    language: str
    """Language of the text: `json`, `toml` or `sh`."""
    render: Callable[[str, str], str]
    """Text for the name of the proxy and its URL."""


def _json(*path: str, **server: str) -> Callable[[str, str], str]:
    """Return a function for a JSON file with the server below `path`; `{url}` is its URL."""

    def render(name: str, url: str) -> str:
        content: dict[str, Any] = {name: {key: v.format(url=url) for key, v in server.items()}}
        for key in reversed(path):
            content = {key: content}
        return json.dumps(content)

    return render


def _program(name: str, url: str) -> str:
    server = {"command": "mcpproxy", "args": ["run", url]}
    return json.dumps({"mcpServers": {name: server}})


CLIENTS: Final = (
    ClientSetup(
        "Claude Code",
        "a shell",
        "sh",
        lambda name, url: f"claude mcp add --transport http {name} {url}",
    ),
    ClientSetup("Claude Desktop", "claude_desktop_config.json", "json", _program),
    ClientSetup("Cursor", ".cursor/mcp.json", "json", _json("mcpServers", url="{url}")),
    ClientSetup("VS Code", ".vscode/mcp.json", "json", _json("servers", type="http", url="{url}")),
    ClientSetup(
        "Windsurf",
        "~/.codeium/windsurf/mcp_config.json",
        "json",
        _json("mcpServers", serverUrl="{url}"),
    ),
    ClientSetup(
        "Gemini CLI", "~/.gemini/settings.json", "json", _json("mcpServers", httpUrl="{url}")
    ),
    ClientSetup(
        "Codex CLI",
        "~/.codex/config.toml",
        "toml",
        lambda name, url: f"[mcp_servers.{name}]\nurl = {json.dumps(url)}",
    ),
    ClientSetup("opencode", "opencode.json", "json", _json("mcp", type="remote", url="{url}")),
    ClientSetup(
        "MCP Inspector",
        "a shell",
        "sh",
        lambda name, url: (
            f"npx @modelcontextprotocol/inspector --cli {url} --transport http --method tools/list"
        ),
    ),
)
SHOWN: Final = ("Claude Code", "Cursor", "VS Code")
"""Clients whose texts `mcpproxy run` prints."""


def shown_setups(name: str, url: str) -> list[tuple[str, str]]:
    """Return a title and a text for each of the clients in SHOWN."""
    return [
        (client.name if client.place == "a shell" else f"{client.name}, {client.place}", text)
        for client in CLIENTS
        if client.name in SHOWN
        for text in (client.render(name, url),)
    ]
