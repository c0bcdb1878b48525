"""Odd spellings of messages, and odd frames of events, by name."""

import json
from collections.abc import Callable
from typing import Any, Final

JSON, STREAM, OLD, STDIO = "json", "stream", "http+sse", "stdio"
"""Streamable HTTP with JSON responses, with event streams; HTTP+SSE; standard streams."""
HTTP: Final = (JSON, STREAM, OLD)
STREAMS: Final = (STREAM, OLD)
ALL: Final = (JSON, STREAM, OLD, STDIO)


def dump(message: Any) -> bytes:
    """A message as JSON."""
    return json.dumps(message).encode()


def _string_id(text: bytes) -> list[bytes]:
    message = json.loads(text)
    return [dump({**message, "id": str(message.get("id"))})]


def _into(addition: bytes) -> Callable[[bytes], list[bytes]]:
    """Put a member into the result's `_meta`."""

    def texts(text: bytes) -> list[bytes]:
        odd = b'"result": {"_meta": {"odd": %b}' % addition
        full = text.replace(b'"result": {"', odd + b', "')
        return [full.replace(b'"result": {}', odd + b"}")]

    return texts


_PARAMS_NULL: Final = b'{"jsonrpc":"2.0","method":"notifications/message","params":null}'
_UNKNOWN: Final = b'{"jsonrpc":"2.0","method":"notifications/odd/news","params":{"a":1}}'
_ERROR_NULL: Final = b'{"error":null,'
TEXTS: Final[dict[str, tuple[tuple[str, ...], Callable[[bytes], list[bytes]]]]] = {
    "ids as strings": (ALL, _string_id),
    "error null": (ALL, lambda text: [_ERROR_NULL + text[1:]]),
    "NaN": (ALL, _into(b"NaN")),
    "lone surrogate": (ALL, _into(b'"\\ud83d"')),
    "latin-1": (ALL, _into(b'"\xe9"')),
    "BOM": (ALL, lambda text: [b"\xef\xbb\xbf" + text]),
    "batch of one": (ALL, lambda text: [b"[%b]" % text]),
    "unknown members": (ALL, lambda text: [b'{"odd":[1],' + text[1:]]),
    "unreadable": (ALL, lambda text: [text[:-1] + b",}"]),
    "notification with params null": ((*STREAMS, STDIO), lambda text: [_PARAMS_NULL, text]),
    "unknown notification": ((*STREAMS, STDIO), lambda text: [_UNKNOWN, text]),
    "heartbeat": ((*STREAMS, STDIO), lambda text: [b'{"type":"heartbeat"}', text]),
    "response twice": ((*STREAMS, STDIO), lambda text: [text, text]),
    "blank lines": ((STDIO,), lambda text: [b"", text, b""]),
    "log lines": ((STDIO,), lambda text: [b"INFO: started", text]),
    "CRLF lines": ((STDIO,), lambda text: [text + b"\r"]),
}


def _event(text: bytes) -> bytes:
    return b"event: message\ndata: %b\n\n" % text


BLOCKS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "ping event": lambda text: b"event: ping\ndata: 1\n\n" + _event(text),
    "heartbeat event": lambda text: b'event: heartbeat\ndata: {"a":1}\n\n' + _event(text),
    "empty data": lambda text: b"data:\n\n" + _event(text),
    "no type": lambda text: b"data: %b\n\n" % text,
    "block of retry and id": lambda text: b"retry: 50\nid: 7\n\n" + _event(text),
    "comments": lambda text: b": hello\n\n" + _event(text),
    "CR lines": lambda text: b"event: message\rdata: %b\r\r" % text,
    "CRLF lines": lambda text: b"event: message\r\ndata: %b\r\n\r\n" % text,
    "lines of data": lambda text: b"data: %b \ndata: %b\n\n" % tuple(text.split(b" ", 1)),
    "unknown fields": lambda text: b"odd: 1\nodd\n" + _event(text),
    "no blank before the colon": lambda text: b"data:%b\n\n" % text,
}
PRELUDES: Final[dict[str, bytes]] = {
    "retry and id": b"retry: 100\nid: 1\n\n",
    "event connected": b"event: connected\ndata: {}\n\n",
    "event ping": b"event: ping\ndata: 1\n\n",
    "comment": b": hello\n\n",
    "BOM": b"\xef\xbb\xbf",
}
