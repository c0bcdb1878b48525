"""Serving one client on standard streams: the first message decides the era for good."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, Protocol

from mcpproxy.limits import clients as limits
from mcpproxy.proxy.core.exchange import CANCELLED, INITIALIZED, NOT_OFFERED, ClientIdentity
from mcpproxy.proxy.core.tokens.sealed_tokens import Sealer
from mcpproxy.proxy.downstream.legacy import requests
from mcpproxy.proxy.downstream.legacy.event_store import StreamLog
from mcpproxy.proxy.downstream.legacy.sessions import (
    RunningRequest,
    SessionRegistry,
    SessionStreamContext,
)
from mcpproxy.proxy.downstream.message_queue import MessageQueue
from mcpproxy.proxy.downstream.modern import requests as modern_requests
from mcpproxy.proxy.downstream.modern import validation
from mcpproxy.proxy.downstream.modern.input_required import SuspendedCalls
from mcpproxy.proxy.downstream.standard_streams import NothingToServe, OutputFailed, is_reader_gone
from mcpproxy.proxy.downstream.stdio_shares import StdioWorkload
from mcpproxy.proxy.gateway.gateway import Gateway
from mcpproxy.proxy.protocol import batches, jsonrpc
from mcpproxy.proxy.protocol.batches import REVISION
from mcpproxy.proxy.protocol.jsonrpc import INVALID_REQUEST, Message, RpcError
from mcpproxy.proxy.protocol.kinds import BY_METHOD, KINDS
from mcpproxy.proxy.protocol.lines import LineSplitter, LineTooLong

SESSION: Final = "stdio"
FOREVER: Final = 10.0**9
TURN: Final = 64
"""Lines after which other tasks get a turn."""
RECHECK: Final = 1.0
"""Seconds after which a wait looks at what no event announces."""

log = logging.getLogger("mcpproxy.stdio")


class LineSource(Protocol):
    """Bytes of the client."""

    async def read(self) -> bytes:
        """Return the next bytes; empty at the end. Raises OSError."""


class LineTarget(Protocol):
    """Bytes to the client."""

    failed: "asyncio.Future[OSError]"
    """Completed when no more can be written."""

    async def write(self, data: bytes) -> None:
        """Write all of it. Raises OSError."""


class StdioServer:
    """Reads messages line by line and responds to each in a task of its own."""

    def __init__(self, gateway: Gateway, sealer: Sealer, target: LineTarget) -> None:
        self._gateway = gateway
        self._target = target
        self._sessions = SessionRegistry(sealer, SESSION, float("inf"))
        self._parking = SuspendedCalls(sealer, SESSION, time.time)
        self._live = self._sessions.of(SESSION, 0.0)
        self._live.stream = MessageQueue()
        gateway.seal_with(sealer)
        gateway.set_standing(lambda client: SessionStreamContext(client, self._sessions))
        self._modern: bool | None = None
        self._client: ClientIdentity | None = None
        self._initialized = False
        self._greeted = False
        self._work = StdioWorkload()
        self._listening: set[MessageQueue] = set()
        self._telling = asyncio.Lock()

    async def run(self, source: LineSource) -> None:
        """Serve until the client closes its end. Raises NothingToServe and OutputFailed."""
        unsubscribe = self._gateway.subscribe(self._changed, SESSION)
        pump = asyncio.create_task(self._pump())
        serving = asyncio.create_task(self._serve(source))
        failed = self._target.failed
        try:
            either: set[asyncio.Future[Any]] = {serving, failed}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                serving.result()
            if failed.done() and not is_reader_gone(failed.result()):
                why = f"standard output cannot be written: {failed.result().strerror}"
                raise OutputFailed(why)
        finally:
            unsubscribe()
            for task in (pump, serving):
                task.cancel()
            await asyncio.gather(pump, serving, return_exceptions=True)
            await self._live.unsubscribe()
            await self._work.close()

    async def _serve(self, source: LineSource) -> None:
        try:
            await self._read(source)
            await self._finish()
        except OSError as error:
            if isinstance(error, NothingToServe):
                raise
            # What was to be written; `run` sees why.

    async def _read(self, source: LineSource) -> None:
        lines = LineSplitter(limits.STDIO_LINE.value)
        empty = True
        while chunk := await source.read():
            lines.feed(chunk)
            number = 0
            while (line := lines.next()) is not None:
                empty = False
                await self._received(line)
                number += 1
                if number % TURN == 0:
                    await asyncio.sleep(0)
        last = lines.rest()
        if last:
            await self._received(last)
        elif empty:
            raise NothingToServe("standard input is empty; nothing to serve")

    async def _finish(self) -> None:
        """Respond to what was requested: the client sends no more, but may still read."""
        without = 0.0
        while self._work.tasks and without < limits.STDIO_LAST_ANSWERS.value:
            # Requests that came last begin only now: these are not all at the first turn.
            await asyncio.sleep(0)
            for outbox in self._listening:
                outbox.end()
            for asked in self._live.asked.values():
                if not asked.waiting.done():
                    asked.waiting.set_result({"error": NOT_OFFERED})
            without = 0.0 if await self._work.moved(RECHECK) else without + RECHECK
        if self._work.tasks:
            limits.STDIO_LAST_ANSWERS.record()
            log.warning("%d requests are left without a response", len(self._work.tasks))

    def _changed(self, method: str) -> None:
        if self._initialized and self._greeted and self._live.stream is not None:
            self._live.stream.announce(jsonrpc.notification(method))

    async def _pump(self) -> None:
        """Send what belongs to no request."""
        with contextlib.suppress(OSError):
            while True:
                assert self._live.stream is not None
                while (message := await self._live.stream.get(FOREVER)) is not None:
                    await self._emit(message)
                # It had overflowed. The client has no way to open it again: have it list all.
                self._live.stream = MessageQueue()
                for kind in KINDS:
                    self._changed(kind.changed)

    async def _emit(self, message: bytes) -> None:
        await self._target.write(message.replace(b"\r", b"").replace(b"\n", b"") + b"\n")

    async def _received(self, line: bytes | LineTooLong) -> None:
        if isinstance(line, LineTooLong):
            limits.STDIO_LINE.record()
            why = f"the line has over {limits.STDIO_LINE.value} bytes"
            await self._emit(jsonrpc.error_response(None, RpcError(INVALID_REQUEST, why)))
            return
        line = line.strip()
        if not line:
            return
        await self._room(len(line))
        try:
            if self._client and self._client.revision == REVISION and batches.is_batch(line):
                batch = batches.of_client(line, limits.STDIO_BATCH.value, limits.STDIO_BATCH.record)
                self._work.spawn(self._answer_all(batch), len(line), len(batch))
            else:
                await self._take(jsonrpc.parse(line), len(line))
        except RpcError as error:
            await self._emit(batches.refusal(line, error))

    async def _room(self, size: int) -> None:
        """Read no further before there is room, unless the client's answers might make it."""
        if not self._work.fits(size):
            limits.STDIO_MESSAGES.record()
        while not (self._work.fits(size) or self._live.asked):
            await self._work.moved(RECHECK)

    async def _take(self, message: Message, size: int) -> None:
        if self._modern is None and "method" in message:
            self._modern = modern_requests.era_of(message)
        if not batches.is_request(message):
            self._noted(message, size)
        elif self._work.fits(size):
            self._work.spawn(self._answer(message), size)
            if jsonrpc.decode_str(message["method"]) == "initialize":
                # What follows depends on who the client is.
                await asyncio.sleep(0)
        else:
            await self._emit(jsonrpc.error_response(message["id"], _full()))

    def _noted(self, message: Message, size: int) -> None:
        if jsonrpc.decode_str(message.get("method")) == INITIALIZED:
            # Changes before are in the lists that the client asks for next.
            self._initialized = self._client is not None
        elif self._work.fits(size) or not _waits(message):
            self._work.spawn(self._pass_on(message), size)

    async def _pass_on(self, message: Message) -> None:
        """In the order in which they came; answers and cancellations wait for nothing."""
        async with self._telling if _waits(message) else contextlib.nullcontext():
            with contextlib.suppress(RpcError):
                await requests.handle_notification(self._gateway, self._live, self._client, message)

    async def _answer(self, message: Message) -> None:
        body = await self._response(message)
        with contextlib.suppress(OSError):
            await self._emit(body)
            # A client that waits for nothing says that it is initialized before it can know.
            self._greeted = True

    async def _answer_all(self, messages: list[Message | bytes]) -> None:
        """Respond to a batch with a batch, in the order of its messages; bytes are refusals."""
        wanted = [m for m in messages if isinstance(m, bytes) or batches.is_request(m)]
        for message in messages:
            if not isinstance(message, bytes) and not batches.is_request(message):
                self._noted(message, 0)
        if wanted:
            bodies = await asyncio.gather(*(self._response(m) for m in wanted))
            with contextlib.suppress(OSError):
                await self._emit(b"[%b]" % b",".join(bodies))

    async def _response(self, message: Message | bytes) -> bytes:
        if isinstance(message, bytes):
            return message
        try:
            serve = self._answer_modern if self._modern else self._answer_legacy
            return await serve(message)
        except RpcError as refused:
            return jsonrpc.error_response(message["id"], refused)
        except Exception:
            log.exception("a request failed")
            error = RpcError(jsonrpc.INTERNAL_ERROR, "internal error")
            return jsonrpc.error_response(message["id"], error)

    async def _answer_legacy(self, message: Message) -> bytes:
        if jsonrpc.decode_str(message["method"]) == "initialize":
            params = jsonrpc.decode_object(message.get("params", jsonrpc.EMPTY))
            client = requests.client_of_session(params, "", SESSION)
            # Requests that follow at once are served as well.
            self._client = client
            result = await requests.initialize(self._gateway, client)
            return jsonrpc.response(message["id"], result)
        if jsonrpc.decode_str(message["method"]) == "ping":
            return jsonrpc.response(message["id"], b"{}")
        if self._client is None:
            raise RpcError(INVALID_REQUEST, "initialize first")
        # Those of a file are all there before the backends are.
        params = jsonrpc.decode_object(message.get("params", jsonrpc.EMPTY))
        await self._located(jsonrpc.decode_str(message["method"]) or "", params)
        caller = requests.LegacyCallContext(
            self._client, self._live, self._sessions, _StdioStream(self._emit)
        )
        return await requests.handle_request(
            self._gateway, self._live, message, caller, asyncio.current_task()
        )

    async def _located(self, method: str, params: Message) -> None:
        """Wait for the backend of a request; lists and the like wait themselves."""
        if method not in BY_METHOD and method not in (modern_requests.DISCOVER, "logging/setLevel"):
            await self._gateway.located(method, params)

    async def _listen(self, message: Message, params: Message) -> bytes:
        if len(self._listening) >= limits.STDIO_STREAMS.value:
            limits.STDIO_STREAMS.record()
            why = f"{limits.STDIO_STREAMS.value} streams are open; cancel one"
            raise RpcError(jsonrpc.UNAVAILABLE, why)
        listening = modern_requests.SubscriptionStream(
            self._gateway, message, params, client=self._client
        )
        self._listening.add(listening.outbox)
        try:
            return await listening.run(self._emit, _silence)
        finally:
            self._listening.discard(listening.outbox)

    async def _answer_modern(self, message: Message) -> bytes:
        params = jsonrpc.decode_object(message.get("params", jsonrpc.EMPTY))
        client, level = validation.parse_client("", params, None, "")
        # Nobody else is on this pipe: whatever is kept for it is kept for this client.
        client = replace(client, session=SESSION)
        caller = modern_requests.ModernCallContext(client, level, self._emit)
        self._client = client
        request_id = jsonrpc.id_key(message["id"])
        found = self._live.in_flight[request_id] = RunningRequest(asyncio.current_task())
        try:
            method = jsonrpc.decode_str(message["method"]) or ""
            if method == modern_requests.LISTEN:
                return await self._listen(message, params)
            await self._located(method, params)
            route = modern_requests.find_route(self._gateway, method, params, client)
            answer = await modern_requests.handle_modern_request(
                self._gateway, self._parking, message, params, caller, route
            )
            return answer if isinstance(answer, bytes) else jsonrpc.encode(answer)
        except asyncio.CancelledError:
            if not found.cancelled or found.task is None:
                raise
            found.task.uncancel()
            raise requests.cancel_request() from None
        finally:
            self._live.in_flight.pop(request_id, None)


class _StdioStream:
    """A pipe carries everything; it does not break and go on."""

    def __init__(self, emit: modern_requests.Emit) -> None:
        self._emit = emit

    async def event(self, message: bytes) -> None:
        await self._emit(message)

    async def resumable(self, open_log: Callable[[], StreamLog], retry: int | None) -> None: ...

    async def pause(self) -> None: ...


async def _silence() -> None:
    """Pipes need no pings."""


def _waits(message: Message) -> bool:
    """True for a notification that takes its turn behind those before it."""
    return jsonrpc.decode_str(message.get("method")) not in (None, CANCELLED)


def _full() -> RpcError:
    why = f"{limits.STDIO_MESSAGES.value} messages are being processed; answer what is asked first"
    return RpcError(jsonrpc.UNAVAILABLE, why)
