"""A hostile MCP backend: its tools are named for what their calls do to the proxy.

    python -m bench.hostile.backend --port 9200 [--sessions] [--seed 1]

Every misbehaviour ends by itself after `_LONG` seconds at most, or when the proxy hangs up.
"""

import argparse
import asyncio
import itertools
import json
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final

_LONG: Final = 20.0
_LIMIT: Final = 1 << 25
_REVISION: Final = "2025-11-25"
_TEMPLATES: Final = ("file://{name}.{ext}", "{+a}{+b}{+c}{+d}{+e}z", "x://{a}{b}{c}/{/d*}")
_CONTROL: Final = "\x1b[2J\r\nTraceback\x00\u202e"
_STREAM: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
Write = Callable[[bytes], Awaitable[None]]
Attack = Callable[["Exchange"], Awaitable[None]]


class Exchange:
    """One request and the connection on which it came."""

    def __init__(self, message: dict[str, Any], writer: asyncio.StreamWriter, rng: random.Random):
        self.id = message.get("id")
        self.message = message
        self.random = rng
        self._writer = writer

    async def raw(self, data: bytes) -> None:
        """Send bytes. Raises ConnectionError."""
        self._writer.write(data)
        await self._writer.drain()

    async def json(self, message: object, *, status: int = 200, headers: bytes = b"") -> None:
        """Send a response of one JSON body."""
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        head = b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%s\r\n"
        await self.raw(head % (status, len(body), headers) + body)

    async def result(self, result: object, **members: Any) -> None:
        """Send a result; `members` replace those of the envelope."""
        await self.json({"jsonrpc": "2.0", "id": self.id, "result": result, **members})

    async def event(self, message: object) -> None:
        """Send one event of a stream that has begun."""
        await self.chunk(b"data: " + json.dumps(message).encode() + b"\n\n")

    async def chunk(self, data: bytes) -> None:
        """Send one chunk of a body that has begun."""
        await self.raw(b"%x\r\n%s\r\n" % (len(data), data))

    async def text(self, **members: Any) -> None:
        """Send the text of the call back, as the well-behaved backend does."""
        arguments = self.message.get("params", {}).get("arguments", {})
        content = [{"type": "text", "text": str(arguments.get("text", ""))}]
        await self.result({"content": content}, **members)


async def _hang(_: Exchange) -> None:
    await asyncio.sleep(_LONG)


async def _storm(exchange: Exchange, method: str, count: int) -> None:
    await exchange.raw(_STREAM)
    for number in range(count):
        await exchange.event({"jsonrpc": "2.0", "id": f"q{number}", "method": method, "params": {}})
    await exchange.event({"jsonrpc": "2.0", "id": exchange.id, "result": {"content": []}})
    await exchange.chunk(b"")


async def _pings(exchange: Exchange) -> None:
    await _storm(exchange, "ping", 1000)


async def _questions(exchange: Exchange) -> None:
    await _storm(exchange, "sampling/createMessage", 1000)


async def _logs(exchange: Exchange) -> None:
    await exchange.raw(_STREAM)
    for number in range(2000):
        params = {"level": "error", "data": f"{number} {_CONTROL}"}
        method = "notifications/message"
        await exchange.event({"jsonrpc": "2.0", "method": method, "params": params})
    await exchange.event({"jsonrpc": "2.0", "id": exchange.id, "result": {"content": []}})
    await exchange.chunk(b"")


async def _repeated(exchange: Exchange, head: bytes, data: bytes, count: int) -> None:
    await exchange.raw(head)
    for _ in range(count):
        await exchange.raw(data)


async def _empty_lines(exchange: Exchange) -> None:
    block = b"data:\n" * 10_000
    await _repeated(exchange, _STREAM, b"%x\r\n%s\r\n" % (len(block), block), 400)


async def _comments(exchange: Exchange) -> None:
    block = b":\n\nid: 1\nretry: 1\n" * 1000
    await _repeated(exchange, _STREAM, b"%x\r\n%s\r\n" % (len(block), block), 200)


async def _endless_header(exchange: Exchange) -> None:
    await _repeated(exchange, b"HTTP/1.1 200 OK\r\nx-long: ", b"a" * 65536, 300)


async def _many_headers(exchange: Exchange) -> None:
    await _repeated(exchange, b"HTTP/1.1 200 OK\r\n", b"a:\r\n" * 1000, 60)


async def _informational(exchange: Exchange) -> None:
    await _repeated(exchange, b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100, 100)


async def _drip(exchange: Exchange) -> None:
    await exchange.raw(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 90\r\n"
    )
    for _ in range(20):
        await exchange.raw(b"x" if exchange.random.random() < 0.5 else b"x: y\r\n")
        await asyncio.sleep(1)


async def _wrong_id(exchange: Exchange) -> None:
    await exchange.text(id=exchange.random.choice([0, 1, 2, 3, "1", None, True]))


async def _twice(exchange: Exchange) -> None:
    body = json.dumps({"jsonrpc": "2.0", "id": exchange.id, "result": {"content": []}}).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    await exchange.raw((head % len(body) + body) * 3)


async def _upgrade(exchange: Exchange) -> None:
    await exchange.raw(b"HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n\x00\xff")


async def _redirect(exchange: Exchange) -> None:
    where = exchange.random.choice([b"/mcp", b"http://127.0.0.1:9/mcp", b"//", b"http://[::1"])
    await exchange.json({}, status=307, headers=b"location: %s\r\n" % where)


async def _garbage(exchange: Exchange) -> None:
    await exchange.raw(exchange.random.randbytes(5000))


async def _short(exchange: Exchange) -> None:
    await exchange.raw(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"
    )
    raise ConnectionError


async def _members(exchange: Exchange) -> None:
    members = b",".join(b'"%x":1' % number for number in range(400_000))
    body = b'{"jsonrpc":"2.0","id":%s,"result":{%s}}' % (json.dumps(exchange.id).encode(), members)
    await exchange.json(body)


async def _deep(exchange: Exchange) -> None:
    await exchange.json(
        b'{"jsonrpc":"2.0","id":1,"result":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    )


async def _strange_error(exchange: Exchange) -> None:
    error = {"code": -32603, "message": _CONTROL * 1000, "data": {"trace": "x" * 10_000}}
    await exchange.json({"jsonrpc": "2.0", "id": exchange.id, "error": error})


async def _echo(exchange: Exchange) -> None:
    await exchange.text()


TOOLS: Final[dict[str, Attack]] = {
    attack.__name__.removeprefix("_"): attack
    for attack in (
        _hang, _pings, _questions, _logs, _empty_lines, _comments, _endless_header, _many_headers,
        _informational, _drip, _wrong_id, _twice, _upgrade, _redirect, _garbage, _short, _members,
        _deep, _strange_error, _echo,
    )
}  # fmt: skip


class Backend:
    """State that the connections of one backend share."""

    def __init__(self, *, sessions: bool, seed: int) -> None:
        self._sessions = sessions
        self._numbers = itertools.count()
        self._random = random.Random(seed)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end."""
        try:
            while True:
                async with asyncio.timeout(4 * _LONG):
                    head = await reader.readuntil(b"\r\n\r\n")
                    body = await reader.readexactly(_length(head))
                    await self._serve(head, body, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            writer.transport.abort()

    async def _serve(self, head: bytes, body: bytes, writer: asyncio.StreamWriter) -> None:
        message = json.loads(body) if body else {}
        exchange = Exchange(message, writer, self._random)
        method = message.get("method")
        if head.startswith(b"GET"):
            await self._announce(exchange)
        elif "id" not in message or method is None:
            # Some answers and notifications of the proxy are never answered.
            if self._random.random() < 0.05:
                await _hang(exchange)
            await exchange.json(b"", status=202)
        elif method == "tools/call":
            await TOOLS.get(message["params"]["name"], _echo)(exchange)
        else:
            await self._answer(exchange, method)

    async def _answer(self, exchange: Exchange, method: str) -> None:
        if method == "initialize":
            session = b"mcp-session-id: s%d\r\n" % next(self._numbers) if self._sessions else b""
            info = {"name": "hostile" + _CONTROL, "version": "1" * 5000}
            capabilities = {"tools": {"listChanged": True}, "resources": {"subscribe": True}}
            result = {"protocolVersion": _REVISION, "capabilities": capabilities}
            result |= {"serverInfo": info, "instructions": _CONTROL * 100}
            answer = {"jsonrpc": "2.0", "id": exchange.id, "result": result}
            await exchange.json(answer, headers=session)
        elif method.endswith("/list"):
            await exchange.result(self._listed(method))
        elif method == "ping":
            await exchange.result({})
        else:
            error = {"code": -32601, "message": "method not found"}
            await exchange.json({"jsonrpc": "2.0", "id": exchange.id, "error": error})

    def _listed(self, method: str) -> dict[str, Any]:
        listed: dict[str, Any] = {}
        if method == "tools/list":
            listed = {"tools": [{"name": n, "inputSchema": {"type": "object"}} for n in TOOLS]}
        elif method == "resources/templates/list":
            templates = [{"uriTemplate": text, "name": text} for text in _TEMPLATES]
            listed = {"resourceTemplates": templates}
        elif method == "resources/list":
            listed = {"resources": []}
        # Now and then a list has no end.
        if self._random.random() < 0.02:
            listed["nextCursor"] = str(next(self._numbers))
        return listed

    async def _announce(self, exchange: Exchange) -> None:
        """Announce changes without end, a thousand at a time."""
        await exchange.raw(_STREAM)
        for _ in range(int(_LONG)):
            for _ in range(1000):
                method = "notifications/tools/list_changed"
                await exchange.event({"jsonrpc": "2.0", "method": method})
            await asyncio.sleep(1)


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    return 0


async def serve(port: int, *, sessions: bool, seed: int) -> None:
    """Serve on loopback until cancelled."""
    backend = Backend(sessions=sessions, seed=seed)
    server = await asyncio.start_server(backend.connected, "127.0.0.1", port, limit=_LIMIT)
    async with server:
        await server.serve_forever()


def main() -> None:
    """Serve as the arguments say."""
    parser = argparse.ArgumentParser(description="a hostile MCP backend on loopback")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--sessions", action="store_true", help="give out session ids")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    asyncio.run(serve(args.port, sessions=args.sessions, seed=args.seed))


if __name__ == "__main__":
    main()
