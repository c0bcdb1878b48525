"""Calls whose backend fails in the middle of them: docs/faults.md."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from mcpproxy.proxy.upstream.transports import event_stream
from tests.proxy.byhand import served
from tests.proxy.runtime.dns import Dns
from tests.proxy.runtime.faults import FAULTS, SLACK, TIMEOUT, TIMES, Fault
from tests.proxy.runtime.peer import Peer
from tests.proxy.runtime.raw import Raw, last, rpc
from tests.proxy.runtime.serving import LIVE, Proxy, free_port, serving
from tests.proxy.runtime.shaped import ByHand, called, plain
from tests.proxy.runtime.test_failures import silent
from tests.proxy.runtime.test_tls_fields import AUTHORITY, CA, HOST
from tests.proxy.runtime.test_tls_fields import Stage as TlsStage
from tests.proxy.runtime.waiting import STEP, eventually

pytestmark = LIVE
KINDS = ("legacy", "modern", "Isolated")
"""Backends and clients of both eras without sessions, and a backend that gives them."""


@asynccontextmanager
async def _stage(
    proxy: Any, http: Any, kind: str, request: float = TIMEOUT
) -> AsyncIterator[tuple[ByHand, Raw]]:
    """A backend p by hand beside q, which is well, and a client of its era."""
    backend, other = ByHand(kind, plain), ByHand(kind, plain)
    async with served(backend.serve) as port, served(other.serve) as beside:
        timeouts = {"connect": "1s", "request": f"{int(request * 1000)}ms"}
        running = await proxy(
            {"name": "p", "url": f"http://127.0.0.1:{port}/mcp", "timeouts": timeouts},
            {"name": "q", "url": f"http://127.0.0.1:{beside}/mcp"},
        )
        client = Raw(running.url, http)
        if kind != "modern":
            await client.initialize()
        yield backend, client


async def _called(client: Raw, kind: str, backend: str) -> Any:
    name = f"{backend}_x"
    if kind == "modern":
        return last(await client.call("tools/call", name, name=name))
    return last(await client.post(rpc("tools/call", {"name": name}, "mine")))


async def _undisturbed(client: Raw, kind: str, calling: "asyncio.Task[Any]", pause: float) -> None:
    """Call the other backend until the call is over, and three times at least."""
    count = 0
    while count < 3 or not calling.done():
        started = time.perf_counter()
        answer = await _called(client, kind, "q")
        assert "result" in answer, answer
        assert time.perf_counter() - started < pause
        count += 1
        await asyncio.wait([calling], timeout=STEP)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
async def test_a_call_ends_as_the_table_of_faults_says(
    proxy: Any, http: Any, kind: str, fault: Fault
) -> None:
    async with _stage(proxy, http, kind, fault.timeout) as (backend, client):
        await _called(client, kind, "p")
        await _called(client, kind, "q")
        backend.writes = fault.write
        started = time.perf_counter()
        calling = asyncio.create_task(_called(client, kind, "p"))
        await _undisturbed(client, kind, calling, fault.pause)
        answer = await calling
        assert time.perf_counter() - started < TIMES[fault.time] + SLACK
        if fault.reason:
            told = {"backend": "p", "reason": fault.reason, "mayHaveRun": True}
            assert answer["error"]["data"] == told
            assert answer["error"]["message"].endswith("; the request may have run")
        else:
            assert "result" in answer
        assert len(backend.calls) == 2, "a call that may have run is not sent again"
        backend.writes = None
        assert "result" in await _called(client, kind, "p"), "the next call is served"


@pytest.mark.parametrize("kind", ["legacy", "modern"])
@pytest.mark.parametrize("fault", ["refused", "silent"])
async def test_a_call_that_finds_no_backend_did_not_run(
    proxy: Any, http: Any, kind: str, fault: str
) -> None:
    timeouts = {"connect": "100ms", "initialize": "100ms", "request": "5s"}
    async with silent() as hung:
        url = hung if fault == "silent" else f"http://127.0.0.1:{free_port()}/mcp"
        running = await proxy({"name": "p", "url": url, "timeouts": timeouts})
        client = Raw(running.url, http)
        if kind == "legacy":
            await client.initialize()
        started = time.perf_counter()
        error = (await called(client, kind))["error"]
        assert time.perf_counter() - started < 1.2 + SLACK
    reason = "TimedOut" if fault == "silent" else "Unreachable"
    assert error["data"] == {"backend": "p", "reason": reason, "mayHaveRun": False}
    assert error["message"].endswith("; the request did not run")


# TLS


@pytest.fixture
def dns(monkeypatch: pytest.MonkeyPatch) -> Dns:
    names = Dns(monkeypatch)
    names.known.add(HOST)
    return names


@pytest.mark.parametrize("fault", ["expired", "other name", "closed in the handshake"])
async def test_a_call_over_tls_that_fails_did_not_run(
    proxy: Any, http: Any, stack: Any, tmp_path: Path, dns: Dns, fault: str
) -> None:
    stage = TlsStage(tmp_path, stack, proxy)
    stage.values.trust(AUTHORITY)
    if fault == "closed in the handshake":

        async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            writer.close()

        port = await stack.enter_async_context(served(close))
    else:
        port = await stage.serve(HOST if fault == "expired" else "another.example.svc")
    if fault == "expired":
        certificate, key = AUTHORITY.issue(HOST, timedelta(days=-1))
        stage._chain.write_text(key + certificate)
        stage._tls.load_cert_chain(stage._chain)
    running = await stage.proxied({"caFrom": CA}, url=f"https://{HOST}:{port}/mcp")
    client = Raw(running.url, http)
    started = time.perf_counter()
    error = last(await client.call("tools/call", "t_x", name="t_x"))["error"]
    assert time.perf_counter() - started < SLACK
    assert error["data"] == {"backend": "t", "reason": "Unreachable", "mayHaveRun": False}
    words = {
        "expired": "TLS failed: certificate has expired",
        "other name": "TLS failed: Hostname mismatch",
        "closed in the handshake": "backend t: ",
    }
    assert words[fault] in error["message"]


# Restarts


@asynccontextmanager
async def _peers(
    proxy: Any, http: httpx2.AsyncClient, era: str, mode: str, **settings: Any
) -> AsyncIterator[tuple[Proxy, Raw, int]]:
    port = free_port()
    spec = {"name": "p", "url": f"http://127.0.0.1:{port}/mcp", "session": {"mode": mode}}
    # No check of a schedule finds out what the call has to find out.
    health = {"interval": "1h", "timeout": "2s", "unhealthyAfter": 1}
    async with serving(Peer("p", era).gate, port):
        running = await proxy({**spec, **settings}, health=health)
        client = Raw(running.url, http)
        if era == "legacy":
            await client.initialize()
        assert "result" in await _echoed(client, era)
    yield running, client, port


async def _echoed(client: Raw, era: str) -> Any:
    if era == "modern":
        return last(await client.call("tools/call", "p_echo", name="p_echo", arguments={}))
    return last(await client.post(rpc("tools/call", {"name": "p_echo", "arguments": {}})))


MODES = [("legacy", "Isolated"), ("legacy", "PerClient"), ("modern", "Isolated")]


@pytest.mark.parametrize(("era", "mode"), MODES)
async def test_after_a_restart_between_calls_the_next_call_is_served(
    proxy: Any, http: Any, era: str, mode: str
) -> None:
    async with _peers(proxy, http, era, mode) as (_, client, port):
        again = Peer("p", era)
        async with serving(again.gate, port):

            async def served_again() -> bool:
                answer = await _echoed(client, era)
                if "result" in answer:
                    return True
                # The connection that the old process left is no proof of what it did.
                assert answer["error"]["data"]["reason"] == "Unreachable"
                return False

            await eventually(served_again, "a call to be served")
            calls = again.gate.count("tools/call")
            assert "result" in await _echoed(client, era)
            assert again.gate.count("tools/call") == calls + 1


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_restart_while_a_session_is_opened_sends_no_call(
    proxy: Any, http: Any, era: str
) -> None:
    backend = ByHand("Isolated" if era == "legacy" else "modern", plain)
    restarting = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if restarting.is_set():
            await reader.read(1)
            writer.close()
            return
        await backend.serve(reader, writer)

    async with served(serve) as port:
        restarting.set()
        running = await proxy({"name": "p", "url": f"http://127.0.0.1:{port}/mcp"})
        client = Raw(running.url, http)
        if era == "legacy":
            await client.initialize()
        error = (await called(client, era))["error"]
        told = {"backend": "p", "reason": "Unreachable", "mayHaveRun": False}
        assert error["data"] == told
        assert backend.calls == []
        restarting.clear()

        async def served_again() -> bool:
            return "result" in await called(client, era)

        await eventually(served_again, "a call to be served")


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_restart_while_a_stream_of_changes_is_open_misses_no_change(
    proxy: Any, http: Any, era: str
) -> None:
    port = free_port()
    first, again = Peer("p", era), Peer("p", era)
    again.tools["added"] = again.echo
    async with serving(first.gate, port):
        running = await proxy({"name": "p", "url": f"http://127.0.0.1:{port}/mcp"})
        await running.until("p", "Healthy")
        client = Raw(running.url, http)
        if era == "legacy":
            await client.initialize()

    async def listed() -> bool:
        request = client.call("tools/list") if era == "modern" else client.post(rpc("tools/list"))
        answer = last(await request)
        tools = answer.get("result", {}).get("tools", [])
        return "p_added" in {tool["name"] for tool in tools}

    async with serving(again.gate, port):
        await eventually(listed, "the list of the new process")


async def test_an_endless_message_of_an_event_stream_ends_at_the_limit(
    proxy: Any, http: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "MAX_MESSAGE", 100_000)
    sent = 0
    async with _stage(proxy, http, "legacy") as (backend, client):
        await _called(client, "legacy", "p")

        async def write(request_id: Any, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
            while not writer.transport.is_closing():
                writer.write(b"data: " + b"x" * 10_000 + b"\n")
                await writer.drain()
                sent += 10_000

        backend.writes = write
        answer = await _called(client, "legacy", "p")
        told = {"backend": "p", "reason": "NotMCP", "mayHaveRun": True}
        assert answer["error"]["data"] == told
        assert sent < 10_000_000, "what the buffers of both ends hold"
