"""Clients that stop reading: memory grows by a bounded amount, and nobody else waits."""

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from tests.differential.backend import MODERN, Backend, Call
from tests.differential.client import ACCEPT, Client
from tests.proxy.runtime.serving import LIVE, serving
from tests.proxy.runtime.waiting import eventually
from tests.stress.instances import Instance, instances
from tests.stress.size import FULL, size

pytestmark = [*LIVE, pytest.mark.timeout(90), pytest.mark.slow]
MIB = 1024 * 1024
PER_CALL = 2
"""MiB that a call may hold whose backend is held back."""
PER_INBOX = 12
"""MiB that a call to a shared program may hold: 8 wait, and what they are made of."""
PER_STREAM = 9
"""MiB that a stream of changes may hold: 4 wait, and what they are made of."""
STALLED = 4
"""Clients that stop reading at once."""
EACH = 16 * 1024
FLOOD = size(2000, 5000)
"""Notifications of 16 KiB each, 78 MiB in all."""
STEADY = 1.0
"""Seconds without growth after which it has ended."""
CHANGES = 1000
"""As many on each stream of changes: 16 MiB."""
ANSWER = 16 * MIB
TOOL = '{"name":"t","inputSchema":{"type":"object"}}'
META = "io.modelcontextprotocol/"
PROGRAM = f"""
import json, sys

def say(**message):
    sys.stdout.write(json.dumps({{"jsonrpc": "2.0", **message}}) + chr(10))
    sys.stdout.flush()

for line in sys.stdin:
    asked = json.loads(line)
    method, params = asked.get("method"), asked.get("params", {{}})
    if method == "initialize":
        result = {{"protocolVersion": "2025-11-25", "capabilities": {{"tools": {{}}}},
            "serverInfo": {{"name": "flood", "version": "1"}}}}
    elif method == "tools/list":
        result = {{"tools": [{TOOL}]}}
    elif method == "tools/call":
        if params["arguments"].get("flood"):
            token = params["_meta"]["progressToken"]
            told = {{"progressToken": token, "progress": 1, "message": "x" * {EACH}}}
            for _ in range({FLOOD}):
                say(method="notifications/progress", params=told)
        result = {{"content": []}}
    elif "id" in asked:
        say(id=asked["id"], error={{"code": -32601, "message": "unknown"}})
        continue
    else:
        continue
    say(id=asked["id"], result=result)
"""


def _log() -> str:
    params = {"level": "info", "data": "x" * EACH}
    return json.dumps({"jsonrpc": "2.0", "method": "notifications/message", "params": params})


@dataclass
class Flooding:
    """Calls that tell much, or answer with much."""

    era: str
    told: int = 0
    """Notifications that were taken from it."""
    answered: int = 0

    def __post_init__(self) -> None:
        self.backend = Backend(self.era, self.answer, {"tools": [TOOL]})

    async def answer(self, call: Call) -> None:
        arguments = call.message["params"]["arguments"]
        for _ in range(FLOOD if arguments.get("flood") else 0):
            await call.emit(_log())
            self.told += 1
        text = "y" * (ANSWER if arguments.get("large") else 1)
        result = {"content": [{"type": "text", "text": text}], "resultType": "complete"}
        answer = {"jsonrpc": "2.0", "id": call.message["id"], "result": result}
        self.answered += 1
        await call.finish(json.dumps(answer))


@dataclass
class World:
    """A proxy in a process of its own, and what is behind it."""

    instance: Instance
    floods: dict[str, Flooding]
    http: httpx2.AsyncClient
    stack: AsyncExitStack
    settled: int = 0
    """Memory before, in KiB."""
    stalled: list[socket.socket] = field(default_factory=list)

    async def client(self, era: str = "legacy", who: str = "ann") -> Client:
        """One that reads."""
        result = Client(self.http, self.instance.url, era, {"authorization": who})
        if era == "legacy":
            await result.initialize()
        return result

    async def stall(self, head: str, body: bytes = b"") -> None:
        """Send a request on a connection that is never read."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, ("127.0.0.1", self.instance.port))
        lines = f"{head}\r\nhost: 127.0.0.1\r\ncontent-length: {len(body)}\r\n\r\n"
        await loop.sock_sendall(sock, lines.encode() + body)
        self.stalled.append(sock)
        self.stack.callback(sock.close)

    async def grown(self) -> float:
        """MiB by which the proxy has grown, once it does no longer."""
        loop = asyncio.get_running_loop()
        most, since = 0, loop.time()

        async def steady() -> bool:
            nonlocal most, since
            now = self.instance.resident()
            if now > most + 256:
                most, since = now, loop.time()
            return loop.time() - since > STEADY

        await eventually(steady, "memory to be steady")
        return (most - self.settled) / 1024


@pytest_asyncio.fixture(loop_scope="session")
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """As its name says, after it has served both kinds of calls once."""
    program = tmp_path / "flood.py"
    program.write_text(PROGRAM)
    async with AsyncExitStack() as stack:
        floods = {era: Flooding(era) for era in ("legacy", "modern")}
        command = {"command": sys.executable, "args": [str(program)]}
        session = {"mode": "Reused", "stateless": True}
        specs: list[dict[str, Any]] = [{"name": "stdio", "stdio": command, "session": session}]
        for era, flood in floods.items():
            base = await stack.enter_async_context(serving(flood.backend))
            session = {"mode": "PerClient"}
            specs.append({"name": era, "url": f"{base}/mcp", "session": session})
        (result,) = await stack.enter_async_context(instances(tmp_path, 1, specs))
        http = await stack.enter_async_context(httpx2.AsyncClient(timeout=30))
        made = World(result, floods, http, stack)
        for era in floods:
            client = await made.client(era)
            for tool in ("legacy_t", "modern_t", "stdio_t"):
                *_, response = await client.exchange(_call(era, tool))
                assert "result" in json.loads(response), response
        await made.grown()
        made.settled = result.resident()
        yield made
        assert '"exception"' not in result.log.read_text()


def _call(era: str, tool: str, **arguments: Any) -> bytes:
    meta: dict[str, Any] = {"progressToken": "p"}
    params: dict[str, Any] = {"name": tool, "arguments": arguments, "_meta": meta}
    if era == "modern":
        meta |= {f"{META}protocolVersion": MODERN, f"{META}clientCapabilities": {}}
        meta[f"{META}logLevel"] = "debug"
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    return json.dumps(body).encode()


def _head(client: Client, body: bytes) -> str:
    headers = {"accept": ACCEPT, "content-type": "application/json", **client._headers(body)}
    lines = "".join(f"\r\n{name}: {value}" for name, value in headers.items())
    return f"POST /mcp HTTP/1.1{lines}"


async def _stalled_calls(
    world: World, era: str, tool: str, who: str = "slow{}", **arguments: Any
) -> None:
    for number in range(STALLED):
        client = await world.client(era, who.format(number))
        body = _call(era, tool, **arguments)
        await world.stall(_head(client, body), body)


fronts = pytest.mark.parametrize("era", ["legacy", "modern"] if FULL else ["legacy"])


@fronts
@pytest.mark.parametrize("backend", ["legacy", "modern"] if FULL else ["modern"])
async def test_a_call_with_many_notifications_is_slowed_to_the_pace_of_its_client(
    world: World, era: str, backend: str
) -> None:
    await _stalled_calls(world, era, f"{backend}_t", flood=True)
    grown = await world.grown()
    assert grown <= STALLED * PER_CALL
    assert 0 < world.floods[backend].told < STALLED * FLOOD / 2


@fronts
async def test_slow_clients_of_a_shared_program_delay_no_other(world: World, era: str) -> None:
    # One principal: one session of the program for all.
    await _stalled_calls(world, era, "stdio_t", who="ann", flood=True)
    client = await world.client(era, "ann")

    async def answered() -> bool:
        (response,) = await client.exchange(_call(era, "stdio_t"))
        return "result" in json.loads(response)

    await eventually(answered, "the program to answer another client")
    grown = await world.grown()
    assert grown <= STALLED * PER_INBOX


@fronts
async def test_a_large_response_for_a_client_that_does_not_read_is_buffered_once(
    world: World, era: str
) -> None:
    await _stalled_calls(world, era, f"{era}_t", large=True)
    grown = await world.grown()
    assert grown <= STALLED * 2 * ANSWER / MIB


async def test_a_stream_of_changes_that_is_not_read_holds_a_bounded_amount(world: World) -> None:
    for number in range(STALLED):
        client = await world.client("legacy", f"slow{number}")
        await client.exchange(_call("legacy", "legacy_t"))
        await world.stall(
            f"GET /mcp HTTP/1.1\r\naccept: text/event-stream\r\nauthorization: slow{number}"
            f"\r\nmcp-session-id: {client.session}"
        )
    await eventually(lambda: _streams(world), "the streams to be open")
    backend = world.floods["legacy"].backend
    for _ in range(CHANGES):
        backend.broadcast(_log())
    await eventually(lambda: _taken(backend), "the proxy to take all of it")
    grown = await world.grown()
    assert grown <= STALLED * PER_STREAM


async def _streams(world: World) -> bool:
    return await world.instance.streams() == STALLED


async def _taken(backend: Backend) -> bool:
    return all(queue.empty() for _, queue in backend.streams)
