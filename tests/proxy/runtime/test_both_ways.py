"""Notifications of a client reach its own sessions unchanged, and withdrawn requests end."""

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from tests.differential.backend import Backend, Call
from tests.differential.client import Client
from tests.proxy.runtime.serving import LIVE, proxied, serving
from tests.proxy.runtime.waiting import soon

pytestmark = LIVE
CAPABILITIES = '{"sampling":{},"roots":{"listChanged":true},"x-more":[1e400]}'
VENDOR = (
    '{"jsonrpc":"2.0","x-envelope":[1.50,1e400],"method":"notifications/x-vendor/seen",'
    '"params":{"_meta":{"x":null},"text":"\\u2028"}}'
)
ROOTS = '{"jsonrpc":"2.0","x-e":1,"method":"notifications/roots/list_changed","params":{"y":2}}'
TOOL = '{"name":"t","inputSchema":{"type":"object"}}'


@dataclass
class Stage:
    """A backend behind a proxy; its tool asks what the test says, and waits."""

    http: httpx2.AsyncClient
    stack: AsyncExitStack
    backends: list[Backend] = field(default_factory=list)
    url: str = ""
    started: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    asks: bool = False
    withdraws: bool = False

    async def start(self, *modes: str, **fields: Any) -> Backend:
        """A backend for each mode; the first is given back."""
        specs: list[dict[str, Any]] = []
        for mode in modes:
            stateless = mode == "stateless"
            backend = Backend("legacy", self.answer, {"tools": [TOOL]}, stateless=stateless)
            self.backends.append(backend)
            url = await self.stack.enter_async_context(serving(backend)) + "/mcp"
            session = {} if stateless else {"session": {"mode": mode}}
            specs.append({"name": f"b{len(specs)}", "url": url, **session, **fields})
        running = await self.stack.enter_async_context(proxied(*specs))
        self.url = running.url
        return self.backends[0]

    async def client(self, who: str = "ann") -> Client:
        """A client with a session."""
        result = Client(self.http, self.url, "legacy", {"authorization": who})
        await result.initialize(CAPABILITIES)
        return result

    async def answer(self, call: Call) -> None:
        """The tool."""
        if self.asks:
            asking = asyncio.create_task(call.ask(_sampling))
            await asyncio.sleep(0)
            if self.withdraws:
                own = next(reversed(call._backend.waiting))
                await call.emit(_withdrawal(own))
                asking.cancel()
            else:
                await asking
        self.started.set()
        if not self.asks:
            await self.release.wait()
        shown = json.dumps(call.message["id"])
        await call.finish(f'{{"jsonrpc":"2.0","id":{shown},"result":{{"content":[]}}}}')


def _sampling(own: str) -> str:
    params = {"messages": [], "maxTokens": 1, "_meta": {"progressToken": "their-own", "z": 1}}
    return json.dumps({"jsonrpc": "2.0", "id": own, "method": "sampling/createMessage"})[:-1] + (
        f', "params": {json.dumps(params)}}}'
    )


def _withdrawal(own: str) -> str:
    params = {"requestId": own, "reason": "too late", "x": 1}
    told = {"jsonrpc": "2.0", "x-e": 2, "method": "notifications/cancelled", "params": params}
    return json.dumps(told)


@pytest_asyncio.fixture(loop_scope="session")
async def stage(stack: AsyncExitStack) -> Stage:
    """As its name says."""
    return Stage(await stack.enter_async_context(httpx2.AsyncClient(timeout=20)), stack)


def _call(tool: str = "b0_t", request_id: str = "7") -> bytes:
    params = {"name": tool, "arguments": {}}
    return (
        f'{{"jsonrpc":"2.0","id":{request_id},"method":"tools/call","params":{json.dumps(params)}}}'
    ).encode()


def _heard(backend: Backend) -> list[tuple[str, str]]:
    """Notifications that a backend got, with their sessions."""
    return [
        (item.headers.get("mcp-session-id", ""), item.body.decode())
        for item in backend.seen
        if "method" in item.message and "id" not in item.message
    ]


async def test_a_vendors_notification_arrives_unchanged_in_a_session_of_the_client(
    stage: Stage,
) -> None:
    backend = await stage.start("PerClient")
    client = await stage.client()
    assert await client.tell(VENDOR.encode()) == 202
    ((session, body),) = _heard(backend)
    assert body == VENDOR
    stage.release.set()
    await client.exchange(_call())
    (called,) = [item for item in backend.seen if "id" in item.message]
    assert called.headers["mcp-session-id"] == session


@pytest.mark.parametrize("told", [VENDOR, ROOTS])
async def test_s9_a_notification_reaches_only_the_sessions_of_its_client(
    stage: Stage, told: str
) -> None:
    await stage.start("Isolated", "PerClient", "stateless")
    ann, bo = await stage.client("ann"), await stage.client("bo")
    calls = []
    for client in (ann, bo):
        for number in range(2):
            stage.started.clear()
            calls.append(asyncio.create_task(client.exchange(_call(f"b{number}_t"))))
            await asyncio.wait_for(stage.started.wait(), 15)
    assert await ann.tell(told.encode()) == 202
    isolated, held, stateless = stage.backends
    for backend in (isolated, held):
        anns = next(item for item in backend.seen if "id" in item.message)
        assert _heard(backend) == [(anns.headers["mcp-session-id"], told)]
    assert _heard(stateless) in ([("", told)], [])
    stage.release.set()
    await asyncio.gather(*calls)


async def test_a_backend_without_sessions_receives_notifications_of_its_client(
    stage: Stage,
) -> None:
    backend = await stage.start("stateless")
    client = await stage.client()
    stage.release.set()
    await client.exchange(_call())
    assert await client.tell(VENDOR.encode()) == 202
    assert _heard(backend) == [("", VENDOR)]


async def test_roots_that_are_not_forwarded_do_not_change_for_the_backend(stage: Stage) -> None:
    backend = await stage.start("PerClient", forward={"roots": False})
    client = await stage.client()
    stage.release.set()
    await client.exchange(_call())
    assert await client.tell(ROOTS.encode()) == 202
    assert await client.tell(VENDOR.encode()) == 202
    assert [body for _, body in _heard(backend)] == [VENDOR]


async def test_withdrawing_a_capability_keeps_the_others(stage: Stage) -> None:
    backend = await stage.start("PerClient", forward={"roots": False})
    stage.release.set()
    await (await stage.client()).exchange(_call())
    greetings = [greeting.body.decode() for greeting in backend.greetings]
    assert sum('{"sampling":{},"x-more":[1e400]}' in body for body in greetings) == 1


async def test_a_server_request_is_forwarded_despite_an_invalid_capability(
    stage: Stage,
) -> None:
    await stage.start("PerClient", forward={"roots": False})
    stage.asks = True
    methods = []

    def reply(asked: dict[str, Any]) -> bytes:
        methods.append(asked["method"])
        return _answer(asked)

    await (await stage.client()).exchange(_call(), reply)
    assert methods == ["sampling/createMessage"]


async def test_a_cancellation_keeps_the_reason_of_the_client(stage: Stage) -> None:
    backend = await stage.start("PerClient")
    client = await stage.client()
    call = asyncio.create_task(client.exchange(_call(request_id='"c\\u0061ll/1"')))
    await asyncio.wait_for(stage.started.wait(), 15)
    told = (
        '{"jsonrpc":"2.0","x-e":[1e400],"method":"notifications/cancelled",'
        '"params":{"requestId":"call\\/1","reason":"never mind","x":1.50}}'
    )
    assert await client.tell(told.encode()) == 202
    await asyncio.wait_for(call, 15)
    await soon(lambda: _heard(backend), "the cancellation to arrive")
    ((_, body),) = _heard(backend)
    assert body == told.replace('"call\\/1"', '"c\\u0061ll/1"')


def _answer(asked: dict[str, Any]) -> bytes:
    content = {"role": "assistant", "model": "m", "content": {"type": "text", "text": "x"}}
    result = {"jsonrpc": "2.0", "id": asked["id"], "result": content}
    return json.dumps(result).encode()


@pytest.mark.parametrize("mode", ["PerClient", "Isolated"])
async def test_progress_on_a_server_request_reaches_the_backend_with_its_token(
    stage: Stage, mode: str
) -> None:
    backend = await stage.start(mode)
    stage.asks = True
    client, other = await stage.client("ann"), await stage.client("bo")

    async def progress(message: dict[str, Any]) -> None:
        if message.get("method") != "sampling/createMessage":
            return
        meta = message["params"]["_meta"]
        assert meta["z"] == 1
        params = {"progressToken": meta["progressToken"], "progress": 1, "x": None}
        told = {"jsonrpc": "2.0", "x-e": 1, "method": "notifications/progress", "params": params}
        for who in (other, client):
            assert await who.tell(json.dumps(told).encode()) == 202

    await client.exchange(_call(), _answer, progress)
    ((_, body),) = _heard(backend)
    assert json.loads(body) == {
        "jsonrpc": "2.0",
        "x-e": 1,
        "method": "notifications/progress",
        "params": {"progressToken": "their-own", "progress": 1, "x": None},
    }


async def test_a_cancelled_server_request_ends_with_the_id_that_the_client_received(
    stage: Stage,
) -> None:
    backend = await stage.start("PerClient")
    stage.asks = stage.withdraws = True
    client = await stage.client()
    results = [json.loads(item) for item in await client.exchange(_call())]
    question, withdrawal, response = results
    assert withdrawal == {
        "jsonrpc": "2.0",
        "x-e": 2,
        "method": "notifications/cancelled",
        "params": {"requestId": question["id"], "reason": "too late", "x": 1},
    }
    assert response["id"] == 7
    # An answer that comes all the same is nobody's any more.
    assert await client.tell(_answer(question)) == 202
    assert not [entry for entry in backend.seen if "result" in entry.message]


async def test_a_response_is_matched_regardless_of_the_encoding_of_its_id(stage: Stage) -> None:
    await stage.start("PerClient")
    stage.asks = True

    def respelled(asked: dict[str, Any]) -> bytes:
        spelled = "".join(f"\\u{ord(c):04x}" for c in asked["id"])
        return _answer(asked).replace(asked["id"].encode(), spelled.encode())

    client = await stage.client()
    *_, response = await asyncio.wait_for(client.exchange(_call(), respelled), 15)
    assert json.loads(response)["result"] == {"content": []}
