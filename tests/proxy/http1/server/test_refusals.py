"""Unreadable and oversized requests are refused; then the connection ends."""

import asyncio

import pytest

from mcpproxy.proxy.http1.server.request import MAX_BODY, Request
from mcpproxy.proxy.http1.server.response_writer import ResponseWriter
from tests.proxy.http1.server.served import Client, Gate, Served, chunked, request
from tests.proxy.runtime.waiting import soon

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"


def _size(inbound: Request, reply: ResponseWriter) -> None:
    reply.complete(b"%d" % len(inbound.body))


async def _refused(client: Client, status: int) -> None:
    answer = await client.answer()
    assert (answer.status, answer.headers["connection"]) == (status, "close")
    assert "error" in answer.echo
    assert await client.rest() == b""


@pytest.mark.parametrize(
    "lines",
    [
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length:",
        "Content-Length: -1",
        "Content-Length: +5",
        "Content-Length: 5, 5",
        "Content-Length: 5 5",
        "Content-Length: 0x5",
        "Content-Length: 5a",
        "Content-Length: 99999999999999999999999",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding:\x0bchunked",
        "X: a\r\n folded",
        " X: a",
        "X: a\x00b",
        "X\x00: a",
        "X: a\nY: b",
        "X: a\rY: b",
        "X",
        ": x",
        "Host: other",
    ],
)
async def test_ambiguous_heads_are_refused(served: Served, lines: str) -> None:
    client = await served.client()
    await client.send(request("/", b"", lines) + SMUGGLED)
    await _refused(client, 400)
    assert served.app.served == []


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\n\n",
        b"GET /\x00 HTTP/1.1\r\n\r\n",
        b"GET /\x80 HTTP/1.1\r\n\r\n",
        b"get / HTTP/1.1\r\n\r\n",
        b"NONE / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.7\r\n\r\n",
        b"GET / HTTPS/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00" * 10,
    ],
)
async def test_a_request_that_is_not_http_is_refused(served: Served, head: bytes) -> None:
    client = await served.client()
    await client.send(head)
    await _refused(client, 400)
    assert served.app.served == []


@pytest.mark.parametrize("head", [b"GET / HTTP/2.0\r\n\r\n", b"GET / HTTP/0.9\r\n\r\n"])
async def test_other_versions_are_refused(served: Served, head: bytes) -> None:
    client = await served.client()
    await client.send(head)
    await _refused(client, 505)
    assert served.app.served == []


@pytest.mark.parametrize(
    "body", [b"-3\r\n", b"fffffffffffffffff\r\n", b"3\nabc\n0\n\n", b"3\r\nabcdef\r\n", b"x\r\n"]
)
async def test_chunks_that_cannot_be_read_are_refused(served: Served, body: bytes) -> None:
    client = await served.client()
    await client.send(request("/", b"", "Transfer-Encoding: chunked") + body + SMUGGLED)
    await _refused(client, 400)
    assert served.app.served == []


@pytest.mark.parametrize(
    "head",
    [
        "/ HTTP/1.1\r\nX: " + "x" * 70_000,
        "/ HTTP/1.1\r\n" + "x" * 70_000 + ": x",
        "/ HTTP/1.1" + "\r\nX: 1234567890" * 7000,
    ],
)
async def test_heads_that_are_too_large_are_refused(served: Served, head: str) -> None:
    client = await served.client()
    await client.send(b"GET " + head.encode() + b" HTTP/1.1\r\n\r\n")
    await _refused(client, 431)


async def test_a_header_that_never_ends_is_refused(served: Served) -> None:
    client = await served.client()
    await client.send(b"GET / HTTP/1.1\r\nX: ")
    for _ in range(64):
        await client.send(b"x" * 2**16)
    await _refused(client, 431)


async def test_trailers_that_are_too_large_are_refused(served: Served) -> None:
    client = await served.client()
    await client.send(request("/", b"", "Transfer-Encoding: chunked") + b"1\r\na\r\n0\r\n")
    await client.send(b"X: 1234567890\r\n" * 7000)
    await _refused(client, 431)


async def test_a_head_within_the_limit_is_read_after_a_body(served: Served) -> None:
    client = await served.client()
    large = request("/", b"", "X: " + "x" * 60_000)
    await client.send(request("/", b"x" * 300_000) + large)
    assert [(await client.answer()).status for _ in range(2)] == [200, 200]


async def test_a_body_may_be_as_large_as_the_limit(served: Served) -> None:
    served.app.at_once_handlers["/size"] = _size
    client = await served.client()
    await client.send(request("/size", b"x" * MAX_BODY))
    assert (await client.answer()).body == b"%d" % MAX_BODY
    await client.send(request("/size", b"", "Transfer-Encoding: chunked"))
    await client.send(chunked(b"x" * MAX_BODY, 2**20))
    assert (await client.answer()).body == b"%d" % MAX_BODY


@pytest.mark.parametrize("path", ["/", "/unwanted"])
@pytest.mark.parametrize("announced", [True, False], ids=["length", "chunks"])
async def test_a_client_with_an_oversized_body_gets_the_response_before_the_connection_closes(
    served: Served, path: str, announced: bool
) -> None:
    client = await served.client()
    if announced:
        await client.send(request(path, b"x" * (2 * MAX_BODY)))
    else:
        await client.send(request(path, b"", "Transfer-Encoding: chunked"))
        await client.send(chunked(b"x" * (2 * MAX_BODY), 2**16))
    await _refused(client, 413)
    assert served.app.served == []
    assert served.server.held == 0


async def test_a_body_with_too_large_a_content_length_is_not_awaited(served: Served) -> None:
    client = await served.client()
    await client.send(request("/", b"", f"Content-Length: {MAX_BODY + 1}"))
    await _refused(client, 413)


async def test_pipelined_bodies_count_one_by_one(served: Served) -> None:
    gate = served.app.handlers["/gate"] = Gate()
    served.app.at_once_handlers["/size"] = _size
    client = await served.client()
    size = MAX_BODY * 2 // 3
    await client.send(request("/gate", b"x" * size))
    await gate.entered.wait()
    await client.send(request("/size", b"x" * size))
    await client.send(request("/size", b"", "Transfer-Encoding: chunked") + b"100\r\n" + b"x" * 256)
    await soon(lambda: served.server.held == 2 * size + 256, "the bodies to arrive")
    gate.opened.set()
    assert (await client.answer()).body == b'"late"'
    assert (await client.answer()).body == b"%d" % size
    await soon(lambda: served.server.held == 256, "bodies to be released")
    # What came before the others were answered counts.
    await client.send(b"\r\n" + b"%x\r\n" % MAX_BODY + b"x" * MAX_BODY)
    await _refused(client, 413)


async def test_bodies_of_connections_that_die_are_released(served: Served) -> None:
    gate = served.app.handlers["/gate"] = Gate()
    halves, asking = await served.client(), await served.client()
    await halves.send(request("/", b"x" * 900)[:-1])
    await asking.send(request("/gate", b"x" * 700) + request("/", b"x" * 500))
    await soon(lambda: served.server.held == 899 + 700 + 500, "the bodies")
    halves.reset()
    asking.reset()
    await soon(lambda: served.server.held == 700, "the room of what is not served to be free")
    served.app.served.clear()
    gate.opened.set()
    await asyncio.wait_for(gate.left.wait(), 5)
    await soon(lambda: served.server.held == 0, "the room to be free")
