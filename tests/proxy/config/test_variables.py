"""Variables of clients' files: environment variables, files of them, and inputs of a person."""

from pathlib import Path
from typing import Any

import pytest

from mcpproxy.api.manifest_errors import ManifestError
from mcpproxy.proxy.config.env_files import MAX_BYTES, parse_env_text
from mcpproxy.proxy.config.targets import from_mcp_servers
from mcpproxy.proxy.config.variables import Ask, InputPrompt

PROMPTS: list[dict[str, Any]] = [
    {"id": "my-key", "description": "The key", "password": True},
    {"id": "region", "options": ["eu", "us"], "default": "eu"},
]


def backend(server: dict[str, Any], ask: Ask | None = None) -> Any:
    """The backend of a server."""
    content = {"servers": {"a": server}, "inputs": PROMPTS}
    (result,) = from_mcp_servers(content, ask).proxy.to_manifest()["spec"]["backends"]
    return result


def headers(ask: Ask | None = None, **values: str) -> Any:
    """The values of the headers of a backend."""
    result = backend({"url": "http://a/mcp", "headers": values}, ask)["headers"]
    return {header["name"]: header["value"] for header in result}


def env(server: dict[str, Any]) -> Any:
    """The environment of a stdio backend."""
    result = backend({"command": "x", **server})["stdio"].get("env", [])
    return {variable["name"]: variable["value"] for variable in result}


def test_each_input_is_asked_once() -> None:
    asked: list[InputPrompt] = []

    def ask(prompt: InputPrompt) -> str:
        asked.append(prompt)
        return "answer"

    result = headers(ask, A="${input:my-key}", B="Bearer ${input:my-key}", C="${input:region}")
    assert result == {"A": "answer", "B": "Bearer answer", "C": "answer"}
    assert [(p.id, p.is_secret, p.options) for p in asked] == [
        ("my-key", True, ()),
        ("region", False, ("eu", "us")),
    ]


def test_a_variable_of_opencode_is_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM_TOKEN", "t-1")
    server: dict[str, Any] = {"type": "remote", "url": "http://a/mcp"}
    server |= {"headers": {"A": "Bearer {env:TEAM_TOKEN}", "B": "${env:TEAM_TOKEN}", "C": "{x}"}}
    (result,) = from_mcp_servers({"mcp": {"a": server}}).proxy.to_manifest()["spec"]["backends"]
    values = {header["name"]: header["value"] for header in result["headers"]}
    assert values == {"A": "Bearer t-1", "B": "t-1", "C": "{x}"}


def test_an_unset_variable_and_a_file_of_opencode_are_refused() -> None:
    with pytest.raises(ManifestError, match="environment variable NEVER_SET is not set"):
        headers(A="Bearer {env:NEVER_SET}")
    with pytest.raises(ManifestError, match=r"\{file:~/.token\} is the content of a file"):
        headers(A="{file:~/.token}")
    assert headers(A="{file:>10}") == {"A": "{file:>10}"}


def test_an_input_without_an_entry_is_a_secret() -> None:
    asked: list[InputPrompt] = []

    def ask(prompt: InputPrompt) -> str:
        asked.append(prompt)
        return "x"

    headers(ask, A="${input:other}")
    assert asked[0].is_secret


def test_an_environment_variable_answers_an_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCPPROXY_INPUT_MY_KEY", "k")
    assert headers(A="${input:my-key}", B="${input:region}") == {"A": "k", "B": "eu"}


def test_an_answer_that_contains_a_variable_is_not_expanded() -> None:
    assert headers(lambda prompt: "${HOME}", A="${input:my-key}") == {"A": "${HOME}"}


def test_an_env_file_is_read_and_env_takes_precedence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("# keys\nexport A=1\nB='two words' # note\nC=\"x\\ny\"\nD=\n")
    result = env({"envFile": "${workspaceFolder}/.env", "env": {"A": "own"}})
    assert result == {"A": "own", "B": "two words", "C": "x\ny", "D": ""}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"mcp\.a|servers\.a\.envFile: .*\.env: No such file"),
        (b"A=1\nnot a pair\n", r"servers\.a\.envFile: .*\.env:2: expected NAME=VALUE"),
        (b"A='secret\n", r"\.env:1: expected NAME=VALUE, with both quotes or none"),
        (b"A=\xff\n", r"\.env: not UTF-8; save the file as UTF-8"),
        (b"A=" + b"x" * MAX_BYTES, r"\.env: more than 1 MiB"),
    ],
)
def test_a_bad_env_file_is_named_without_its_values(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / ".env").write_bytes(content)
    with pytest.raises(ManifestError, match=message) as raised:
        env({"envFile": str(tmp_path / ".env")})
    assert "secret" not in str(raised.value)


def test_a_folder_is_not_an_env_file(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="Is a directory"):
        env({"envFile": str(tmp_path)})


@pytest.mark.parametrize("inside", ["\u2028", "\x85", "\x0c", "\x1d", "\u00a0"])
def test_only_line_feeds_and_carriage_returns_end_a_value_of_an_env_file(inside: str) -> None:
    text = f"A=a{inside}b{inside}\r\nB='{inside}'\rC=\n"
    assert parse_env_text(text) == {"A": f"a{inside}b{inside}", "B": inside, "C": ""}


def test_a_comment_without_a_value_leaves_the_value_empty() -> None:
    assert parse_env_text("A= # none\nB=#1\nC = x # y") == {"A": "", "B": "#1", "C": "x"}


def test_values_of_env_files_have_quotes_comments_and_escapes() -> None:
    text = 'A=x#y\nB=x # y\nC=\'#\'\nD="a\\"b\\\\"\n'
    assert parse_env_text(text) == {"A": "x#y", "B": "x", "C": "#", "D": 'a"b\\'}


def test_variables_of_codex_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "t")
    assert env({"env_vars": ["MY_TOKEN"]}) == {"MY_TOKEN": "t"}
    server = {"url": "http://a/mcp", "env_http_headers": {"X": "MY_TOKEN"}}
    assert backend(server)["headers"] == [{"name": "X", "value": "t"}]
    server = {"url": "http://a/mcp", "bearer_token_env_var": "MY_TOKEN"}
    assert backend(server)["headers"] == [{"name": "Authorization", "value": "Bearer t"}]
    with pytest.raises(ManifestError, match=r"env_vars: the environment variable NOPE is not set"):
        env({"env_vars": ["NOPE"]})
