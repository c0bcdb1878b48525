# ruff: noqa: E501
"""`mcpproxy convert` makes a manifest for a cluster, and keeps every secret out of it."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from mcpproxy.api.manifest import load
from mcpproxy.api.manifest_errors import ManifestError
from mcpproxy.terminal.files.conversion import convert_content
from mcpproxy.terminal.files.convert_command import render_conversion
from mcpproxy.terminal.files.secret_values import is_secret_name, is_secret_value
from scripts.yaml_files import parse_documents
from tests.support.commands import Ended, run_command


async def convert(directory: Path, content: Any, *options: str) -> Ended:
    """Run `mcpproxy convert` on a file with this content."""
    path = directory / "mcp.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return await run_command("convert", path, *options)


def _backend(server: dict[str, Any]) -> dict[str, Any]:
    manifest: dict[str, Any] = convert_content({"mcpServers": {"a": server}}).manifest
    backend: dict[str, Any] = manifest["spec"]["backends"][0]
    return backend


REFERENCE = {"secretKeyRef": {"name": "mcpproxy-credentials", "key": "a.K"}}


@pytest.mark.parametrize(
    "value",
    [
        "${TOKEN}",
        "Bearer ${env:TOKEN}",
        "${input:token}",
        "ghp_0123456789abcdef",
        "Bearer abc",
        "x9f8e7d6c5b4a3f2e1d0c9b8",
        "postgres://me:pw@db/x",
        '{"Authorization": "Bearer x"}',
        "password=abc",
        "redis://:pw@host",
        "https://key@errors.example.com/1",
        '{"apiKey":"abc"}',
    ],
)
def test_a_value_that_looks_like_a_secret_becomes_a_reference(value: str) -> None:
    assert _backend({"url": "http://a/mcp", "headers": {"K": value}})["headers"] == [
        {"name": "K", "valueFrom": REFERENCE}
    ]
    assert _backend({"command": "x", "env": {"K": value}})["stdio"]["env"] == [
        {"name": "K", "valueFrom": REFERENCE}
    ]


@pytest.mark.parametrize(
    "value", ["eu-west-1", "https://api.example.com/v1", "/var/lib/data", "true", "${X:-plain}", ""]
)
def test_an_ordinary_value_stays(value: str) -> None:
    (result,) = _backend({"command": "x", "env": {"MODE": value}})["stdio"]["env"]
    assert result == {"name": "MODE", "value": "plain" if value.startswith("$") else value}


@pytest.mark.parametrize(
    "name", ["Authorization", "X-Api-Key", "GITHUB_TOKEN", "DB_PASSWORD", "PGPASS", "CREDS", "PW"]
)
def test_a_name_of_credentials_makes_any_value_a_secret(name: str) -> None:
    (result,) = _backend({"command": "x", "env": {name.replace("-", "_"): "x"}})["stdio"]["env"]
    assert "value" not in result
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "args",
    [
        ["--api-key", "abc"],
        ["--api-key=abc"],
        ["-k", "sk-abc12345"],
        ["--db-pass", "abc"],
        ["-p", "abc"],
        ["-p=abc"],
        ["--user=root:abc"],
        ["--config", '{"apiKey":"abc"}'],
    ],
)
def test_a_secret_in_the_arguments_becomes_a_variable_of_a_shell(args: list[str]) -> None:
    stdio = _backend({"command": "my server", "args": ["it's", *args]})["stdio"]
    assert stdio["command"] == "sh"
    line = stdio["args"][1]
    assert line.startswith("exec 'my server' 'it'\"'\"'s' ")
    (variable,) = stdio["env"]
    assert line.endswith(f'"${variable["name"]}"')
    assert "abc" not in json.dumps(stdio)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://a/mcp?apiKey=abc", "the parameter apiKey looks like a secret"),
        ("https://a/s/x9f8e7d6c5b4a3f2e1d0c9b8/mcp", "part 2 of the path looks like a secret"),
        ("https://${HOST}/mcp", r"\$\{HOST\} has no value in a manifest; write the URL"),
    ],
)
def test_a_secret_in_a_url_is_refused_without_its_value(url: str, message: str) -> None:
    with pytest.raises(ManifestError, match=f"mcpServers.a.url: {message}") as raised:
        _backend({"url": url})
    assert "abc" not in str(raised.value)
    assert "x9f8" not in str(raised.value)


HOSTILE = "\x1b]0;x\x07\n# kind: Evil\n---\nkind: Secret\u202e\u2028"


async def test_hostile_names_and_values_stay_inert(tmp_path: Path) -> None:
    server = {
        "command": "npx",
        "args": [HOSTILE, "--token", HOSTILE],
        "env": {"A": HOSTILE},
    }
    ended = await convert(tmp_path, {"mcpServers": {HOSTILE: server}})
    assert ended.code == 0, ended
    assert "\x1b" not in ended.out
    assert all(c.isprintable() or c == "\n" for c in ended.out)
    documents = parse_documents(ended.out)
    assert [document["kind"] for document in documents] == ["Secret", "MCPProxy"]
    assert set(documents[0]["stringData"].values()) == {"REPLACE_ME"}


def test_folders_and_images_are_explained() -> None:
    content = {
        "servers": {
            "files": {"command": "npx", "args": ["-y", "@x/files@1.2", "${workspaceFolder}"]},
            "time": {"command": "uvx", "args": ["mcp-server-time"]},
            "docker": {"command": "docker", "args": ["run", "-i", "ghcr.io/x/y"]},
            "own": {"command": "/home/me/server"},
            "script": {"command": "python", "args": ["/home/me/server.py"]},
            "other": {"command": "my-server", "args": ["--db=./notes.db"], "cwd": "data"},
            "near": {"command": ".venv/bin/python", "args": ["servers/notes.py"]},
            "windows": {"command": "C:\\tools\\server.exe"},
            "there": {"command": "python", "args": ["-m", "server", "https://x/y.py", "a/b"]},
            "package": {"command": "/usr/bin/python3", "args": ["/tmp"]},
        }
    }
    text = render_conversion(convert_content(content, version="1.2.3"), "mcp.json")
    comments = [line for line in text.splitlines() if line.startswith("#")]
    for part in (
        "files: mcpproxy/runtime has no npx. Set spec.image to mcpproxy/runtime-node-uv:1.2.3,",
        "  FROM mcpproxy/runtime-node-uv:1.2.3",
        "RUN npm install --global @x/files@1.2",
        "RUN uv tool install mcp-server-time",
        "and command to mcp-server-time without the arguments of uvx.",
        "docker: pods cannot run docker. Deploy the image ghcr.io/x/y",
        "own: /home/me/server is a program of this machine",
        "script: args name a file of this machine, /home/me/server.py. Copy it to an image",
        "other: mcpproxy/runtime has no my-server. Set spec.image to an image with it",
        "other: args name a file of this machine, ./notes.db.",
        "other: cwd data must be a folder of the image",
        "near: command is python in place of .venv/bin/python of this machine.",
        "near: args name a file of this machine, servers/notes.py.",
        "windows: C:\\tools\\server.exe is a program of this machine",
        "${workspaceFolder} is /workspace",
    ):
        assert any(part in line for line in comments), comments
    assert not any(line.startswith(("# there:", "# package:")) for line in comments)
    backends = {backend.name: backend for backend in load(text).spec.backends}
    assert len(backends) == 10
    assert backends["near"].stdio is not None
    assert backends["near"].stdio.command == "python"


async def test_next_steps_promise_no_more_than_is_true(tmp_path: Path) -> None:
    content = {"mcpServers": {"a": {"command": ".venv/bin/python", "args": ["a.py"]}}}
    ended = await convert(tmp_path, content, "-o", str(tmp_path / "a.yaml"))
    assert "Next: edit the manifest as its comments say, then mcpproxy validate" in ended.err
    chosen = ("--image", "example.com/a:1", "-o", str(tmp_path / "b.yaml"))
    ended = await convert(tmp_path, content, *chosen)
    assert "Next: mcpproxy validate" in ended.err
    text = (tmp_path / "b.yaml").read_text()
    assert "a: example.com/a:1 must contain a.py; a relative path begins at its WORKDIR." in text
    assert load(text).spec.image == "example.com/a:1"
    ended = await convert(tmp_path, content, "--image", "a b")
    assert (ended.code, ended.out) == (2, "")
    assert "--image: 'a b' is not the name of an image" in ended.err


@pytest.mark.parametrize(
    ("command", "image"),
    [("npx", "runtime-node"), ("uvx", "runtime-uv"), ("bunx", "runtime-node"), ("x", "runtime")],
)
def test_the_proposed_image_has_only_the_runners_that_the_servers_use(
    command: str, image: str
) -> None:
    content = {"mcpServers": {"a": {"command": command, "args": ["server"]}}}
    notes = convert_content(content, version="1.2.3").notes
    assert any(f"FROM mcpproxy/{image}:1.2.3" in line for line in notes)
    assert not any("apt-get" in line or "pip install" in line for line in notes)


async def test_a_server_that_the_default_image_lacks_is_a_warning_of_validate(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.yaml"
    secret = {"command": "npx", "args": ["x", "--key", "${KEY}"]}
    servers = {"a": secret, "b": {"command": "python", "args": ["b.py"]}}
    path.write_text((await convert(tmp_path, {"mcpServers": servers})).out)
    ended = await run_command("validate", path)
    assert (ended.code, ended.out) == (0, f"{path}: MCPProxy mcpproxy is valid, with 2 backends\n")
    begin = f"mcpproxy validate: warning: {path}: MCPProxy mcpproxy: backend"
    assert [line.partition("; ")[0] for line in ended.err.splitlines()] == [
        f"{begin} a: mcpproxy/runtime has no npx",
        f"{begin} b: mcpproxy/runtime has no b.py",
    ]
    path.write_text(
        path.read_text().replace("  backends:", "  image: example.com/a:1\n  backends:")
    )
    assert (await run_command("validate", path)).err == ""
    assert (await run_command("validate", "-q", path)).err == ""


async def test_an_existing_file_or_link_is_not_replaced(tmp_path: Path) -> None:
    content = {"mcpServers": {"a": {"url": "http://a/mcp"}}}
    link = tmp_path / "proxy.yaml"
    link.symlink_to(tmp_path / "precious")
    ended = await convert(tmp_path, content, "-o", str(link))
    assert ended.code == 1
    assert "proxy.yaml: File exists; choose another file" in ended.err
    assert not (tmp_path / "precious").exists()
    fresh = tmp_path / "fresh.yaml"
    assert (await convert(tmp_path, content, "-o", str(fresh), "-n", "shop")).code == 0
    assert load(fresh.read_text()).metadata.namespace == "shop"


async def test_a_manifest_is_not_converted(tmp_path: Path) -> None:
    ended = await convert(tmp_path, {"kind": "MCPProxy"})
    assert (ended.code, ended.out) == (1, "")
    assert "is a manifest already; use mcpproxy validate or plan" in ended.err


async def test_files_of_all_forms_are_validated_without_a_network(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.yaml"
    good.write_text('{"mcpServers": {"a": {"url": "http://nowhere.invalid/mcp"}}}')
    bad.write_text(
        "apiVersion: mcpproxy.dev/v1alpha1\nkind: MCPProxy\nmetadata: {name: a}\nspec: {}\n"
    )
    ended = await run_command("validate", good, bad)
    assert ended.code == 1
    assert (
        ended.out
        == f"{good}: 1 backend can be served by mcpproxy run, or in a cluster after mcpproxy convert\n"
    )
    assert (
        ended.err
        == f"mcpproxy validate: {bad}:4: spec.backends: required field is missing; add it\n"
    )
    assert (await run_command("validate", "-q", good)).out == ""
    stdin = good.parent / "x.yaml"
    stdin.write_text(bad.read_text().replace("{}", "{backends: [{name: a, url: 'http://a/'}]}"))
    ended = await run_command("validate", "-", stdin=stdin.read_text())
    assert (ended.code, ended.out) == (0, "-: MCPProxy a is valid, with 1 backend\n")


@pytest.mark.parametrize(
    "value", ["@playwright/mcp@latest", "my-server-name-with-words2", "x" * 50]
)
def test_long_ordinary_words_are_not_secrets(value: str) -> None:
    assert not is_secret_value(value)


def test_no_environment_variable_is_read_by_a_conversion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "value-of-the-token")
    server = {
        "url": "http://a/mcp",
        "bearer_token_env_var": "MY_TOKEN",
        "headers": {"B": "${MY_TOKEN}"},
    }
    text = render_conversion(convert_content({"mcpServers": {"a": server}}), "x")
    assert os.environ["MY_TOKEN"] not in text
    assert "Bearer ${MY_TOKEN}" in text
