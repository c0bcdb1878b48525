"""Snippets for clients: each is what its client expects, whatever the name and the URL contain."""

import json
import shlex
import subprocess
from pathlib import Path

import pytest

from mcpproxy.client_snippets import (
    DEFAULT_NAME,
    SHELL,
    TOKEN,
    ClientSnippet,
    client_snippets,
    token_snippets,
)
from mcpproxy.proxy.config.mcp_json import read_file
from mcpproxy.proxy.config.targets import from_mcp_servers

WITH_TOKEN = token_snippets("tools", "https://mcp.example.com/mcp")
OWN_SYNTAX = {"Claude Desktop": "TOKEN"}
"""Clients whose text for the token is not a variable that mcpproxy reads."""
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


def test_every_client_has_a_text_with_a_token() -> None:
    clients = [snippet.client for snippet in client_snippets("tools", URL)]
    assert list(dict.fromkeys(snippet.client for snippet in WITH_TOKEN)) == clients


@pytest.mark.parametrize(
    "snippet",
    [snippet for snippet in WITH_TOKEN if snippet.place != SHELL],
    ids=lambda snippet: snippet.title,
)
def test_a_file_with_a_token_sends_it_in_the_header(
    snippet: ClientSnippet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, "secret")
    monkeypatch.setenv(f"MCPPROXY_INPUT_{TOKEN}", "secret")
    path = tmp_path / f"config.{snippet.language}"
    path.write_text(snippet.text)
    (backend,) = from_mcp_servers(read_file(path).content).proxy.spec.backends
    value = f"Bearer {OWN_SYNTAX.get(snippet.client, 'secret')}"
    if backend.stdio is not None:
        assert backend.stdio.args == ["run", URL, "-H", f"Authorization: {value}"]
        return
    assert backend.url == URL
    (header,) = backend.headers or []
    assert (header.name, header.value) == ("Authorization", value)


@pytest.mark.parametrize(
    "snippet",
    [snippet for snippet in WITH_TOKEN if snippet.place == SHELL],
    ids=lambda snippet: snippet.client,
)
def test_a_command_with_a_token_passes_one_header_with_the_value_of_the_variable(
    snippet: ClientSnippet,
) -> None:
    program = snippet.text.split()[0]
    script = f"{program}() {{ printf '%s\\n' \"$@\"; }}\n{snippet.text}"
    shell = subprocess.run(
        ["sh", "-c", script],
        env={TOKEN: "two words"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=10,
    )
    words = shell.stdout.splitlines()
    assert words[words.index("--header") + 1] == "Authorization: Bearer two words"
    assert URL in words
