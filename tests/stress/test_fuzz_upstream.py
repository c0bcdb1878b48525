"""Whatever a backend answers: an error of its own kind or the right result, and nothing is left."""

import asyncio
import gc
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from msgspec import Raw

from mcpproxy.proxy.core.errors import BackendError
from mcpproxy.proxy.core.exchange import ClientIdentity, NullContext
from mcpproxy.proxy.http1.client.client import HttpClient
from mcpproxy.proxy.http1.client.connection import ClientConnection
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.upstream.transports.event_stream import SseMessageReader
from mcpproxy.proxy.upstream.transports.http_endpoint import McpHttpClient
from mcpproxy.proxy.upstream.transports.http_legacy import HttpLegacySession
from mcpproxy.proxy.upstream.transports.session import (
    HttpExchange,
    ServerDescription,
    TaskSet,
    UpstreamRequest,
)
from tests.proxy.byhand import served
from tests.proxy.runtime.waiting import soon
from tests.proxy.upstream.wire import Wire
from tests.stress.hostile_http import Answer, Grammar
from tests.stress.instances import instances
from tests.stress.size import size

MESSAGES = size(2_000, 200_000)
CALLS = size(150, 1_000)
SEED = 20261128
_ID = re.compile(rb'"id":("[^"]*"|-?\d+)')
LEGACY = "2025-11-25"
pytestmark = [pytest.mark.timeout(600), pytest.mark.slow]


class HostileWire(Wire):
    """Plays an answer for each request; a response that has not ended then ends here."""

    def __init__(self, client: "HostileClient", connection: ClientConnection) -> None:
        super().__init__(connection)
        self._client = client

    def write(self, data: Any) -> None:
        own = _ID.search(bytes(data))
        answer = self._client.next_answer(json.loads(own[1]) if own is not None else 0)
        self._client.playing += 1
        self._loop.call_soon(self._play, list(answer.parts))

    def _play(self, parts: list[bytes]) -> None:
        if self.paused and not self.closing:
            self._loop.call_soon(self._play, parts)
            return
        if parts:
            self.feed(parts.pop(0))
        if parts and not self.closing:
            self._loop.call_soon(self._play, parts)
            return
        self._client.playing -= 1
        if self.connection._response is not None:
            self.end()


class HostileClient(HttpClient):
    """The client of a backend behind such wires."""

    def __init__(self, grammar: Grammar) -> None:
        super().__init__("http://127.0.0.1:1/mcp", 5)
        self.grammar = grammar
        self.hostile = True
        self.playing = 0
        self.intact = True

    def next_answer(self, own: Any) -> Answer:
        """The answer to a request."""
        result = self.grammar.answer(own) if self.hostile else self.grammar.good(own)
        self.intact = self.intact and result.intact
        return result

    async def _connected(self, number: int) -> ClientConnection:
        connection = ClientConnection(asyncio.get_running_loop(), self._heads)
        HostileWire(self, connection)
        self._all[connection] = number
        connection.notify_when_free(self._freed)
        return connection


async def _until(done: Callable[[], bool]) -> None:
    """Let everything run until then; nothing here takes time."""
    for _ in range(1_000_000):
        if done():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never ends")


class Session:
    """One link, and what came of the requests over it."""

    def __init__(self, grammar: Grammar, outcomes: Counter[str]) -> None:
        rng = grammar.random
        self.client = HostileClient(grammar)
        self.background = TaskSet()
        self.caller = NullContext(ClientIdentity(LEGACY, session="s"))
        self.link = HttpLegacySession(
            McpHttpClient(self.client, lambda: ()),
            ServerDescription(LEGACY, {}),
            rng.choice((None, b"abc")),
            self.background,
            shared=rng.random() < 0.5,
        )
        self._random = rng
        self._outcomes = outcomes

    async def exchange(self, number: int, *, hostile: bool) -> None:
        """One request; its result is the one that came with its id."""
        client = self.client
        client.hostile, client.intact = hostile, True
        own = self._random.choice((b"%d" % number, b'"%d"' % number, b'"a-%d"' % number))
        token = {"_meta": Raw(b'{"progressToken":%b}' % own)}
        outgoing = UpstreamRequest(Raw(own), "tools/call", {"name": Raw(b'"a"'), **token})
        try:
            exchange = await self._exchange(outgoing)
            answer = await self.link.resume(exchange, self.caller, None)
        except BackendError as error:
            if not hostile:
                raise AssertionError("a well-formed response ended with an error") from error
            self._outcomes[type(error).__name__] += 1
        else:
            self._check(exchange, answer)
        # Answers of ours to its requests are sent meanwhile, and what it says to them comes.
        await _until(lambda: not (client.playing or self.background._tasks))

    async def _exchange(self, outgoing: UpstreamRequest) -> HttpExchange:
        """Sent already, or still to be sent, as `request` does."""
        if self._random.random() < 0.5:
            there = asyncio.Event()
            sent = self.link.send(outgoing, self.caller.client, there.set, lambda: None)
            if sent is not None:
                await there.wait()
                return sent
        return HttpExchange(self.link, outgoing, outgoing.id)

    def _check(self, exchange: HttpExchange, answer: Message) -> None:
        assert answer["id"] == exchange.request.id
        self._outcomes["result" if "result" in answer else "error"] += 1
        document = json.loads(bytes(answer.get("result", b"{}")))
        if self.client.intact and isinstance(document, dict) and "for" in document:
            wanted = json.loads(bytes(exchange.id))
            assert str(document["for"]) == str(wanted), f"{document} for {wanted}"

    async def listen(self) -> None:
        """A stream of what belongs to no request."""
        self.client.hostile = True

        async def announced(message: Message) -> None:
            return

        try:
            await self.link.listen(self.caller, announced, lambda: None)
        except BackendError as error:
            self._outcomes[f"stream {type(error).__name__}"] += 1

    async def close(self) -> None:
        """Everything ends, and nothing is left."""
        self.client.hostile = False
        await self.link.close()
        await self.background.close()
        self.client.close()
        await _until(lambda: not (self.client._all or self.client.playing))
        assert not self.link._exchanges
        assert not self.link._incoming.has_open
        assert not self.client._opening


async def test_a_response_of_a_backend_is_an_error_or_the_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def no_pause(reader: SseMessageReader) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(SseMessageReader, "pause", no_pause)
    loop = asyncio.get_running_loop()
    failures: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: failures.append(context))
    tasks = len(asyncio.all_tasks())
    grammar, outcomes = Grammar(SEED), Counter[str]()
    number = 0
    while number < MESSAGES:
        session = Session(grammar, outcomes)
        for _ in range(200):
            number += 1
            try:
                await session.exchange(number, hostile=True)
                if number % 4 == 0:
                    await session.exchange(number + 10**9, hostile=False)
                if number % 50 == 0:
                    await session.listen()
            except Exception as error:
                raise AssertionError(f"seed {SEED}, message {number}: {error!r}") from error
        await session.close()
    gc.collect()
    assert not failures, f"seed {SEED}: {failures[:3]}"
    assert len(asyncio.all_tasks()) == tasks
    # The grammar reaches what it is for.
    for outcome in (
        "result",
        "error",
        "ProtocolError",
        "Unreachable",
        "SessionNotFound",
        "RateLimited",
    ):
        assert outcomes[outcome] >= MESSAGES // 2000, f"seed {SEED}: {outcomes}"


class HostileBackend:
    """A backend over real sockets that answers calls from the grammar."""

    def __init__(self, grammar: Grammar) -> None:
        self._grammar = grammar

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            body = await reader.readexactly(int(length or 0))
            message = json.loads(body) if body else {}
            if message.get("method") == "tools/call" and message["params"]["arguments"]["hostile"]:
                for part in self._grammar.answer(message["id"]).parts:
                    writer.write(part)
                    await writer.drain()
                break
            writer.write(self._right(head, message))
            await writer.drain()
        writer.close()

    def _right(self, head: bytes, message: dict[str, Any]) -> bytes:
        if not head.startswith(b"POST"):
            return b"HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\n\r\n"
        if "id" not in message or "method" not in message:
            return b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"
        results: dict[str, Callable[[], dict[str, Any]]] = {
            "initialize": lambda: {
                "protocolVersion": LEGACY,
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "a", "version": "1"},
            },
            "tools/list": lambda: {"tools": [{"name": "a", "inputSchema": {"type": "object"}}]},
            "tools/call": lambda: {"content": [], "for": message["id"]},
        }
        result = results.get(message["method"])
        content = (
            {"error": {"code": -32601, "message": "a"}} if result is None else {"result": result()}
        )
        body = json.dumps({"jsonrpc": "2.0", "id": message["id"], **content}).encode()
        lines = b"content-type: application/json\r\ncontent-length: %d" % len(body)
        return b"HTTP/1.1 200 OK\r\n%b\r\n\r\n%b" % (lines, body)


async def test_a_proxy_of_a_backend_without_sessions_serves_every_call_without_state(
    tmp_path: Path,
) -> None:
    async with (
        served(HostileBackend(Grammar(SEED)).serve) as port,
        instances(tmp_path, 1, [{"name": "p", "url": f"http://127.0.0.1:{port}/mcp"}]) as (proxy,),
        httpx2.AsyncClient(timeout=60) as http,
    ):
        begun, files = await _call(http, proxy.url, 0, hostile=False), proxy.descriptors()
        assert "result" in begun, begun
        for number in range(1, CALLS + 1):
            await _call(http, proxy.url, number, hostile=True)
            if number % 10 == 0:
                answer = await _call(http, proxy.url, -number, hostile=False)
                if answer.get("error", {}).get("data", {}).get("reason") == "Unreachable":
                    # The backend closed the kept connection of the call before, just then.
                    answer = await _call(http, proxy.url, -number, hostile=False)
                assert "result" in answer, f"seed {SEED}, call {number}: {answer}"
        await soon(lambda: proxy.descriptors() <= files + 8, "connections to be closed")
        log = proxy.log.read_text()
        assert "Traceback" not in log
        assert '"exception"' not in log


async def _call(http: httpx2.AsyncClient, url: str, number: int, *, hostile: bool) -> Any:
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "f", "version": "1"},
    }
    params = {"name": "p_a", "arguments": {"hostile": hostile}, "_meta": meta}
    message = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}
    headers = {
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        "mcp-name": "p_a",
    }
    response = await http.post(url, json=message, headers=headers)
    why = f"seed {SEED}, call {number}: HTTP {response.status_code} {response.text[:300]}"
    assert response.status_code < 500, why
    result = re.findall(r"^data: ?(\{.*)$", response.text, re.M) or [response.text]
    answer = json.loads(result[-1])
    assert answer["id"] == number, why
    assert "see its log" not in answer.get("error", {}).get("message", ""), why
    return answer
