"""The servers to which the user of `mcpproxy run` signs in."""

import json
from pathlib import Path
from typing import Any

import pytest

from mcpproxy import command_line
from mcpproxy.api.manifest_errors import ManifestError
from mcpproxy.proxy.config import from_arguments
from mcpproxy.proxy.config.sign_in.choice import choose_sign_ins
from mcpproxy.proxy.config.targets import from_mcp_servers
from mcpproxy.proxy.upstream.sign_in.settings import SignIn

SERVERS = {
    "mcpServers": {
        "plain": {"url": "https://plain.example/mcp"},
        "oauth": {"url": "https://oauth.example/mcp", "oauth": {"clientId": "c"}},
        "token": {"url": "https://token.example/mcp", "auth": "secret"},
        "program": {"command": "true"},
    }
}


def _chosen(*words: str, is_person: bool = False, is_http: bool = True) -> dict[str, Any]:
    args, _ = command_line.parse_command_line(("run", "mcp.json", *words))
    configuration = from_mcp_servers(SERVERS)
    chosen = choose_sign_ins(configuration, args, is_person=is_person, is_http=is_http)
    return dict(chosen.sign_ins)


def test_elsewhere_the_user_signs_in_to_servers_with_oauth_in_the_file() -> None:
    assert _chosen() == {"oauth": SignIn(client_id="c")}


def test_at_a_terminal_every_server_without_credentials_may_ask_for_a_sign_in() -> None:
    expected = {"plain": SignIn(), "oauth": SignIn(client_id="c")}
    assert _chosen(is_person=True) == _chosen("--sign-in", "all") == expected


def test_new_forgets_the_tokens_of_all_and_none_signs_in_nowhere() -> None:
    chosen = _chosen("--sign-in", "new")
    assert chosen == {"plain": SignIn(again=True), "oauth": SignIn(client_id="c", again=True)}
    assert _chosen("--sign-in", "none", "--host", "0.0.0.0") == {}


@pytest.mark.parametrize(
    "words",
    [
        ("--host", "0.0.0.0"),
        ("--workers", "2"),
        ("--principal-from", "X-User"),
        ("--instances", "other:1"),
        ("--public-url", "https://mcp.example.com/mcp"),
    ],
)
def test_a_proxy_for_several_users_uses_no_account_of_one(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    file = tmp_path / "mcp.json"
    file.write_text(json.dumps(SERVERS))
    args, _ = command_line.parse_command_line(("run", str(file), "--transport", "http", *words))
    with pytest.raises(ManifestError, match=r"auth: no sign-in to oauth with .*tokenExchange"):
        from_arguments._configuration(args, None)


def test_on_stdio_the_host_does_not_matter() -> None:
    assert set(_chosen("--host", "0.0.0.0", is_http=False)) == {"oauth"}


def test_at_a_terminal_a_proxy_for_several_users_offers_no_sign_in() -> None:
    args, _ = command_line.parse_command_line(
        ("run", "https://plain.example/mcp", "--host", "0.0.0.0")
    )
    servers = {"mcpServers": {"plain": SERVERS["mcpServers"]["plain"]}}
    chosen = choose_sign_ins(from_mcp_servers(servers), args, is_person=True, is_http=True)
    assert chosen.sign_ins == {}
