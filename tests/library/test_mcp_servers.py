"""mcpServers files as other programs write them load as they are."""

import json
import logging
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from mcpproxy import create_proxy
from mcpproxy.api.manifest_errors import ManifestError
from mcpproxy.proxy.config.targets import from_mcp_servers, from_target
from mcpproxy.proxy.http1.client.client import Origin
from tests.library.conftest import NOTES, names


def _backends(content: Any) -> list[dict[str, Any]]:
    backends: list[dict[str, Any]] = from_mcp_servers(content).proxy.to_manifest()["spec"][
        "backends"
    ]
    return backends


def _only(server: dict[str, Any], **beside: Any) -> dict[str, Any]:
    return _backends({"mcpServers": {"a": server}, **beside})[0]


async def test_a_file_of_claude_desktop_starts_its_servers(connect: Any, tmp_path: Path) -> None:
    config = {
        "mcpServers": {
            "notes": {"command": sys.executable, "args": [NOTES], "env": {"TOPIC": "x"}},
            "More Notes": {"command": sys.executable, "args": [NOTES]},
            "off": {"command": "nothing", "disabled": True},
        }
    }
    path = tmp_path / "claude_desktop_config.json"
    path.write_text(json.dumps(config))
    proxy = create_proxy(path)
    async with proxy:
        await proxy.list_tools()
        client = await connect(proxy)
        expected = {"notes_add_note", "notes_search_notes"}
        expected |= {"More_Notes_add_note", "More_Notes_search_notes"}
        assert set(await names(client)) == expected


VS_CODE = """
{
  // Asked for when a server starts
  "inputs": [{"id": "level", "type": "pickString", "default": "info", "options": []},],
  "servers": {
    "api": {
      "type": "http", /* streamable */
      "url": "https://api.example.com/mcp?x=//no-comment",
      "headers": {"Authorization": "Bearer ${env:API_TOKEN}"},
    },
    "local": {
      "type": "stdio",
      "command": "${userHome}/bin/server",
      "args": ["--level", "${input:level}", "${workspaceFolder}"],
      "env": {"MODE": "${env:MODE:-quiet}"},
    },
    "old": {"type": "sse", "url": "https://old.example.com/sse"},
  },
}
"""


def test_a_file_of_vs_code_loads_with_comments_inputs_and_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("API_TOKEN", "t0")
    monkeypatch.delenv("MODE", raising=False)
    path = tmp_path / "mcp.json"
    path.write_text(VS_CODE)
    api, local, old = from_target(str(path)).proxy.to_manifest()["spec"]["backends"]
    assert api["url"] == "https://api.example.com/mcp?x=//no-comment"
    assert api["headers"] == [{"name": "Authorization", "value": "Bearer t0"}]
    assert api["transport"] == "streamable-http"
    assert local["stdio"]["command"] == f"{Path.home()}/bin/server"
    assert local["stdio"]["args"] == ["--level", "info", str(Path.cwd())]
    assert local["stdio"]["env"] == [{"name": "MODE", "value": "quiet"}]
    assert old["transport"] == "sse"
    assert [b["prefix"] for b in (api, local, old)] == ["api", "local", "old"]
    assert not caplog.records


def test_an_input_variable_is_an_error_that_names_the_remedy() -> None:
    server = {"url": "https://x/mcp", "headers": {"X-Key": "${input:key}"}}
    asked = [{"id": "key", "type": "promptString", "description": "The API key"}]
    with pytest.raises(ManifestError, match=r"The API key.*MCPPROXY_INPUT_KEY"):
        _only(server, inputs=asked)


@pytest.mark.parametrize("name", ["NOT_SET_ANYWHERE", "env:NOT_SET_ANYWHERE", "command:pick"])
def test_a_variable_without_a_value_is_an_error_that_names_it(name: str) -> None:
    with pytest.raises(ManifestError, match=name.rpartition(":")[2]):
        _only({"url": f"https://x/${{{name}}}"})


def test_a_file_of_fastmcp_loads_and_ignored_fields_are_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    remote = {
        "url": "https://x/mcp",
        "transport": "streamable-http",
        "auth": "token",
        "timeout": 2500,
        "description": "for people",
        "tools": {"a": {"name": "b"}},
        "icons": ["x"],
    }
    local = {"command": "x", "cwd": "/tmp", "keep_alive": False, "transport": "stdio"}
    first, second = _backends({"mcpServers": {"remote": remote, "local": local}})
    assert first["headers"] == [{"name": "Authorization", "value": "Bearer token"}]
    assert first["timeouts"] == {"request": "2500ms"}
    assert second["stdio"]["cwd"] == "/tmp"
    told = [record.getMessage() for record in caplog.records]
    assert told == ["mcpServers.remote: ignored: icons"]
    assert first["tools"] == {"overrides": [{"name": "a", "rename": "b"}]}


def test_an_unknown_auth_is_not_honoured_and_named(caplog: pytest.LogCaptureFixture) -> None:
    assert not _only({"url": "https://x/mcp", "auth": {"type": "x"}}).get("headers")
    assert "auth" in caplog.text


def test_a_program_signs_in_to_no_server_and_the_log_names_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    servers = {"mcpServers": {"a": {"url": "https://x/mcp", "auth": "oauth"}}}
    assert not from_mcp_servers(servers).proxy.spec.backends[0].headers
    create_proxy(servers)
    assert "backend a: ignored auth: only mcpproxy run signs in" in caplog.text


def test_headers_of_http_and_mcp_are_dropped_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    headers = {"Host": "x", "Mcp-Session-Id": "y", "X-Mine": "z"}
    result = _only({"url": "https://x/mcp", "headers": headers})
    assert result["headers"] == [{"name": "X-Mine", "value": "z"}]
    assert "Host" in caplog.text
    assert "Mcp-Session-Id" in caplog.text
    assert "secret" not in caplog.text


def test_a_mapping_of_servers_without_the_key_mcp_servers_is_accepted() -> None:
    assert [b["name"] for b in _backends({"a": {"url": "http://a/"}, "b": {"command": "b"}})] == [
        "a",
        "b",
    ]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"mcpServers": {"a b": {"command": "x"}, "a_b": {"command": "x"}}}, "same prefix 'a_b'"),
        ({"mcpServers": {"a": {"command": "x", "disabled": True}}}, "disabled"),
        ({"servers": {"a": {"command": "x", "enabled": False}}}, "^servers: every .* disabled"),
        ({"mcpServers": {"a": {"command": "x", "enabled": "no"}}}, r'a.enabled: .* found "no"$'),
        ({"mcpServers": {"a": {"url": "http://x", "transport": "carrier"}}}, "carrier"),
        ([], "mcpServers"),
    ],
)
def test_unusable_input_is_refused(content: Any, told: str) -> None:
    with pytest.raises(ManifestError, match=told):
        from_mcp_servers(content)


@pytest.mark.parametrize(
    ("value", "timeouts"),
    [
        ({"timeout": 30000}, {"request": "30000ms"}),
        ({"timeout": 120000}, {"request": "120000ms", "initialize": "120000ms"}),
        ({"timeout": 3600000}, {"request": "3600000ms", "initialize": "300000ms"}),
        ({"startup_timeout": 90}, {"initialize": "90000ms"}),
        ({"startup_timeout": 90000}, {"initialize": "90000ms"}),
        ({"startup_timeout_sec": 7.5}, {"initialize": "7500ms"}),
        ({"startup_timeout_ms": 250}, {"initialize": "250ms"}),
        ({"startupTimeout": 20, "timeout": 5000}, {"request": "5000ms", "initialize": "20000ms"}),
    ],
)
def test_the_times_that_a_program_has_are_those_of_the_file(value: Any, timeouts: Any) -> None:
    (backend,) = _backends({"mcpServers": {"p": {"command": "x", **value}}})
    assert backend["timeouts"] == timeouts


def test_the_time_for_calls_of_a_url_is_not_its_time_to_begin() -> None:
    (backend,) = _backends({"mcpServers": {"p": {"url": "http://h/mcp", "timeout": 120000}}})
    assert backend["timeouts"] == {"request": "120000ms"}


@pytest.mark.parametrize("member", ["timeout", "startup_timeout", "startup_timeout_sec"])
def test_a_time_that_is_not_a_number_is_named(member: str) -> None:
    with pytest.raises(ManifestError, match=rf"mcpServers\.p\.{member}: expected a number of"):
        _backends({"mcpServers": {"p": {"command": "x", member: "soon"}}})


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_file_that_begins_with_a_byte_order_mark_loads(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "mcp.json"
    path.write_text('{"mcpServers": {"a": {"command": "grüße"}}}', encoding=encoding)
    (backend,) = from_target(str(path)).proxy.spec.backends
    assert backend.stdio is not None
    assert backend.stdio.command == "grüße"


def test_null_sets_no_variable_and_numbers_and_booleans_are_written_as_json() -> None:
    env = {"GONE": None, "FLAG": True, "OFF": False, "PORT": 8080, "RATE": 0.5, "TEXT": "x"}
    result = _only({"command": "x", "env": env, "args": ["--port", 8080]})
    shown = {item["name"]: item["value"] for item in result["stdio"]["env"]}
    expected = {"FLAG": "true", "OFF": "false", "PORT": "8080", "RATE": "0.5", "TEXT": "x"}
    assert shown == expected
    assert result["stdio"]["args"] == ["--port", "8080"]
    headers = _only({"url": "http://a/", "headers": {"X-None": None, "X-Version": 2}})["headers"]
    assert headers == [{"name": "X-Version", "value": "2"}]


def test_a_url_may_have_a_query_and_no_path() -> None:
    assert _only({"url": "http://host?key=1"})["url"] == "http://host?key=1"
    assert from_target("http://host:8080?key=1").proxy.spec.backends[0].url
    assert Origin("http://host?key=1").path == "/?key=1"


@pytest.mark.parametrize("member", [{"enabled": False}, {"disabled": True}])
async def test_a_server_that_is_switched_off_is_never_started(
    connect: Any, tmp_path: Path, member: dict[str, bool]
) -> None:
    started = tmp_path / "started"
    off = {"command": "touch", "args": [str(started)], **member}
    notes = {"command": sys.executable, "args": [NOTES], "enabled": True, "disabled": None}
    proxy = create_proxy({"mcpServers": {"off": off, "notes": notes}})
    async with proxy:
        client = await connect(proxy)
        assert set(await names(client)) == {"add_note", "search_notes"}
    assert not started.exists()


@pytest.mark.parametrize(
    ("server", "told"),
    [
        ({"url": "ftp://host/"}, "url: must begin with http:// or https:// and a host"),
        ({"httpUrl": "https://me:secret@host/"}, "httpUrl: must begin with http:// or https://"),
        ({"url": "http://host:0/"}, "url: Port out of range"),
        ({"url": ["http://host/"]}, "url: expected a string"),
        ({"url": "http://host/", "type": "carrier"}, "type: expected http or sse, found 'carrier'"),
        ({"url": "http://host/", "headers": {"X Y": "z"}}, "headers.X Y: "),
        ({"url": "http://host/", "headers": {"X-Y": {}}}, "headers.X-Y: expected a string"),
        ({"command": "x", "env": {"A=B": "z"}}, "env.A=B: "),
        ({"command": "x", "environment": {"FINE": "", "A": []}}, "environment.A: expected a str"),
        ({"command": "x" * 2000}, "command: "),
        ({"command": [1]}, "command: expected"),
        ({"command": "x", "args": [None]}, r"args\[0\]: expected"),
        ({"command": "x", "args": ["a", "y" * 5000]}, r"args\[1\]: "),
        ({"command": "x", "cwd": 7}, "cwd: expected a string"),
        ({"command": "x", "cwd": "y" * 5000}, "cwd: "),
        ({"command": "x", "timeout": 0}, "timeout: "),
        ({"command": "x", "session": "PerClient"}, "session: expected an object"),
        ({"command": "x", "session": {"mode": "Mine"}}, "session.mode: "),
        ({"command": "x", "session": {"modus": "x"}}, "session.modus: unknown field"),
    ],
)
def test_errors_name_the_member_of_the_file_and_nothing_else(
    tmp_path: Path, server: dict[str, Any], told: str
) -> None:
    path = tmp_path / "mcp.json"
    path.write_text(json.dumps({"mcp": {"servers": {"fine": {"command": "x"}, "a": server}}}))
    expected = rf"^{re.escape(str(path))}:1: mcp\.servers\.a\.{told}"
    with pytest.raises(ManifestError, match=expected) as caught:
        from_target(str(path))
    assert "spec." not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_an_error_in_json_with_comments_names_the_line_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mcp.json"
    path.write_text('{\n/* one\n   two */\n  "mcpServers": {"a": oops}\n}')
    with pytest.raises(ManifestError, match=r"mcp\.json:4:23: invalid JSON"):
        from_target(str(path))


def test_a_home_directory_and_a_command_with_its_arguments_are_taken_apart() -> None:
    server = {"command": ["~/bin/server", "--quiet"], "args": ["now"], "cwd": "~/work"}
    result = _backends({"mcp": {"a": {**server, "type": "local", "environment": {"A": "1"}}}})
    assert result[0]["stdio"] == {
        "command": f"{Path.home()}/bin/server",
        "args": ["--quiet", "now"],
        "env": [{"name": "A", "value": "1"}],
        "cwd": f"{Path.home()}/work",
    }


def test_the_session_mode_of_a_server_can_be_set() -> None:
    mode = {"mode": "Reused", "stateless": True}
    assert _only({"command": "x", "session": mode})["session"] == mode
