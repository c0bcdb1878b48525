"""Requests that an Isolated call costs at its backend, and the stream and end of its session."""

import asyncio
import collections
import gc
import itertools
import math
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bench import stub
from mcpproxy.proxy.time_limits import TimeLimit
from mcpproxy.proxy.upstream.sessions import lifecycle
from tests.proxy.runtime import shaped
from tests.proxy.runtime.raw import Raw, last, rpc
from tests.proxy.runtime.serving import LIVE
from tests.proxy.runtime.shaped import TEXT, ByHand, called, plain, stage
from tests.proxy.runtime.waiting import soon

pytestmark = LIVE

CALLS = 100
SILENT = {**shaped.GREETING, "capabilities": {"tools": {}}}
"""Introduction of a backend without logging."""


class CountingConnection(stub.Connection):
    """A connection to the benchmark's stub that counts requests by their method."""

    def __init__(self, backend: stub.Stub, counts: collections.Counter[str]) -> None:
        super().__init__(backend)
        self._counts = counts

    def on_message_complete(self) -> None:
        method = self._parser.get_method().decode()
        self._counts[self._decoder.decode(self._body).method if self._body else method] += 1
        super().on_message_complete()


@asynccontextmanager
async def _isolated(
    proxy: Any, http: Any, server: asyncio.Server
) -> AsyncIterator[tuple[Any, Raw]]:
    """Yield a proxy before an Isolated backend, and a client that has initialized."""
    async with server:
        port = server.sockets[0].getsockname()[1]
        running = await proxy(
            {"name": "p", "url": f"http://127.0.0.1:{port}/mcp"}, session={"mode": "Isolated"}
        )
        client = Raw(running.url, http)
        await client.initialize(capabilities={})
        yield running, client


async def test_an_isolated_call_costs_at_most_four_requests_at_its_backend(
    proxy: Any, http: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "SAMPLE_EVERY", math.inf)
    backend, counts = stub.Stub(stub.Behaviour(sessions=True)), collections.Counter[str]()
    server = await asyncio.get_running_loop().create_server(
        lambda: CountingConnection(backend, counts), "127.0.0.1"
    )
    async with _isolated(proxy, http, server) as (running, client):
        for number in range(CALLS):
            call = rpc("tools/call", {"name": "p_echo", "arguments": {"text": "x"}}, number)
            answer = last(await client.post(call))
            assert "result" in answer
        sessions = running.runtime.gateway.backends["p"].sessions
        await soon(lambda: not sessions._warm._used and not sessions.upstream._ending, "all ends")
        await running.runtime.gateway.backends["p"].close()
    assert counts["tools/call"] == CALLS
    assert counts["GET"] <= 2, "the monitor's, and that of the first session"
    opened = counts["initialize"]
    assert opened <= CALLS + 24
    assert (counts["notifications/initialized"], counts["DELETE"]) == (opened, opened)
    assert sessions.acquisitions["cold"] <= CALLS // 10


async def test_isolated_calls_leave_nothing_to_the_garbage_collector(
    proxy: Any, http: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "SAMPLE_EVERY", math.inf)
    server = await stub.serve(stub.Behaviour(sessions=True))
    async with _isolated(proxy, http, server) as (running, client):

        async def call(number: int) -> None:
            message = rpc("tools/call", {"name": "p_echo", "arguments": {"text": "x"}}, number)
            assert "result" in last(await client.post(message))

        await call(0)
        ended = weakref.WeakSet[Any]()
        pool = running.runtime.gateway.backends["p"].sessions
        end = pool.upstream.end

        def record(link: Any) -> None:
            ended.add(link)
            end(link)

        monkeypatch.setattr(pool.upstream, "end", record)
        gc.disable()
        try:
            for number in range(1, CALLS):
                await call(number)
            await soon(lambda: not pool._warm._used and not pool.upstream._ending, "all ends")
            await soon(lambda: not ended, "no session after its end")
        finally:
            gc.enable()
    await running.runtime.gateway.backends["p"].close()


async def test_progress_on_the_standalone_stream_of_an_isolated_call_arrives(
    proxy: Any, http: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "SAMPLE_EVERY", math.inf)
    monkeypatch.setattr(shaped, "GREETING", SILENT)
    async with stage(proxy, http, "Isolated", plain) as (backend, client):
        await client.initialize(capabilities={})
        for _ in range(3):
            await called(client, "Isolated")
            await soon(backend.is_warm, "a session that waits")
        without = backend.asked[-1][0]

        async def before(session: bytes) -> None:
            params = {"progressToken": "token", "progress": 1}
            message = {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}
            backend.say(session, message)
            await backend.streams[session].drain()
            await soon(lambda: received, "the progress on its way to the client")

        received: list[Any] = []
        backend.before = before
        params = {"name": "p_x", "_meta": {"progressToken": "token"}}
        async for message in client.messages(rpc("tools/call", params, "mine")):
            received += [message]
        assert [message.get("method") for message in received] == ["notifications/progress", None]
        assert received[1]["result"]["content"] == TEXT["content"]
        used = [session for session, method in backend.asked if method == "tools/call"]
        assert [session in backend.streams for session in used[-2:]] == [False, True], without


def _unanswered(times: int) -> Callable[..., Any]:
    """A `ByHand.listen` that closes the connection of the first DELETEs, or leaves them open."""
    listen, left = ByHand.listen, itertools.count()

    async def listen_or_not(
        self: ByHand, head: bytes, session: bytes, reader: asyncio.StreamReader, writer: Any
    ) -> None:
        if head.startswith(b"delete"):
            number = next(left)
            if number < times:
                self.asked.append((session, "LOST"))
                writer.transport.abort()
                return
        await listen(self, head, session, reader, writer)

    return listen_or_not


async def test_the_end_of_a_session_that_was_lost_with_its_connection_is_sent_again(
    proxy: Any, http: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ByHand, "listen", _unanswered(1))
    async with stage(proxy, http, "Isolated", plain) as (backend, client):
        await called(client, "Isolated")
        used = next(session for session, method in backend.asked if method == "tools/call")
        await soon(lambda: (used, "DELETE") in backend.asked, "the end of the session")
        lost = [session for session, method in backend.asked if method == "LOST"]
        assert len(lost) == 1
        await soon(lambda: (lost[0], "DELETE") in backend.asked, "its second request")
        await soon(lambda: not backend.sessions.upstream._ending, "the end of all")


async def test_a_backend_that_never_answers_the_end_of_a_session_holds_it_for_a_limited_time(
    proxy: Any, http: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def listen(
        self: ByHand, head: bytes, session: bytes, reader: asyncio.StreamReader, writer: Any
    ) -> None:
        self.asked.append((session, "DELETE" if head.startswith(b"delete") else "GET"))
        await reader.read()

    async with stage(proxy, http, "Isolated", plain) as (backend, client):
        monkeypatch.setattr(ByHand, "listen", listen)
        upstream = backend.sessions.upstream
        upstream._end_limit = TimeLimit(0.01)
        await called(client, "Isolated")
        await soon(lambda: "DELETE" in [method for _, method in backend.asked], "a DELETE")
        await soon(lambda: not upstream._ending, "the end of the wait")
        ended = [session for session, method in backend.asked if method == "DELETE"]
        assert len(ended) == len(set(ended)), "each was sent once"
