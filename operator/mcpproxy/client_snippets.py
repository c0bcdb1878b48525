"""Texts with which people add a proxy to their MCP clients. Pure: they depend on a name and a URL.

A snippet is a command for a shell, or the content of a client's configuration file.
"""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

DEFAULT_NAME: Final = "mcpproxy"
"""Name of the entry in a client's configuration, if the proxy has no name."""


@dataclass(frozen=True, slots=True)
class ClientSnippet:
    """Text that adds a proxy to one client."""

    client: str
    """Name of the client, such as Claude Code."""
    place: str
    """File that the text belongs in, or `shell`."""
    language: Literal["shell", "json"]
    text: str


def client_snippets(name: str, url: str) -> tuple[ClientSnippet, ...]:
    """Return the snippets for an endpoint; `name` is the name of its entry in the client."""
    name = name or DEFAULT_NAME
    stdio = {"command": "mcpproxy", "args": ["run", url]}
    return (
        _command("Claude Code", "claude", "mcp", "add", "--transport", "http", name, url),
        _file("Claude Desktop", "claude_desktop_config.json", "mcpServers", name, stdio),
        _file("Cursor", ".cursor/mcp.json", "mcpServers", name, {"url": url}),
        _file("VS Code", ".vscode/mcp.json", "servers", name, {"type": "http", "url": url}),
        _file("Windsurf", "mcp_config.json", "mcpServers", name, {"serverUrl": url}),
        _command(
            "Inspector",
            *("npx", "@modelcontextprotocol/inspector", "--cli", url),
            *("--transport", "http", "--method", "tools/list"),
        ),
        _command("mcpproxy", "mcpproxy", "list", url),
    )


def _command(client: str, *words: str) -> ClientSnippet:
    return ClientSnippet(client, "shell", "shell", shlex.join(words))


def _file(
    client: str, place: str, member: str, name: str, entry: Mapping[str, Any]
) -> ClientSnippet:
    text = json.dumps({member: {name: entry}}, ensure_ascii=False, indent=2)
    return ClientSnippet(client, place, "json", text)
