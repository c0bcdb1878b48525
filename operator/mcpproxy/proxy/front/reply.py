"""The answer to one POST: plain JSON where a single message will do, an event stream otherwise."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from mcpproxy.proxy.front.events import EventLog
from mcpproxy.proxy.wire import sse

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = tuple[tuple[bytes, bytes], ...]

PING_EVERY: Final = 15.0
"""Seconds of silence after which a stream gets a comment, so that no proxy on the way ends it."""
_JSON: Final = (b"content-type", b"application/json")


class Reply:
    """Writes one HTTP answer. Nothing is sent before it is clear what the answer is."""

    def __init__(self, send: Send, headers: Headers = ()) -> None:
        self._send = send
        self._headers = headers
        self._streaming = False
        self._done = False
        self._log: EventLog | None = None
        self._lock = asyncio.Lock()
        self._pinger: asyncio.Task[None] | None = None
        self._alarm: asyncio.TimerHandle | None = None

    def keep_alive(self) -> None:
        """From now on, a silence that lasts too long turns the answer into a stream with pings."""
        loop = asyncio.get_running_loop()
        self._alarm = loop.call_later(PING_EVERY, self._start_pinging)

    def _start_pinging(self) -> None:
        self._pinger = asyncio.create_task(self._ping())

    async def _ping(self) -> None:
        while not self._done:
            await self.ping()
            await asyncio.sleep(PING_EVERY)

    async def event(self, message: bytes) -> None:
        """Send a message now; the answer is a stream from here on."""
        event_id = None if self._log is None else self._log.append(message)
        await self._chunk(sse.encode(message, event_id))

    async def replay(self, message: bytes, event_id: bytes) -> None:
        """Send an event that another stream has kept."""
        await self._chunk(sse.encode(message, event_id))

    async def resumable(self, log: EventLog, retry: int | None) -> None:
        """Keep what is sent from now on; tell the client, so that it can go on after a break."""
        if self._log is None:
            self._log = log
            await self._chunk(sse.prime(log.append(b""), retry))

    async def pause(self) -> None:
        """Close the stream; what is still to come is kept for the client's return."""
        if self._log is not None:
            await self.end()

    async def _chunk(self, chunk: bytes) -> None:
        async with self._lock:
            if self._done:
                return
            if not self._streaming:
                self._streaming = True
                await self._head(200, (*sse.HEADERS, *self._headers))
            await self._send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def ping(self) -> None:
        """Send a comment; the answer is a stream from here on."""
        await self._chunk(sse.PING)

    def add_header(self, name: bytes, value: bytes) -> None:
        """Add a header to the answer, before anything is sent."""
        self._headers += ((name, value),)

    async def finish(self, message: bytes, status: int = 200) -> None:
        """Send the last message. The status counts only where nothing was sent before."""
        self._stop()
        event_id = None
        if self._log is not None:
            event_id = self._log.append(message)
            self._log.end(asyncio.get_running_loop().time())
        if self._streaming:
            async with self._lock:
                if not self._done:
                    self._done = True
                    body = sse.encode(message, event_id)
                    await self._send({"type": "http.response.body", "body": body})
            return
        self._done = True
        await self._head(status, (_JSON, (b"content-length", b"%d" % len(message)), *self._headers))
        await self._send({"type": "http.response.body", "body": message})

    async def only_event(self, message: bytes) -> None:
        """The whole answer as a stream of one event."""
        self._stop()
        self._done = True
        body = sse.encode(message)
        await self._head(200, (*sse.HEADERS, (b"content-length", b"%d" % len(body))))
        await self._send({"type": "http.response.body", "body": body})

    async def empty(self, status: int, *headers: tuple[bytes, bytes]) -> None:
        """An answer without a body."""
        self._stop()
        self._done = True
        await self._head(status, ((b"content-length", b"0"), *headers, *self._headers))
        await self._send({"type": "http.response.body", "body": b""})

    async def end(self) -> None:
        """End a stream without a last message."""
        self._stop()
        async with self._lock:
            if self._streaming and not self._done:
                self._done = True
                await self._send({"type": "http.response.body", "body": b""})

    def _stop(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        if self._pinger is not None:
            self._pinger.cancel()

    async def _head(self, status: int, headers: Headers) -> None:
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
