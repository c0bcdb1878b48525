"""Calls whose answer is a stream of events: most servers stream, and most streams are one event."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from mcpproxy.limits.sessions import RESUMED_STREAMS
from mcpproxy.proxy.http1.client import connection as connection_module
from mcpproxy.proxy.http1.server.connection import ServerConnection
from tests.proxy.runtime.serving import LIVE
from tests.proxy.runtime.shaped import END, HEAD, KINDS, TEXT, called, chunk, plain, stage
from tests.proxy.runtime.waiting import soon

pytestmark = LIVE


def named(body: bytes) -> bytes:
    """One event, as the Python SDK writes it."""
    return HEAD + chunk(b"event: message\r\ndata: %b\r\n\r\n" % body) + END


def nameless(body: bytes) -> bytes:
    """One event, as short as can be."""
    return HEAD + chunk(b"data:%b\n\n" % body) + END


async def _warm(backend: Any, client: Any, kind: str) -> None:
    """A connection is open, and a session where each call takes one."""
    await called(client, kind)
    if kind == "Isolated":
        await soon(backend.is_warm, "a session that waits")


def _tasks(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The calls that a task is wanted for, from now on."""
    taken: list[Any] = []
    monkeypatch.setattr(ServerConnection, "run", lambda self, *work: taken.append(work))
    return taken


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [named, nameless])
async def test_a_response_as_the_only_event_needs_no_task(
    proxy: Any,
    http: Any,
    kind: str,
    shape: Callable[[bytes], bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with stage(proxy, http, kind, shape) as (backend, client):
        await _warm(backend, client, kind)
        taken = _tasks(monkeypatch)
        for _ in range(2):
            answer = await called(client, kind)
            assert answer["result"]["content"] == TEXT["content"]
            if kind == "Isolated":
                break
        assert taken == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("in_one", [True, False])
async def test_a_response_completes_when_it_arrives_and_not_when_its_stream_ends(
    proxy: Any, http: Any, kind: str, in_one: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "DRAIN", 0.05)
    body = b'{"jsonrpc":"2.0","id":%b,"result":{"content":[],"resultType":"complete"}}'

    async def writes(request_id: Any, writer: asyncio.StreamWriter) -> None:
        spelt = body % json.dumps(request_id).encode()
        event = (b"event: message\n", b"data: %b\n\n" % spelt)
        for part in (HEAD, *map(chunk, (b"".join(event),) if in_one else event)):
            writer.write(part)
            await writer.drain()
            for _ in range(10):
                await asyncio.sleep(0)
        # And no end: whoever does not go is waited for in vain.
        await writer.wait_closed()

    async with stage(proxy, http, kind, plain) as (backend, client):
        await _warm(backend, client, kind)
        backend.writes = writes
        with monkeypatch.context() as patched:
            if in_one:
                taken = _tasks(patched)
            assert (await called(client, kind))["result"]["content"] == []
            assert not in_one or taken == []
        backend.writes = None
        assert (await called(client, kind))["result"]["content"] == TEXT["content"]
        assert len(backend.calls) == 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ((HEAD, END), "Unreachable"),
        ((HEAD,), "TimedOut"),
        ((HEAD, chunk(b": wait\n\n")), "TimedOut"),
        ((HEAD, chunk(b"data: {}\n\n"), END), "Unreachable"),
        ((HEAD, chunk(b'data: {"jsonrpc":"2.0"}\n\n'), END), "NotMCP"),
    ],
)
async def test_a_stream_without_a_response_is_an_error_and_the_call_is_not_sent_again(
    proxy: Any, http: Any, kind: str, parts: tuple[bytes, ...], reason: str
) -> None:
    async def writes(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.writelines(parts)

    async with stage(proxy, http, kind, plain) as (backend, client):
        await _warm(backend, client, kind)
        backend.writes = writes
        answer = await called(client, kind)
        assert answer["error"]["data"] == {"backend": "p", "reason": reason, "mayHaveRun": True}
        assert len(backend.calls) == 2


@pytest.mark.parametrize("kind", ["legacy", "modern"])
async def test_bytes_after_a_response_are_dropped_and_the_connection_is_reused(
    proxy: Any, http: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = b'{"jsonrpc":"2.0","id":%b,"result":{"content":[],"resultType":"complete"}}'
    event = b"data: %b\n\n" % (body % (b"1" if kind == "modern" else b'"mine"'))
    rest = asyncio.Event()
    writers: list[asyncio.StreamWriter] = []
    left: list[connection_module.ClientResponse] = []
    leave = connection_module.ClientResponse.leave

    def leaves(self: connection_module.ClientResponse) -> None:
        left.append(self)
        leave(self)

    monkeypatch.setattr(connection_module.ClientResponse, "leave", leaves)

    async def writes(_: Any, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(HEAD + chunk(event))
        await rest.wait()
        writer.write(chunk(b": more\n\n" * 100_000) + END)

    async with stage(proxy, http, kind, plain) as (backend, client):
        await _warm(backend, client, kind)
        left.clear()
        backend.writes = writes
        assert (await called(client, kind))["result"]["content"] == []
        rest.set()
        await soon(lambda: left[0].complete, "the end of the stream")
        assert not left[0].waiting
        assert (await called(client, kind))["result"]["content"] == []
        assert writers[0] is writers[1]


async def test_a_stream_that_repeatedly_ends_early_is_abandoned(proxy: Any, http: Any) -> None:
    async def writes(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + chunk(b"id: 1\nretry: 0\ndata: \n\n") + END)

    async with stage(proxy, http, "legacy", plain, timeout="60s") as (backend, client):
        # A client of this revision is not sent away meanwhile.
        await client.initialize("2025-06-18")
        backend.writes = writes
        backend.resumed = HEAD + chunk(b"id: 1\nretry: 0\ndata: \n\n") + END
        reached = RESUMED_STREAMS.reached
        answer = await called(client, "legacy")
        assert answer["error"]["data"] == {
            "backend": "p",
            "reason": "Unreachable",
            "mayHaveRun": True,
        }
        assert RESUMED_STREAMS.reached == reached + 1
        assert len(backend.calls) == 1
