"""Responses that no call waits for any longer: their connections are closed."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import Raw

from mcpproxy.proxy.core.errors import Unreachable
from mcpproxy.proxy.core.exchange import ClientIdentity, NullContext
from mcpproxy.proxy.http1.client.client import HttpClient
from mcpproxy.proxy.protocol.jsonrpc import INVALID_PARAMS, Message, RpcError
from mcpproxy.proxy.upstream.http_errors import first_words
from mcpproxy.proxy.upstream.transports import http_endpoint
from mcpproxy.proxy.upstream.transports.http_endpoint import McpHttpClient
from mcpproxy.proxy.upstream.transports.http_legacy import HttpLegacySession
from mcpproxy.proxy.upstream.transports.http_modern import HttpModernSession
from mcpproxy.proxy.upstream.transports.session import (
    HttpExchange,
    ServerDescription,
    TaskSet,
    UpstreamRequest,
)
from tests.proxy.byhand import served
from tests.proxy.upstream.answering import LEGACY, MODERN
from tests.proxy.upstream.stage import settled

CALL = UpstreamRequest(Raw(b"7"), "tools/call", {"name": Raw(b'"x"')})
CHUNKED = b"HTTP/1.1 %b\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n\r\n"
STREAM = CHUNKED % (b"200 OK", b"text/event-stream")
REFUSAL = CHUNKED % (b"403 Forbidden", b"text/plain")
ACCEPTED = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"
LOG = b'{"jsonrpc":"2.0","method":"notifications/message","params":{}}'
GUARD = 5.0


def _event(data: bytes) -> bytes:
    text = b"id: 1\nretry: 0\ndata: %b\n\n" % data
    return b"%x\r\n%b\r\n" % (len(text), text)


class Backend:
    """Answers calls and GET with these bytes, and a notification with 202."""

    def __init__(self, call: bytes, get: bytes = b"") -> None:
        self._answers = {b"post": call, b"get ": get}
        self.left_open = asyncio.Event()
        """Set when the answer to the last of them was sent."""
        self.closed = asyncio.Event()
        """Set when the proxy has closed the connection of that answer."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
            message = json.loads(await reader.readexactly(int(length or 0)) or b"{}")
            if "method" in message and "id" not in message:
                writer.write(ACCEPTED)
                continue
            writer.write(self._answers.pop(head[:4]))
            if not self._answers or not self._answers.get(b"get "):
                break
        self.left_open.set()
        await reader.read()
        self.closed.set()


class Failing(NullContext):
    """A client whose notifications cannot be translated."""

    async def notify(self, message: Message) -> None:
        raise RpcError(INVALID_PARAMS, "too many fields")


@asynccontextmanager
async def _session(
    revision: str, backend: Backend
) -> AsyncIterator[HttpLegacySession | HttpModernSession]:
    background = TaskSet()
    async with served(backend.serve) as port:
        client = HttpClient(f"http://127.0.0.1:{port}/mcp", 5)
        endpoint, server = McpHttpClient(client, tuple), ServerDescription(revision, {})
        legacy = revision == LEGACY
        yield (
            HttpLegacySession(endpoint, server, b"s", background)
            if legacy
            else HttpModernSession(endpoint, server)
        )
        await background.close(grace=1.0)
        client.close()


async def test_a_call_that_is_cancelled_after_its_stream_was_resumed_closes_the_new_stream() -> (
    None
):
    backend = Backend(STREAM + _event(b"") + b"0\r\n\r\n", STREAM)
    async with _session(LEGACY, backend) as link:
        call = asyncio.create_task(link.request(CALL, NullContext(ClientIdentity(LEGACY))))
        await asyncio.wait_for(backend.left_open.wait(), GUARD)
        await settled()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.wait_for(backend.closed.wait(), GUARD)


@pytest.mark.parametrize("revision", [LEGACY, MODERN])
async def test_a_call_that_fails_while_its_stream_is_read_closes_the_stream(revision: str) -> None:
    backend = Backend(STREAM + _event(LOG))
    async with _session(revision, backend) as link:
        with pytest.raises(RpcError, match="too many fields"):
            await asyncio.wait_for(link.request(CALL, Failing(ClientIdentity(revision))), GUARD)
        await asyncio.wait_for(backend.closed.wait(), GUARD)


@pytest.mark.parametrize("revision", [LEGACY, MODERN])
async def test_a_call_that_is_cancelled_while_a_refusal_is_read_closes_its_connection(
    revision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def read(response: Any) -> str:
        begun.set()
        return await first_words(response)

    monkeypatch.setattr(f"{http_endpoint.__name__}.first_words", read)
    backend = Backend(REFUSAL)
    async with _session(revision, backend) as link:
        call = asyncio.create_task(link.request(CALL, NullContext(ClientIdentity(revision))))
        await asyncio.wait_for(begun.wait(), GUARD)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.wait_for(backend.closed.wait(), GUARD)


@pytest.mark.parametrize("revision", [LEGACY, MODERN])
async def test_a_call_whose_response_does_not_come_discards_the_begun_one(revision: str) -> None:
    async def post(*_: Any, **__: Any) -> Any:
        raise Unreachable("no response")

    endpoint: Any = SimpleNamespace(by_client=False, post=post, standalone=None)
    endpoint.of = lambda client: endpoint
    server = ServerDescription(revision, {})
    link = (
        HttpLegacySession(endpoint, server, None, TaskSet())
        if revision == LEGACY
        else HttpModernSession(endpoint, server)
    )
    closed: list[bool] = []
    response: Any = SimpleNamespace(close=lambda: closed.append(True))
    exchange = HttpExchange(link, CALL, CALL.id, response)
    with pytest.raises(Unreachable):
        await link.resume(exchange, NullContext(ClientIdentity(revision)), None)
    assert closed
