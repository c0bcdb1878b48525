"""The demo servers as they are started: processes, HTTP, standard streams."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client, StdioServerParameters
from mcp_types import PromptReference

from scripts.demo_local import accepts, free_ports

pytestmark = pytest.mark.slow

SERVERS = Path(__file__).parents[2] / "samples" / "servers"
ATTEMPTS = 300
NOTES = StdioServerParameters(command=sys.executable, args=[str(SERVERS / "notes.py")])


@contextmanager
def process(name: str, port: int) -> Iterator[None]:
    """A server as a process, ended with SIGTERM."""
    command = [sys.executable, str(SERVERS / f"{name}.py"), "--port", str(port)]
    env = {**os.environ, "POD_NAMESPACE": "shop"}
    with subprocess.Popen(command, env=env) as started:
        yield
        started.terminate()
        assert started.wait(timeout=10) == 0 or started.returncode == -15


@pytest.fixture(scope="module")
def ports() -> Iterator[dict[str, int]]:
    """The ports of the two HTTP servers."""
    result = dict(zip(("weather", "counter"), free_ports(2), strict=True))
    with ExitStack() as stack:
        for name, port in result.items():
            stack.enter_context(process(name, port))
        yield result


async def serving(port: int) -> str:
    """The URL of a server, once it serves."""
    for _ in range(ATTEMPTS):
        if accepts(port):
            return f"http://127.0.0.1:{port}/mcp"
        await asyncio.sleep(0.05)
    raise AssertionError(f"nothing serves on port {port}")


@pytest.fixture
async def weather(ports: dict[str, int]) -> str:
    """The weather server's URL."""
    return await serving(ports["weather"])


@pytest.fixture
async def counter(ports: dict[str, int]) -> str:
    """The counter's URL."""
    return await serving(ports["counter"])


@asynccontextmanager
async def legacy(url: str) -> AsyncIterator[Client]:
    """A client with a session."""
    async with Client(url, mode="legacy") as client:
        yield client


async def counts(target: Any, mode: str) -> tuple[int, ...]:
    async with Client(target, mode=mode) as client:
        return (
            len((await client.list_tools()).tools),
            len((await client.list_prompts()).prompts),
            len((await client.list_resources()).resources),
            len((await client.list_resource_templates()).resource_templates),
        )


async def test_no_two_servers_offer_the_same_number_of_anything(weather: str, counter: str) -> None:
    results = [await counts(target, "legacy") for target in (weather, counter, NOTES)]
    for kind in zip(*results, strict=True):
        assert len(set(kind)) == len(results), results


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_weather_and_notes_support_both_eras(weather: str, mode: str) -> None:
    assert await counts(weather, mode) == (5, 2, 3, 1)
    assert await counts(NOTES, mode) == (2, 1, 4, 2)


async def test_the_counter_refuses_the_revision_without_sessions(counter: str) -> None:
    async with Client(counter, mode="auto") as client:
        assert client.protocol_version == "2025-11-25"
    body = {"jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": {}}
    headers = {
        "MCP-Protocol-Version": "2026-07-28",
        "Accept": "application/json, text/event-stream",
    }
    async with httpx2.AsyncClient() as http:
        answer = await http.post(counter, json=body, headers=headers)
    assert answer.status_code == 400


async def test_the_counter_counts_each_session_on_its_own_and_forgets_closed_ones(
    counter: str,
) -> None:
    async def increment(client: Client, by: int) -> dict[str, int]:
        answer = (await client.call_tool("increment", {"by": by})).structured_content
        assert isinstance(answer, dict)
        return answer

    async with legacy(counter) as item:
        alone = (await increment(item, 1))["sessions"]
        async with legacy(counter) as other:
            assert await increment(other, 10) == {"count": 10, "sessions": alone + 1}
            assert await increment(item, 1) == {"count": 2, "sessions": alone + 1}
        assert await increment(item, 1) == {"count": 3, "sessions": alone}


async def test_the_survey_reports_progress_and_logs(weather: str) -> None:
    steps: list[float] = []
    lines: list[object] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        steps.append(progress)

    async def on_log(params: Any) -> None:
        lines.append(params.data)

    async with Client(weather, mode="2026-07-28", logging_callback=on_log, log_level="info") as it:
        await it.call_tool("survey", {}, progress_callback=on_progress)
    assert steps == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert "Oslo reported" in lines


async def test_cities_are_completed(weather: str) -> None:
    async with Client(weather) as client:
        reference = PromptReference(name="packing_list")
        result = await client.complete(reference, {"name": "city", "value": "be"})
    assert result.completion.values == ["Berlin", "Bergen"]


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("weather", 200),
        ("weather.shop", 200),
        ("weather.shop.svc:8080", 200),
        ("weather.shop.svc.cluster.local:8080", 200),
        ("weather.other.svc", 421),
        ("evil.example.com", 421),
    ],
)
async def test_host_checks_let_through_the_services_names_alone(
    weather: str, host: str, code: int
) -> None:
    body = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        },
    }
    headers = {"Host": host, "Accept": "application/json, text/event-stream"}
    async with httpx2.AsyncClient() as http:
        answer = await http.post(weather, json=body, headers=headers)
    assert answer.status_code == code
