"""Server-sent events: any chunking gives the same events."""

import itertools
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mcpproxy.proxy.protocol.sse import (
    EventDataStream,
    EventStreamParser,
    EventTooLarge,
    ServerSentEvent,
    single_event_data,
)

LIMIT = 10_000
LINES = st.sampled_from(
    [
        b"data: one",
        b"data:two",
        b"data:  spaced ",
        b"data",
        b"event: endpoint",
        b"id: 7",
        b"id",
        b"retry: 1500",
        b"retry: soon",
        b": a comment",
        b"unknown: field",
        "data: grüße".encode(),
        b"",
        b"",
    ]
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
STREAMS = st.lists(st.tuples(LINES, ENDS), max_size=30).map(
    lambda lines: b"".join(line + end for line, end in lines) + b"\n\n\n"
)


def _events(*chunks: bytes, limit: int = LIMIT) -> list[ServerSentEvent]:
    parser = EventStreamParser(limit)
    return [event for chunk in chunks for event in parser.feed(chunk)]


@given(STREAMS, st.lists(st.integers(0, 400), max_size=20))
def test_any_chunking_gives_the_same_events(stream: bytes, cuts: list[int]) -> None:
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    chunks = [stream[a:b] for a, b in itertools.pairwise(edges)]
    whole, parts = EventStreamParser(LIMIT), EventStreamParser(LIMIT)
    events = whole.feed(stream)
    assert [event for chunk in chunks for event in parts.feed(chunk)] == events
    assert (parts.last_id, parts.retry) == (whole.last_id, whole.retry)


def test_a_line_feed_at_the_start_of_a_chunk_ends_the_line_before_it() -> None:
    # An earlier line of the chunk before ended with a carriage return.
    assert _events(b"data: a\rdata: b", b"\ndata: c\n\n") == [ServerSentEvent(b"a\nb\nc")]


@given(STREAMS)
def test_one_byte_at_a_time_gives_the_same_events(stream: bytes) -> None:
    assert _events(*(bytes([byte]) for byte in stream)) == _events(stream)


def test_several_data_lines_are_one_message() -> None:
    assert _events(b"data: {\ndata: }\n\n") == [ServerSentEvent(b"{\n}")]


def test_an_event_with_only_an_id_and_a_retry_primes_a_stream() -> None:
    parser = EventStreamParser(LIMIT)
    assert parser.feed(b"id: a-1\nretry: 250\n\n") == []
    assert (parser.last_id, parser.retry) == (b"a-1", 250)


def test_the_id_of_an_event_holds_for_those_behind_it_until_one_takes_it_back() -> None:
    parser = EventStreamParser(LIMIT)
    parser.feed(b"id: 1\ndata: x\n\ndata: y\n\nid: 2\n")
    assert parser.last_id == b"1"
    parser.feed(b"\n")
    assert parser.last_id == b"2"
    parser.feed(b"id\n\n")
    assert parser.last_id == b""


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n"])
def test_an_event_is_complete_with_the_end_of_its_blank_line(end: bytes) -> None:
    assert _events(b"data: x" + end + end) == [ServerSentEvent(b"x")]


def test_a_line_feed_behind_a_carriage_return_in_another_chunk_ends_no_second_line() -> None:
    assert _events(b"data: x\r", b"\ndata: y\r", b"\n\r", b"\n") == [ServerSentEvent(b"x\ny")]


def test_an_event_type_without_a_name_is_message() -> None:
    assert _events(b"event: ping\nevent:\ndata: x\n\n") == [ServerSentEvent(b"x")]


def test_data_without_content_is_an_event_without_content() -> None:
    assert _events(b"data\n\ndata:\ndata\n\n") == [ServerSentEvent(b""), ServerSentEvent(b"\n")]


def test_comments_and_the_names_of_empty_events_are_dropped() -> None:
    assert _events(b": ping\n\nevent: endpoint\n\ndata: x\n\n") == [ServerSentEvent(b"x")]


def test_an_unterminated_event_is_ignored() -> None:
    assert _events(b"data: x\n") == []


@pytest.mark.parametrize("retry", [b"-1", b"1.5", b"", "²".encode(), b"9" * 5000])
def test_an_invalid_retry_field_is_ignored(retry: bytes) -> None:
    parser = EventStreamParser(LIMIT)
    assert parser.feed(b"retry: " + retry + b"\ndata: x\n\n") == [ServerSentEvent(b"x")]
    assert parser.retry is None


def test_a_byte_order_mark_at_the_beginning_of_a_stream_is_passed_over() -> None:
    assert _events(b"\xef\xbb", b"\xbfdata: x\n\n") == [ServerSentEvent(b"x")]


def test_an_id_with_a_null_byte_is_passed_over() -> None:
    parser = EventStreamParser(LIMIT)
    assert parser.feed(b"id: a\0b\ndata: x\n\n") == [ServerSentEvent(b"x")]
    assert parser.last_id is None


@pytest.mark.parametrize("chunk", [b"data: " + b"x" * 100, b"data: " + b"x" * 30 + b"\n"])
def test_s4_an_event_beyond_the_limit_is_refused_before_it_is_complete(chunk: bytes) -> None:
    with pytest.raises(EventTooLarge):
        _events(*[chunk] * 4, limit=64)


@pytest.mark.parametrize("line", [b":", b"data", b"x", b"event"])
@pytest.mark.parametrize("end", [b"\n", b"\r"])
def test_lines_without_content_count_towards_the_size_of_an_event(line: bytes, end: bytes) -> None:
    whole = (line + end) * (1000 // (len(line) + 1))
    parser = EventStreamParser(len(whole))
    assert list(parser.feed(whole + end + b"data: x\n\n"))[-1].data == b"x"
    with pytest.raises(EventTooLarge):
        list(EventStreamParser(len(whole)).feed(whole + line + end + end))


def test_memory_of_many_short_lines_is_close_to_their_size() -> None:
    parser, sent = EventStreamParser(10**9), 0
    tracemalloc.start()
    try:
        for number in range(20_000):
            line = b"data:%d\n" % number
            sent += len(line)
            assert not list(parser.feed(line))
        assert tracemalloc.get_traced_memory()[0] < 2 * sent
    finally:
        tracemalloc.stop()
    (event,) = parser.feed(b"\n")
    assert event.data == b"\n".join(b"%d" % number for number in range(20_000))


def test_many_small_events_never_reach_the_limit() -> None:
    parser = EventStreamParser(64)
    assert sum(len(list(parser.feed(b"data: 0123456789\n\n"))) for _ in range(100)) == 100


DATA = st.lists(st.sampled_from([b"one", b"", b" two", b"data: three", b"xx"]), min_size=1)


@given(DATA, ENDS, st.integers(1, 9), st.sampled_from([b"", b"id: 7", b"da", b": x"]))
def test_the_data_of_an_event_in_parts_is_that_of_the_event(
    lines: list[bytes], end: bytes, size: int, behind: bytes
) -> None:
    text = (end + b"data: ").join(lines) + end + behind + end + end + b"data: next"
    result, data = b"", EventDataStream()
    for at in range(0, len(text), size):
        if not data.ended:
            result += data.feed(text[at : at + size])
    assert result == b"\n".join(lines)
    assert data.ended


@given(DATA, st.integers(1, 60))
def test_a_parsed_and_rebuilt_event_is_unchanged(lines: list[bytes], cut: int) -> None:
    text = b"event: message\ndata:" + b"\ndata: ".join([b" begins", *lines, b"more"])
    stream = text + b" and ends\n\n"
    parser = EventStreamParser(LIMIT)
    assert list(parser.feed(text)) == []
    assert parser.open_data(LIMIT) is None
    opened = parser.open_data(3)
    assert opened == b"\n".join([b"begins", *lines, b"more"])
    assert parser.open_data(3) is None
    parser.put_back(opened)
    assert list(parser.feed(b" and ends\n\n")) == _events(stream)


@pytest.mark.parametrize(
    ("before", "size"), [(b": " + b" " * 50 + b"\n", 20), (b"data: x\n" * 9, 38), (b"", 20)]
)
def test_only_the_data_of_an_event_decides_if_it_is_opened(before: bytes, size: int) -> None:
    parser = EventStreamParser(LIMIT)
    assert list(parser.feed(before + b"data: " + b"x" * 20)) == []
    assert parser.open_data(size) is None
    (event,) = parser.feed(b"\n\n")
    assert event.data.endswith(b"x" * 20)
    assert list(parser.feed(before + b"data: " + b"x" * 21)) == []
    opened = parser.open_data(size)
    assert opened is not None
    assert len(opened) == size + 1


@pytest.mark.parametrize("field", [b"id: 7", b"event: ping"])
def test_data_of_an_event_that_has_an_id_or_another_type_is_not_opened(field: bytes) -> None:
    parser = EventStreamParser(LIMIT)
    assert parser.feed(field + b"\ndata: some long data") == []
    assert parser.open_data(3) is None


SINGLE = st.lists(
    st.sampled_from(
        [
            b"event: message",
            b"event:message",
            b"data: ",
            b"data:",
            b"x",
            b" ",
            b"\r",
            b"\n",
            b"\r\n",
        ]
    ),
    max_size=7,
).map(b"".join)


@given(SINGLE)
@example(b"event: message\ndata: {}\n\n")
@example(b"event: message\r\ndata: {}\r\n\r\n")
@example(b"data:x\r\n\n")
@example(b"data: \n\n")
def test_the_data_of_a_single_event_is_that_of_the_parser(stream: bytes) -> None:
    data = single_event_data(stream)
    if data is not None:
        assert _events(stream) == [ServerSentEvent(data)]


@pytest.mark.parametrize("begin", [b"event: message\n", b"event:message\n", b""])
@pytest.mark.parametrize("field", [b"data: ", b"data:"])
@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
def test_an_event_with_one_line_of_data_is_a_single_event(
    begin: bytes, field: bytes, end: bytes
) -> None:
    assert single_event_data(begin + field + b"{}" + end) == b"{}"


@pytest.mark.parametrize(
    "stream",
    [
        b"data: {}\n",
        b"data: {}\r\n\n",
        b"data: {}\r\r",
        b"data: {\ndata: }\n\n",
        b"data: {}\n\ndata: {}\n\n",
        b"id: 1\ndata: {}\n\n",
        b"event: other\ndata: {}\n\n",
        b"data:\n",
        b"data",
        b"",
    ],
)
def test_several_events_and_other_fields_are_left_to_the_parser(stream: bytes) -> None:
    assert single_event_data(stream) is None
