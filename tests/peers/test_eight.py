"""The eight reference servers in one mcp.json, four of npm and four of PyPI."""

import json
import os
import sqlite3
import subprocess
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest

from scripts import npm, pip_peers
from scripts.conformance_servers import MCPPROXY, running
from scripts.demo_local import free_ports
from tests.peers.world import (
    ERAS,
    EVERYTHING,
    FILESYSTEM,
    LEGACY_MEMBERS,
    MEMORY,
    NODE,
    THINKING,
    Request,
    Server,
    ask,
    plain,
    through,
    undone,
)

pytestmark = [pytest.mark.peers, pytest.mark.timeout(180)]

Entry = dict[str, Any]
SECONDS: Final = 60
THOUGHT: Final = {"thought": "Once.", "nextThoughtNeeded": False, "thoughtNumber": 1}
CONVERTED: Final = {
    "source_timezone": "Asia/Tokyo",
    "time": "16:30",
    "target_timezone": "Asia/Kolkata",
}


@pytest.fixture(scope="module")
def entries(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Entry]:
    """The servers as mcp.json has them, each with something to tell of."""
    npm.install()
    pip_peers.install()
    home = tmp_path_factory.mktemp("eight")
    graph = home / "memory.jsonl"
    entity = {"type": "entity", "name": "Ann", "entityType": "person", "observations": ["reads"]}
    graph.write_text(json.dumps(entity), encoding="utf-8")
    git = ["--repository", _repository(home / "repository")]
    return {
        "filesystem": {"command": NODE, "args": [FILESYSTEM, str(folder)]},
        "memory": {"command": NODE, "args": [MEMORY], "env": {"MEMORY_FILE_PATH": str(graph)}},
        "sequential-thinking": {"command": NODE, "args": [THINKING]},
        "everything": {"command": NODE, "args": [EVERYTHING, "stdio"]},
        "time": {"command": _server("time"), "args": ["--local-timezone", "UTC"]},
        "fetch": {
            "command": _server("fetch"),
            "args": ["--allow-private-ips"],
            "env": {"NO_PROXY": "127.0.0.1"},
        },
        "git": {"command": _server("git"), "args": git},
        # It knows nothing newer than version 1 of the SDK.
        "sqlite": {
            "command": _server("sqlite", "mcp1"),
            "args": ["--db-path", _database(home / "shelf.db")],
        },
    }


def _server(name: str, environment: str = "mcp2") -> str:
    return os.fspath(pip_peers.program(environment, f"mcp-server-{name}"))


def _repository(path: Path) -> str:
    path.mkdir()
    (path / "hello.txt").write_text("hello\n", encoding="utf-8")
    who = ["-c", "user.name=Ann", "-c", "user.email=ann@example.com", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "The first one"]):
        subprocess.run(["git", *command], cwd=path, check=True)
    return os.fspath(path)


def _database(path: Path) -> str:
    with sqlite3.connect(path) as database:
        database.execute("create table books (title text, year integer)")
        database.execute("insert into books values ('Grüße', 1984)")
    database.close()
    return os.fspath(path)


@pytest.fixture(scope="module")
def calls(entries: dict[str, Entry], folder: Path, page: str) -> dict[str, tuple[Request, str]]:
    """One call of a tool of each server, and a part of what it answers."""
    path, repository = str(folder / "hello.txt"), entries["git"]["args"][1]
    result: dict[str, tuple[str, dict[str, Any], str]] = {
        "filesystem": ("read_text_file", {"path": path}, "hello, wörld"),
        "memory": ("read_graph", {}, "Ann"),
        "sequential-thinking": ("sequentialthinking", {**THOUGHT, "totalThoughts": 1}, "thought"),
        "everything": ("get-sum", {"a": 2, "b": 40}, "42"),
        "time": ("convert_time", CONVERTED, "T13:00:00+05:30"),
        # Otherwise it looks for a Node.js and has npm install a package.
        "fetch": ("fetch", {"url": page, "raw": True}, "<h1>Books</h1>"),
        "git": ("git_log", {"repo_path": repository}, "The first one"),
        "sqlite": ("read_query", {"query": "select * from books"}, "Grüße"),
    }
    return {
        name: (("tools/call", {"name": tool, "arguments": arguments}), part)
        for name, (tool, arguments, part) in result.items()
    }


@pytest.fixture(scope="module")
def direct(
    entries: dict[str, Entry], calls: dict[str, tuple[Request, str]]
) -> dict[str, list[Any]]:
    """The list of tools and the answer of each server itself."""

    def asked(name: str) -> list[Any]:
        requests = [("tools/list", {}), calls[name][0]]
        answers: list[Any] = ask(_alone(entries[name]), "legacy", requests)["answers"]
        return answers

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(calls, pool.map(asked, calls), strict=True))


def _alone(entry: Entry) -> Server:
    variables = [f"{name}={value}" for name, value in entry.get("env", {}).items()]
    return Server("stdio", json.dumps(["env", *variables, entry["command"], *entry["args"]]))


@pytest.fixture(scope="module")
def together(
    entries: dict[str, Entry], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, str]]:
    """The proxy in front of all of them, and the URL of its status."""
    logs = tmp_path_factory.mktemp("together")
    file = logs / "mcp.json"
    file.write_text(json.dumps({"mcpServers": entries}), encoding="utf-8")
    port, admin = free_ports(2)
    command = [MCPPROXY, "run", os.fspath(file), "--transport", "http", "--port", str(port)]
    command += ["--admin-port", str(admin), "--log-level", "warning"]
    with running(command, logs / "proxy.log", admin, "/readyz"):
        yield Server("http", f"http://127.0.0.1:{port}/mcp"), f"http://127.0.0.1:{admin}/status"


def test_eight_servers_of_one_mcp_json_are_healthy(
    entries: dict[str, Entry], together: tuple[Server, str]
) -> None:
    states: dict[str, str] = {}
    with urllib.request.urlopen(f"{together[1]}?watch", timeout=SECONDS) as changes:
        while set(states.values()) != {"Healthy"}:
            line = changes.readline().strip() or b"{}"
            states = {
                backend["name"]: backend["state"]
                for backend in json.loads(line).get("backends", [])
            } or states
    assert set(states) == set(entries)


@pytest.mark.parametrize("mode", ERAS)
def test_each_of_eight_servers_behaves_as_without_the_others(
    calls: dict[str, tuple[Request, str]],
    direct: dict[str, list[Any]],
    together: tuple[Server, str],
    mode: str,
) -> None:
    requests = [through(call, name) for name, (call, _) in calls.items()]
    result = ask(together[0], mode, [("tools/list", {}), *requests])
    assert result["revision"] == ERAS[mode]
    listed, *answers = result["answers"]
    dropped = () if mode == "legacy" else LEGACY_MEMBERS
    for (name, (_, part)), answer in zip(calls.items(), answers, strict=True):
        own_list, own = direct[name]
        assert undone(listed, name, dropped) == plain(own_list, dropped), name
        assert undone(answer, name) == plain(own), name
        assert part in own["result"]["content"][0]["text"]
