"""HTTP as servers in the field speak it, where official clients get along with it."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.proxy.runtime.forgetful import TOOLS, Forgetful
from tests.proxy.runtime.serving import LIVE, serving

pytestmark = LIVE
NEVER_AGAIN = {"interval": "1h", "unhealthyAfter": 1}


async def _called(client: Client) -> str:
    result = await client.call_tool("p_count", {})
    assert not result.is_error
    text: str = result.content[0].text  # type: ignore[union-attr]
    return text


class Balanced(Forgetful):
    """Two servers behind a load balancer that goes by a cookie, which each session gets."""

    def _answer(self, request: Request, message: Any) -> Response:
        method = message.get("method")
        if method == "initialize":
            answer = super()._answer(request, message)
            session = answer.headers["mcp-session-id"]
            dated = f"node={session}; Path=/; Expires=Wed, 21 Oct 2099 07:28:00 GMT; HttpOnly"
            answer.headers.append("set-cookie", dated)
            answer.headers.append("set-cookie", "other=1; Path=/elsewhere")
            answer.headers.append("set-cookie", "safe=1; Secure")
            return answer
        session = request.headers.get("mcp-session-id", "")
        if session and request.headers.get("cookie") != f"node={session}":
            return self._refused(message.get("id"))
        return super()._answer(request, message)


@pytest.mark.parametrize("mode", ["Isolated", "PerClient"])
async def test_a_session_sends_back_the_cookies_that_it_began_with(
    proxy: Any, stack: Any, mode: str
) -> None:
    server = Balanced()
    base = await stack.enter_async_context(serving(server))
    running = await proxy({"name": "p", "url": f"{base}/mcp", "session": {"mode": mode}})
    await running.until("p", "Healthy")
    async with (
        Client(running.url, mode="legacy") as client,
        Client(running.url, mode="legacy") as two,
    ):
        for _ in range(3):
            await _called(client)
            await _called(two)


class Failing(Forgetful):
    """A call ends with HTTP 500 and a JSON-RPC error."""

    revision = "2025-11-25"

    def _served(self, session: str, method: str, own: Any) -> Response:
        if method != "tools/call":
            return super()._served(session, method, own)
        error = {"code": -32099, "message": "the disk is full", "data": {"left": 0}}
        return JSONResponse({"jsonrpc": "2.0", "id": own, "error": error}, 500)


class FailingModern(Failing):
    """The same in the modern era."""

    def _answer(self, request: Request, message: Any) -> Response:
        own = message.get("id")
        if message.get("method") == "server/discover":
            return self._result(
                own,
                {
                    "supportedVersions": ["2026-07-28"],
                    "capabilities": {"tools": {}},
                    "resultType": "complete",
                },
            )
        if message.get("method") == "tools/list":
            result = {"tools": TOOLS, "resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
            return self._result(own, result)
        return self._served("", message.get("method", request.method), own)


@pytest.mark.parametrize("server", [Failing, FailingModern])
@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_an_error_of_json_rpc_keeps_its_code_and_message_with_http_500(
    proxy: Any, stack: Any, server: type[Failing], mode: str
) -> None:
    base = await stack.enter_async_context(serving(server()))
    running = await proxy({"name": "p", "url": f"{base}/mcp"})
    await running.until("p", "Healthy")
    async with Client(running.url, mode=mode) as client:
        with pytest.raises(MCPError) as raised:
            await client.call_tool("p_count", {})
    assert (raised.value.code, raised.value.error.data) == (-32099, {"left": 0})
    assert "the disk is full" in str(raised.value)
    assert await running.state("p") == "Healthy"


class Headless(Forgetful):
    """Gives the stream of a GET no head until it has something to say."""

    def __init__(self) -> None:
        super().__init__()
        self.gets = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope.get("method") == "GET":
            self.gets += 1
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        await super().__call__(scope, receive, send)


async def test_a_stream_without_response_headers_delays_only_the_first_session(
    proxy: Any, stack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float | None] = []
    server = Headless()
    base = await stack.enter_async_context(serving(server))
    running = await proxy(
        {"name": "p", "url": f"{base}/mcp", "session": {"mode": "PerClient"}}, health=NEVER_AGAIN
    )
    await running.until("p", "Healthy")
    upstream = running.runtime.gateway.backends["p"].sessions.upstream
    for _ in range(3):
        waits.append(upstream._stream_wait_seconds)
        async with Client(running.url, mode="legacy") as client:
            await _called(client)
    assert waits[1:] == [0.0, 0.0]
    assert waits[0] is not None
    assert waits[0] < 0.5


@contextlib.asynccontextmanager
async def closing(server: Forgetful) -> AsyncIterator[str]:
    """Serve it on connections that are closed right behind each answer, which says nothing."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            method = head.split(" ", 1)[0]
            lines = [line.partition(":") for line in head.split("\r\n")[1:] if line]
            headers = {name.lower(): value.strip() for name, _, value in lines}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            argument = [(name.encode(), value.encode()) for name, value in headers.items()]
            request = Request({"type": "http", "method": method, "headers": argument})
            answer = server._answer(request, json.loads(body) if body else {})
            parts = [f"HTTP/1.1 {answer.status_code} x"]
            parts += [f"{n.decode()}: {v.decode()}" for n, v in answer.raw_headers]
            writer.write("\r\n".join([*parts, "", ""]).encode() + bytes(answer.body))
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


async def test_connections_that_are_closed_behind_each_answer_without_notice_lose_no_request(
    proxy: Any, stack: Any
) -> None:
    server = Forgetful()
    base = await stack.enter_async_context(closing(server))
    running = await proxy({"name": "p", "url": f"{base}/mcp"}, health=NEVER_AGAIN)
    await running.until("p", "Healthy")
    async with Client(running.url, mode="legacy") as client:
        for _ in range(10):
            await _called(client)
    assert server.executed == 10
