"""A backend by hand, whose answers come in any shape, and a client of its era."""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from unittest import mock

from mcpproxy.proxy.upstream import request_in_task
from mcpproxy.proxy.upstream.call_context import TimeoutContext
from mcpproxy.proxy.upstream.sessions.pool import SessionPool
from tests.proxy.byhand import served
from tests.proxy.runtime.raw import Raw, last, rpc

DISCOVERED: dict[str, Any] = {
    "resultType": "complete",
    "supportedVersions": ["2026-07-28"],
    "capabilities": {"tools": {}},
    "ttlMs": 0,
    "cacheScope": "private",
}
GREETING: dict[str, Any] = {
    "protocolVersion": "2025-11-25",
    "capabilities": {"tools": {}, "logging": {}},
    "serverInfo": {"name": "by hand", "version": "1"},
}
SHARED = ("Reused", "PerClient")
SESSIONS = (*SHARED, "Isolated")
"""Backends that keep sessions, by the mode of the proxy."""
KINDS = ("legacy", "modern", *SESSIONS)
"""Kinds of backends: by era where they keep no sessions."""
TEXT = {"content": [{"type": "text", "text": "hello"}], "resultType": "complete"}


def plain(body: bytes, status: bytes = b"200 OK", more: bytes = b"") -> bytes:
    """An answer of one JSON message."""
    head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n"
    return head % (status, more, len(body)) + body


def events(body: bytes) -> bytes:
    """An answer as an event stream, behind a notification, that ends with its connection."""
    told = b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}'
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    return head + b"data: %b\n\ndata: %b\n\n" % (told, body)


def chunked(body: bytes) -> bytes:
    """An answer in chunks of 1,000 bytes."""
    parts = [body[i : i + 1000] for i in range(0, len(body), 1000)]
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    return head + b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in parts) + b"0\r\n\r\n"


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chunk(content: bytes) -> bytes:
    """A chunk of a body."""
    return b"%x\r\n%b\r\n" % (len(content), content)


def resumable(body: bytes) -> bytes:
    """One event that can be asked for again."""
    return HEAD + chunk(b"id: 7\ndata: %b\n\n" % body) + END


def behind_another(body: bytes) -> bytes:
    """The response behind one to a request that nobody has made."""
    other = json.dumps({**json.loads(body), "id": "other"}).encode()
    return HEAD + chunk(b"data: %b\n\n" % other) + chunk(b"data: %b\n\n" % body) + END


def in_lines(body: bytes) -> bytes:
    """One event with two lines of data."""
    first, _, second = body.partition(b" ")
    return HEAD + chunk(b"data: %b\ndata: %b\n\n" % (first, second)) + END


LOGGED: dict[str, Any] = {
    "jsonrpc": "2.0",
    "method": "notifications/message",
    "params": {"level": "info", "data": 1},
}
ASKED: dict[str, Any] = {
    "jsonrpc": "2.0",
    "id": "q",
    "method": "elicitation/create",
    "params": {"message": "?", "requestedSchema": {"type": "object", "properties": {}}},
}


class ByHand:
    """A server of one era whose answers to calls are made by `shape`."""

    def __init__(self, kind: str, shape: Callable[[bytes], bytes] | None) -> None:
        self.modern = kind == "modern"
        self.keeps = kind in SESSIONS
        """True if it keeps sessions, with a stream for each."""
        self.shape = shape
        self.result: Any = TEXT
        self.calls: list[Any] = []
        self.told: list[Any] = []
        self.left = asyncio.Event()
        self.opened = 0
        """Number of opened sessions; an id is the number of its session."""
        self.gone: set[bytes] = set()
        """Sessions that it does not know any more."""
        self.asked: list[tuple[bytes, str]] = []
        """Sessions and methods of all requests and notifications."""
        self.streams: dict[bytes, asyncio.StreamWriter] = {}
        """The stream of each session."""
        self.sessions: SessionPool
        """The proxy's with it."""
        self.reap: Callable[[], None] = lambda: None
        """Has the proxy end the sessions that nobody uses."""
        self.resumed = b""
        """The answer to who comes back for what is behind its event 1."""
        self.timeouts: list[TimeoutContext] = []
        """Contexts of the calls that tasks continued."""
        self.answers: list[Any] = []
        """Of clients to its questions."""
        self.writes: Callable[[Any, asyncio.StreamWriter], Awaitable[None]] | None = None
        """Form of the response to a call of this id, if not `shape`."""
        self.before: Callable[[bytes], Awaitable[None]] | None = None
        """Actions before the response to a call of this session."""

    @property
    def deadlines(self) -> list[TimeoutContext]:
        """The contexts whose timeout is running."""
        return [context for context in self.timeouts if context.ends_at < math.inf]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
            session = head.partition(b"mcp-session-id: ")[2].partition(b"\r\n")[0]
            message = json.loads(await reader.readexactly(int(length or 0)) or b"null")
            if message is None:
                await self.listen(head, session, reader, writer)
                continue
            self.asked.append((session, message.get("method", "")))
            if session in self.gone:
                writer.write(b"HTTP/1.1 404 Gone\r\ncontent-length: 0\r\n\r\n")
                continue
            if message.get("method") != "tools/call":
                writer.write(self.answer(message))
                continue
            self.calls.append(message)
            if self.before is not None:
                await self.before(session)
            if self.shape is None:
                await reader.read()
                self.left.set()
                return
            if self.writes is not None:
                await self.writes(message["id"], writer)
                continue
            body = {"jsonrpc": "2.0", "id": message["id"], "result": self.result}
            writer.write(self.shape(json.dumps(body).encode()))
            if self.shape is events or self.shape is lost:
                await writer.drain()
                writer.close()
                return

    async def listen(
        self,
        head: bytes,
        session: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Handle a request without a body: the stream of a session, or its end."""
        if head.startswith(b"delete"):
            self.asked.append((session, "DELETE"))
        if b"last-event-id: 1" in head:
            writer.write(self.resumed)
            return
        if not (self.keeps and head.startswith(b"get")):
            writer.write(b"HTTP/1.1 405 No\r\ncontent-length: 0\r\n\r\n")
            return
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        self.streams[session] = writer
        await reader.read()

    def is_warm(self) -> bool:
        """Return True if a session waits for a call."""
        return any(warm.links for warm in self.sessions._warm._kinds.values())

    def say(self, session: bytes, message: Any) -> None:
        """Say something on the stream of a session."""
        self.streams[session].write(b"data: %b\n\n" % json.dumps(message).encode())

    def answer(self, message: Any) -> bytes:
        """The answer to what is no call."""
        if "method" not in message:
            self.answers.append(message)
            return b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"
        if "id" not in message:
            if message["method"] != "notifications/initialized":
                self.told.append(message)
            return b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"
        known = {"server/discover": DISCOVERED} if self.modern else {"initialize": GREETING}
        known["tools/list"] = {"tools": [], **(DISCOVERED if self.modern else {})}
        body: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"]}
        more = b""
        if message["method"] == "initialize" and self.keeps:
            self.opened += 1
            more = b"mcp-session-id: %d\r\n" % self.opened
        if message["method"] in known:
            body["result"] = known[message["method"]]
        elif message["method"] == "logging/setLevel":
            body["result"] = {}
        else:
            body["error"] = {"code": -32601, "message": "no"}
        return plain(json.dumps(body).encode(), more=more)


def lost(body: bytes) -> bytes:
    """An answer that breaks off."""
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 999\r\n\r\n{"


def refused(body: bytes) -> bytes:
    """An error of HTTP."""
    return plain(body, b"503 Busy")


def closing(body: bytes) -> bytes:
    """An answer on a connection that is not kept."""
    return plain(body, more=b"connection: close\r\n")


@asynccontextmanager
async def stage(
    proxy: Any,
    http: Any,
    kind: str,
    shape: Callable[[bytes], bytes] | None,
    timeout: str = "400ms",
    client_kind: str | None = None,
) -> AsyncIterator[tuple[ByHand, Raw]]:
    """A backend by hand, and a client of its era (or another) in front of the proxy."""
    backend = ByHand(kind, shape)

    def recorded(*arguments: Any) -> TimeoutContext:
        backend.timeouts.append(TimeoutContext(*arguments))
        return backend.timeouts[-1]

    kept = mock.patch.object(request_in_task, "TimeoutContext", recorded)
    async with served(backend.serve) as port:
        value: dict[str, Any] = {"timeouts": {"request": timeout, "idle": "1ms"}}
        if kind == "Reused":
            value["session"] = {"stateless": True}
        spec = {"session": {"mode": kind}} if kind in SESSIONS else {}
        running = await proxy({"name": "p", "url": f"http://127.0.0.1:{port}/mcp", **value}, **spec)
        backend.sessions = running.runtime.gateway.backends["p"].sessions
        backend.reap = backend.sessions.close_idle
        client = Raw(running.url, http)
        if (client_kind or kind) != "modern":
            await client.initialize(capabilities={"elicitation": {}})
        with kept:
            yield backend, client


async def called(client: Raw, kind: str) -> Any:
    """The response to a call."""
    if kind == "modern":
        return last(await client.call("tools/call", "p_x", name="p_x"))
    return last(await client.post(rpc("tools/call", {"name": "p_x"}, "mine")))
