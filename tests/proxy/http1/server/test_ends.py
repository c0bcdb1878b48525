"""Ends of connections: too slow, idle, aborted by the client, or because the server stops."""

import asyncio
import gc
import weakref

import pytest

from mcpproxy.proxy.http1.server.connection import IDLE_SWEEPS, REQUEST_SWEEPS, STALLED_SWEEPS
from mcpproxy.proxy.http1.server.request import Request
from mcpproxy.proxy.http1.server.response_writer import ResponseWriter
from tests.proxy.http1.server.served import Gate, Served, request
from tests.proxy.runtime.waiting import soon

LARGE = b"x" * 2**24


async def _connected(served: Served) -> None:
    await soon(lambda: served.server.connections, "the connection")


# What lasts too long


@pytest.mark.parametrize(
    "part", [b"GET / HT", b"GET / HTTP/1.1\r\nX: y", request("/", b"hello")[:-1]]
)
async def test_a_request_that_comes_too_slowly_is_refused(served: Served, part: bytes) -> None:
    client = await served.client()
    assert (await client.ask("/")).status == 200
    await client.send(part)
    await soon(lambda: not served.connection().idle, "the request")
    served.sweep(REQUEST_SWEEPS)
    assert not served.connection().closing
    served.sweep()
    answer = await client.answer()
    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert await client.rest() == b""


@pytest.mark.parametrize("used", [True, False])
async def test_an_idle_connection_is_closed(served: Served, used: bool) -> None:
    client = await served.client()
    if used:
        served.sweep(IDLE_SWEEPS)
        await client.ask("/")
    await _connected(served)
    served.sweep(IDLE_SWEEPS)
    if used:
        await client.ask("/")
        served.sweep(IDLE_SWEEPS)
    served.sweep()
    assert await client.rest() == b""


async def test_a_slow_response_is_awaited(served: Served) -> None:
    gate = served.app.handlers["/gate"] = Gate()
    client = await served.client()
    await client.send(request("/gate"))
    await gate.entered.wait()
    served.sweep(1000)
    gate.opened.set()
    assert (await client.answer()).body == b'"late"'


async def _flood(_: Request, reply: ResponseWriter) -> None:
    for _number in range(1000):
        await reply.event(b"x" * 2**16)


@pytest.mark.parametrize("path", ["/flood", "/large"])
async def test_a_client_that_does_not_read_is_disconnected(served: Served, path: str) -> None:
    served.app.handlers["/flood"] = _flood
    served.app.at_once_handlers["/large"] = lambda _, reply: reply.complete(LARGE)
    client = await served.client(buffer=2**16)
    await client.send(request(path))
    await soon(lambda: served.server.connections and served.connection().paused, "the stall")
    await asyncio.sleep(0.05)
    served.sweep(2)
    served.sweep(STALLED_SWEEPS - 2)
    assert served.server.connections
    served.sweep(2)
    await soon(lambda: not served.server.connections, "the connection to end")


@pytest.mark.parametrize("lines", [(), ("Connection: close",)])
async def test_a_slow_client_gets_its_whole_response(
    served: Served, lines: tuple[str, ...]
) -> None:
    served.app.at_once_handlers["/large"] = lambda _, reply: reply.complete(LARGE)
    client = await served.client(buffer=2**16)
    await client.send(request("/large", b"", *lines))
    head = await client.head()
    taken = 0
    while taken < len(LARGE):
        if taken < len(LARGE) - 2**23:
            served.sweep(STALLED_SWEEPS - 4)
            assert served.server.connections
        async with asyncio.timeout(10):
            taken += len(await client.reader.readexactly(2**22))
    assert taken == int(head.headers["content-length"])


async def test_a_refused_client_that_does_not_close_is_disconnected(served: Served) -> None:
    client = await served.client()
    await client.send(b"\x00\r\n\r\n")
    assert (await client.answer()).status == 400
    assert await client.rest() == b""
    await client.send(b"more")
    if served.server.connections:
        served.sweep(2)
    await soon(lambda: not served.server.connections, "the connection to end")


# Clients that go away


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("part", [b"GET / HT", b"GET / HTTP/1.1\r\nX:", request("/", b"abc")[:-1]])
async def test_a_client_may_disconnect_in_the_middle_of_a_request(
    served: Served, part: bytes, end: str
) -> None:
    client = await served.client()
    await client.send(part)
    await soon(lambda: served.server.connections and not served.connection().idle, "the request")
    getattr(client, end)()
    await soon(lambda: not served.server.connections, "the connection to end")
    assert served.app.served == []
    assert served.server.held == 0


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("begun", [True, False])
async def test_a_handler_is_notified_once_when_its_client_disconnects(
    served: Served, begun: bool, end: str
) -> None:
    gate, told = Gate(), []

    async def waiting(inbound: Request, reply: ResponseWriter) -> None:
        reply.on_disconnect(lambda: told.append(1))
        if begun:
            await reply.event(b"1")
        await gate(inbound, reply)
        await reply.event(b"2")

    served.app.handlers["/waits"] = waiting
    client = await served.client()
    await client.send(request("/waits") + request("/after"))
    await gate.entered.wait()
    assert told == []
    getattr(client, end)()
    await soon(lambda: told, "the handler to be told")
    assert served.server.connections
    gate.opened.set()
    await soon(lambda: not served.server.connections, "the handler to end")
    assert told == [1]
    assert len(served.app.served) == 1


async def test_a_late_listener_is_notified_with_the_next_event(served: Served) -> None:
    entered, go_on, told = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def late(_: Request, reply: ResponseWriter) -> None:
        entered.set()
        await go_on.wait()
        reply.on_disconnect(told.set)
        await reply.ping()
        await told.wait()

    served.app.handlers["/late"] = late
    client = await served.client()
    await client.send(request("/late"))
    await entered.wait()
    connection = served.connection()
    client.reset()
    await soon(lambda: connection.lost, "the connection to be lost")
    go_on.set()
    async with asyncio.timeout(5):
        await told.wait()


async def test_a_listener_is_not_notified_after_the_response(served: Served) -> None:
    told = []

    async def answered(_: Request, reply: ResponseWriter) -> None:
        reply.on_disconnect(lambda: told.append(1))
        await reply.finish(b"1")
        await reply.event(b"too late")

    served.app.handlers["/answered"] = answered
    client = await served.client()
    await client.ask("/answered")
    client.close()
    await soon(lambda: not served.server.connections, "the connection to end")
    assert told == []


async def test_a_writer_does_not_wait_for_a_client_that_has_gone(served: Served) -> None:
    ended = asyncio.Event()

    async def flood(_: Request, reply: ResponseWriter) -> None:
        for _number in range(1000):
            await reply.event(b"x" * 2**16)
        ended.set()

    served.app.handlers["/flood"] = flood
    client = await served.client(buffer=2**16)
    await client.send(request("/flood"))
    await soon(lambda: served.server.connections and served.connection().paused, "the stall")
    client.reset()
    async with asyncio.timeout(5):
        await ended.wait()


async def test_a_connection_that_has_ended_needs_no_collector(served: Served) -> None:
    client = await served.client()
    await client.ask("/", b"x")
    await client.send(request("/", b"abc")[:-1])
    await soon(lambda: not served.connection().idle, "the request")
    result = weakref.ref(served.connection())
    gc.collect()
    gc.disable()
    try:
        client.close()
        await soon(lambda: result() is None, "the connection to be freed")
    finally:
        gc.enable()


# The server stops


async def test_idle_connections_are_closed_when_the_server_stops(served: Served) -> None:
    used, unused = await served.client(), await served.client()
    await used.ask("/")
    await soon(lambda: len(served.server.connections) == 2, "the connections")
    await asyncio.wait_for(served.server.drain(30), 5)
    assert await used.rest() == await unused.rest() == b""
    with pytest.raises(ConnectionRefusedError):
        await served.client()


async def test_a_server_stops_while_the_client_of_a_refused_request_keeps_its_connection(
    served: Served,
) -> None:
    client = await served.client()
    await client.send(request("/", b"", f"Content-Length: {10**12}"))
    assert (await client.head()).status == 413
    await asyncio.wait_for(served.server.drain(0), 5)


async def test_a_kept_connection_is_closed_after_its_next_response_once_the_server_lingers(
    served: Served,
) -> None:
    client = await served.client()
    await client.ask("/")
    served.server.linger()
    assert served.server.expects_requests
    assert (await client.ask("/")).headers["connection"] == "close"
    assert await client.rest() == b""
    await soon(lambda: not served.server.expects_requests, "the connection to end")


async def test_answers_in_flight_are_completed_when_the_server_stops(served: Served) -> None:
    gate = served.app.handlers["/gate"] = Gate()
    client = await served.client()
    await client.send(request("/gate") + request("/after"))
    await gate.entered.wait()
    draining = asyncio.create_task(served.server.drain(30))
    await soon(lambda: served.server.draining, "the server to stop")
    gate.opened.set()
    answer = await client.answer()
    assert (answer.body, answer.headers["connection"]) == (b'"late"', "close")
    assert await client.rest() == b""
    await asyncio.wait_for(draining, 5)
    assert len(served.app.served) == 1


async def test_a_request_in_flight_is_completed_when_the_server_stops(served: Served) -> None:
    client = await served.client()
    await client.send(request("/", b"abc")[:-1])
    await soon(lambda: served.server.connections and not served.connection().idle, "the request")
    draining = asyncio.create_task(served.server.drain(30))
    await soon(lambda: served.server.draining, "the server to stop")
    await client.send(b"c")
    answer = await client.answer()
    assert (answer.echo["body"], answer.headers["connection"]) == ("abc", "close")
    await asyncio.wait_for(draining, 5)


async def test_streams_end_properly_when_the_server_stops(served: Served) -> None:
    gate = Gate()

    async def stream(_: Request, reply: ResponseWriter) -> None:
        await reply.event(b"1")
        gate.entered.set()
        await gate.opened.wait()
        await reply.end()

    served.app.handlers["/stream"] = stream
    client = await served.client()
    await client.send(request("/stream"))
    await gate.entered.wait()
    draining = asyncio.create_task(served.server.drain(30))
    gate.opened.set()
    assert (await client.rest()).endswith(b"\r\n0\r\n\r\n")
    await asyncio.wait_for(draining, 5)


async def test_a_large_response_is_completed_when_the_server_stops(served: Served) -> None:
    served.app.at_once_handlers["/large"] = lambda _, reply: reply.complete(LARGE)
    client = await served.client(buffer=2**16)
    await client.send(request("/large"))
    await soon(lambda: served.server.connections and served.connection().paused, "the answer")
    draining = asyncio.create_task(served.server.drain(30))
    await soon(lambda: served.server.draining, "the server to stop")
    assert len((await client.answer()).body) == len(LARGE)
    await asyncio.wait_for(draining, 5)


async def test_tasks_beyond_the_time_limit_are_cancelled_and_awaited(served: Served) -> None:
    cleaned = asyncio.Event()
    gate = Gate()

    async def endless(_: Request, reply: ResponseWriter) -> None:
        gate.entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.set()

    served.app.handlers["/endless"] = endless
    client, left = await served.client(), await served.client()
    await client.send(request("/endless"))
    await left.send(request("/endless"))
    await soon(lambda: len(served.app.served) == 2, "both requests")
    left.reset()
    await soon(lambda: any(c.lost for c in served.server.connections), "one to be lost")
    await served.server.drain(0.01)
    assert cleaned.is_set()
    assert not served.server.connections
    assert await client.broken()


async def test_a_connection_during_shutdown_is_closed(served: Served) -> None:
    served.server.draining = True
    client = await served.client()
    assert await client.broken()
