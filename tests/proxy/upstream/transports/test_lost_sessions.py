"""Refused requests: the ones that mean a lost session, and the ones that are forwarded."""

import asyncio
import json
from typing import Any

import pytest
from msgspec import Raw
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from mcpproxy.proxy.core.errors import SessionNotFound
from mcpproxy.proxy.core.exchange import NullContext
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.upstream.transports.lost_sessions import SessionRefusal
from mcpproxy.proxy.upstream.transports.session import UpstreamRequest, UpstreamSession
from tests.proxy.upstream.connect.test_probe import Short
from tests.proxy.upstream.era_servers import (
    LEGACY,
    Answer,
    Server,
    connector_of,
    error,
    legacy,
    result_of,
    silent,
    status,
)


async def _called(link: UpstreamSession) -> Any:
    return await link.request(UpstreamRequest(Raw(b"1"), "tools/call"), NullContext(LEGACY))


def _server(call: Answer, ping: Answer, listing: Answer | None = None) -> Server:
    server = Server(status(404), legacy)
    server.others = {"tools/call": call, "ping": ping}
    if listing is not None:
        server.others["tools/list"] = listing
    return server


def answered(method: str, message: Any) -> Response:
    """Responds with an empty result."""
    return result_of(message)


async def test_a_refusal_is_forwarded_if_the_session_cannot_be_pinged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limit = Short()
    monkeypatch.setattr(
        "mcpproxy.proxy.upstream.transports.lost_sessions.SESSION_CHECK_TIME", limit
    )
    async with connector_of(_server(error(-32600), silent)) as connector:
        answer = await _called(await connector.open(LEGACY))
    refusal = jsonrpc.error_of(answer)
    assert refusal is not None
    assert (refusal.code, limit.reached) == (-32600, 1)


@pytest.mark.parametrize("ping", [status(400), status(503), error(-32603), error(-32600, 400)])
async def test_a_refusal_is_forwarded_if_a_ping_is_refused_differently(ping: Answer) -> None:
    async with connector_of(_server(error(-32600), ping)) as connector:
        answer = await _called(await connector.open(LEGACY))
    assert "error" in answer


@pytest.mark.parametrize("code", [-32601, -32002, -32042])
async def test_an_error_that_is_about_the_request_costs_no_other_request(code: int) -> None:
    server = _server(error(code), error(code))
    async with connector_of(server) as connector:
        assert "error" in await _called(await connector.open(LEGACY))
    assert "ping" not in server.asked


def _uninitialized(method: str, message: Any) -> Response:
    content = {"code": -32602, "message": "Received request before initialization was complete"}
    return JSONResponse({"jsonrpc": "2.0", "id": message["id"], "error": content})


async def test_a_session_that_responds_only_to_pings_is_lost() -> None:
    server = _server(_uninitialized, answered, _uninitialized)
    async with connector_of(server) as connector:
        link = await connector.open(LEGACY)
        with pytest.raises(SessionNotFound):
            await _called(link)


async def test_an_error_about_sessions_is_forwarded_if_lists_work() -> None:
    server = _server(_uninitialized, answered, lambda method, message: result_of(message, tools=[]))
    async with connector_of(server) as connector:
        assert "error" in await _called(await connector.open(LEGACY))


def test_the_subject_of_a_refusal_is_identified() -> None:
    assert SessionRefusal(0).may_be_of_session
    assert SessionRefusal(410).may_be_of_session
    assert not SessionRefusal(500).may_be_of_session
    assert not SessionRefusal(500, -32603).may_be_of_session


class OldServer:
    """HTTP+SSE (2024-11-05) server whose messages get the HTTP status of the test, once it is
    open."""

    def __init__(self) -> None:
        self.status = 202
        self.cookies: list[str | None] = []
        self._answers: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        if scope["method"] == "GET":
            answers = self._answers = asyncio.Queue()

            async def events() -> Any:
                yield "event: endpoint\ndata: /messages\n\n"
                while True:
                    yield f"data: {json.dumps(await answers.get())}\n\n"

            stream = StreamingResponse(events(), media_type="text/event-stream")
            stream.set_cookie("node", "a")
            await stream(scope, receive, send)
            return
        message = json.loads(await request.body())
        self.cookies.append(request.headers.get("cookie"))
        if message.get("method") == "initialize":
            result = {"protocolVersion": "2024-11-05", "capabilities": {}}
            self._answers.put_nowait({"jsonrpc": "2.0", "id": message["id"], "result": result})
        await PlainTextResponse("", self.status)(scope, receive, send)


@pytest.mark.parametrize("code", [400, 404, 410])
async def test_an_old_session_that_accepts_no_messages_is_lost(code: int) -> None:
    server = OldServer()
    async with connector_of(server, "/sse", transport="sse") as connector:
        link = await connector.open(LEGACY)
        assert link.alive
        server.status = code
        with pytest.raises(SessionNotFound):
            await _called(link)
        await link.close()


async def test_messages_of_an_old_session_carry_the_cookies_of_its_stream() -> None:
    server = OldServer()
    async with connector_of(server, "/sse", transport="sse") as connector:
        link = await connector.open(LEGACY)
        await link.close()
    assert server.cookies == ["node=a"] * 2
