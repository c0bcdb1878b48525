"""Server for one client on standard streams; the first message decides the era."""

import asyncio
import contextlib
import logging
import time
from dataclasses import replace
from typing import Any, Final, Protocol

from mcpproxy.limits import clients as limits
from mcpproxy.proxy.core.exchange import CANCELLED, INITIALIZED, ClientIdentity
from mcpproxy.proxy.core.identity import ANONYMOUS, Identity
from mcpproxy.proxy.downstream.legacy import requests
from mcpproxy.proxy.downstream.legacy.get_stream import SessionStreamContext
from mcpproxy.proxy.downstream.legacy.sessions import (
    RunningRequest,
    SessionRegistry,
)
from mcpproxy.proxy.downstream.message_queue import MessageQueue
from mcpproxy.proxy.downstream.modern import requests as modern_requests
from mcpproxy.proxy.downstream.modern import validation
from mcpproxy.proxy.downstream.modern.input_required import SuspendedCalls
from mcpproxy.proxy.downstream.standard_streams import (
    EMPTY,
    NothingToServe,
    OutputFailed,
    is_reader_gone,
)
from mcpproxy.proxy.downstream.stream_shares import StdioWorkload
from mcpproxy.proxy.gateway.aggregate import NOBODY
from mcpproxy.proxy.gateway.gateway import Gateway
from mcpproxy.proxy.http1.errors import log_failure
from mcpproxy.proxy.protocol import batches, jsonrpc
from mcpproxy.proxy.protocol.batches import REVISION
from mcpproxy.proxy.protocol.jsonrpc import INVALID_REQUEST, Message, RpcError
from mcpproxy.proxy.protocol.kinds import BY_METHOD, KINDS
from mcpproxy.proxy.protocol.lines import LineSplitter, LineTooLong

SESSION: Final = "stdio"
FOREVER: Final = 10.0**9
TURN: Final = 64
"""Number of lines after which other tasks may run."""
RECHECK: Final = 1.0
"""Interval in seconds at which a wait checks for changes without an event."""

log = logging.getLogger("mcpproxy.stdio")


class LineSource(Protocol):
    """Stream of bytes from the client."""

    async def read(self) -> bytes:
        """Return the next bytes; empty at the end. Raise OSError."""


class LineTarget(Protocol):
    """Stream of bytes to the client."""

    failed: "asyncio.Future[OSError]"
    """Completed when writing fails."""

    async def write(self, data: bytes) -> None:
        """Write all data. Raise OSError."""


class StdioServer:
    """Server that reads messages line by line and responds to each in a separate task."""

    def __init__(
        self,
        gateway: Gateway,
        target: LineTarget,
        identity: Identity = ANONYMOUS,
        session: str = SESSION,
    ) -> None:
        """`identity` is that of the client, and `session` is unique among those of the gateway."""
        self._gateway = gateway
        self._identity = identity
        self._target = target
        sealer = gateway.routing.sealer
        self._session = session
        self._sessions = SessionRegistry(sealer, session, float("inf"))
        self._parking = SuspendedCalls(sealer, session, time.time)
        self._live = self._sessions.acquire(session, 0.0)
        self._live.attach(MessageQueue())
        self._modern: bool | None = None
        self._client: ClientIdentity | None = None
        self._initialized = False
        self._greeted = False
        self._work = StdioWorkload()
        self._listening: set[MessageQueue] = set()
        self._notification_lock = asyncio.Lock()

    async def run(self, source: LineSource) -> None:
        """Serve until the client closes its end. Raise NothingToServe or OutputFailed."""
        unsubscribe = self._gateway.subscribe(
            self._announce_change, self._session, self._identified(NOBODY)
        )
        withdraw = self._gateway.provide_session_contexts(
            lambda client: SessionStreamContext(client, self._sessions), self._session
        )
        pump = asyncio.create_task(self._pump())
        serving = asyncio.create_task(self._serve(source))
        failed = self._target.failed
        try:
            either: set[asyncio.Future[Any]] = {serving, failed}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                serving.result()
            if failed.done() and not is_reader_gone(failed.result()):
                why = f"cannot write standard output: {failed.result().strerror}"
                raise OutputFailed(why)
        finally:
            unsubscribe()
            withdraw()
            for task in (pump, serving):
                task.cancel()
            await asyncio.gather(pump, serving, return_exceptions=True)
            await self._live.unsubscribe()
            await self._work.close()

    def _identified(self, client: ClientIdentity) -> ClientIdentity:
        """Return the client with its identity and access."""
        if self._identity is not ANONYMOUS:
            principal = self._identity.principal
            client = replace(client, identity=self._identity, principal=principal)
        return self._gateway.routing.restrict(client)

    async def _serve(self, source: LineSource) -> None:
        try:
            await self._read(source)
            await self._finish()
        except OSError as error:
            if isinstance(error, NothingToServe):
                raise
            # A failed write; `run` handles its cause.

    async def _read(self, source: LineSource) -> None:
        lines = LineSplitter(limits.STDIO_LINE.value)
        empty = True
        while chunk := await source.read():
            lines.feed(chunk)
            number = 0
            while (line := lines.next()) is not None:
                empty = False
                await self._handle_line(line)
                number += 1
                if number % TURN == 0:
                    await asyncio.sleep(0)
        last = lines.rest()
        if last:
            await self._handle_line(last)
        elif empty:
            raise NothingToServe(EMPTY)

    async def _finish(self) -> None:
        """Respond to all requests; the client sends no more, but may still read."""
        idle_time = 0.0
        while self._work.tasks and idle_time < limits.STDIO_LAST_ANSWERS.value:
            # The last requests start only now; their server requests arrive over several
            # iterations.
            await asyncio.sleep(0)
            for outbox in self._listening:
                outbox.end()
            self._live.asked.refuse()
            # The last task may have ended meanwhile.
            ended = not self._work.tasks or await self._work.wait_for_completion(RECHECK)
            idle_time = 0.0 if ended else idle_time + RECHECK
        if self._work.tasks:
            limits.STDIO_LAST_ANSWERS.record()
            log.warning("%d requests remain without a response", len(self._work.tasks))

    def _announce_change(self, method: str) -> None:
        if self._initialized and self._greeted and self._live.stream is not None:
            self._live.stream.announce(jsonrpc.notification(method))

    async def _pump(self) -> None:
        """Send the messages that belong to no request."""
        with contextlib.suppress(OSError):
            while True:
                assert self._live.stream is not None
                while (message := await self._live.stream.get(FOREVER)) is not None:
                    await self._emit(message)
                # The queue overflowed, and the client cannot reopen it. It must list everything.
                self._live.attach(MessageQueue())
                for kind in KINDS:
                    self._announce_change(kind.changed)

    async def _emit(self, message: bytes) -> None:
        await self._target.write(message.replace(b"\r", b"").replace(b"\n", b"") + b"\n")

    async def _handle_line(self, line: bytes | LineTooLong) -> None:
        if isinstance(line, LineTooLong):
            limits.STDIO_LINE.record()
            why = f"the line has more than {limits.STDIO_LINE.value} bytes"
            await self._emit(jsonrpc.error_response(None, RpcError(INVALID_REQUEST, why)))
            return
        line = line.strip()
        if not line:
            return
        await self._wait_for_room(len(line))
        try:
            if self._client and self._client.revision == REVISION and batches.is_batch(line):
                batch = batches.of_client(line, limits.STDIO_BATCH.value, limits.STDIO_BATCH.record)
                self._work.spawn(self._respond_to_batch(batch), len(line), len(batch))
            else:
                await self._handle_message(jsonrpc.parse(line), len(line))
        except RpcError as error:
            await self._emit(batches.refusal(line, error))

    async def _wait_for_room(self, size: int) -> None:
        """Wait for room to process a message of this size.

        Do not wait if responses of the client may be necessary to make room.
        """
        if not self._work.fits(size):
            limits.STDIO_MESSAGES.record()
        while not (self._work.fits(size) or self._live.asked):
            await self._work.wait_for_completion(RECHECK)

    async def _handle_message(self, message: Message, size: int) -> None:
        if self._modern is None and "method" in message:
            self._modern = modern_requests.is_modern_message(message)
        if not batches.is_request(message):
            self._handle_notification(message, size)
        elif self._work.fits(size):
            self._work.spawn(self._respond(message), size)
            if jsonrpc.decode_str(message["method"]) == "initialize":
                # The next messages depend on the identity of the client.
                await asyncio.sleep(0)
        else:
            await self._emit(jsonrpc.error_response(message["id"], _full()))

    def _handle_notification(self, message: Message, size: int) -> None:
        if jsonrpc.decode_str(message.get("method")) == INITIALIZED:
            # Earlier changes are in the lists that the client requests next.
            self._initialized = self._client is not None
        elif self._work.fits(size) or not _waits(message):
            self._work.spawn(self._forward_notification(message), size)

    async def _forward_notification(self, message: Message) -> None:
        # Notifications keep their order; responses and cancellations do not wait.
        async with self._notification_lock if _waits(message) else contextlib.nullcontext():
            with contextlib.suppress(RpcError):
                await requests.handle_notification(self._gateway, self._live, self._client, message)

    async def _respond(self, message: Message) -> None:
        body = await self._response(message)
        with contextlib.suppress(OSError):
            await self._emit(body)
            # A client may send `initialized` before it has received the response to `initialize`.
            self._greeted = True

    async def _respond_to_batch(self, messages: list[Message | bytes]) -> None:
        """Respond to a batch with a batch, in order; bytes are error responses."""
        to_respond = [m for m in messages if isinstance(m, bytes) or batches.is_request(m)]
        for message in messages:
            if not isinstance(message, bytes) and not batches.is_request(message):
                self._handle_notification(message, 0)
        if to_respond:
            bodies = await asyncio.gather(*(self._response(m) for m in to_respond))
            with contextlib.suppress(OSError):
                await self._emit(b"[%b]" % b",".join(bodies))

    async def _response(self, message: Message | bytes) -> bytes:
        if isinstance(message, bytes):
            return message
        try:
            serve = self._respond_modern if self._modern else self._respond_legacy
            return await serve(message)
        except RpcError as refused:
            if self._modern:
                self._gateway.routing.record_refusal(refused, message)
            return jsonrpc.error_response(message["id"], refused)
        except Exception as failure:
            log_failure(failure)
            error = RpcError(jsonrpc.INTERNAL_ERROR, "internal error")
            return jsonrpc.error_response(message["id"], error)

    async def _respond_legacy(self, message: Message) -> bytes:
        if jsonrpc.decode_str(message["method"]) == "initialize":
            params = jsonrpc.decode_object(message.get("params", jsonrpc.EMPTY))
            client = requests.client_of_session(params, "", self._session)
            client = self._identified(client)
            # The client may send requests without waiting for the response.
            self._client = client
            with self._gateway.metrics.operations.serve(message, client.revision):
                result = await requests.initialize(self._gateway, client)
            return jsonrpc.response(message["id"], result)
        if jsonrpc.decode_str(message["method"]) == "ping":
            return jsonrpc.response(message["id"], b"{}")
        if self._client is None:
            raise RpcError(INVALID_REQUEST, "initialize first")
        # If input is a file, all requests arrive before the backends are ready.
        params = jsonrpc.decode_object(message.get("params", jsonrpc.EMPTY))
        await self._wait_for_route(jsonrpc.decode_str(message["method"]) or "", params)
        caller = requests.LegacyCallContext(
            self._client, self._live, self._sessions, _StdioStream(self._emit)
        )
        return await requests.handle_request(
            self._gateway, self._live, message, caller, asyncio.current_task()
        )

    async def _wait_for_route(self, method: str, params: Message) -> None:
        """Wait for the backend of a request; lists and similar requests wait on their own."""
        if method not in BY_METHOD and method not in (modern_requests.DISCOVER, "logging/setLevel"):
            await self._gateway.routing.wait_for_route(method, params)

    async def _listen(self, message: Message, params: Message) -> bytes:
        if len(self._listening) >= limits.STDIO_STREAMS.value:
            limits.STDIO_STREAMS.record()
            why = f"{limits.STDIO_STREAMS.value} streams are open, which is the maximum; cancel one"
            raise RpcError(jsonrpc.UNAVAILABLE, why)
        listening = modern_requests.SubscriptionStream(
            self._gateway, message, params, client=self._client
        )
        self._listening.add(listening.outbox)
        try:
            return await listening.run(self._emit, _silence)
        finally:
            self._listening.discard(listening.outbox)

    async def _respond_modern(self, message: Message) -> bytes:
        params = jsonrpc.decode_object(message.get("params", jsonrpc.EMPTY))
        client, level = validation.parse_client("", params, None, "")
        # The pipe has one client, so all state is that client's.
        client = self._identified(replace(client, session=self._session))
        caller = modern_requests.ModernCallContext(client, level, self._emit)
        self._client = client
        request_id = jsonrpc.id_key(message["id"])
        running = self._live.in_flight[request_id] = RunningRequest(asyncio.current_task())
        try:
            method = jsonrpc.decode_str(message["method"]) or ""
            if method == modern_requests.LISTEN:
                return await self._listen(message, params)
            with self._gateway.metrics.operations.serve(message, client.revision) as operation:
                await self._wait_for_route(method, params)
                route = modern_requests.find_route(self._gateway, method, params, client)
                answer = await modern_requests.handle_modern_request(
                    self._gateway, self._parking, message, params, caller, route
                )
                operation.end(answer)
            return answer if isinstance(answer, bytes) else jsonrpc.encode(answer)
        except asyncio.CancelledError:
            if not running.cancelled or running.task is None:
                raise
            running.task.uncancel()
            raise requests.request_cancelled_error() from None
        finally:
            self._live.in_flight.pop(request_id, None)


class _StdioStream:
    """Session stream over a pipe, which is never interrupted and resumed."""

    def __init__(self, emit: modern_requests.Emit) -> None:
        self._emit = emit

    async def event(self, message: bytes) -> None:
        await self._emit(message)


async def _silence() -> None:
    # Pipes need no pings.
    pass


def _waits(message: Message) -> bool:
    """Return True if a notification must wait for those before it."""
    return jsonrpc.decode_str(message.get("method")) not in (None, CANCELLED)


def _full() -> RpcError:
    why = (
        f"{limits.STDIO_MESSAGES.value} messages are being processed, which is the maximum;"
        " respond to the pending server requests first"
    )
    return RpcError(jsonrpc.UNAVAILABLE, why)
