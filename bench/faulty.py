"""A backend whose tools fail: each is named for the fault of its calls.

    python -m bench.faulty --port 9200

Its checks succeed, so that the proxy keeps sending it calls. A fault ends after `_LONG` seconds at
most, or when the proxy disconnects.
"""

import argparse
import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any, Final

_LONG: Final = 10.0
_REVISION: Final = "2025-11-25"
_STREAM: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
_LARGE: Final = json.dumps({"content": [{"type": "text", "text": "x" * 10 * 2**20}]}).encode()
_RESET: Final = struct.pack("ii", 1, 0)

Fault = Callable[[int, asyncio.StreamWriter], Awaitable[None]]
"""Gets the id of the request."""


async def _respond(writer: asyncio.StreamWriter, body: bytes, status: int = 200) -> None:
    head = b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    writer.write(head % (status, len(body)) + body)
    await writer.drain()


def _result(number: object, result: bytes) -> bytes:
    return b'{"jsonrpc":"2.0","id":%s,"result":%s}' % (json.dumps(number).encode(), result)


async def _slow(number: int, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(0.5)
    await _respond(writer, _result(number, b'{"content":[]}'))


async def _hung(_number: int, _writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(_LONG)


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


async def _reset_before(_number: int, writer: asyncio.StreamWriter) -> None:
    _reset(writer)


async def _reset_in_stream(_number: int, writer: asyncio.StreamWriter) -> None:
    writer.write(_STREAM + b"6\r\ndata: \r\n")
    await writer.drain()
    _reset(writer)


async def _half_closed(_number: int, writer: asyncio.StreamWriter) -> None:
    writer.write(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 90\r\n\r\n{"
    )
    writer.write_eof()
    await asyncio.sleep(_LONG)


async def _endless(_number: int, writer: asyncio.StreamWriter) -> None:
    writer.write(_STREAM)
    for _ in range(int(_LONG / 0.01)):
        writer.write(b"3\r\n:\n\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.01)


async def _large(number: int, writer: asyncio.StreamWriter) -> None:
    await _respond(writer, _result(number, _LARGE))


async def _unavailable(_number: int, writer: asyncio.StreamWriter) -> None:
    await _respond(writer, b"{}", 503)


async def _garbage(_number: int, writer: asyncio.StreamWriter) -> None:
    writer.write(b"\x16\x03\x01 this is not HTTP\r\n\r\n")
    await writer.drain()
    writer.close()


FAULTS: Final[dict[str, Fault]] = {
    fault.__name__.removeprefix("_"): fault
    for fault in (
        _slow, _hung, _reset_before, _reset_in_stream, _half_closed, _endless, _large,
        _unavailable, _garbage,
    )
}  # fmt: skip


async def _answer(message: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    method, number = message.get("method"), message.get("id")
    if number is None:
        await _respond(writer, b"", 202)
    elif method == "tools/call":
        await FAULTS[message["params"]["name"]](number, writer)
    elif method == "initialize":
        info = {"name": "faulty", "version": "1"}
        result = {"protocolVersion": _REVISION, "capabilities": {"tools": {}}, "serverInfo": info}
        await _respond(writer, _result(number, json.dumps(result).encode()))
    elif method == "tools/list":
        tools = [{"name": name, "inputSchema": {"type": "object"}} for name in FAULTS]
        await _respond(writer, _result(number, json.dumps({"tools": tools}).encode()))
    elif method == "ping":
        await _respond(writer, _result(number, b"{}"))
    else:
        error = b'{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"unknown method"}}'
        await _respond(writer, error % json.dumps(number).encode())


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"GET"):
                await _respond(writer, b"", 405)
                continue
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            body = await reader.readexactly(int(length or 0))
            await _answer(json.loads(body) if body else {}, writer)
            if writer.is_closing():
                return


async def _run(port: int) -> None:
    server = await asyncio.start_server(_serve, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


def main() -> None:
    """Serve as the arguments say."""
    parser = argparse.ArgumentParser(description="a backend whose calls fail, on loopback")
    parser.add_argument("--port", type=int, required=True)
    asyncio.run(_run(parser.parse_args().port))


if __name__ == "__main__":
    main()
