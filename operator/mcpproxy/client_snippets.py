"""Texts with which people add a proxy to their MCP clients. Pure: they depend on a name and a URL.

`mcpproxy run`, the pages in a browser and docs/clients.md show the same texts.
"""

import json
import shlex
from dataclasses import dataclass
from typing import Any, Final, Literal

DEFAULT_NAME: Final = "mcpproxy"
"""Name of the entry in a client's configuration, if the proxy has no name."""
SHELL: Final = "shell"
"""Place of a command."""
SHOWN: Final = ("Claude Code", "Cursor", "VS Code")
"""Clients whose texts `mcpproxy run` prints."""


@dataclass(frozen=True, slots=True)
class ClientSnippet:
    """Text that adds a proxy to one client."""

    client: str
    """Name of the client, such as Claude Code."""
    place: str
    """File that the text belongs in, or `shell`."""
    language: Literal["sh", "json", "toml"]
    text: str

    @property
    def title(self) -> str:
        """The client and the file, for a line above the text."""
        return self.client if self.place == SHELL else f"{self.client}, {self.place}"


def client_snippets(name: str, url: str) -> tuple[ClientSnippet, ...]:
    """Return the snippets for an endpoint; `name` is the name of its entry in the client."""
    name = name or DEFAULT_NAME
    program = {"command": "mcpproxy", "args": ["run", url]}
    codex = f"[mcp_servers.{name}]\nurl = {json.dumps(url)}"
    servers = "mcpServers"
    return (
        _command("Claude Code", "claude", "mcp", "add", "--transport", "http", name, url),
        _file("Claude Desktop", "claude_desktop_config.json", {servers: {name: program}}),
        _file("Cursor", ".cursor/mcp.json", {servers: {name: {"url": url}}}),
        _file("VS Code", ".vscode/mcp.json", {"servers": {name: {"type": "http", "url": url}}}),
        _file(
            "Windsurf",
            "~/.codeium/windsurf/mcp_config.json",
            {servers: {name: {"serverUrl": url}}},
        ),
        _file("Gemini CLI", "~/.gemini/settings.json", {servers: {name: {"httpUrl": url}}}),
        ClientSnippet("Codex CLI", "~/.codex/config.toml", "toml", codex),
        _file("opencode", "opencode.json", {"mcp": {name: {"type": "remote", "url": url}}}),
        _command(
            "MCP Inspector",
            *("npx", "@modelcontextprotocol/inspector", "--cli", url),
            *("--transport", "http", "--method", "tools/list"),
        ),
    )


def _command(client: str, *words: str) -> ClientSnippet:
    return ClientSnippet(client, SHELL, "sh", shlex.join(words))


def _file(client: str, place: str, content: dict[str, Any]) -> ClientSnippet:
    return ClientSnippet(client, place, "json", json.dumps(content, ensure_ascii=False))
