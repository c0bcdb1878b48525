"""One HTTP/1.1 connection of a client, as an asyncio protocol.

Requests of one connection are served in their order. Pipelined requests wait, and a client that
reads slowly slows down the code that writes its response.
"""

import asyncio
import collections
import contextlib
import weakref
from collections.abc import Awaitable
from typing import Final, cast

from mcpproxy.limits.http import (
    IDLE_TIME,
    REQUEST_TIME,
    STALLED_TIME,
    TAKEN_BYTES,
    WAITING_REQUESTS,
)
from mcpproxy.proxy.http1.errors import HttpError, log_failure
from mcpproxy.proxy.http1.server.body_memory import SMALL, SMALL_TOTAL
from mcpproxy.proxy.http1.server.request import Request
from mcpproxy.proxy.http1.server.request_parser import RequestParser, failure_response
from mcpproxy.proxy.http1.server.response_writer import ResponseWriter
from mcpproxy.proxy.http1.server.state import ServerState, network_of
from mcpproxy.proxy.http1.server.transport import HeadTransport, ResponseTransport

MAX_WAITING: Final = WAITING_REQUESTS.value
SWEEP_EVERY: Final = 5
"""Seconds between two sweeps."""
IDLE_SWEEPS: Final = IDLE_TIME.value // SWEEP_EVERY
REQUEST_SWEEPS: Final = REQUEST_TIME.value // SWEEP_EVERY
STALLED_SWEEPS: Final = STALLED_TIME.value // SWEEP_EVERY
_TAKEN: Final = TAKEN_BYTES.value
JOINED: Final = 16 * 1024
"""Bytes up to which parts are joined into one write."""
_Received = tuple[Request, HttpError | None, bool, bool]
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class ServerConnection(asyncio.Protocol):
    """Server side of one connection."""

    def __init__(self, server: ServerState) -> None:
        self._server = server
        self._parser = RequestParser(self, server.app.screened, server.heads)
        self._transport: asyncio.Transport | None = None
        self._waiting: collections.deque[_Received] = collections.deque()
        self._reply: ResponseWriter | None = None
        self._task: asyncio.Task[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._advancing = False
        self._ended = False
        """True if no further request is served."""
        self._taken = 0
        """Bytes of the body of the request that is being served."""
        self._served: Request | None = None
        """The request that is being served."""
        self._unsent = 0
        """Unsent bytes of the response when the client last took enough of them."""
        self._held_back = False
        """True while reading is paused because enough requests wait."""
        self._turn_ends = False
        """True if the next turn of parsing is scheduled."""
        self._sweeps = 0
        """Sweeps since the last activity of the connection."""
        self.address = self.network = ""
        self.lost = self.paused = self.closing = self.old = False

    @property
    def idle(self) -> bool:
        """True if the connection has no request, not even a part of one."""
        return self._reply is None and not self._waiting and self._parser.idle

    @property
    def answering(self) -> bool:
        """True if a request is being served."""
        return self._reply is not None

    @property
    def waited(self) -> int:
        """Sweeps since the last activity of the connection."""
        return self._sweeps

    @property
    def waiting(self) -> int:
        """Number of requests that wait for earlier ones."""
        return len(self._waiting)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self.address = peer[0] if peer else ""
        self.network = network_of(peer)
        if not self._server.admits(self):
            self.abort()
        elif self._server.draining and not self._server.lingers:
            self._shut()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._release_all()
        self._parser.end()
        self._waiting.clear()
        self.resume_writing()
        if self._reply is not None:
            self._reply.gone()
        if self._task is None:
            self._reply = None
            self._server.gone(self)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self._sweeps = 0
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        if self._reply is None:
            self._next()

    # Requests

    def data_received(self, data: bytes) -> None:
        inbound, room = self._parser.whole(data), self._server.room
        size = 0 if inbound is None else len(inbound.body)
        if inbound is not None and size <= SMALL and room.small + size <= SMALL_TOTAL:
            # Most bodies are small, so they are counted here, without a call for each request.
            room.small += size
        elif inbound is None or not room.grow(self.address, 0, size):
            self._parser.feed(data)
            return
        self._sweeps = 0
        if self._reply is None and not (self.paused or self._waiting):
            self._begin(inbound, None, False, False)
        else:
            self.received(inbound, None, False, False)

    def begun(self) -> None:
        self._sweeps = 0

    def has_room(self, before: int, after: int) -> bool:
        return self._server.room.grow(self.address, before, after)

    def room_ahead(self) -> int:
        return MAX_WAITING - len(self._waiting)

    def switch_protocol(self, data: bytes) -> bool:
        """Let the acceptor of the server take over the connection."""
        acceptor, transport = self._server.acceptor, self._transport
        if acceptor is None or transport is None or not self.idle:
            return False
        if not acceptor.accept(transport, data):
            return False
        # The transport gets another protocol and continues without this one.
        self.lost = self._ended = True
        self._parser.end()
        self._server.gone(self)
        return True

    def invite(self) -> None:
        """Send 100 Continue, unless an earlier response comes first."""
        if self._reply is None and not self._waiting and self._parser.expects_invitation():
            self.write(_CONTINUE)

    def received(self, inbound: Request, refusal: HttpError | None, last: bool, old: bool) -> None:
        if self._reply is None and not (self.paused or self._waiting):
            self._begin(inbound, refusal, last, old)
            return
        self._waiting.append((inbound, refusal, last, old))
        if len(self._waiting) >= MAX_WAITING:
            if not self._held_back:
                WAITING_REQUESTS.record()
            self._hold_back()

    def _hold_back(self) -> None:
        if self._transport is not None and not self._held_back:
            self._held_back = True
            self._transport.pause_reading()

    def read_on_later(self) -> None:
        self._hold_back()
        if not self._turn_ends:
            self._turn_ends = True
            self._server.loop.call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._turn_ends = False
        self._parser.begin_turn()
        self._next()

    def refused(self, inbound: Request, refusal: HttpError, held: int) -> None:
        self._release(held)
        self._waiting.append((inbound, refusal, True, False))
        if self._reply is None:
            self._next()

    # Serving

    def _next(self) -> None:
        """Serve the waiting requests in their order."""
        if self._advancing:
            return
        self._advancing = True
        while self._reply is None and not (self.paused or self._ended):
            if self._waiting:
                self._begin(*self._waiting.popleft())
            elif self._parser.can_read_rest:
                self._parser.read_rest()
            else:
                break
        self._advancing = False
        self._go_on_reading()

    def _go_on_reading(self) -> None:
        if not self._held_back or self._parser.rest or len(self._waiting) >= MAX_WAITING:
            return
        self._held_back = False
        if self._transport is not None and not self.lost:
            self._transport.resume_reading()

    def _begin(self, inbound: Request, refusal: HttpError | None, last: bool, old: bool) -> None:
        self.closing = last or self._server.draining
        self.old = old
        self._served, self._taken = inbound, len(inbound.body)
        server = self._server
        wire: ResponseTransport = HeadTransport(self) if inbound.head.method == "HEAD" else self
        reply = self._reply = ResponseWriter(wire, server.pings, server.loop)
        try:
            if refusal is not None:
                reply.add_headers(server.app.response_headers(inbound))
                self._refuse(reply, refusal)
            elif not (inbound.head.handler or server.app.at_once)(inbound, reply):
                self.run(server.app.serve(inbound, reply), reply)
        except Exception as error:
            self._failed(reply, error)

    def run(self, work: Awaitable[None], reply: ResponseWriter) -> None:
        self._task = self._server.loop.create_task(self._serve(work, reply))
        if self.lost:
            # The server waits for the task when it stops.
            self._server.connections.add(self)

    async def _serve(self, work: Awaitable[None], reply: ResponseWriter) -> None:
        try:
            await work
        except asyncio.CancelledError:
            self.abort()
            raise
        except Exception as error:
            self._failed(reply, error)
        finally:
            if self._reply is reply:
                # The response can't be completed.
                reply.abandon()
                self._reply = self._task = None
                self.abort()
            if self.lost:
                self._server.gone(self)

    def _failed(self, reply: ResponseWriter, error: Exception) -> None:
        """Send an error; if a response has begun, abort it."""
        if not isinstance(error, HttpError):
            log_failure(error)
            error = failure_response()
        if reply.untouched:
            self._refuse(reply, error)
        elif self._reply is reply:
            reply.abandon()
            self.abort()

    def _refuse(self, reply: ResponseWriter, error: HttpError) -> None:
        body = error.body
        reply.refuse(error, self._server.app.error_body(error) if body is None else body)

    def answered(self) -> None:
        self._reply = self._task = self._served = None
        self._sweeps = 0
        if self._taken > SMALL:
            self._release(self._taken)
        else:
            self._server.room.small -= self._taken
        self._taken = 0
        if self.closing:
            self._shut()
        elif self._waiting or self._parser.rest.data:
            self._next()
        elif self._parser.inbound is not None:
            self.invite()

    def _release(self, size: int) -> None:
        self._server.room.release(self.address, size)

    def _release_all(self) -> None:
        """Release the bodies of a lost connection, each once its request is complete."""
        sizes = [self._parser.held, *(len(inbound.body) for inbound, *_ in self._waiting)]
        taken, served = self._taken, self._served
        self._served, self._taken = None, 0
        # The task of a request may continue after the client has disconnected.
        if self._task is not None:
            self._task.add_done_callback(lambda _: self._release(taken))
        elif self._reply is not None and served is not None:
            # Without a task, the last reference to the request marks its end.
            weakref.finalize(served, self._release, taken).atexit = False
        else:
            sizes.append(taken)
        for size in sizes:
            self._release(size)

    def write(self, *parts: bytes) -> None:
        if self.lost or self._transport is None:
            return
        if len(parts) == 1:
            self._transport.write(parts[0])
        elif sum(map(len, parts)) <= JOINED:
            self._transport.write(b"".join(parts))
        else:
            self._transport.writelines(parts)

    async def drained(self) -> None:
        while self.paused and not self.lost:
            if self._drained is None or self._drained.done():
                self._drained = self._server.loop.create_future()
            await asyncio.shield(self._drained)

    # Closing

    def _shut(self) -> None:
        """Close once everything is written; read and drop what the client still sends.

        Closing while the peer sends would reset the connection and lose the response.
        """
        was_ended, self._ended = self._ended, True
        if self._transport is None or self.lost:
            return
        if not was_ended:
            # A server that stops also shuts connections whose end the client has yet to see.
            self.write(self._server.before_close)
        if self._parser.ignoring and self._transport.can_write_eof():
            self._transport.resume_reading()
            with contextlib.suppress(OSError):
                # If the client has already disconnected, connection_lost follows.
                self._transport.write_eof()
        else:
            self._parser.ignore()
            self._transport.close()

    def abort(self) -> None:
        """Close immediately."""
        self._ended = True
        if self._transport is not None:
            self._transport.abort()

    def drain(self, *, when_idle: bool = True) -> None:
        """Close after the response in progress or the next one; `when_idle`, close at once."""
        self.closing = True
        if when_idle and self.idle:
            self._shut()

    def cancel(self) -> None:
        """Cancel the request in progress and close."""
        if self._task is not None:
            self._task.cancel()
        self.abort()

    def sweep(self) -> None:
        """Close the connection if it has stalled; called every SWEEP_EVERY seconds."""
        if self._reply is not None:
            self._reply.swept(SWEEP_EVERY)
        if self._transport is None or self.lost:
            return
        unsent = self._transport.get_write_buffer_size()
        self._note_taken(unsent)
        self._sweeps += 1
        if self.answering or unsent:
            if self._sweeps > STALLED_SWEEPS:
                STALLED_TIME.record()
                self.abort()
        elif self._parser.ignoring:
            if self._sweeps > 1:
                self.abort()
        elif self.idle:
            if self._sweeps > IDLE_SWEEPS:
                self._shut()
        elif self._sweeps > REQUEST_SWEEPS:
            REQUEST_TIME.record()
            self._parser.refuse(HttpError(408, "the request did not arrive in time"))

    def _note_taken(self, unsent: int) -> None:
        """Reset the sweeps if the client took enough of the response; a few bytes do not count."""
        taken = self._unsent - unsent
        if taken >= _TAKEN or (taken > 0 and not unsent) or (self.answering and not self.paused):
            self._sweeps = 0
        elif taken >= 0:
            return
        self._unsent = unsent
