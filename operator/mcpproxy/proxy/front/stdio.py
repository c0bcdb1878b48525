"""Serving one client on standard streams: the first message decides the era for good."""

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any, BinaryIO, Final

from mcpproxy.proxy.core.exchange import CANCELLED, Client
from mcpproxy.proxy.core.seal import Sealer
from mcpproxy.proxy.front import envelope, legacy, modern
from mcpproxy.proxy.front.events import EventLog
from mcpproxy.proxy.front.live import InFlight, LiveSessions, StandingCaller
from mcpproxy.proxy.front.outbox import Outbox
from mcpproxy.proxy.front.parking import Parking
from mcpproxy.proxy.gateway import Gateway
from mcpproxy.proxy.wire import jsonrpc
from mcpproxy.proxy.wire.jsonrpc import INVALID_REQUEST, Message, RpcError

MAX_LINE: Final = 64 * 1024 * 1024
SESSION: Final = "stdio"
LAST_ANSWERS: Final = 10.0
"""Seconds that requests have to be answered once the client has closed its end."""
FOREVER: Final = 10.0**9


class StdioFront:
    """Reads messages line by line, answers each in a task of its own."""

    def __init__(self, gateway: Gateway, sealer: Sealer, writer: asyncio.StreamWriter) -> None:
        self._gateway = gateway
        self._writer = writer
        self._sessions = LiveSessions(sealer, SESSION, float("inf"))
        self._parking = Parking(sealer, SESSION, time.time)
        self._live = self._sessions.of(SESSION, 0.0)
        self._outbox = self._live.stream = Outbox()
        gateway.set_standing(lambda client: StandingCaller(client, self._sessions))
        self._modern: bool | None = None
        self._client: Client | None = None
        self._initialized = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening: set[Outbox] = set()
        self._telling = asyncio.Lock()

    async def run(self, reader: asyncio.StreamReader) -> None:
        """Serve until the client closes its end."""
        unsubscribe = self._gateway.subscribe(self._changed)
        pump = asyncio.create_task(self._pump())
        try:
            while line := await reader.readline():
                if line.strip():
                    await self._received(line)
            await self._finish()
        finally:
            unsubscribe()
            pump.cancel()
            await self._live.unsubscribe()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _finish(self) -> None:
        """The client sends no more, but may still read: answer what it has asked."""
        for outbox in self._listening:
            outbox.end()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=LAST_ANSWERS)

    def _changed(self, method: str) -> None:
        if self._initialized:
            self._outbox.announce(jsonrpc.notification(method))

    async def _pump(self) -> None:
        """Send what belongs to no request."""
        while (message := await self._outbox.get(FOREVER)) is not None:
            await self._emit(message)

    async def _emit(self, message: bytes) -> None:
        self._writer.write(message.replace(b"\r", b"").replace(b"\n", b"") + b"\n")
        await self._writer.drain()

    async def _received(self, line: bytes) -> None:
        try:
            message = jsonrpc.parse(line.strip())
        except RpcError as error:
            await self._emit(jsonrpc.failure(None, error))
            return
        if self._modern is None and "method" in message:
            self._modern = modern.era_of(message)
        if "method" not in message or "id" not in message:
            self._noted(message)
            return
        self._spawn(self._answer(message))

    def _noted(self, message: Message) -> None:
        if jsonrpc.string(message.get("method")) == "notifications/initialized":
            # Not a word of changes before.
            self._initialized = self._client is not None
        self._spawn(self._pass_on(message))

    async def _pass_on(self, message: Message) -> None:
        """In the order in which they came; answers and cancellations wait for nothing."""
        waits = jsonrpc.string(message.get("method")) not in (None, CANCELLED)
        async with self._telling if waits else contextlib.nullcontext():
            with contextlib.suppress(RpcError):
                await legacy.noted(self._gateway, self._live, self._client, message)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, message: Message) -> None:
        try:
            serve = self._answer_modern if self._modern else self._answer_legacy
            body = await serve(message)
        except RpcError as error:
            body = jsonrpc.failure(message["id"], error)
        with contextlib.suppress(ConnectionError):
            await self._emit(body)

    async def _answer_legacy(self, message: Message) -> bytes:
        if jsonrpc.string(message["method"]) == "initialize":
            params = jsonrpc.members(message.get("params", jsonrpc.EMPTY))
            client = legacy.client_of(params, "", SESSION)
            # What comes right behind is served, too.
            self._client = client
            result = await legacy.initialized(self._gateway, client)
            return jsonrpc.response(message["id"], result)
        if jsonrpc.string(message["method"]) == "ping":
            return jsonrpc.response(message["id"], b"{}")
        if self._client is None:
            raise RpcError(INVALID_REQUEST, "initialize first")
        caller = legacy.LegacyCaller(self._client, self._live, self._sessions, _Pipe(self._emit))
        return await legacy.answer(
            self._gateway, self._live, message, caller, asyncio.current_task()
        )

    async def _listen(self, message: Message, params: Message) -> bytes:
        listening = modern.Listening(self._gateway, message, params)
        self._listening.add(listening.outbox)
        try:
            return await listening.run(self._emit, _silence)
        finally:
            self._listening.discard(listening.outbox)

    async def _answer_modern(self, message: Message) -> bytes:
        params = jsonrpc.members(message.get("params", jsonrpc.EMPTY))
        client, level = envelope.client_of("", params, None, "")
        caller = modern.ModernCaller(client, level, self._emit)
        self._client = client
        request_id = jsonrpc.id_key(message["id"])
        found = self._live.in_flight[request_id] = InFlight(asyncio.current_task())
        try:
            method = jsonrpc.string(message["method"]) or ""
            if method == modern.LISTEN:
                return await self._listen(message, params)
            route = modern.route_of(self._gateway, method, params)
            answer = await modern.answer(
                self._gateway, self._parking, message, params, caller, route
            )
            return answer if isinstance(answer, bytes) else jsonrpc.encode(answer)
        except asyncio.CancelledError:
            if not found.cancelled or found.task is None:
                raise
            found.task.uncancel()
            raise legacy.cancelled() from None
        finally:
            self._live.in_flight.pop(request_id, None)


class _Pipe:
    """A pipe carries everything; it does not break and go on."""

    def __init__(self, emit: modern.Emit) -> None:
        self._emit = emit

    async def event(self, message: bytes) -> None:
        """See Stream."""
        await self._emit(message)

    async def resumable(self, open_log: Callable[[], EventLog], retry: int | None) -> None:
        """See Stream."""

    async def pause(self) -> None:
        """See Stream."""


async def _silence() -> None:
    """Pipes need no pings."""


async def open_streams(
    stdin: BinaryIO | None = None, stdout: BinaryIO | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Our standard streams (or others) for asyncio."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=MAX_LINE)
    await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), stdin or sys.stdin.buffer
    )
    transport, protocol = await loop.connect_write_pipe(
        asyncio.streams.FlowControlMixin, stdout or sys.stdout.buffer
    )
    return reader, asyncio.StreamWriter(transport, protocol, None, loop)
