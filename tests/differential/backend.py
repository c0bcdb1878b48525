"""An MCP backend by hand: no SDK, no models. It keeps every byte that it got."""

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Receive, Scope, Send

MODERN = "2026-07-28"
LEGACY = "2025-11-25"
BREAK = ""
"""Ends a stream without its last bytes."""
_SSE = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
_LISTS = {
    "tools/list": "tools",
    "prompts/list": "prompts",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
}
_SIMPLE = ("ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe")
PAGE = 20


@dataclass
class Received:
    """One POST."""

    headers: dict[str, str]
    body: bytes

    @property
    def message(self) -> dict[str, Any]:
        """The message of the request."""
        document: dict[str, Any] = json.loads(self.body)
        return document


class Call:
    """One request that the backend answers; the answer is a stream from the first event on."""

    def __init__(self, backend: "Backend", received: Received, send: Send) -> None:
        self.received = received
        self.message = received.message
        self.session = received.headers.get("mcp-session-id", "")
        self._backend = backend
        self._send = send
        self._streaming = False

    async def emit(self, text: str) -> None:
        """Send a message before the response."""
        if not self._streaming:
            self._streaming = True
            await self._send({"type": "http.response.start", "status": 200, "headers": _SSE})
        await self._event(text, more=True)

    async def ask(self, request: Callable[[str], str]) -> Received:
        """Send a request that `request` spells for an id; what came back."""
        own = f"ask-{next(self._backend.numbers)}"
        waiting = asyncio.get_running_loop().create_future()
        self._backend.waiting[own] = waiting
        await self.emit(request(own))
        result: Received = await waiting
        return result

    async def finish(self, text: str) -> None:
        """Send the response."""
        if self._streaming:
            await self._event(text, more=False)
        else:
            await respond(self._send, 200, text.encode())

    async def _event(self, text: str, *, more: bool) -> None:
        body = b"data: " + text.encode() + b"\n\n"
        await self._send({"type": "http.response.body", "body": body, "more_body": more})


Answer = Callable[[Call], Awaitable[None]]


@dataclass
class Backend:
    """A server of one era. `answer` answers what is about a component."""

    era: str
    answer: Answer
    lists: dict[str, list[str]] = field(default_factory=dict)
    """Member of a list result → its items as JSON; 20 make a page."""
    stateless: bool = False
    seen: list[Received] = field(default_factory=list)
    """Everything but greetings, lists and pings."""
    greetings: list[Received] = field(default_factory=list)
    sessions: set[str] = field(default_factory=set)
    """Open sessions."""
    opened: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    waiting: dict[str, "asyncio.Future[Received]"] = field(default_factory=dict)
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)
    open_calls: int = 0
    levels: list[str] = field(default_factory=list)
    """Log levels that were set."""
    streams: list[tuple[str, "asyncio.Queue[str | None]"]] = field(default_factory=list)
    """Queues of notifications that belong to no request, with their sessions."""
    capabilities: dict[str, Any] = field(default_factory=dict)
    """Capabilities besides components, logging and completions."""
    list_hint: dict[str, Any] = field(default_factory=dict)
    """Members that every list result has (modern era)."""

    def broadcast(self, text: str) -> None:
        """Send a message on every stream that belongs to no request."""
        for _, stream in self.streams:
            stream.put_nowait(text)

    def _end(self, session: str) -> None:
        self.sessions.discard(session)
        self.deleted.append(session)
        for owner, stream in self.streams:
            if owner == session:
                stream.put_nowait(None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        if scope["method"] == "POST":
            received = Received(headers, await _body(receive))
            await self._post(received, receive, send)
        elif self.era == "modern":
            await respond(send, 405)
        elif headers.get("mcp-session-id") not in self.sessions:
            await respond(send, 405 if self.stateless else 404)
        elif scope["method"] == "GET":
            await self._stream(receive, send, headers["mcp-session-id"])
        else:
            self._end(headers["mcp-session-id"])
            await respond(send, 204)

    async def _post(self, received: Received, receive: Receive, send: Send) -> None:
        if (received.headers.get("mcp-protocol-version") == MODERN) != (self.era == "modern"):
            await respond(send, 400, b"another era", b"text/plain")
            return
        message = received.message
        if await self._greeted(received, message, send):
            return
        session = received.headers.get("mcp-session-id")
        if self.era == "legacy" and not self.stateless and session not in self.sessions:
            await respond(send, 404)
            return
        method = message.get("method")
        if method in _LISTS or method in _SIMPLE:
            if method == "logging/setLevel":
                self.levels.append(message["params"]["level"])
            await respond(send, 200, self._simple(message).encode())
        elif method == "subscriptions/listen":
            await self._listen(message, receive, send)
        elif "id" in message and method is not None:
            await self._call(received, send)
        else:
            if method != "notifications/initialized":
                self.seen.append(received)
            waiting = None if method else self.waiting.pop(message["id"], None)
            if waiting is not None:
                waiting.set_result(received)
            await respond(send, 202)

    async def _call(self, received: Received, send: Send) -> None:
        self.seen.append(received)
        self.open_calls += 1
        try:
            await self.answer(Call(self, received, send))
        finally:
            self.open_calls -= 1

    async def _greeted(self, received: Received, message: dict[str, Any], send: Send) -> bool:
        capabilities: dict[str, Any] = {"logging": {}, "completions": {}}
        capabilities |= {"tools": {}, "prompts": {}, "resources": {"subscribe": True}}
        capabilities |= self.capabilities
        info = {"name": "byhand", "version": "1"}
        result: dict[str, Any] = {"capabilities": capabilities}
        headers: list[tuple[bytes, bytes]] = []
        if message.get("method") == "server/discover":
            result |= {"supportedVersions": [MODERN], "resultType": "complete", "ttlMs": 0}
        elif message.get("method") == "initialize":
            self.greetings.append(received)
            result |= {"protocolVersion": LEGACY, "serverInfo": info}
            if not self.stateless:
                session = f"session-{next(self.numbers)}"
                self.sessions.add(session)
                self.opened.append(session)
                headers.append((b"mcp-session-id", session.encode()))
        else:
            return False
        text = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result})
        await respond(send, 200, text.encode(), extra=headers)
        return True

    def _simple(self, message: dict[str, Any]) -> str:
        member = _LISTS.get(message["method"])
        shown = json.dumps(message["id"])
        if member is None:
            return f'{{"jsonrpc":"2.0","id":{shown},"result":{{}}}}'
        start = int(message.get("params", {}).get("cursor", 0))
        items = self.lists.get(member, [])
        rest: dict[str, Any] = dict(self.list_hint)
        if start + PAGE < len(items):
            rest["nextCursor"] = str(start + PAGE)
        joined = ",".join(items[start : start + PAGE])
        more = "".join(f",{json.dumps(k)}:{json.dumps(v)}" for k, v in rest.items())
        return f'{{"jsonrpc":"2.0","id":{shown},"result":{{"{member}":[{joined}]{more}}}}}'

    async def _listen(self, message: dict[str, Any], receive: Receive, send: Send) -> None:
        acknowledged = {
            "jsonrpc": "2.0",
            "method": "notifications/subscriptions/acknowledged",
            "params": {"notifications": message["params"]["notifications"]},
        }
        await self._stream(receive, send, "", json.dumps(acknowledged))

    def break_streams(self) -> None:
        """Cut off all streams, which then have no end."""
        for _, queue in self.streams:
            queue.put_nowait(BREAK)

    async def _stream(self, receive: Receive, send: Send, session: str, first: str = "") -> None:
        queue: asyncio.Queue[str | None] = asyncio.Queue()
        self.streams.append((session, queue))
        gone = asyncio.create_task(_gone(receive))
        head = f"data: {first}\n\n" if first else ": hello\n\n"
        await send({"type": "http.response.start", "status": 200, "headers": _SSE})
        await send({"type": "http.response.body", "body": head.encode(), "more_body": True})
        try:
            while not gone.done():
                news = asyncio.create_task(queue.get())
                await asyncio.wait((gone, news), return_when=asyncio.FIRST_COMPLETED)
                if not news.done():
                    news.cancel()
                    break
                text = news.result()
                if text == BREAK:
                    break
                if text is None:
                    await send({"type": "http.response.body", "body": b""})
                    break
                body = b"data: " + text.encode() + b"\n\n"
                await send({"type": "http.response.body", "body": body, "more_body": True})
        finally:
            gone.cancel()
            self.streams.remove((session, queue))


async def respond(
    send: Send,
    status: int,
    body: bytes = b"",
    media_type: bytes = b"application/json",
    extra: list[tuple[bytes, bytes]] | None = None,
) -> None:
    """A whole answer."""
    headers = [(b"content-length", b"%d" % len(body)), *(extra or [])]
    if body:
        headers.append((b"content-type", media_type))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _body(receive: Receive) -> bytes:
    parts, more = [], True
    while more:
        part = await receive()
        parts.append(part.get("body", b""))
        more = part.get("more_body", False)
    return b"".join(parts)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
