"""Texts with which people add a proxy to their MCP clients. Pure: they depend on a name and a URL.

`mcpproxy run`, the pages in a browser and docs/clients.md show the same texts.
"""

import json
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

DEFAULT_NAME: Final = "mcpproxy"
"""Name of the entry in a client's configuration, if the proxy has no name."""
SHELL: Final = "shell"
"""Place of a command."""
SHOWN: Final = ("Claude Code", "Cursor", "VS Code")
"""Clients whose texts `mcpproxy run` prints."""
TOKEN: Final = "MCP_TOKEN"
"""Environment variable from which clients read a token or an API key."""
CLAUDE_CODE: Final = "Claude Code"
_SERVERS: Final = "mcpServers"
_DESKTOP: Final = ("Claude Desktop", "claude_desktop_config.json")
_CURSOR: Final = ("Cursor", ".cursor/mcp.json")
_VS_CODE: Final = ("VS Code", ".vscode/mcp.json")
_WINDSURF: Final = ("Windsurf", "~/.codeium/windsurf/mcp_config.json")
_GEMINI: Final = ("Gemini CLI", "~/.gemini/settings.json")
_OPENCODE: Final = ("opencode", "opencode.json")


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
    return (
        _claude(name, url),
        _file(_DESKTOP, {_SERVERS: {name: {"command": "mcpproxy", "args": ["run", url]}}}),
        _file(_CURSOR, {_SERVERS: {name: {"url": url}}}),
        _file(_VS_CODE, {"servers": {name: {"type": "http", "url": url}}}),
        _file(_WINDSURF, {_SERVERS: {name: {"serverUrl": url}}}),
        _file(_GEMINI, {_SERVERS: {name: {"httpUrl": url}}}),
        _codex(name, url),
        _file(_OPENCODE, {"mcp": {name: {"type": "remote", "url": url}}}),
        _inspector(url),
    )


def token_snippets(name: str, url: str) -> tuple[ClientSnippet, ...]:
    """Return the snippets for an endpoint that requires the bearer token in TOKEN.

    Claude Code has two, a command and the file of a project. Claude Desktop reads no variables, so
    its file contains the word TOKEN.
    """
    name = name or DEFAULT_NAME
    run = {"command": "mcpproxy", "args": ["run", url, "-H", "Authorization: Bearer TOKEN"]}
    prompt = {"type": "promptString", "id": TOKEN, "description": "Token", "password": True}
    code = {"type": "http", "url": url, **_bearer(f"${{input:{TOKEN}}}")}
    environment = _bearer(f"${{{TOKEN}}}")
    prefixed = _bearer(f"${{env:{TOKEN}}}")
    remote = {"type": "remote", "url": url, **_bearer(f"{{env:{TOKEN}}}")}
    header = f'--header "Authorization: Bearer ${TOKEN}"'
    return (
        _claude(name, url, header),
        _file(
            (CLAUDE_CODE, ".mcp.json"),
            {_SERVERS: {name: {"type": "http", "url": url, **environment}}},
        ),
        _file(_DESKTOP, {_SERVERS: {name: run}}),
        _file(_CURSOR, {_SERVERS: {name: {"url": url, **prefixed}}}),
        _file(_VS_CODE, {"inputs": [prompt], "servers": {name: code}}),
        _file(_WINDSURF, {_SERVERS: {name: {"serverUrl": url, **prefixed}}}),
        _file(_GEMINI, {_SERVERS: {name: {"httpUrl": url, **environment}}}),
        _codex(name, url, f"\nbearer_token_env_var = {json.dumps(TOKEN)}"),
        _file(_OPENCODE, {"mcp": {name: remote}}),
        _inspector(url, header),
    )


def _bearer(token: str) -> dict[str, Any]:
    return {"headers": {"Authorization": f"Bearer {token}"}}


def _claude(name: str, url: str, *options: str) -> ClientSnippet:
    words = ("claude", "mcp", "add", "--transport", "http", name, url)
    return _command(CLAUDE_CODE, words, options)


def _codex(name: str, url: str, more: str = "") -> ClientSnippet:
    text = f"[mcp_servers.{name}]\nurl = {json.dumps(url)}{more}"
    return ClientSnippet("Codex CLI", "~/.codex/config.toml", "toml", text)


def _inspector(url: str, *options: str) -> ClientSnippet:
    words = ("npx", "@modelcontextprotocol/inspector", "--cli", url)
    return _command(
        "MCP Inspector", (*words, "--transport", "http", "--method", "tools/list"), options
    )


def _command(client: str, words: Iterable[str], options: Iterable[str]) -> ClientSnippet:
    """Quote the words; the options are quoted already, and the shell expands their variables."""
    return ClientSnippet(client, SHELL, "sh", " ".join((shlex.join(words), *options)))


def _file(client: tuple[str, str], content: dict[str, Any]) -> ClientSnippet:
    """`client` is its name and the path of its file."""
    return ClientSnippet(*client, "json", json.dumps(content, ensure_ascii=False))
