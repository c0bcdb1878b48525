"""Streams that break or are closed go on at whichever of two instances the client returns to."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from starlette.types import Receive, Scope, Send

from tests.differential.backend import Backend, Call, respond
from tests.differential.client import ACCEPT, Client
from tests.proxy.runtime.serving import LIVE, serving
from tests.proxy.runtime.waiting import eventually
from tests.stress.balancer import balanced
from tests.stress.instances import Instance, instances

pytestmark = [*LIVE, pytest.mark.timeout(60), pytest.mark.slow]
MODES = ("Isolated", "PerClient")
SSE = [(b"content-type", b"text/event-stream")]
TOOL = '{"name":"t","inputSchema":{"type":"object"}}'


def _event(text: str, event_id: str, retry: str = "") -> bytes:
    return f"id: {event_id}\n{retry}data: {text}\n\n".encode()


def _log(data: str) -> str:
    params = {"level": "info", "data": data}
    return json.dumps({"jsonrpc": "2.0", "method": "notifications/message", "params": params})


class Polling(Backend):
    """Its calls log three times; with `close` it lets its client come back for the rest."""

    def __init__(self) -> None:
        super().__init__("legacy", self.play, {"tools": [TOOL]})
        self.calls: dict[str, Call] = {}
        self.go_on = asyncio.Event()
        self.returns: list[str] = []

    async def play(self, call: Call) -> None:
        event_id = f"c{len(self.calls)}"
        self.calls[event_id] = call
        start = {"type": "http.response.start", "status": 200, "headers": SSE}
        await call._send(start)
        await self._part(call._send, _event("", f"{event_id}:0", "retry: 20\n"))
        await self._part(call._send, _event(_log("one"), f"{event_id}:1"))
        if call.message["params"]["arguments"].get("close"):
            await self._part(call._send, b"", more=False)
            return
        await self.go_on.wait()
        await self._rest(call._send, event_id)

    @staticmethod
    async def _part(send: Send, body: bytes, *, more: bool = True) -> None:
        await send({"type": "http.response.body", "body": body, "more_body": more})

    async def _rest(self, send: Send, event_id: str) -> None:
        message = self.calls[event_id].message
        answer = {"jsonrpc": "2.0", "id": message["id"], "result": {"content": []}}
        for number, text in ((2, _log("two")), (3, _log("three")), (4, json.dumps(answer))):
            await self._part(send, _event(text, f"{event_id}:{number}"))
        await self._part(send, b"", more=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        last = dict(scope.get("headers", ())).get(b"last-event-id", b"").decode()
        if not last:
            await super().__call__(scope, receive, send)
            return
        self.returns.append(last)
        event_id, _, number = last.partition(":")
        if number != "1":
            await respond(send, 400)
            return
        await send({"type": "http.response.start", "status": 200, "headers": SSE})
        await self._rest(send, event_id)


@dataclass
class World:
    """A backend in each mode behind two instances behind round robin."""

    backends: dict[str, Polling]
    instances: list[Instance]
    url: str
    http: httpx2.AsyncClient


@asynccontextmanager
async def _made(tmp_path: Path) -> AsyncIterator[World]:
    """As its name says; every request has a connection of its own."""
    async with AsyncExitStack() as stack:
        backends, specs = {}, []
        for mode in MODES:
            backends[mode] = Polling()
            base = await stack.enter_async_context(serving(backends[mode]))
            name = mode.lower()
            specs.append({"name": name, "url": f"{base}/mcp", "session": {"mode": mode}})
        result = await stack.enter_async_context(instances(tmp_path, 2, specs))
        url = await stack.enter_async_context(balanced(tmp_path, [item.port for item in result]))
        limits = httpx2.Limits(max_keepalive_connections=0)
        http = await stack.enter_async_context(httpx2.AsyncClient(timeout=15, limits=limits))
        yield World(backends, result, url, http)


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """One for all tests that leave it as it is."""
    async with _made(tmp_path_factory.mktemp("world")) as result:
        yield result


@pytest.fixture
def world(shared: World) -> World:
    """The shared one, as it was at first."""
    for backend in shared.backends.values():
        backend.go_on.clear()
        backend.returns.clear()
    return shared


@pytest_asyncio.fixture(loop_scope="session")
async def doomed(tmp_path: Path) -> AsyncIterator[World]:
    """One to break."""
    async with _made(tmp_path) as result:
        yield result


@dataclass
class Heard:
    """Messages of the streams of one call."""

    data: list[Any] = field(default_factory=list)
    last_id: str = ""
    status: int = 0

    @property
    def logs(self) -> list[str]:
        """Return the log messages."""
        return [item["params"]["data"] for item in self.data if "params" in item]

    async def read(self, answer: httpx2.Response, enough: int = 99) -> "Heard":
        """The stream to its end, or until so many messages are there."""
        self.status = answer.status_code
        async for line in answer.aiter_lines():
            name, _, content = line.partition(":")
            if name == "id":
                self.last_id = content.strip()
            elif name == "data" and content.strip():
                self.data.append(json.loads(content))
                if len(self.data) >= enough:
                    break
        return self


def _call(client: Client, tool: str, **arguments: Any) -> Any:
    params = {"name": tool, "arguments": arguments}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    headers = {
        "accept": ACCEPT,
        "content-type": "application/json",
        "mcp-session-id": client.session or "",
        **client.headers,
    }
    return client.http.stream("POST", client.url, json=body, headers=headers)


async def _again(client: Client, received: Heard, event_id: str | None = None) -> Heard:
    headers = {
        "accept": "text/event-stream",
        "mcp-session-id": client.session or "",
        "last-event-id": event_id or received.last_id,
        **client.headers,
    }
    async with client.http.stream("GET", client.url, headers=headers) as answer:
        return await received.read(answer)


async def _client(world: World, url: str, session: str | None = None) -> Client:
    client = Client(world.http, url, "legacy", {"authorization": "Bearer ann"}, session)
    if session is None:
        await client.initialize()
    return client


@pytest.mark.parametrize("mode", MODES)
async def test_a_client_that_resumes_a_paused_stream_gets_the_remaining_messages(
    world: World, mode: str
) -> None:
    client = await _client(world, world.url)
    for _ in range(4):
        # An odd number of requests in between: the call and the return are at either instance.
        async with _call(client, f"{mode.lower()}_t", close=True) as answer:
            received = await Heard().read(answer)
        while not any("result" in item for item in received.data):
            received = await asyncio.wait_for(_again(client, received), 10)
        assert received.logs == ["one", "two", "three"]
        assert await client.tell(b'{"jsonrpc":"2.0","id":9,"method":"ping"}') == 200
    assert len(world.backends[mode].returns) == 4


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("there", [0, 1])
async def test_a_broken_stream_continues_at_the_other_instance(
    world: World, mode: str, there: int
) -> None:
    here = await _client(world, world.instances[1 - there].url)
    other = await _client(world, world.instances[there].url, here.session)
    async with _call(here, f"{mode.lower()}_t") as answer:
        received = await Heard().read(answer, enough=1)
    assert received.logs == ["one"]
    world.backends[mode].go_on.set()
    first = received.last_id
    received = await asyncio.wait_for(_again(other, received), 10)
    assert received.logs == ["one", "two", "three"]
    assert received.data[-1]["result"] == {"content": []}
    replayed = await asyncio.wait_for(_again(here, Heard(), first), 10)
    assert replayed.logs == ["two", "three"]


async def test_s8_a_stream_is_resumed_only_by_its_session(world: World) -> None:
    ann = await _client(world, world.instances[0].url)
    async with _call(ann, "isolated_t", close=True) as answer:
        received = await Heard().read(answer)
    for instance in world.instances:
        stranger = await _client(world, instance.url)
        refused = await _again(stranger, Heard(), received.last_id)
        assert (refused.status, refused.logs) == (400, [])


async def test_a_stream_that_is_lost_with_its_instance_leaves_the_others_open(
    doomed: World,
) -> None:
    here = await _client(doomed, doomed.instances[0].url)
    other = await _client(doomed, doomed.instances[1].url, here.session)
    async with _call(other, "isolated_t", close=True) as answer:
        received = await Heard().read(answer)
    assert received.logs == ["one"]
    session_context = here.stream()
    assert (await anext(session_context))[1] == b"200"
    await eventually(lambda: _open(doomed.instances[0]), "the stream to be open")
    await doomed.instances[1].kill()
    refused = await _again(here, Heard(), received.last_id)
    assert refused.status == 400
    assert await _open(doomed.instances[0])
    assert isinstance(session_context, AsyncGenerator)
    await session_context.aclose()


async def _open(instance: Instance) -> bool:
    return await instance.streams() == 1
