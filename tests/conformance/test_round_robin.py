"""The balancer for machines without nginx: turns, streams and clients that leave."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from scripts import round_robin
from scripts.round_robin import RoundRobin
from tests.proxy.runtime.serving import LIVE, free_port, serving

pytestmark = LIVE


class Target:
    """Says what it got; a path of /stream is answered event by event, until the client leaves."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.left = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = (await receive())["body"]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-by", b"me")]})
        if scope["path"] == "/stream":
            await send({"type": "http.response.body", "body": b"first", "more_body": True})
            while (await receive())["type"] != "http.disconnect":
                pass
            self.left.set()
            return
        host = dict(scope["headers"])[b"host"].decode()
        query = scope["query_string"].decode()
        seen = [self.name, scope["method"], scope["path"], query, host, body.decode()]
        await send({"type": "http.response.body", "body": json.dumps(seen).encode()})


@asynccontextmanager
async def balanced(*targets: Any) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the balancer in front of the targets, which keeps its connection."""
    async with AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(serving(target)) for target in targets]
        http = await stack.enter_async_context(httpx2.AsyncClient())
        base = await stack.enter_async_context(serving(RoundRobin(urls, http)))
        yield await stack.enter_async_context(httpx2.AsyncClient(base_url=base))


async def test_requests_of_one_connection_go_to_the_targets_in_turn_unchanged() -> None:
    async with balanced(Target("a"), Target("b")) as http:
        results = []
        for number in range(4):
            headers = {"host": "example.com:99"}
            answer = await http.put(f"/mcp/{number}?q=1", content=b"x", headers=headers)
            assert answer.headers["x-by"] == "me"
            results.append(answer.json())
    assert results == [
        [name, "PUT", f"/mcp/{number}", "q=1", "example.com:99", "x"]
        for number, name in enumerate("abab")
    ]


async def test_a_response_streams_through_and_a_disconnect_reaches_the_target() -> None:
    target = Target("a")
    async with balanced(target) as http:
        async with http.stream("POST", "/stream") as answer:
            assert await anext(answer.aiter_raw()) == b"first"
        await asyncio.wait_for(target.left.wait(), 10)


async def test_an_unreachable_target_is_a_bad_gateway() -> None:
    async with httpx2.AsyncClient() as own:
        app = RoundRobin([f"http://127.0.0.1:{free_port()}"], own)
        async with serving(app) as base, httpx2.AsyncClient() as http:
            assert (await http.get(base)).status_code == 502


@pytest.mark.filterwarnings("ignore::pytest.PytestWarning")
def test_without_nginx_the_built_in_balancer_runs_and_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no nginx" in round_robin.program()
    assert round_robin.command(tmp_path, 1, (2, 3))[1:] == [
        "-m", "scripts.round_robin", "1", "2", "3",
    ]  # fmt: skip
    nginx = tmp_path / "nginx"
    nginx.touch(mode=0o755)
    assert round_robin.program() == "nginx"
    assert round_robin.command(tmp_path, 1, (2, 3))[0] == str(nginx)
    written = (tmp_path / "nginx.conf").read_text()
    assert "server 127.0.0.1:2; server 127.0.0.1:3;" in written
