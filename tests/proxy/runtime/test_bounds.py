"""Subscriptions of clients: bounded in number and size, with room for each client."""

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mcpproxy.limits.clients import (
    ALL_SUBSCRIPTIONS,
    PARKED_FOR,
    RESOURCE_URI,
    STANDING_ANSWER,
    SUBSCRIPTIONS,
)
from mcpproxy.proxy.core.exchange import NOT_OFFERED, ClientIdentity
from mcpproxy.proxy.core.tokens.sealed_tokens import Sealer
from mcpproxy.proxy.downstream.legacy import get_stream as stream_module
from mcpproxy.proxy.downstream.legacy.get_stream import SessionStreamContext
from mcpproxy.proxy.downstream.legacy.sessions import SessionRegistry
from mcpproxy.proxy.downstream.message_queue import MessageQueue
from mcpproxy.proxy.downstream.modern import input_required as parking_module
from mcpproxy.proxy.downstream.modern.input_required import SuspendedCalls
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import INVALID_PARAMS, UNAVAILABLE, RpcError
from mcpproxy.proxy.protocol.jsonrpc import Message as JsonMessage
from tests.proxy.downstream.legacy.test_sessions import QUESTION, parked
from tests.proxy.runtime.raw import META, MODERN, Raw, last, modern, rpc
from tests.proxy.runtime.serving import LIVE, Proxy, proxied, serving

pytestmark = LIVE


class Library:
    """A legacy server whose resources can be subscribed to."""

    def __init__(self) -> None:
        self.subscribed: list[str] = []
        self.error: dict[str, Any] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        await (await self._answer(request))(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if request.method != "POST":
            return Response(status_code=405)
        message = json.loads(await request.body())
        if "id" not in message:
            return Response(status_code=202)
        answer = {"jsonrpc": "2.0", "id": message["id"]}
        result = self._result(message["method"], message.get("params", {}))
        return JSONResponse({**answer, **result})

    def _result(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        if method == "initialize":
            able = {"resources": {"subscribe": True}}
            us = {"name": "library", "version": "1"}
            revision = params["protocolVersion"]
            return {"result": {"protocolVersion": revision, "capabilities": able, "serverInfo": us}}
        if method == "resources/subscribe":
            self.subscribed.append(params["uri"])
            return {"result": {}} if self.error is None else {"error": self.error}
        if method == "resources/unsubscribe":
            self.subscribed.remove(params["uri"])
            return {"result": {}}
        lists = {"resources/list": "resources", "resources/templates/list": "resourceTemplates"}
        if method in lists:
            return {"result": {lists[method]: []}}
        return {"error": {"code": -32601, "message": f"no {method}"}}


async def _library(stack: AsyncExitStack) -> tuple[Library, Proxy]:
    library = Library()
    base = await stack.enter_async_context(serving(library))
    backend = {"name": "b", "prefix": "", "url": f"{base}/mcp", "protocol": "legacy"}
    return library, await stack.enter_async_context(proxied(backend))


async def _subscribe(raw: Raw, uri: str, **headers: str) -> Any:
    return last(await raw.post(rpc("resources/subscribe", {"uri": uri}), **headers))


def _long(number: int, size: int) -> str:
    uri = f"x://{number}/"
    return uri + "a" * (size - len(uri))


async def test_subscriptions_are_bounded_in_number_and_size(
    stack: AsyncExitStack, http: httpx2.AsyncClient
) -> None:
    library, running = await _library(stack)
    raw = Raw(running.url, http)
    await raw.initialize()
    before = RESOURCE_URI.reached, SUBSCRIPTIONS.reached
    refused = await _subscribe(raw, _long(0, RESOURCE_URI.value + 1))
    assert refused["error"]["code"] == INVALID_PARAMS
    assert str(RESOURCE_URI.value) in refused["error"]["message"]
    assert not library.subscribed
    for number in range(SUBSCRIPTIONS.value):
        assert "result" in await _subscribe(raw, _long(number, RESOURCE_URI.value))
    beyond = await _subscribe(raw, "x://beyond")
    assert beyond["error"]["code"] == UNAVAILABLE
    assert "result" in await _subscribe(raw, _long(0, RESOURCE_URI.value))
    assert RESOURCE_URI.reached == before[0] + 1
    assert SUBSCRIPTIONS.reached == before[1] + 1
    assert len(library.subscribed) == SUBSCRIPTIONS.value
    await http.delete(running.url, headers={"mcp-session-id": raw.session or ""})
    assert not library.subscribed
    gateway = running.runtime.gateway
    assert not gateway._resources._listeners
    assert len(gateway._resources._holders) == 0


async def test_a_listening_client_gets_as_many_resources_as_are_admitted(
    stack: AsyncExitStack, http: httpx2.AsyncClient
) -> None:
    _, running = await _library(stack)
    raw = Raw(running.url, http)
    uris = ["x://same", "x://same", _long(1, RESOURCE_URI.value + 1), 7]
    uris += [f"x://{number}" for number in range(2 * SUBSCRIPTIONS.value)]
    message = modern("subscriptions/listen", notifications={"resourceSubscriptions": uris})
    about = {"mcp_protocol_version": MODERN, "mcp_method": "subscriptions/listen"}
    answers = raw.messages(message, **about)
    acknowledged = await anext(answers)
    honoured = acknowledged["params"]["notifications"]["resourceSubscriptions"]
    # The one whose URI is too long has a place of the 256, too.
    assert len(honoured) == SUBSCRIPTIONS.value - 1
    assert honoured[:2] == ["x://same", "x://0"]
    assert META in json.dumps(acknowledged)
    await answers.aclose()  # type: ignore[attr-defined]


async def test_a_client_with_many_subscriptions_leaves_room_for_others(
    stack: AsyncExitStack, http: httpx2.AsyncClient
) -> None:
    _, running = await _library(stack)
    subscriptions = running.runtime.gateway._resources._holders
    subscriptions.limit = 32
    before = ALL_SUBSCRIPTIONS.reached
    answers = []
    for _ in range(4):
        raw = Raw(running.url, http)
        await raw.initialize(authorization="Bearer hostile")
        for number in range(10):
            headers = {"authorization": "Bearer hostile"}
            answers.append(await _subscribe(raw, f"x://{number}", **headers))
    assert sum("error" in answer for answer in answers) == 40 - 28
    assert ALL_SUBSCRIPTIONS.reached == before + 12
    victim = Raw(running.url, http)
    await victim.initialize(authorization="Bearer victim")
    result = await _subscribe(victim, "x://1", authorization="Bearer victim")
    assert "result" in result


async def test_a_refused_subscription_does_not_count_towards_the_limit(
    stack: AsyncExitStack, http: httpx2.AsyncClient
) -> None:
    library, running = await _library(stack)
    library.error = {"code": -32002, "message": "no such resource"}
    raw = Raw(running.url, http)
    await raw.initialize()
    assert "error" in await _subscribe(raw, "x://1")
    assert len(running.runtime.gateway._resources._holders) == 0


def _shortened(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> None:
    """Make a time limit one that is over at once."""
    monkeypatch.setattr(module, name, replace(getattr(module, name), value=0))


async def test_a_server_request_outside_of_any_request_ends_without_a_response(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert STANDING_ANSWER.value == 600
    _shortened(monkeypatch, stream_module, "STANDING_ANSWER")
    sessions = SessionRegistry(Sealer([b"k" * 16], lambda n: b"r" * n), "here", 1800.0)
    client = ClientIdentity("2025-11-25", session="s")
    live = sessions.acquire("s", 0.0)
    live.stream = MessageQueue()
    answer = await SessionStreamContext(client, sessions).ask(QUESTION)
    assert answer == {"error": NOT_OFFERED}
    assert not live.asked


async def test_a_parked_call_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    assert PARKED_FOR.value == 300
    _shortened(monkeypatch, parking_module, "PARKED_FOR")
    parking = SuspendedCalls(Sealer([b"k" * 16], lambda n: b"r" * n), "here", lambda: 0.0)
    answer = await parked(parking, "ann")
    (exchange,) = parking._parked.values()
    task = exchange.task
    assert task is not None
    with pytest.raises(asyncio.CancelledError):
        await task
    assert parking.count == 0
    state = json.loads(bytes(answer["result"]))["requestState"]
    client = ClientIdentity("2026-07-28", principal="ann")
    params: JsonMessage = {"requestState": jsonrpc.encode_raw(state)}
    request: JsonMessage = {"id": jsonrpc.encode_raw(2), "method": jsonrpc.encode_raw("tools/call")}
    with pytest.raises(RpcError, match="expired"):
        parking._resume(state, request, params, client)
