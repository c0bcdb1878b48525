"""Heads that were read before are read in the same way, wherever the bytes are cut."""

import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httptools
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mcpproxy.proxy.http1.client.connection import ClientConnection as Upstream
from mcpproxy.proxy.http1.errors import HttpError
from mcpproxy.proxy.http1.head_cache import MAX_HEADS, MAX_SIZE, HeadCache
from mcpproxy.proxy.http1.server.request import Request, RequestHead
from mcpproxy.proxy.http1.server.request_parser import RequestParser
from tests.support.examples import examples

HEADS = (
    b"POST /mcp HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n",
    b"POST /mcp HTTP/1.1\r\nHost: a\r\nAuthorization: b\r\ncontent-length: %d\r\n\r\n",
    b"POST /mcp HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: %d\r\n\r\n",
    b"POST /mcp HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: %d\r\n\r\n",
    b"POST /mcp HTTP/1.1\r\nhost: a\r\nupgrade: h2c\r\ncontent-length: %d\r\n\r\n",
    b"POST /mcp HTTP/1.0\r\nhost: a\r\ncontent-length: %d\r\n\r\n",
    b"POST /mcp HTTP/1.1\r\nhost: a\r\nhost: b\r\ncontent-length: %d\r\n\r\n",
    b"POST /other HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n",
    b"POST /mcp HTTP/1.1\r\nHost: a\r\nAuthorization: c\r\ncontent-length: %d\r\n\r\n",
)
BODIES = (b"", b"{}", b"\r\n\r\n", b"POST /mcp HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}")
ODD = (b"P", b"\r\n", b"GET /mcp HTTP/1.1\r\nhost: a\r\n\r\n", b"\r\n\r\n", b"x\r\n\r\n")


class Forgetful(HeadCache[Any]):
    """Knows nothing."""

    def keep(self, data: bytes, headers: Any, head: Any, *, chunked: bool = False) -> None: ...


class Taken:
    """Handler of requests that notes what arrives."""

    network = ""

    def __init__(self, heads: HeadCache[RequestHead]) -> None:
        self.parser = RequestParser(self, _screened, heads)
        self.seen: list[object] = []
        self.room = True

    def data_received(self, data: bytes) -> None:
        inbound = self.parser.whole(data)
        if inbound is not None and self.room:
            self.received(inbound, None, False, False)
        else:
            self.parser.feed(data)

    def has_room(self, before: int, after: int) -> bool:
        return self.room

    def room_ahead(self) -> int:
        return 1000

    def read_on_later(self) -> None:
        self.parser.begin_turn()
        self.parser.read_rest()

    def begun(self) -> None:
        """Nobody waits for it."""

    def received(self, inbound: Request, refusal: HttpError | None, last: bool, old: bool) -> None:
        about = (inbound.method, inbound.path, inbound.lines, inbound.headers, inbound.body)
        self.seen.append((*about, refusal and refusal.status, last, old))

    def refused(self, inbound: Request, refusal: HttpError, held: int) -> None:
        self.seen.append(refusal.status)

    def switch_protocol(self, data: bytes) -> bool:
        return False

    def invite(self) -> None:
        """Whoever has sent the body already needs none."""


def _screened(inbound: Request) -> HttpError | None:
    return HttpError(404, "nothing here") if inbound.path == "/other" else None


def _request(head: int, body: int) -> bytes:
    return HEADS[head] % len(BODIES[body]) + BODIES[body]


requests = st.builds(_request, st.integers(0, len(HEADS) - 1), st.integers(0, len(BODIES) - 1))
chunks = st.lists(st.one_of(requests, requests, requests, st.sampled_from(ODD)), max_size=6).map(
    lambda parts: b"".join(parts)
)


def _warmed() -> HeadCache[RequestHead]:
    heads: HeadCache[RequestHead] = HeadCache()
    for head in range(len(HEADS)):
        for body in range(len(BODIES)):
            for _ in range(2):
                Taken(heads).data_received(_request(head, body))
    return heads


def _cut(data: bytes, cuts: list[int]) -> list[bytes]:
    ends = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(ends) if b > a]


@pytest.mark.slow
@settings(max_examples=examples(500))
@given(st.lists(st.tuples(chunks, st.lists(st.integers(0, 300), max_size=3)), max_size=4))
@example([(_request(7, 1), [])])
@example([(_request(2, 1), [])])
@example([(b"P", []), (_request(0, 1), [])])
@example([(_request(0, 1) + _request(1, 1), []), (_request(0, 1), [])])
@example([(_request(head, 1), []) for head in (1, 1, 8, 1)])
@example([(_request(0, body), []) for body in (1, 1, 0, 1)])
@example([(_request(0, 1), []), (_request(0, 1) + _request(1, 1), []), (_request(0, 1), [])])
def test_requests_are_equal_with_and_without_cached_heads(
    sent: list[tuple[bytes, list[int]]],
) -> None:
    parts = [part for data, cuts in sent for part in _cut(data, cuts)]
    fresh, warmed = Taken(Forgetful()), Taken(_warmed())
    for part in parts:
        fresh.data_received(part)
        warmed.data_received(part)
    assert warmed.seen == fresh.seen


def _count_parsed(intake: Taken) -> Callable[[], int]:
    parsed: list[bytes] = []
    fake = type("Parser", (), {"feed_data": lambda _, data: parsed.append(data)})()
    intake.parser._parser = fake
    return lambda: len(parsed)


def test_the_same_head_is_not_parsed_twice() -> None:
    heads: HeadCache[RequestHead] = HeadCache()
    Taken(heads).data_received(_request(1, 1))
    again = Taken(heads)
    parsed = _count_parsed(again)
    again.data_received(_request(1, 1))
    assert parsed() == 0
    assert len(again.seen) == 1
    again.data_received(_request(1, 0))
    assert parsed() == 1


def test_a_connection_that_changes_its_credentials_has_those_of_each_request() -> None:
    taken = Taken(HeadCache())
    for head in (1, 8, 1, 1, 8, 8, 1):
        taken.data_received(_request(head, 1))
    credentials = [seen[3][b"authorization"] for seen in taken.seen if isinstance(seen, tuple)]
    assert credentials == [b"b", b"c", b"b", b"b", b"c", b"c", b"b"]


def test_without_room_for_its_body_a_request_is_refused_although_its_head_is_known() -> None:
    heads: HeadCache[RequestHead] = HeadCache()
    taken = Taken(heads)
    taken.data_received(_request(0, 1))
    taken.room = False
    taken.data_received(_request(0, 1))
    assert taken.seen[-1] == 503


def test_cached_heads_are_few_and_small() -> None:
    heads: HeadCache[int] = HeadCache()
    for number in range(3 * MAX_HEADS):
        data = b"POST /%d HTTP/1.1\r\ncontent-length: 0\r\n\r\n" % number
        heads.keep(data, {b"content-length": b"0"}, number)
        assert heads.known[data] == (number, len(data))
        assert len(heads.known) <= MAX_HEADS
    large = b"POST / HTTP/1.1\r\nx: %b\r\ncontent-length: 0\r\n\r\n" % (b"y" * MAX_SIZE)
    heads.keep(large, {b"content-length": b"0"}, 1)
    assert all(len(head) <= MAX_SIZE for head in heads.known)


@pytest.mark.parametrize("length", [b"", b"x", b"2", b"0" * 5000 + b"2", b"9" * 5000])
def test_only_a_head_with_the_length_of_its_message_is_cached(length: bytes) -> None:
    heads: HeadCache[int] = HeadCache()
    heads.keep(b"POST / HTTP/1.1\r\n\r\n{}", {b"content-length": length}, 1)
    assert bool(heads.known) == (length == b"2")


class NoTransport:
    """Takes what is written."""

    def write(self, data: bytes) -> None:
        """Nobody reads it."""

    def abort(self) -> None:
        """There is nothing to close."""

    def get_extra_info(self, name: str) -> None:
        """There is no socket."""

    pause_reading = resume_reading = abort


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
ANSWERS = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 4\r\n\r\n{  }",
    b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}",
    CHUNKED + b"2\r\n{}\r\n0\r\n\r\n",
    CHUNKED + b"1c\r\n" + b"a" * 28 + b"\r\n0\r\n\r\n",
    CHUNKED + b"1C\r\n" + b"a" * 28 + b"\r\n0\r\n\r\n",
    CHUNKED + b"02\r\n{}\r\n0\r\n\r\n",
    CHUNKED + b"2;a=b\r\n{}\r\n0\r\n\r\n",
    CHUNKED + b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
    CHUNKED + b"2\r\n{}\r\n0\r\na: b\r\n\r\n",
    CHUNKED + b"0\r\n\r\n",
    CHUNKED + b"7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n",
    CHUNKED + b"+2\r\n{}\r\n0\r\n\r\n",
    CHUNKED + b"2\r\n{}\r\n0\r\n\r\n" + CHUNKED,
    b"HTTP/1.1 100 Continue\r\n\r\n" + CHUNKED + b"2\r\n{}\r\n0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\n",
)


def _read(heads: HeadCache[dict[bytes, bytes]], parts: list[bytes]) -> list[object]:
    loop = SimpleNamespace(time=lambda: 0.0)
    connection = Upstream(loop, heads)  # type: ignore[arg-type]
    connection.connection_made(NoTransport())  # type: ignore[arg-type]
    seen: list[object] = []
    for part in parts:
        if connection._response is None:
            if connection.lost:
                break
            response = connection.begin(b"", None)
        connection.data_received(part)
        seen.append((response.status, dict(response.headers), response.whole, connection.lost))
    return seen


@settings(max_examples=examples(500))
@given(
    st.lists(
        st.tuples(st.sampled_from(ANSWERS), st.lists(st.integers(0, 90), max_size=2)), max_size=4
    )
)
@example([(ANSWERS[0], [3])])
@example([(b"HTT", []), (ANSWERS[0], [])])
@example([(ANSWERS[2], []), (ANSWERS[2], [])])
@example([(answer, []) for answer in ANSWERS[4:12] for _ in range(2)])
@example([(ANSWERS[4], []), (ANSWERS[12], [])])
@example([(ANSWERS[4], []), (ANSWERS[13], [])])
@example([(ANSWERS[4], []), (ANSWERS[14], []), (ANSWERS[4], [])])
@example([(ANSWERS[15], []), (ANSWERS[15], [])])
def test_answers_are_the_same_whether_their_heads_are_known_or_not(
    sent: list[tuple[bytes, list[int]]],
) -> None:
    known: HeadCache[dict[bytes, bytes]] = HeadCache()
    for answer in ANSWERS:
        _read(known, [answer])
    parts = [part for data, cuts in sent for part in _cut(data, cuts)]
    assert _read(known, parts) == _read(Forgetful(), parts)


def test_the_head_of_a_response_in_one_chunk_is_not_parsed_twice() -> None:
    heads: HeadCache[dict[bytes, bytes]] = HeadCache()
    first, again = ANSWERS[4], ANSWERS[5]
    _read(heads, [first])
    connection = Upstream(SimpleNamespace(time=lambda: 0.0), heads)  # type: ignore[arg-type]
    connection.connection_made(NoTransport())  # type: ignore[arg-type]
    connection._parser.feed = None  # type: ignore[assignment,method-assign]
    response = connection.begin(b"", None)
    connection.data_received(again)
    assert response.whole == b"a" * 28


def test_requests_in_chunks_are_always_parsed() -> None:
    chunked = b"POST /mcp HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
    heads: HeadCache[RequestHead] = HeadCache()
    taken = Taken(heads)
    for _ in range(2):
        taken.data_received(chunked + b"2\r\n{}\r\n0\r\n\r\n")
    assert len(taken.seen) == 2
    assert not heads.known


def test_cached_heads_are_used_only_at_the_start_of_a_message() -> None:
    begun: list[str] = []

    class Parsed:
        def on_message_begin(self) -> None:
            begun.append("begin")

    httptools.HttpRequestParser(Parsed()).feed_data(b"P")
    httptools.HttpResponseParser(Parsed()).feed_data(b"H")
    assert begun == ["begin", "begin"]
