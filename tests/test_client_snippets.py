"""Snippets for clients: each is what its client expects, whatever the name and the URL contain."""

import json
import shlex

from mcpproxy.client_snippets import DEFAULT_NAME, client_snippets

URL = "https://mcp.example.com/mcp"


def _of(client: str, name: str = "tools", url: str = URL) -> str:
    (text,) = (s.text for s in client_snippets(name, url) if s.client == client)
    return text


def test_a_command_for_claude_code_names_the_transport_and_the_url() -> None:
    assert _of("Claude Code") == f"claude mcp add --transport http tools {URL}"


def test_files_of_clients_have_the_member_that_each_client_reads() -> None:
    assert json.loads(_of("Cursor")) == {"mcpServers": {"tools": {"url": URL}}}
    assert json.loads(_of("VS Code")) == {"servers": {"tools": {"type": "http", "url": URL}}}
    assert json.loads(_of("Windsurf")) == {"mcpServers": {"tools": {"serverUrl": URL}}}
    desktop = {"command": "mcpproxy", "args": ["run", URL]}
    assert json.loads(_of("Claude Desktop")) == {"mcpServers": {"tools": desktop}}


def test_a_url_with_special_characters_stays_one_word_of_a_command() -> None:
    url = "https://mcp.example.com/a?b='c'&d=$(e);f"
    for client in ("Claude Code", "MCP Inspector"):
        assert url in shlex.split(_of(client, url=url))


def test_a_proxy_without_a_name_gets_one() -> None:
    assert list(json.loads(_of("Cursor", name=""))["mcpServers"]) == [DEFAULT_NAME]
