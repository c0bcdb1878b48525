"""Security statements S3, S19, S21, S22, S25: where we listen, whom we call, what we give away."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from mcpproxy.proxy.config.options import RuntimeOptions
from mcpproxy.proxy.config.proxy_config import ProxyConfig
from mcpproxy.proxy.core.tokens.sealed_tokens import Sealer
from mcpproxy.proxy.runtime import Runtime
from tests.proxy.byhand import served
from tests.proxy.runtime.raw import MODERN, Raw, last
from tests.proxy.runtime.serving import LIVE, free_port, proxied, serving
from tests.support.builders import an_mcpproxy

pytestmark = LIVE
RESERVED = range(-32099, -32019)


@dataclass
class Bait:
    """A server that nobody has a reason to call, and who did."""

    url: str = ""
    calls: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.calls.append(await reader.readline())


@dataclass
class Temptation:
    """A modern backend whose every answer points at the bait, or fails as it is told."""

    bait: Bait
    failure: Response | None = None

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/mcp", self.answer, methods=["POST"])])

    async def answer(self, request: Request) -> Response:
        message = await request.json()
        if message["method"] == "tools/call" and self.failure is not None:
            return self.failure
        result = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
        result |= self.result(message["method"])
        return JSONResponse({"jsonrpc": "2.0", "id": message["id"], "result": result})

    def result(self, method: str) -> dict[str, Any]:
        url = self.bait.url
        link = {"type": "resource_link", "uri": f"{url}/link", "name": "x"}
        tool = {
            "name": "x",
            "icons": [{"src": f"{url}/icon.png"}],
            "inputSchema": {"type": "object", "$ref": f"{url}/schema.json"},
        }
        resource = {"uri": f"{url}/resource", "name": "r", "icons": [{"src": f"{url}/r.png"}]}
        actual: dict[str, dict[str, Any]] = {
            "server/discover": {
                "supportedVersions": [MODERN],
                "capabilities": {"tools": {}, "resources": {}},
            },
            "tools/list": {"tools": [tool]},
            "tools/call": {"content": [link]},
            "resources/list": {"resources": [resource]},
            "resources/read": {"contents": [{"uri": f"{url}/resource", "text": "t"}]},
        }
        return actual.get(method, {})


@asynccontextmanager
async def baited() -> AsyncIterator[tuple[Bait, Temptation, Raw]]:
    """A bait, a backend that points at it, and a client of the proxy between them."""
    async with AsyncExitStack() as stack:
        bait = Bait()
        bait.url = f"http://127.0.0.1:{await stack.enter_async_context(served(bait.serve))}"
        backend = Temptation(bait)
        base = await stack.enter_async_context(serving(backend.app()))
        running = await stack.enter_async_context(proxied({"name": "p", "url": f"{base}/mcp"}))
        http = await stack.enter_async_context(httpx2.AsyncClient(timeout=20))
        yield bait, backend, Raw(running.url, http)


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def world() -> AsyncIterator[tuple[Bait, Temptation, Raw]]:
    async with baited() as result:
        yield result


async def test_s3_the_proxy_serves_only_this_machine_by_default() -> None:
    assert RuntimeOptions().host == "127.0.0.1"
    assert RuntimeOptions().admin_host == "127.0.0.1"


async def test_s3_other_machines_are_served_only_under_configured_names() -> None:
    proxy = an_mcpproxy(
        namespace=None, backends=[{"name": "p", "url": f"http://127.0.0.1:{free_port()}/mcp"}]
    )
    everywhere = RuntimeOptions(host="0.0.0.0", port=free_port())
    runtime = Runtime(ProxyConfig(proxy, "0" * 64, Path.cwd()), everywhere)
    with pytest.raises(ValueError, match="--allowed-host"):
        await runtime.serve_http()


async def test_s19_no_word_of_a_client_makes_the_proxy_call_an_address(
    world: tuple[Bait, Temptation, Raw],
) -> None:
    bait, _, client = world
    address = bait.url.removeprefix("http://")
    forged = Sealer([b"k" * 32], lambda size: bytes(size))
    seal = {"o": f"{address}#x", "n": 1, "p": "", "d": "", "t": 0}
    session = {"v": "2025-11-25", "c": "{}", "i": None, "p": "", "n": "n", "t": 2**31, **seal}
    await client.initialize()
    for purpose in ("question", "stream", "parked"):
        token = forged.seal(purpose, seal)
        await client.post({"jsonrpc": "2.0", "id": token, "result": {}})
        await client.call("tools/call", "p_x", name="p_x", requestState=token)
        await client.http.get(
            client.url,
            headers={
                "accept": "text/event-stream",
                "mcp-session-id": forged.seal("session", session),
                "last-event-id": f"{token}-0",
            },
        )
    await client.call("resources/read", f"{bait.url}/x", uri=f"{bait.url}/x")
    assert bait.calls == []


async def test_s21_a_reference_in_a_schema_is_forwarded_and_never_fetched(
    world: tuple[Bait, Temptation, Raw],
) -> None:
    bait, _, client = world
    tool = last(await client.call("tools/list"))["result"]["tools"][0]
    assert tool["inputSchema"]["$ref"] == f"{bait.url}/schema.json"
    assert bait.calls == []


async def test_s22_uris_icons_and_links_are_data(world: tuple[Bait, Temptation, Raw]) -> None:
    bait, _, client = world
    outward = bait.url.replace("http://", "http://p/")
    tool = last(await client.call("tools/list"))["result"]["tools"][0]
    assert tool["icons"] == [{"src": f"{bait.url}/icon.png"}]
    called = last(await client.call("tools/call", "p_x", name="p_x"))["result"]
    assert called["content"][0]["uri"] == f"{outward}/link"
    listed = last(await client.call("resources/list"))["result"]["resources"][0]
    assert listed["uri"] == f"{outward}/resource"
    read = last(await client.call("resources/read", listed["uri"], uri=listed["uri"]))
    assert read["result"]["contents"] == [{"uri": f"{outward}/resource", "text": "t"}]
    assert bait.calls == []


TRACE = "Traceback (most recent call last): /srv/secret.py db-password-1234"


@pytest.mark.parametrize(
    "failure",
    [
        PlainTextResponse(TRACE, 500),
        PlainTextResponse(TRACE, 404),
        PlainTextResponse(TRACE, 401),
        PlainTextResponse(TRACE, 200),
        JSONResponse({"detail": TRACE}, 422),
        Response(TRACE, 302, {"location": "http://169.254.169.254/"}),
    ],
    ids=["500", "404", "401", "no MCP", "422", "redirect"],
)
async def test_s25_output_of_a_failing_backend_is_not_disclosed(
    world: tuple[Bait, Temptation, Raw], failure: Response
) -> None:
    _, backend, client = world
    backend.failure = failure
    try:
        answer = await client.call("tools/call", "p_x", name="p_x")
    finally:
        backend.failure = None
    error = last(answer)["error"]
    assert error["data"]["backend"] == "p"
    assert error["code"] not in RESERVED
    assert "secret" not in json.dumps(error)
    assert "password" not in json.dumps(error)
