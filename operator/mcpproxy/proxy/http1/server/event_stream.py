"""Encoding of server-sent events (WHATWG HTML, section 9.2)."""

import re
from typing import Final

from mcpproxy.proxy.http1.media_types import EVENT_STREAM

STREAM_HEADERS: Final = (
    (b"content-type", EVENT_STREAM),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
)
"""Headers of an event stream, which proxies must not buffer."""
PING: Final = b": ping\r\n\r\n"
"""A comment that keeps intermediaries from closing a silent stream."""
EVENT_START: Final = b"event: message\r\ndata: "
EVENT_END: Final = b"\r\n\r\n"
"""The bytes before and after the data of an event of one line."""


def encode_event(data: bytes, event_id: bytes | None = None) -> bytes:
    """Return an event; each line of `data` becomes a line of the event."""
    id_line = b"" if event_id is None else b"id: %b\r\n" % event_id
    if b"\n" in data or b"\r" in data:
        data = b"\r\ndata: ".join(re.split(rb"\r\n|\n|\r", data))
    return b"%bevent: message\r\ndata: %b\r\n\r\n" % (id_line, data)


def encode_priming_event(event_id: bytes, retry: int | None) -> bytes:
    """Return an event without data that sets the last event id.

    `retry` is the reconnection time in milliseconds; None leaves the client's own.
    """
    retry_line = b"" if retry is None else b"retry: %d\r\n" % retry
    return b"id: %b\r\n%bdata: \r\n\r\n" % (event_id, retry_line)
