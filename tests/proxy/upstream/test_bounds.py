"""Limits against a backend: buffered bytes, open requests and wait times are bounded."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from msgspec import Raw

from mcpproxy.limits import backends as limits
from mcpproxy.limits.limit import Limit
from mcpproxy.limits.sessions import EVENT_ID
from mcpproxy.proxy.core.errors import ProtocolError, TimedOut
from mcpproxy.proxy.core.exchange import (
    ClientIdentity,
    NotificationHandler,
    NullContext,
)
from mcpproxy.proxy.http1.client import client as client_module
from mcpproxy.proxy.http1.client.client import HttpClient
from mcpproxy.proxy.http1.client.connection import ClientResponse
from mcpproxy.proxy.http1.errors import InvalidResponse, TooManyConnections
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.upstream.monitor import backend_status as status_module
from mcpproxy.proxy.upstream.transports import event_stream as event_stream_module
from mcpproxy.proxy.upstream.transports import http_endpoint as endpoint_module
from mcpproxy.proxy.upstream.transports import server_requests as questions_module
from mcpproxy.proxy.upstream.transports.event_stream import SseMessageReader, new_line_rate
from mcpproxy.proxy.upstream.transports.http_endpoint import McpHttpClient
from mcpproxy.proxy.upstream.transports.server_requests import ServerRequests
from mcpproxy.proxy.upstream.transports.session import TaskSet
from tests.proxy.http1.client.test_client import OK, Peer, client_of
from tests.proxy.runtime.waiting import soon
from tests.proxy.upstream.stage import settled
from tests.proxy.upstream.wire import Wire

ANN = ClientIdentity("2025-11-25", session="ann")
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def smaller(patch: pytest.MonkeyPatch, module: Any, limit: Limit, name: str, value: int) -> Limit:
    """Set a limit to another value, which counts together with the real one."""
    changed = replace(limit, value=value)
    patch.setattr(module, name, changed)
    return changed


async def _answered(client: HttpClient) -> bytes:
    response = await client.request(b"POST", [], b"{}")
    return await response.read(100)


# Connections


async def test_a_backend_that_hangs_gets_no_more_connections_than_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limit = smaller(monkeypatch, client_module, limits.CONNECTIONS, "CONNECTIONS", 3)
    peer, reached = Peer(b""), limit.reached
    async with client_of(peer) as client:
        tasks = [asyncio.create_task(_answered(client)) for _ in range(5)]
        await soon(lambda: len(peer.requests) == 3, "the requests")
        refused = [task for task in tasks if task.done()]
        assert [type(task.exception()) for task in refused] == [TooManyConnections] * 2
        assert (peer.connections, limit.reached - reached) == (3, 2)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await soon(lambda: not client._all, "the connections to be closed")
        # Abandoned requests take no place.
        peer.answers = [OK]
        assert await _answered(client) == b"ok"


async def test_failed_connections_do_not_count_towards_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    smaller(monkeypatch, client_module, limits.CONNECTIONS, "CONNECTIONS", 2)
    async with client_of(Peer(OK, close=True)) as client:
        for _ in range(10):
            assert await _answered(client) == b"ok"
            await soon(lambda: not client._all, "the connection to be closed")
        assert client._opening == 0


async def test_no_more_idle_connections_are_kept_than_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limit = smaller(monkeypatch, client_module, limits.IDLE_CONNECTIONS, "IDLE_CONNECTIONS", 2)
    peer, reached = Peer(OK), limit.reached
    async with client_of(peer) as client:
        assert await asyncio.gather(*(_answered(client) for _ in range(5))) == [b"ok"] * 5
        await soon(lambda: len(client._all) == 2, "the others to be closed")
        assert limit.reached == reached + 3
        assert len(client._idle) == 2


async def test_a_cancellation_that_is_never_answered_ends_with_its_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    peer = Peer(OK, b"")
    async with client_of(peer) as client:
        assert await _answered(client) == b"ok"
        limit = smaller(
            monkeypatch, endpoint_module, limits.OWN_REQUEST_TIME, "OWN_REQUEST_TIME", 0
        )
        reached = limit.reached
        with pytest.raises(TimedOut):
            await McpHttpClient(client, lambda: ()).deliver(
                b'{"method":"notifications/cancelled"}', ()
            )
        await asyncio.wait_for(peer.closed.wait(), 5)
        assert limit.reached == reached + 1
        await soon(lambda: not client._all, "the connection to be closed")


# Heads


async def _fed(begin: bytes, part: bytes) -> tuple[ClientResponse, int]:
    """Return the response to a request, and the bytes until the connection was closed."""
    wire = Wire()
    response = wire.begin()
    size = len(begin)
    wire.feed(begin)
    while not wire.closing:
        assert size < 4 * limits.RESPONSE_HEAD.value, "it reads on and on"
        size += len(part)
        wire.feed(part)
    return response, size


@pytest.mark.parametrize(
    ("begin", "part"),
    [
        (b"HTTP/1.1 200 OK\r\nx: ", b"y" * 100),
        (b"HTTP/1.1 200 ", b"y" * 100),
        (b"HTTP/1.1 200 OK\r\n", b"x: %b\r\n" % (b"y" * 1000)),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 100 Continue\r\nx: ", b"y" * 100),
        (STREAM + b"1;", b"y" * 100),
        (STREAM + b"1\r\na\r\n0\r\n", b"x: %b\r\n" % (b"y" * 1000)),
    ],
)
async def test_a_response_head_without_an_end_is_abandoned_at_its_limit(
    begin: bytes, part: bytes
) -> None:
    reached = limits.RESPONSE_HEAD.reached
    response, size = await _fed(begin, part)
    assert limits.RESPONSE_HEAD.value - 2000 < size - len(begin)
    assert size <= limits.RESPONSE_HEAD.value + len(begin) + 2000
    assert limits.RESPONSE_HEAD.reached == reached + 1
    assert not response.complete


async def test_a_response_with_too_many_header_lines_is_abandoned() -> None:
    most, reached = limits.RESPONSE_LINES.value, limits.RESPONSE_LINES.reached
    wire = Wire()
    begun = wire.begin()
    lines = b"a: b\r\n" * (most - 1)
    wire.feed(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n" + lines + b"\r\n")
    assert begun.complete
    wire = Wire()
    begun = wire.begin()
    # The rest of the packet, which would complete the response, is not read.
    wire.feed(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n" + lines + b"a: b\r\n\r\n")
    assert (wire.closing, begun.status, begun.complete) == (True, 0, False)
    with pytest.raises(InvalidResponse, match=f"more than {most} headers"):
        await begun.head()
    assert limits.RESPONSE_LINES.reached == reached + 1


# Streams


async def _reader(stream: bytes) -> SseMessageReader:
    wire = Wire()
    response = wire.begin()
    wire.feed(STREAM + b"%x\r\n%b\r\n" % (len(stream), stream))
    return SseMessageReader(response, new_line_rate())


async def test_an_event_id_that_no_header_could_carry_is_ignored() -> None:
    limit = EVENT_ID
    reached = limit.reached
    message = b'\ndata: {"jsonrpc":"2.0","method":"a"}\n\n'
    reader = await _reader(b"id: " + b"x" * limit.value + message)
    assert await reader.messages()
    assert reader.last_id == b"x" * limit.value
    reader = await _reader(b"id: 1" + message + b"id: " + b"x" * (limit.value + 1) + message)
    assert len(await reader.messages() or ()) == 2
    assert reader.last_id is None
    assert limit.reached == reached + 1


async def test_an_event_beyond_the_limit_is_counted_and_closes_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(event_stream_module, "MAX_MESSAGE", 100)
    reached = limits.MESSAGE.reached
    reader = await _reader(b": \n" * 40)
    with pytest.raises(ProtocolError, match="more than 100 bytes"):
        await reader.messages()
    assert limits.MESSAGE.reached == reached + 1


@pytest.mark.parametrize("member", ["params", "result"])
async def test_a_message_of_a_backend_with_too_many_members_is_a_protocol_error(
    member: str,
) -> None:
    content = {"jsonrpc": "2.0", "id": 1, member: {str(n): n for n in range(2000)}}
    if member == "params":
        content["method"] = "notifications/progress"
    reader = await _reader(b"data: " + json.dumps(content).encode() + b"\n\n")
    with pytest.raises(ProtocolError, match="more than 1024 fields"):
        await reader.messages()


# Server requests


class Silent(NullContext):
    """A client that never answers."""

    def __init__(self) -> None:
        super().__init__(ANN)
        self.asked = 0

    async def ask(
        self, request: Message, notify_backend: NotificationHandler | None = None
    ) -> Message:
        self.asked += 1
        await asyncio.Event().wait()
        raise AssertionError


@asynccontextmanager
async def _questions(peer: Peer) -> AsyncIterator[ServerRequests]:
    background = TaskSet()
    async with client_of(peer) as client:
        endpoint = McpHttpClient(client, lambda: ())

        async def send(body: bytes) -> None:
            await endpoint.deliver(body, ())

        yield ServerRequests(background, send, one_session=True)
        await background.close()


def _asks(number: int, method: str = "sampling/createMessage") -> Message:
    return {
        "jsonrpc": jsonrpc.VERSION,
        "id": Raw(b"%d" % number),
        "method": jsonrpc.encode_raw(method),
        "params": Raw(b"{}"),
    }


def _bodies(peer: Peer) -> list[Any]:
    return [json.loads(request.partition(b"\r\n\r\n")[2]) for request in peer.requests]


async def test_a_backend_that_requests_input_endlessly_is_refused() -> None:
    most, reached = limits.SERVER_REQUESTS.value, limits.SERVER_REQUESTS.reached
    peer, client = Peer(OK), Silent()
    async with _questions(peer) as questions:
        for number in range(most + 3):
            await questions.forward(_asks(number), client)
        await soon(lambda: len(peer.requests) == 3, "the refusals")
        assert client.asked == most
        refusals = [(body["id"], body["error"]["code"]) for body in _bodies(peer)]
        assert refusals == [(most + number, -32000) for number in range(3)]
        assert limits.SERVER_REQUESTS.reached == reached + 3


async def test_a_backend_with_too_many_simultaneous_requests_is_refused() -> None:
    most, reached = limits.SERVER_REQUEST_BYTES.value, limits.SERVER_REQUEST_BYTES.reached
    peer, client, large = Peer(OK), Silent(), {"params": Raw(b'"%b"' % (b"x" * most))}
    async with _questions(peer) as questions:
        for request in ({**_asks(1), **large}, _asks(2), {**_asks(3), **large}):
            await questions.forward(request, client)
        await soon(lambda: len(peer.requests) == 2, "the refusals")
        assert client.asked == 1
        assert [body["error"]["code"] for body in _bodies(peer)] == [-32000, -32000]
        assert limits.SERVER_REQUEST_BYTES.reached == reached + 2


async def test_a_server_request_outlives_its_call_for_a_limited_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limit = smaller(
        monkeypatch, questions_module, limits.SERVER_REQUEST_TIME, "SERVER_REQUEST_TIME", 0
    )
    client, other, reached = Silent(), Silent(), limit.reached
    async with _questions(Peer(OK)) as questions:
        await questions.forward(_asks(1), client)
        await questions.forward(_asks(2), other)
        questions.close_for(client, answered=True)
        await soon(lambda: len(questions._open) == 1, "the question to end")
        assert limit.reached == reached + 1
        questions.close_for(other, answered=False)
        await settled()
        assert not questions.has_open
        assert limit.reached == reached + 1


async def test_pings_are_answered_in_order_over_one_connection() -> None:
    most, reached = limits.UNSENT_ANSWERS.value, limits.UNSENT_ANSWERS.reached
    peer = Peer(OK)
    async with _questions(peer) as questions:
        for number in range(most + 3):
            await questions.forward(_asks(number, "ping"), Silent())
        await soon(lambda: len(peer.requests) >= most, "the answers")
        await soon(lambda: not questions._sending, "the last answer")
    assert [body["id"] for body in _bodies(peer)] == list(range(most))
    assert peer.connections == 1
    assert limits.UNSENT_ANSWERS.reached == reached + 3


# Lists


def test_the_name_that_a_backend_reports_is_truncated_and_escaped() -> None:
    reached = limits.SERVER_NAME.reached
    text = "a\x1b[2J\n" + "b" * limits.SERVER_NAME.value
    info = status_module._server_info({"name": text, "version": text})
    assert info is not None
    for shown in (info.name, info.version or ""):
        assert len(shown) == limits.SERVER_NAME.value
        assert shown.isprintable()
    assert limits.SERVER_NAME.reached == reached + 2
