"""Faults of a backend in a call, with the answers that docs/faults.md promises."""

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from tests.proxy.runtime.shaped import END, HEAD, LOGGED, TEXT, chunk, plain

TIMEOUT: Final = 0.4
"""Seconds that the proxies of these tests give a call."""
SLACK: Final = 1.6
"""Seconds beyond the promised time that a busy machine may take."""
TIMES: Final = {"at once": 0.0, "with its last byte": 10.0, "`timeouts.request`": TIMEOUT}
LARGE: Final = 10 * 2**20
Write = Callable[[Any, asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True)
class Fault:
    """A fault of a backend during a call, and the expected result of the call."""

    name: str
    write: Write
    reason: str = ""
    """Reason of the expected error; empty if a result is expected."""
    time: str = "at once"
    """Key of TIMES: when the answer comes."""
    timeout: float = TIMEOUT
    """Seconds that the proxy gives the call."""
    pause: float = 0.5
    """Seconds that a call of another backend may take meanwhile: a pause of the test itself."""


def _body(request_id: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": request_id, "result": TEXT}).encode()


def _reset(writer: asyncio.StreamWriter) -> None:
    """End the connection with RST."""
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _sends(*parts: bytes, end: Callable[[asyncio.StreamWriter], None] | None = None) -> Write:
    async def write(request_id: Any, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part.replace(b"BODY", _body(request_id)))
            await writer.drain()
            # Each part is a segment of its own.
            await asyncio.sleep(0.01)
        if end is not None:
            end(writer)

    return write


def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()


def _half_close(writer: asyncio.StreamWriter) -> None:
    """Send FIN, and go on to read."""
    writer.write_eof()


async def _hang(request_id: Any, writer: asyncio.StreamWriter) -> None:
    # Until the proxy leaves.
    await writer.wait_closed()


async def _slow(request_id: Any, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(TIMEOUT / 2)
    writer.write(plain(_body(request_id)))


async def _comments(request_id: Any, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD)
    while not writer.transport.is_closing():
        writer.write(chunk(b": on\n\n"))
        await asyncio.sleep(0.01)


async def _large(request_id: Any, writer: asyncio.StreamWriter) -> None:
    content = [{"type": "text", "text": "x" * LARGE}]
    result = {"content": content, "resultType": "complete"}
    whole = plain(json.dumps({"jsonrpc": "2.0", "id": request_id, "result": result}).encode())
    for at in range(0, len(whole), 65536):
        writer.write(whole[at : at + 65536])
        await writer.drain()


_DATES: Final = b"date: %b\r\nexpires: %b\r\nage: 99999999\r\ncontent-length: "
_PAST, _FUTURE = b"Thu, 01 Jan 1970 00:00:00 GMT", b"Fri, 31 Dec 9999 23:59:59 GMT"
_PLAIN: Final = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: "
_LOG: Final = json.dumps(LOGGED).encode()


def _dated(date: bytes) -> Write:
    async def write(request_id: Any, writer: asyncio.StreamWriter) -> None:
        whole = plain(_body(request_id))
        writer.write(whole.replace(b"content-length: ", _DATES % (date, date)))

    return write


FAULTS: Final = (
    Fault("slow", _slow),
    Fault("hung", _hang, "TimedOut", "`timeouts.request`"),
    Fault("reset before the response", _sends(end=_reset), "Unreachable"),
    Fault("reset in the head", _sends(b"HTTP/1.1 200 OK\r\ncont", end=_reset), "Unreachable"),
    Fault("reset in a JSON body", _sends(_PLAIN + b'999\r\n\r\n{"a', end=_reset), "Unreachable"),
    Fault("reset between events", _sends(HEAD, chunk(b": a\n\n"), end=_reset), "Unreachable"),
    Fault("reset in an event", _sends(HEAD, chunk(b'data: {"js'), end=_reset), "Unreachable"),
    Fault(
        "reset after a notification",
        _sends(HEAD, chunk(b"data: %b\n\n" % _LOG), end=_reset),
        "Unreachable",
    ),
    Fault("closed before the response", _sends(end=_close), "Unreachable"),
    Fault("half-closed before the response", _sends(end=_half_close), "Unreachable"),
    Fault(
        "half-closed in a JSON body",
        _sends(_PLAIN + b'999\r\n\r\n{"a', end=_half_close),
        "Unreachable",
    ),
    Fault(
        "half-closed in an event stream",
        _sends(HEAD, chunk(b": a\n\n"), end=_half_close),
        "Unreachable",
    ),
    Fault("event stream that ends without a response", _sends(HEAD, END), "Unreachable"),
    Fault("endless event stream without messages", _comments, "TimedOut", "`timeouts.request`"),
    Fault("response that is not HTTP", _sends(b"SSH-2.0-OpenSSH_9.9\r\n"), "NotMCP"),
    Fault("HTTP 503", _sends(b"HTTP/1.1 503 No\r\ncontent-length: 2\r\n\r\nno"), "Unreachable"),
    Fault("HTTP 500", _sends(b"HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\nno"), "Unreachable"),
    Fault("invalid JSON", _sends(_PLAIN + b"2\r\n\r\n{,"), "NotMCP"),
    Fault("response of 10 MiB", _large, "", "with its last byte", 30.0, 3.0),
    Fault("clock in the past", _dated(_PAST)),
    Fault("clock in the future", _dated(_FUTURE)),
)
