"""Backends that are dead, hung, refuse us or come back."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from mcp import Client, MCPError

from tests.proxy.runtime.peer import Peer
from tests.proxy.runtime.serving import LIVE, free_port, serving
from tests.proxy.runtime.waiting import eventually, soon

pytestmark = LIVE
SLOW = 0.5
"""The bar: with a dead and a hung backend, initialize and lists answer within this time."""


@asynccontextmanager
async def silent() -> AsyncIterator[str]:
    """A server that accepts and says nothing; gives its URL."""
    writers = []

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(ConnectionError):
            await reader.read(-1)
        writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"
    finally:
        for writer in writers:
            writer.close()
        server.close()


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28", "auto"])
async def test_errors_of_a_dead_and_a_hung_backend_do_not_delay_other_backends(
    peer: Any, proxy: Any, stack: Any, mode: str
) -> None:
    _, url = await peer("good")
    hung = await stack.enter_async_context(silent())
    timeouts = {"connect": "100ms", "initialize": "100ms", "request": "100ms"}
    running = await proxy(
        {"name": "dead", "url": f"http://127.0.0.1:{free_port()}/mcp", "timeouts": timeouts},
        {"name": "good", "url": url},
        {"name": "hung", "url": hung, "timeouts": timeouts},
    )
    started = time.perf_counter()
    async with Client(running.url, mode=mode) as client:
        tools = [tool.name for tool in (await client.list_tools()).tools]
        prompts = [prompt.name for prompt in (await client.list_prompts()).prompts]
        took = time.perf_counter() - started
        assert took < 3 * SLOW
        for wanted in (client.list_tools, client.list_resources, client.list_prompts):
            started = time.perf_counter()
            await wanted()
            assert time.perf_counter() - started < SLOW
        assert {name.split("_")[0] for name in (*tools, *prompts)} == {"good"}
        for name, reason in (("dead_x", "Unreachable"), ("hung_x", "TimedOut")):
            started = time.perf_counter()
            with pytest.raises(MCPError) as caught:
                await client.call_tool(name, {})
            assert time.perf_counter() - started < 2.5
            told = {"backend": name[:4], "reason": reason, "mayHaveRun": False}
            assert caught.value.error.data == told
        assert not (await client.call_tool("good_echo", {})).is_error


async def test_a_list_waits_for_a_backend_that_hangs_later_up_to_the_limit(
    peer: Any, proxy: Any
) -> None:
    server, url = await peer("p")
    _, other = await peer("q")
    running = await proxy({"name": "p", "url": url}, {"name": "q", "url": other})
    await running.until("p", "Healthy")
    await running.until("q", "Healthy")
    blocked = asyncio.Event()

    async def hang(scope: Any, receive: Any, send: Any) -> None:
        await blocked.wait()

    server.gate.app = hang
    try:
        async with Client(running.url, mode="legacy") as client:
            started = time.perf_counter()
            await client.list_tools()
            assert time.perf_counter() - started < 2 * SLOW
        await running.until("p", "Unhealthy")
        report = await running.report()
        assert [b.components is None for b in report.backends] == [True, False]
    finally:
        blocked.set()


async def test_a_backend_that_comes_back_is_served_again_without_a_restart(
    peer: Any, proxy: Any
) -> None:
    port = free_port()
    running = await proxy({"name": "p", "url": f"http://127.0.0.1:{port}/mcp"})
    assert await running.state("p") == "Unhealthy"
    (backend,) = (await running.report()).backends
    assert (backend.reason, backend.components) == ("Unreachable", None)
    for _ in range(2):
        again = Peer("p")
        async with serving(again.gate, port):
            await running.until("p", "Healthy")
            async with Client(running.url, mode="legacy") as client:
                assert len((await client.list_tools()).tools) == len(again.tools)
                assert not (await client.call_tool("p_echo", {})).is_error
        await running.until("p", "Unhealthy")
        report = await running.report()
        assert report.backends[0].components is None
        assert report.catalog_hash is None


@pytest.mark.parametrize(
    ("status", "state", "kept"),
    [
        (401, "Unauthorized", False),
        (403, "Unauthorized", False),
        (429, "RateLimited", True),
        (500, "Unhealthy", False),
        (503, "Unhealthy", False),
    ],
)
async def test_a_backend_that_starts_to_refuse_has_its_own_reason(
    peer: Any, proxy: Any, status: int, state: str, kept: bool
) -> None:
    server, url = await peer("p")
    running = await proxy({"name": "p", "url": url})
    await running.until("p", "Healthy")
    server.gate.status = status
    await running.until("p", state)
    (backend,) = (await running.report()).backends
    assert (backend.components is not None) is kept
    assert backend.message is not None
    async with Client(running.url, mode="legacy") as client:
        if kept:
            assert (await client.list_tools()).tools
        else:
            with pytest.raises(MCPError, match="backend p: "):
                await client.list_tools()
        with pytest.raises(MCPError):
            await client.call_tool("p_echo", {})
    server.gate.status = None
    await running.until("p", "Healthy")


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_backend_that_dies_in_the_middle_of_a_call_ends_it_in_an_error(
    proxy: Any, era: str
) -> None:
    port = free_port()
    server = Peer("p", era)
    async with serving(server.gate, port):
        running = await proxy({"name": "p", "url": f"http://127.0.0.1:{port}/mcp"})
        client = Client(running.url, mode="legacy")
        await client.__aenter__()
        call = asyncio.create_task(client.call_tool("p_slow", {}))
        await server.started.wait()
    try:
        with pytest.raises(MCPError) as caught:
            await call
        assert caught.value.error.data["backend"] == "p"
    finally:
        await client.__aexit__(None, None, None)


async def test_another_era_after_a_restart_is_found_out(proxy: Any) -> None:
    port = free_port()
    running = await proxy({"name": "p", "url": f"http://127.0.0.1:{port}/mcp"})
    for era, revision in (("modern", "2026-07-28"), ("legacy", "2025-11-25")):
        async with serving(Peer("p", era).gate, port):
            await running.until("p", "Healthy")
            (backend,) = (await running.report()).backends
            assert backend.protocol_version == revision
        await running.until("p", "Unhealthy")


async def test_a_call_that_times_out_is_cancelled_at_the_backend(peer: Any, proxy: Any) -> None:
    for era in ("legacy", "modern"):
        server, url = await peer("p", era)
        running = await proxy({"name": "p", "url": url, "timeouts": {"request": "400ms"}})
        async with Client(running.url, mode="legacy") as client:
            with pytest.raises(MCPError) as caught:
                await client.call_tool("p_slow", {})
        assert caught.value.error.code == -32001
        await soon(server.cancelled.is_set, "the backend to be told")


def _answer(body: bytes, kind: str = "application/json", *headers: bytes) -> bytes:
    lines = [b"HTTP/1.1 200 OK", b"content-type: " + kind.encode(), *headers]
    return b"\r\n".join(lines) + b"\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


def _redirect(location: bytes) -> bytes:
    return b"HTTP/1.1 307 X\r\nlocation: %b\r\ncontent-length: 0\r\n\r\n" % location


STREAM = "text/event-stream"
NULL = b'{"jsonrpc":"2.0","id":"mcpproxy-initialize","result":null}'
GARBAGE: dict[str, bytes] = {
    "no http": b"SSH-2.0-OpenSSH_9.9\r\n",
    "html": _answer(b"<html>", "text/html"),
    "empty": _answer(b""),
    "no json": _answer(b"{"),
    "null result": _answer(NULL),
    "bad stream": _answer(b"data: {no\n\n", STREAM),
    "bad retry": _answer(b"retry: %b\n\n" % (b"9" * 5000), STREAM),
    "bad endpoint": _answer(b"event: endpoint\ndata: http://[\n\n", STREAM),
    "bad session": _answer(b"{}", "application/json", b"mcp-session-id: \xff"),
    "no url": _redirect(b"http://["),
    "bad port": _redirect(b"http://127.0.0.1:999999/"),
    "other origin": _redirect(b"http://evil/"),
    "huge head": _answer(b"{}", "application/json", b"x: " + b"y" * 100_000),
}


@pytest.mark.parametrize("transport", ["auto", "streamable-http", "sse"])
async def test_every_response_of_a_server_is_reflected_in_the_state_and_checks_continue(
    proxy: Any, stack: Any, transport: str
) -> None:
    connections: dict[str, int] = {}

    def serve(kind: str, answer: bytes) -> Any:
        async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connections[kind] = connections.get(kind, 0) + 1
            with contextlib.suppress(ConnectionError):
                await reader.read(65536)
                writer.write(answer)
                await writer.drain()
            writer.close()

        return on_connection

    backends = []
    timeouts = {"connect": "1s", "initialize": "1s", "request": "1s"}
    for number, (kind, answer) in enumerate(GARBAGE.items()):
        server = await asyncio.start_server(serve(kind, answer), "127.0.0.1", 0)
        stack.callback(server.close)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"
        backends.append(
            {"name": f"b{number}", "url": url, "transport": transport, "timeouts": timeouts}
        )
    running = await proxy(*backends)

    async def all_known() -> bool:
        states = {backend.state for backend in (await running.report()).backends}
        return states == {"Unhealthy"}

    await eventually(all_known, "every backend to be Unhealthy")
    before = dict(connections)
    await soon(lambda: all(connections[kind] > before[kind] for kind in GARBAGE), "more checks")
    async with Client(running.url, mode="legacy") as client:
        for number in range(len(GARBAGE)):
            with pytest.raises(MCPError) as caught:
                await client.call_tool(f"b{number}_x", {})
            assert caught.value.error.data["backend"] == f"b{number}"


async def test_an_unexpected_error_does_not_end_the_watch(
    peer: Any, proxy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, url = await peer("p")
    running = await proxy({"name": "p", "url": url})
    await running.until("p", "Healthy")

    async def surprise() -> set[Any]:
        raise LookupError("unforeseen")

    with monkeypatch.context() as changed:
        changed.setattr(running.runtime.gateway.backends["p"].watch, "_alive", surprise)
        await running.until("p", "Unhealthy")
    await running.until("p", "Healthy")
