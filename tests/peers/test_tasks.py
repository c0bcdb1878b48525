"""The client of the SDK's package for tasks, before servers with tasks behind the proxy."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from scripts import npm
from scripts.conformance_servers import manifest, proxy, tasks_backend
from tests.peers.world import CLIENT_SECONDS, NODE, Server

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory, servers: dict[str, Server]) -> Iterator[str]:
    """The URL of a proxy before a server of each era that has tasks."""
    logs = tmp_path_factory.mktemp("tasks")
    with ExitStack() as stack:
        modern = stack.enter_context(tasks_backend(logs))
        # Its tasks belong to the session in which they were made.
        legacy = {"url": servers["web"].target, "session": {"mode": "PerClient"}}
        backends: list[dict[str, Any]] = [
            {"name": "modern", "url": modern},
            {"name": "legacy", **legacy},
        ]
        yield stack.enter_context(proxy(manifest(backends, logs), logs))


def called(url: str, mode: str, tool: str, arguments: dict[str, Any]) -> Any:
    """Output of peers/tasks.mjs: the kind of the call, and its outcome."""
    done = subprocess.run(
        [NODE, "tasks.mjs", url, mode, tool, json.dumps(arguments)],
        cwd=npm.PEERS,
        env={**os.environ},
        capture_output=True,
        text=True,
        timeout=CLIENT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_sdks_client_for_tasks_gets_the_result_of_a_task_of_a_modern_server(
    tasks: str,
) -> None:
    result = called(tasks, "2026-07-28", "modern_slow_compute", {"seconds": 1})
    assert (result["kind"], result["outcome"]["status"]) == ("task", "completed")
    assert result["outcome"]["result"]["content"][0]["text"] == "computed for 1 s"


def test_the_sdk_client_for_tasks_provides_input_for_a_modern_task(
    tasks: str,
) -> None:
    result = called(tasks, "2026-07-28", "modern_confirm_delete", {})
    assert result["outcome"]["result"]["content"][0]["text"] == "deleted"
    assert "tasks/update" in result["seen"]


def test_the_sdks_client_for_tasks_gets_the_result_of_a_task_of_a_legacy_server(
    tasks: str,
) -> None:
    result = called(tasks, "legacy", "legacy_simulate-research-query", {"topic": "tides"})
    assert (result["kind"], result["outcome"]["status"]) == ("task", "completed")
    assert "tides" in result["outcome"]["result"]["content"][0]["text"]
