"""Answers: whole or in parts, and one after the other."""

import asyncio

import pytest

from mcpproxy.proxy.http1.server.connection import MAX_WAITING, ServerConnection
from mcpproxy.proxy.http1.server.request import Request
from mcpproxy.proxy.http1.server.response_writer import ResponseWriter
from mcpproxy.proxy.timers import Timer, TimerQueue
from tests.proxy.http1.server.served import Gate, Served, request
from tests.proxy.runtime.waiting import soon


class Transport(asyncio.Transport):
    """A transport that notes what it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.closed = False

    def write(self, data: object) -> None:
        self.calls.append("write")

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")

    def abort(self) -> None:
        self.calls.append("abort")


def _connected(served: Served) -> tuple[ServerConnection, Transport]:
    connection, transport = ServerConnection(served.server), Transport()
    connection.connection_made(transport)
    return connection, transport


# Whole answers


async def test_a_plain_response_is_one_write(served: Served) -> None:
    connection, transport = _connected(served)
    connection.data_received(request("/", b"hello"))
    assert transport.calls == ["write"]
    connection.connection_lost(None)


@pytest.mark.parametrize("size", [0, 1, 16 * 1024, 16 * 1024 + 1, 2**20, 2**24])
async def test_a_response_of_any_size_is_complete(served: Served, size: int) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    served.app.at_once_handlers["/large"] = lambda _, reply: reply.complete(body[:size])
    client = await served.client()
    await client.send(request("/large") * 2)
    for _ in range(2):
        assert (await client.answer()).body == body[:size]
    assert (await client.ask("/")).status == 200


@pytest.mark.parametrize("line", ["Connection: close", "Connection: keep-alive, CLOSE"])
async def test_a_connection_is_closed_at_the_request_of_the_client(
    served: Served, line: str
) -> None:
    client = await served.client()
    answer = await client.ask("/", b"", line)
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert await client.rest() == b""


@pytest.mark.parametrize("waiting", [True, False])
async def test_input_after_the_last_request_is_not_served(
    served: Served, waiting: bool, caplog: pytest.LogCaptureFixture
) -> None:
    gate = served.app.handlers["/slow"] = Gate()
    client = await served.client()
    if waiting:
        await client.send(request("/slow"))
        await gate.entered.wait()
    await client.send(request("/last", b"", "Connection: close") + request("/b"))
    if waiting:
        await soon(lambda: served.connection().waiting == 2, "both requests")
        gate.opened.set()
        assert (await client.answer()).body == b'"late"'
    assert (await client.answer()).headers["connection"] == "close"
    assert await client.rest() == b""
    assert served.app.served[-1].path == "/last"
    assert not caplog.records


@pytest.mark.parametrize("line", ["Accept: */*", "Connection: keep-alive"])
async def test_a_client_of_http_10_gets_one_response(served: Served, line: str) -> None:
    client = await served.client()
    await client.send(b"GET /a HTTP/1.0\r\nHost: h\r\n%b\r\n\r\n" % line.encode())
    answer = await client.answer()
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert await client.rest() == b""


async def test_a_client_of_http_10_gets_a_stream_without_chunks(served: Served) -> None:
    served.app.handlers["/stream"] = _three_events
    client = await served.client()
    await client.send(b"GET /stream HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n")
    head = await client.head()
    assert "transfer-encoding" not in head.headers
    assert _data(await client.rest()) == [b"0", b"1", b"2", b"3"]


async def test_a_pipelined_request_of_http_10_does_not_change_the_earlier_response(
    served: Served,
) -> None:
    gate = served.app.handlers["/stream"] = Streaming()
    client = await served.client()
    old = b"GET /old HTTP/1.0\r\nHost: h\r\n\r\n"
    await client.send(request("/stream") + old)
    await gate.entered.wait()
    await soon(lambda: served.connection().waiting == 1, "both requests")
    gate.opened.set()
    assert (await client.answer()).headers["transfer-encoding"] == "chunked"
    assert (await client.answer()).echo["path"] == "/old"
    assert await client.rest() == b""


async def test_head_requests_get_the_headers_alone(served: Served) -> None:
    served.app.handlers["/stream"] = _three_events
    client = await served.client()
    for path in ("/", "/stream", "/unwanted"):
        await client.send(request(path, method="HEAD"))
        head = await client.head()
        assert ("content-length" in head.headers) == (path != "/stream")
    assert (await client.ask("/after")).echo["path"] == "/after"


async def test_an_answer_without_content_has_no_chunks(served: Served) -> None:
    async def passed_on(_: Request, reply: ResponseWriter) -> None:
        await reply.start(204, ())
        await reply.end()

    served.app.handlers["/none"] = passed_on
    client = await served.client()
    await client.send(request("/none") + request("/after"))
    assert (await client.head()).headers == {}
    assert (await client.answer()).echo["path"] == "/after"


# Streams


def _data(stream: bytes) -> list[bytes]:
    """Return the data of the events of a stream."""
    lines = stream.splitlines()
    return [line.removeprefix(b"data: ") for line in lines if line.startswith(b"data: ")]


async def _three_events(inbound: Request, reply: ResponseWriter) -> None:
    for number in range(3):
        await reply.event(b"%d" % number)
    await reply.finish(b"3")


class Streaming(Gate):
    """Begins a stream, ends it once opened."""

    async def __call__(self, inbound: Request, reply: ResponseWriter) -> None:
        self.entered.set()
        try:
            await self.opened.wait()
            await _three_events(inbound, reply)
        finally:
            self.left.set()


async def test_events_are_chunks_of_a_stream_that_ends_properly(served: Served) -> None:
    served.app.handlers["/stream"] = _three_events
    client = await served.client()
    answer = await client.ask("/stream")
    assert answer.headers["content-type"] == "text/event-stream"
    assert _data(answer.body) == [b"0", b"1", b"2", b"3"]
    assert (await client.ask("/after")).echo["path"] == "/after"


async def test_a_writer_waits_for_a_reader_that_stops(served: Served) -> None:
    sent = []
    event = b"x" * 2**16

    async def flood(_: Request, reply: ResponseWriter) -> None:
        for number in range(256):
            await reply.event(event)
            sent.append(number)
        await reply.finish(b"1")

    served.app.handlers["/flood"] = flood
    client = await served.client(buffer=2**16)
    await client.send(request("/flood"))
    await soon(lambda: served.server.connections and served.connection().paused, "the writer")
    held = len(sent)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(sent) == held < 128
    head = await client.head()
    assert head.status == 200
    taken = 0
    while part := await client.chunk():
        taken += part.count(b"x")
    assert taken == 256 * len(event)


async def test_silence_turns_an_answer_into_a_stream_with_pings(served: Served) -> None:
    served.server.pings = TimerQueue(asyncio.get_running_loop(), 0.02)
    gate = Gate()

    async def slow(inbound: Request, reply: ResponseWriter) -> None:
        reply.keep_alive()
        await gate(inbound, reply)

    served.app.handlers["/slow"] = slow
    client = await served.client()
    await client.send(request("/slow"))
    assert (await client.head()).headers["content-type"] == "text/event-stream"
    assert [(await client.chunk())[:1] for _ in range(3)] == [b":"] * 3
    gate.opened.set()
    while (part := await client.chunk()).startswith(b":"):
        pass
    assert _data(part) == [b'"late"']
    assert await client.chunk() == b""
    assert not served.server.pings.running


async def _silence(served: Served) -> None:
    """Let the time of a ping be over."""
    (alarm,) = served.server.pings.running
    assert isinstance(alarm, Timer)
    alarm.cancel()
    alarm.expire()
    await asyncio.sleep(0)


async def test_a_reader_that_stops_gets_no_pings(served: Served) -> None:
    gate = Gate()

    async def slow(inbound: Request, reply: ResponseWriter) -> None:
        reply.keep_alive()
        await reply.event(b"x")
        await gate(inbound, reply)

    served.app.handlers["/slow"] = slow
    connection, transport = _connected(served)
    connection.data_received(request("/slow"))
    await gate.entered.wait()
    await soon(lambda: transport.calls == ["write", "write"], "head and event")
    connection.pause_writing()
    await _silence(served)
    assert transport.calls == ["write", "write"]
    connection.resume_writing()
    await _silence(served)
    assert transport.calls == ["write", "write", "write"]
    gate.opened.set()
    await gate.left.wait()
    connection.connection_lost(None)


# Requests sent ahead


async def test_pipelined_requests_get_responses_in_order(served: Served) -> None:
    gate = served.app.handlers["/slow"] = Gate()
    served.app.handlers["/stream"] = _three_events
    client = await served.client()
    await client.send(
        request("/slow") + request("/a") + request("/stream") + request("/unwanted") + request("/b")
    )
    await gate.entered.wait()
    assert [inbound.path for inbound in served.app.served] == ["/slow"]
    gate.opened.set()
    assert (await client.answer()).body == b'"late"'
    assert (await client.answer()).echo["path"] == "/a"
    assert (await client.answer()).headers["transfer-encoding"] == "chunked"
    assert (await client.answer()).status == 404
    assert (await client.answer()).echo["path"] == "/b"


async def test_an_unreadable_request_is_refused_after_earlier_responses(served: Served) -> None:
    gate = served.app.handlers["/slow"] = Gate()
    client = await served.client()
    await client.send(request("/slow") + request("/a") + b"\x00garbage\r\n\r\n" + request("/b"))
    await gate.entered.wait()
    gate.opened.set()
    assert (await client.answer()).body == b'"late"'
    assert (await client.answer()).echo["path"] == "/a"
    refusal = await client.answer()
    assert (refusal.status, refusal.headers["connection"]) == (400, "close")
    assert await client.rest() == b""


@pytest.mark.parametrize("path", ["/", "/unwanted"])
async def test_thousands_of_requests_may_wait(served: Served, path: str) -> None:
    gate = served.app.handlers["/slow"] = Gate()
    client = await served.client()
    await client.send(request("/slow") + request(path) * 3000)
    await gate.entered.wait()
    gate.opened.set()
    assert (await client.answer()).status == 200
    statuses = {(await client.answer()).status for _ in range(3000)}
    assert statuses == {200 if path == "/" else 404}


async def test_a_client_that_pipelines_too_much_is_paused(served: Served) -> None:
    gate = served.app.handlers["/slow"] = Gate()
    connection, transport = _connected(served)
    connection.data_received(request("/slow"))
    for _ in range(MAX_WAITING - 1):
        connection.data_received(request("/slow"))
    assert transport.calls == []
    connection.data_received(request("/slow"))
    assert transport.calls == ["pause"]
    await gate.entered.wait()
    gate.opened.set()
    await soon(lambda: transport.calls.count("write") == MAX_WAITING + 1, "the answers")
    assert transport.calls[:3] == ["pause", "write", "resume"]
    assert "resume" not in transport.calls[3:]
    connection.connection_lost(None)


async def test_the_next_request_waits_until_the_client_has_taken_the_answer(
    served: Served,
) -> None:
    connection, transport = _connected(served)
    connection.pause_writing()
    connection.data_received(request("/a") + request("/b"))
    assert (served.app.served, transport.calls) == ([], [])
    connection.resume_writing()
    assert [inbound.path for inbound in served.app.served] == ["/a", "/b"]
    connection.connection_lost(None)


async def test_a_message_in_parts_is_not_interrupted_by_pings_or_events(served: Served) -> None:
    async def handler(inbound: Request, reply: ResponseWriter) -> None:
        reply.keep_alive()
        assert served.server.pings.running
        assert reply.takes_parts
        assert await reply.part(b'{"a":')
        assert not served.server.pings.running
        await reply.event(b"{}")
        assert not reply.takes_parts
        await asyncio.sleep(0)
        # What came may have nothing that can be sent on.
        assert await reply.part(b"")
        await asyncio.sleep(0)
        assert await reply.part(b"1}")
        await reply.last_part()

    served.app.handlers["/parts"] = handler
    client = await served.client()
    await client.send(request("/parts"))
    assert (await client.head()).headers["content-type"] == "application/json"
    parts = [await client.chunk(), await client.chunk()]
    assert b"".join(parts) == b'{"a":1}'
