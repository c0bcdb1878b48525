"""Requests in every form that HTTP/1.1 allows arrive as they were meant."""

import asyncio

import pytest

from tests.proxy.http1.server.served import Gate, Served, chunked, request
from tests.proxy.runtime.waiting import soon


async def test_a_request_may_come_byte_by_byte(served: Served) -> None:
    client = await served.client()
    await soon(lambda: served.server.connections, "the connection")
    connection = served.connection()
    lines = ("Transfer-Encoding: chunked", "X: y")
    for byte in request("/a?b=c", b"", *lines) + chunked(b"hello", 2) + request("/d", b"e"):
        connection.data_received(bytes([byte]))
    answer = await client.answer()
    assert answer.status == 200
    assert (answer.echo["path"], answer.echo["body"]) == ("/a", "hello")
    assert answer.echo["headers"]["x"] == "y"
    assert (await client.answer()).echo["body"] == "e"


async def test_chunks_are_joined_and_trailers_are_not_headers(served: Served) -> None:
    client = await served.client()
    body = b"3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nAuthorization: x\r\nX-T: 1\r\n\r\n"
    await client.send(request("/", b"", "Transfer-Encoding: chunked") + body)
    answer = await client.answer()
    assert answer.echo["body"] == "abcde"
    assert set(answer.echo["headers"]) == {"host", "transfer-encoding"}
    assert [name for name, _ in served.app.served[0].lines] == [b"host", b"transfer-encoding"]
    assert set((await client.ask("/next")).echo["headers"]) == {"host"}


async def test_a_body_in_many_small_chunks_is_whole(served: Served) -> None:
    client = await served.client()
    body = bytes(range(97, 123)) * 2000
    await client.send(request("/", b"", "Transfer-Encoding: chunked") + chunked(body, 2))
    assert (await client.answer()).echo["body"].encode() == body


async def test_a_client_that_expects_100_continue_gets_it(served: Served) -> None:
    client = await served.client()
    lines = ("Expect: 100-Continue", "Content-Length: 3")
    await client.send(request("/", b"", *lines))
    assert await client.line() == b"HTTP/1.1 100 Continue\r\n"
    assert await client.line() == b"\r\n"
    await client.send(b"abc")
    assert (await client.answer()).echo["body"] == "abc"


async def test_a_client_that_expects_100_continue_is_refused_before_the_body(
    served: Served,
) -> None:
    client = await served.client()
    await client.send(request("/unwanted", b"", "Expect: 100-continue", "Content-Length: 3"))
    answer = await client.answer()
    assert (answer.status, answer.headers["connection"]) == (404, "close")
    assert await client.rest() == b""


async def test_a_client_of_http_10_gets_no_100_continue(served: Served) -> None:
    client = await served.client()
    head = b"POST / HTTP/1.0\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    await client.send(head)
    await asyncio.sleep(0.01)
    await client.send(b"abc")
    assert (await client.answer()).echo["body"] == "abc"


async def test_100_continue_is_sent_after_the_pending_responses(served: Served) -> None:
    gate = served.app.handlers["/gate"] = Gate()
    client = await served.client()
    await client.send(request("/gate"))
    await gate.entered.wait()
    await client.send(request("/", b"", "Expect: 100-continue", "Content-Length: 3"))
    await asyncio.sleep(0.01)
    gate.opened.set()
    assert (await client.answer()).body == b'"late"'
    assert await client.line() == b"HTTP/1.1 100 Continue\r\n"
    assert await client.line() == b"\r\n"
    await client.send(b"abc")
    assert (await client.answer()).echo["body"] == "abc"


OFFER = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAAB")


async def test_an_offer_to_upgrade_is_ignored(served: Served) -> None:
    client = await served.client()
    answer = await client.ask("/a", b"hello", *OFFER)
    assert (answer.status, answer.echo["body"]) == (200, "hello")
    assert "upgrade" not in answer.echo["headers"]
    assert "connection" not in answer.headers
    answer = await client.ask("/b", b"", *OFFER, method="GET")
    assert (answer.status, answer.echo["method"]) == (200, "GET")
    assert (await client.ask("/c", b"x")).echo["body"] == "x"


async def test_an_offer_to_upgrade_may_have_a_chunked_body_and_be_followed_by_more_requests(
    served: Served,
) -> None:
    client = await served.client()
    offer = request("/a", b"", "Transfer-Encoding: chunked", *OFFER) + chunked(b"hello", 3)
    whole = offer + request("/b", b"two", *OFFER) + request("/c", b"three")
    for at in range(0, len(whole), 7):
        await client.send(whole[at : at + 7])
        await asyncio.sleep(0)
    await client.send(whole)
    for _ in range(2):
        bodies = [(await client.answer()).echo["body"] for _ in range(3)]
        assert bodies == ["hello", "two", "three"]


async def test_simultaneous_offers_to_upgrade_are_served_one_after_the_other(
    served: Served,
) -> None:
    client = await served.client()
    await client.send(request("/", b"", *OFFER) * 200)
    assert {(await client.answer()).status for _ in range(200)} == {200}


async def test_tunnels_are_refused(served: Served) -> None:
    client = await served.client()
    answer = await client.ask("a.example:443", b"", method="CONNECT")
    assert (answer.status, answer.headers["connection"]) == (501, "close")
    assert served.app.served == []


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/mcp", "/mcp"),
        ("/mcp?a=/b&c=%2F", "/mcp"),
        ("http://h/mcp?x", "/mcp"),
        ("http://h", "/"),
        ("/m%63p", "/mcp"),
        ("/%C3%A9", "/é"),
        ("/%zz%", "/%zz%"),
        ("//x/mcp", "//x/mcp"),
        ("*", "*"),
    ],
)
async def test_a_target_has_a_path(served: Served, target: str, path: str) -> None:
    client = await served.client()
    method = "OPTIONS" if target == "*" else "GET"
    assert (await client.ask(target, b"", method=method)).echo["path"] == path


async def test_the_host_is_that_of_the_target_where_it_names_one(served: Served) -> None:
    client = await served.client()
    for target, host in (
        ("http://a:81/mcp", "a:81"),
        ("http://b", "b"),
        ("http://[::1]/", "[::1]"),
    ):
        assert (await client.ask(target)).echo["headers"]["host"] == host


async def test_a_repeated_header_is_a_list(served: Served) -> None:
    client = await served.client()
    lines = ("Accept: application/json", "accept: text/event-stream", "Cookie: a=1", "Cookie: b=2")
    headers = (await client.ask("/", b"", *lines)).echo["headers"]
    assert headers["accept"] == "application/json, text/event-stream"
    assert headers["cookie"] == "a=1; b=2"


async def test_empty_lines_before_a_request_are_skipped(served: Served) -> None:
    client = await served.client()
    await client.send(b"\r\n\r\n" + request("/a"))
    assert (await client.answer()).echo["path"] == "/a"


async def test_a_length_may_begin_with_thousands_of_zeros(served: Served) -> None:
    client = await served.client()
    length = "0" * 5000
    for _ in range(2):
        await client.send(request("/", b"", f"Content-Length: {length}5") + b"hello")
        assert (await client.answer()).echo["body"] == "hello"
    await client.send(request("/", b"", f"Content-Length: {length}"))
    assert (await client.answer()).echo["body"] == ""
