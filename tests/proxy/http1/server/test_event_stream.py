"""Encoded events are read as they were given."""

import re

from hypothesis import given
from hypothesis import strategies as st

from mcpproxy.proxy.http1.server.event_stream import encode_event, encode_priming_event
from mcpproxy.proxy.protocol.sse import EventStreamParser, ServerSentEvent

LIMIT = 10_000


@given(
    st.binary(max_size=200).map(lambda data: data.replace(b"\0", b"")),
    st.none() | st.from_regex(rb"[!-~]{1,20}", fullmatch=True),
)
def test_an_encoded_message_can_be_parsed(data: bytes, event_id: bytes | None) -> None:
    parser = EventStreamParser(LIMIT)
    expected = re.sub(rb"\r\n|\r", b"\n", data)
    assert parser.feed(encode_event(data, event_id)) == [ServerSentEvent(expected)]
    assert parser.last_id == event_id


def test_a_priming_event_sets_the_id_and_the_reconnection_time() -> None:
    parser = EventStreamParser(LIMIT)
    assert parser.feed(encode_priming_event(b"a-0", 1500)) == [ServerSentEvent(b"")]
    assert (parser.last_id, parser.retry) == (b"a-0", 1500)
    assert b"retry" not in encode_priming_event(b"a-0", None)
