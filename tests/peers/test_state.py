"""Servers that keep state, behind one mcp.json and in the mode that they have by default."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts import npm
from scripts.conformance_servers import proxy
from tests.peers import slow
from tests.peers.world import ERAS, MEMORY, NODE, PLAYWRIGHT, THINKING, Request, Server, ask

pytestmark = [pytest.mark.peers, pytest.mark.timeout(180)]

MCPPROXY = os.fspath(Path(sys.executable).with_name("mcpproxy"))
CHROMIUM = "chromium"
SLOW_START = 10


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The servers, as mcp.json has them."""
    npm.install()
    memory = tmp_path_factory.mktemp("memory") / "memory.jsonl"
    result: dict[str, Any] = {
        "memory": {"command": NODE, "args": [MEMORY], "env": {"MEMORY_FILE_PATH": str(memory)}},
        "thinking": {"command": NODE, "args": [THINKING]},
    }
    if shutil.which(CHROMIUM):
        browser = ["--headless", "--isolated", "--no-sandbox"]
        written = str(tmp_path_factory.mktemp("playwright"))
        paths = ["--executable-path", str(shutil.which(CHROMIUM)), "--output-dir", written]
        args = [PLAYWRIGHT, *browser, *paths]
        result["playwright"] = {"command": NODE, "args": args}
    return result


def _file(directory: Path, servers: dict[str, Any]) -> str:
    path = directory / "mcp.json"
    path.write_text(json.dumps({"mcpServers": servers}), encoding="utf-8-sig")
    return os.fspath(path)


def _on_a_pipe(file: str) -> Server:
    return Server("stdio", json.dumps([MCPPROXY, "run", "--log-level", "warning", file]))


def tool(name: str, **arguments: Any) -> Request:
    """A call of a tool."""
    return "tools/call", {"name": name, "arguments": arguments}


def _text(answer: Any) -> str:
    assert "result" in answer, answer
    return "".join(item.get("text", "") for item in answer["result"]["content"])


def _story(page: str, servers: dict[str, Any]) -> list[Request]:
    """Calls that only a process which has seen those before can answer rightly."""
    thought = {"thought": "Once more.", "nextThoughtNeeded": True, "totalThoughts": 3}
    entity = {"name": "Ann", "entityType": "person", "observations": ["reads"]}
    story = [tool("thinking_sequentialthinking", thoughtNumber=n, **thought) for n in (1, 2, 3)]
    story += [tool("memory_create_entities", entities=[entity]), tool("memory_read_graph")]
    if "playwright" in servers:
        count = {"target": "button", "element": "Count"}
        story += [
            tool("playwright_browser_navigate", url=page),
            tool("playwright_browser_click", **count),
            tool("playwright_browser_snapshot"),
        ]
    return story


def _check(answers: list[Any], servers: dict[str, Any]) -> None:
    lengths = [json.loads(_text(answer))["thoughtHistoryLength"] for answer in answers[:3]]
    assert lengths == [1, 2, 3]
    assert "Ann" in _text(answers[4])
    if "playwright" in servers:
        seen = _text(answers[7])
        assert "Books" in seen
        # The button was pressed in the page that was opened two calls before.
        assert 'button "1"' in seen


@pytest.mark.parametrize("mode", ERAS)
def test_servers_of_one_mcp_json_keep_the_state_of_a_stdio_client(
    servers: dict[str, Any], page: str, tmp_path: Path, mode: str
) -> None:
    result = ask(_on_a_pipe(_file(tmp_path, servers)), mode, _story(page, servers))
    assert result["revision"] == ERAS[mode]
    _check(result["answers"], servers)


def test_each_client_session_over_http_has_its_own_servers(
    servers: dict[str, Any], page: str, tmp_path: Path
) -> None:
    with proxy([_file(tmp_path, servers)], tmp_path) as url:
        for _ in range(2):
            _check(ask(Server("http", url), "legacy", _story(page, servers))["answers"], servers)


@pytest.mark.parametrize("mode", ERAS)
def test_a_server_that_starts_slowly_answers_the_first_call_and_keeps_its_state(
    tmp_path: Path, mode: str
) -> None:
    late = {"command": sys.executable, "args": [slow.__file__, str(SLOW_START)]}
    servers = {"slow": late, "thinking": {"command": NODE, "args": [THINKING]}}
    counts = ask(_on_a_pipe(_file(tmp_path, servers)), mode, [tool("slow_count")] * 3)["answers"]
    assert [_text(answer) for answer in counts] == ["1", "2", "3"]
