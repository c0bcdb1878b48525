"""Bounds of a client: bytes that the server holds, connections, and time."""

import asyncio
import dataclasses
import itertools
import resource
from collections.abc import Callable

import pytest

from mcpproxy.limits import http as limits
from mcpproxy.limits.limit import Limit
from mcpproxy.proxy.http1.server import body_memory
from mcpproxy.proxy.http1.server.body_memory import BodyMemory
from mcpproxy.proxy.http1.server.connection import MAX_WAITING, STALLED_SWEEPS
from mcpproxy.proxy.http1.server.read_ahead import BYTES_A_TURN
from mcpproxy.proxy.http1.server.request_parser import MAX_UNREAD
from mcpproxy.proxy.http1.server.server import connections_of_clients
from tests.proxy.http1.server.served import Client, Gate, Served, chunked, request
from tests.proxy.runtime.waiting import soon

CHUNKED = "Transfer-Encoding: chunked"


async def _refused(client: Client, status: int) -> None:
    answer = await client.answer()
    assert (answer.status, answer.headers["connection"]) == (status, "close")
    assert await client.rest() == b""


def _with(limit: Limit, value: int) -> Limit:
    return dataclasses.replace(limit, value=value)


# Heads


async def test_the_size_of_a_head_counts_every_byte_of_its_lines(served: Served) -> None:
    client = await served.client()
    await client.send(request("/", b"", *(["a:" + "b" * 396] * 170)))
    await _refused(client, 431)


async def test_a_request_with_too_many_header_lines_is_refused(served: Served) -> None:
    before = limits.REQUEST_LINES.reached
    client = await served.client()
    await client.send(request("/", b"", *(["a:"] * 60_000)))
    await _refused(client, 431)
    assert limits.REQUEST_LINES.reached == before + 1
    assert served.app.served == []


async def test_trailers_count_among_the_lines(served: Served) -> None:
    client = await served.client()
    await client.send(request("/", b"", CHUNKED) + b"0\r\n" + b"a:\r\n" * 300 + b"\r\n")
    await _refused(client, 431)


async def test_a_request_target_that_is_too_long_is_refused(served: Served) -> None:
    client = await served.client()
    await client.send(request("/" + "x" * limits.REQUEST_TARGET.value))
    await _refused(client, 414)


@pytest.mark.parametrize(
    "begin",
    [
        b"GET / HTTP/1.1\r\nX: ",
        request("/", b"", CHUNKED) + b"5;",
        request("/", b"", CHUNKED) + b"0\r\nX: ",
    ],
    ids=["header", "extension", "trailer"],
)
async def test_an_endless_line_is_refused_in_every_part_of_a_request(
    served: Served, begin: bytes
) -> None:
    client = await served.client()
    await client.send(begin)
    sent = 0
    while sent <= 2 * MAX_UNREAD and served.server.connections:
        sent += 2**14
        client.writer.write(b"x" * 2**14)
        await asyncio.sleep(0)
    assert (await client.answer()).status in (400, 431)
    assert served.app.served == []


@pytest.mark.parametrize("coding", ["gzip", "gzip, chunked", "identity", "identity, chunked"])
async def test_unknown_transfer_codings_are_refused(served: Served, coding: str) -> None:
    client = await served.client()
    await client.send(request("/", b"", f"Transfer-Encoding: {coding}") + b"0\r\n\r\n")
    answer = await client.answer()
    # Where the last coding is not chunked, nothing tells where the body ends.
    assert answer.status in (400, 501)
    assert answer.headers["connection"] == "close"
    assert served.app.served == []


async def test_a_transfer_coding_before_chunked_is_not_implemented(served: Served) -> None:
    client = await served.client()
    await client.send(request("/", b"", "Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n")
    await _refused(client, 501)


async def test_an_unsupported_content_coding_is_refused_with_the_supported_ones(
    served: Served,
) -> None:
    client = await served.client()
    await client.send(request("/", b"x", "Content-Encoding: gzip"))
    answer = await client.answer()
    assert (answer.status, answer.headers["accept-encoding"]) == (415, "identity")
    other = await served.client()
    assert (await other.ask("/", b"x", "Content-Encoding: Identity")).status == 200


# Requests that are sent ahead


@pytest.mark.parametrize("body", [b"", b"\r\n\r\n" * 50])
async def test_pipelined_requests_in_one_packet_are_parsed_as_they_are_served(
    served: Served, body: bytes
) -> None:
    gate = served.app.handlers["/gate"] = Gate()
    client = await served.client()
    await client.send(request("/gate") + request("/next", body) * 500)
    await gate.entered.wait()
    await soon(lambda: served.connection().waiting, "requests to wait")
    assert served.connection().waiting <= MAX_WAITING
    gate.opened.set()
    assert (await client.answer()).body == b'"late"'
    for _ in range(500):
        answer = await client.answer()
        assert (answer.echo["path"], answer.echo["body"].encode()) == ("/next", body)


@pytest.mark.parametrize(
    "packet",
    [
        request("/next") * 4000,
        request("/chunks", b"", CHUNKED) + chunked(b"x" * 40_000, 1),
        b"GET /missing HTTP/1.1\r\nhost: a\r\n\r\n" * 4000,
    ],
    ids=["requests", "chunks", "refused requests"],
)
async def test_other_connections_are_served_while_one_packet_is_parsed(
    served: Served, packet: bytes
) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    client = await served.client()
    await client.ask("/first")
    (connection,) = served.server.connections
    other = asyncio.create_task(count())
    connection.data_received(packet)
    before = turns
    await soon(lambda: connection.idle, "the packet to be parsed")
    other.cancel()
    assert turns - before >= len(packet) // BYTES_A_TURN
    assert not served.connection()._parser.rest


async def test_a_large_body_of_known_length_is_read_whole(served: Served) -> None:
    client = await served.client()
    body = b"x" * 5_000_000
    await client.send(request("/large", body))
    assert (await client.answer()).echo["body"].encode() == body


async def test_pipelined_chunks_arrive_complete(served: Served) -> None:
    gate = served.app.handlers["/gate"] = Gate()
    client = await served.client()
    body = b"\r\n\r\n" * 5000
    await client.send(request("/gate") + (request("/c", b"", CHUNKED) + chunked(body, 7)) * 12)
    gate.opened.set()
    assert (await client.answer()).body == b'"late"'
    for _ in range(12):
        assert (await client.answer()).echo["body"].encode() == body


async def test_input_after_an_unreadable_request_is_dropped(served: Served) -> None:
    gate = served.app.handlers["/gate"] = Gate()
    client = await served.client()
    good = request("/a")
    await client.send(request("/gate") + good * 20 + b"\x00bad\r\n\r\n" + good * 20)
    gate.opened.set()
    assert (await client.answer()).body == b'"late"'
    assert [(await client.answer()).status for _ in range(21)] == [200] * 20 + [400]
    assert await client.rest() == b""


async def test_a_client_that_reads_one_byte_at_a_time_is_disconnected(served: Served) -> None:
    served.app.at_once_handlers["/large"] = lambda _, reply: reply.complete(b"x" * 2**24)
    client = await served.client(buffer=2**12)
    await client.send(request("/large"))
    await soon(lambda: served.server.connections and served.connection().paused, "the stall")
    served.sweep(1)
    transport = served.connection()._transport
    assert transport is not None
    unsent = transport.get_write_buffer_size()
    for taken in range(1, STALLED_SWEEPS + 2):
        connections = list(served.server.connections)
        for item in connections:
            item._transport = _Draining(transport, unsent - taken)  # type: ignore[assignment]
            item.sweep()
    await soon(lambda: not served.server.connections, "the connection to end")


class _Draining:
    """A transport from which the client takes a byte now and then."""

    def __init__(self, transport: asyncio.Transport, unsent: int) -> None:
        self._transport = transport
        self._unsent = unsent

    def get_write_buffer_size(self) -> int:
        return self._unsent

    def abort(self) -> None:
        self._transport.abort()


# Memory for bodies


async def test_large_bodies_that_are_paused_leave_room_for_small_ones(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body_memory, "LARGE_BODIES", _with(limits.LARGE_BODIES, 300_000))
    hostile = [await served.client() for _ in range(3)]
    for item in hostile:
        await item.send(request("/", b"x" * 140_000)[:-1])
    await _refused(hostile[2], 503)
    client = await served.client()
    assert (await client.ask("/", b"y" * 60_000)).status == 200
    await client.send(request("/", b"y" * 140_000))
    await _refused(client, 503)
    for item in hostile:
        item.reset()
    await soon(lambda: served.server.held == 0, "the room to be free")
    assert (await (await served.client()).ask("/", b"y" * 140_000)).status == 200


@pytest.mark.parametrize(
    ("use", "refused"),
    [
        (lambda room: [room.grow("a", 0, 60_000) for _ in range(1200)], "SMALL_BODIES"),
        (lambda room: [room.grow("a", 0, 2**24) for _ in range(9)], "LARGE_BODIES_SHARE"),
        (lambda room: [room.grow(f"{n}", 0, 2**24) for n in range(17)], "LARGE_BODIES"),
    ],
)
def test_each_pool_has_its_bound(use: Callable[[BodyMemory], list[bool]], refused: str) -> None:
    limit: Limit = getattr(limits, refused)
    before = limit.reached
    assert use(BodyMemory())[-1] is False
    assert limit.reached > before


def test_small_bodies_have_a_separate_limit() -> None:
    room = BodyMemory()
    while room.grow("a", 0, 65_536):
        pass
    assert room.held <= limits.SMALL_BODIES.value
    assert room.grow("a", 0, 2**20)


async def test_a_small_body_that_arrives_with_its_head_counts_until_it_is_answered(
    served: Served,
) -> None:
    gate = served.app.handlers["/gate"] = Gate()
    room, client = served.server.room, await served.client()
    gate.opened.set()
    for _ in range(2):
        # The second one has a known head.
        await client.ask("/gate", b"x" * 100)
        assert room.small == 0
    gate.opened.clear()
    await client.send(request("/gate", b"x" * 100))
    await soon(lambda: room.small == 100, "the body to be counted")
    gate.opened.set()
    await client.answer()
    assert room.held == 0


async def test_a_small_body_with_a_known_head_is_refused_if_there_is_no_room(
    served: Served,
) -> None:
    room, client, other = served.server.room, await served.client(), await served.client()
    for item in (client, other):
        assert (await item.ask("/a", b"x" * 100)).status == 200
    before, taken = limits.SMALL_BODIES.reached, limits.SMALL_BODIES.value - 99
    room.small = taken
    await client.send(request("/a", b"x" * 100))
    await _refused(client, 503)
    assert limits.SMALL_BODIES.reached > before
    assert room.small == taken
    assert (await other.ask("/a", b"x" * 99)).status == 200
    assert room.small == taken
    room.small -= taken


def test_large_bodies_of_one_address_leave_room_for_those_of_others() -> None:
    room = BodyMemory()
    while room.grow("a", 0, 2**24):
        pass
    assert room.grow("b", 0, 2**24)


def test_a_body_that_grows_is_counted_once_and_released_whole() -> None:
    room = BodyMemory()
    sizes = [0, 10, 65_536, 65_537, 2**20]
    for before, after in itertools.pairwise(sizes):
        assert room.grow("a", before, after)
        assert room.held == after
    room.release("a", 2**20)
    assert (room.held, room._by_address) == (0, {})


async def test_a_body_counts_until_its_request_has_ended_though_its_client_has_gone(
    served: Served,
) -> None:
    gate = Gate()
    served.app.handlers["/slow"] = gate
    client = await served.client()
    await client.send(request("/slow", b"x" * 300_000))
    await soon(lambda: served.server.held == 300_000, "the body to be there")
    client.reset()
    connection = served.connection()
    await soon(lambda: connection.lost, "the client to have gone")
    assert served.server.held == 300_000
    served.app.served.clear()
    gate.opened.set()
    await soon(lambda: served.server.held == 0, "the room to be free")


# Connections


def test_a_share_of_the_descriptors_is_reserved() -> None:
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    clients = connections_of_clients()
    assert 0 < clients < most
    assert most - clients >= min(64, most // 2)


async def test_clients_leave_descriptors_for_backends_and_the_admin_port(served: Served) -> None:
    served.server._most = 4
    gate = served.app.handlers["/gate"] = Gate()
    busy = [await served.client() for _ in range(2)]
    for item in busy:
        await item.send(request("/gate"))
    idle = [await served.client() for _ in range(2)]
    await soon(lambda: len(served.server.connections) == 4, "the connections")
    before = limits.DESCRIPTORS.reached
    newcomer = await served.client()
    assert (await newcomer.ask("/a")).status == 200
    assert limits.DESCRIPTORS.reached > before
    assert len(served.server.connections) <= 4
    gate.opened.set()
    for item in busy:
        assert (await item.answer()).body == b'"late"'
    ended = [entry.reader.at_eof() or entry.reader.exception() is not None for entry in idle]
    assert any(ended)


async def test_a_new_client_is_refused_if_every_connection_serves_one(served: Served) -> None:
    served.server._most = 2
    gate = served.app.handlers["/gate"] = Gate()
    busy = [await served.client() for _ in range(2)]
    for item in busy:
        await item.send(request("/gate"))
    await soon(
        lambda: all(connection.answering for connection in served.server.connections), "both"
    )
    await soon(lambda: len(served.server.connections) == 2, "both")
    assert await (await served.client()).broken()
    gate.opened.set()
    for item in busy:
        assert (await item.answer()).body == b'"late"'
