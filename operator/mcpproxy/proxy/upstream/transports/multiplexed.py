"""A session over one stream in each direction (stdio, HTTP+SSE), multiplexed by request ids."""

import asyncio
import itertools
import logging
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from msgspec import Raw

from mcpproxy.proxy.core.errors import (
    BackendError,
    ProcessExited,
    ProtocolError,
    SlowClient,
    Unreachable,
)
from mcpproxy.proxy.core.exchange import (
    CANCELLED,
    PROGRESS,
    CallContext,
    ClientIdentity,
    NullContext,
    cancel_notification_of,
    cancelled_notification,
)
from mcpproxy.proxy.protocol import batches, jsonrpc
from mcpproxy.proxy.protocol.fragments import parse_fragment
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.protocol.tolerance import quote
from mcpproxy.proxy.upstream.attribution import (
    COMPLETED,
    NOBODY,
    SessionUsers,
    new_request_id,
    progress_token,
    replace_progress_token,
)
from mcpproxy.proxy.upstream.transports.pending_request import PendingRequest
from mcpproxy.proxy.upstream.transports.server_requests import ServerRequests
from mcpproxy.proxy.upstream.transports.session import (
    ACKNOWLEDGED,
    LISTEN_ID,
    OnMessage,
    ServerDescription,
    TaskSet,
    UpstreamRequest,
    build_listen_request,
    is_broadcast,
)

log = logging.getLogger("mcpproxy.backend")

YIELD_EVERY: Final = 64
"""Messages for one caller after which its task gets a turn to deliver them."""
NEVER_CANCELLED: Final = ("initialize", "server/discover")
"""Requests that MCP forbids to cancel."""
LARGE: Final = 64 * 1024
"""Bytes of one message after which the caller's task gets a turn."""
MOST_UNANSWERABLE: Final = 64
"""Maximum consecutive notifications to which a server may respond, against the specification."""
NOTICED_WITHIN: Final = 2.0
"""Seconds in which a server responds to a notification that it does not know."""


class MessageChannel(Protocol):
    """Transport of whole messages in both directions."""

    send_blocks: bool
    """True if `send` may return only after the server has processed the message."""

    async def send(self, body: bytes) -> None:
        """Send one message. Raises BackendError."""

    async def receive(self) -> bytes | None:
        """Return the next message, or None at the end. Raises BackendError."""

    async def close(self) -> None:
        """Close the channel. Never raises."""


class MultiplexedSession:
    """Many requests over one channel, with ids and progress tokens assigned by the proxy."""

    stateful = True

    def __init__(self, channel: MessageChannel, background: TaskSet) -> None:
        self.server = ServerDescription("", {})
        self._channel = channel
        self._background = background
        self._ids = itertools.count(1)
        self._latest = 0
        """Number of the latest request."""
        self._unanswered_notifications = self._latest_before_notification = 0
        """Number of notifications that the server may not have read, and of the latest request
        before them."""
        self._notified_at = 0.0
        self._has_responded = False
        self._loop = asyncio.get_running_loop()
        self._pending: dict[bytes, PendingRequest] = {}
        self._incoming = ServerRequests(background, channel.send, one_session=True)
        self._users = SessionUsers(ordered=True)
        self._session_context: CallContext | None = None
        self._announced: OnMessage | None = None
        self._listening: Raw | None = None
        self._room_available = asyncio.Event()
        """Set when a slow caller may have room again or another request has started."""
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._reader = background.spawn(self._read())

    @property
    def alive(self) -> bool:
        return not self._ended.done()

    async def request(self, outgoing: UpstreamRequest, caller: CallContext) -> Message:
        if self._ended.done():
            raise Unreachable("the stream has ended")
        self._latest = next(self._ids)
        request_id = b"%d" % self._latest
        pending = PendingRequest(caller, outgoing.progress_token(), is_own=outgoing.repeatable)
        self._pending[request_id] = pending
        self._users.enter(request_id, caller.client)
        self._room_available.set()
        answered = False
        try:
            await self._send_request(outgoing.body(Raw(request_id)), pending)
            response = await pending.response(
                lambda message: self._deliver(message, caller), self._room_available.set
            )
            answered = True
            return {**response, "id": outgoing.id}
        except asyncio.CancelledError as error:
            if outgoing.method not in NEVER_CANCELLED:
                self._background.spawn(
                    self._cancel(cancelled_notification(request_id, cancel_notification_of(error)))
                )
            raise
        finally:
            pending.over = True
            del self._pending[request_id]
            self._users.leave(request_id, answered=answered)
            self._room_available.set()
            self._incoming.close_for(caller, answered=answered)

    async def _send_request(self, body: bytes, pending: PendingRequest) -> None:
        if not self._channel.send_blocks:
            await self._send(body)
            return

        async def send() -> None:
            try:
                await self._send(body)
            except BackendError as error:
                pending.fail(error)

        self._background.spawn(send())

    async def _send(self, body: bytes) -> None:
        try:
            await self._channel.send(body)
        except ProcessExited as error:
            # The program may have closed only its input.
            self._end(error)
            raise

    async def _deliver(self, message: Message, caller: CallContext) -> None:
        """Deliver a message of a request to its client."""
        if "id" in message:
            await self._incoming.forward(message, caller)
        else:
            await caller.notify(message)

    async def _cancel(self, message: Message) -> None:
        try:
            await self.notify(message)
        except BackendError:
            return

    async def notify(self, message: Message, client: ClientIdentity | None = None) -> None:
        self._unanswered_notifications = min(self._unanswered_notifications + 1, MOST_UNANSWERABLE)
        self._latest_before_notification, self._notified_at = self._latest, self._loop.time()
        await self._send(jsonrpc.encode(message))

    async def listen(
        self,
        session_context: CallContext,
        announced: OnMessage,
        ready: Callable[[], None],
        uris: Sequence[str] = (),
    ) -> None:
        # The channel itself carries the messages; this returns when it ends.
        self._session_context, self._announced = session_context, announced
        if self.server.modern:
            # Changes come on the channel; the response comes when the subscription ends.
            await self._stop_listening()
            outgoing = build_listen_request(session_context.client, self.server.revision, uris)
            await self._send(outgoing.body())
            self._listening = outgoing.id
        ready()
        await asyncio.shield(self._ended)
        raise Unreachable("the stream has ended")

    async def _stop_listening(self) -> None:
        if self._listening is not None:
            await self.notify(cancelled_notification(self._listening, None))
            self._listening = None

    async def close(self) -> None:
        self._reader.cancel()
        self._end(Unreachable("the session was closed"))
        await self._channel.close()

    async def _read(self) -> None:
        error: BackendError = Unreachable("the stream has ended")
        try:
            while (body := await self._channel.receive()) is not None:
                await self._on_bytes(body)
        except ProcessExited as failure:
            error = failure
        except BackendError as failure:
            error = Unreachable(str(failure))
        finally:
            # Without its reader, a session that seems to be alive would answer no request.
            self._end(error)

    async def _on_bytes(self, body: bytes) -> None:
        try:
            messages = batches.of_backend(body)
        except jsonrpc.RpcError as error:
            self._on_unreadable(body, error)
            return
        for message in messages:
            try:
                await self._dispatch(message, len(body) // len(messages))
            except jsonrpc.RpcError as error:
                log.info("ignored an invalid message: %s: %s", error, quote(body))

    def _on_unreadable(self, body: bytes, error: jsonrpc.RpcError) -> None:
        """Handle an unreadable message, so that no request waits for it until its timeout."""
        fragment = parse_fragment(body)
        log.info("cannot read a message: %s: %s", error, quote(body))
        if fragment.has_method:
            if fragment.id is not None:
                refusal = jsonrpc.RpcError(jsonrpc.PARSE_ERROR, str(error))
                self._incoming.refuse(fragment.id, refusal)
            return
        failure = ProtocolError(f"cannot read the response: {error}: {quote(body)}")
        pending = None if fragment.id is None else self._pending.get(new_request_id(fragment.id))
        if pending is not None:
            pending.fail(failure)
        elif (
            fragment.is_response
            and fragment.id is None
            and not (
                error.code == jsonrpc.INVALID_REQUEST
                and self._may_answer_notification(_decode_object(body))
            )
        ):
            self._end_unnamed(failure)

    def _end_unnamed(self, failure: BackendError | Message) -> None:
        """End the request that a response without a usable id most likely belongs to.

        A server that cannot read a message responds immediately, so that is the latest request. A
        server that has not responded to any request may still be starting, and reads the first one
        first.
        """
        waiting = [pending for pending in self._pending.values() if pending.open]
        if not waiting:
            return
        pending = waiting[-1 if self._has_responded else 0]
        if isinstance(failure, BackendError):
            pending.fail(failure)
        elif self._users.single and "error" in failure:
            pending.finish(failure)
        else:
            # The text may be about the request of another client.
            pending.fail(ProtocolError("the backend sent an error that names no request"))

    def _may_answer_notification(self, message: Message) -> bool:
        """Return True if a response may be one to a notification, as some servers send."""
        if (
            not self._unanswered_notifications
            or self._loop.time() - self._notified_at > NOTICED_WITHIN
        ):
            return False
        error = jsonrpc.error_of(message)
        if error is None:
            is_empty = jsonrpc.decode(message.get("result")) in (None, {}, True, "")
        else:
            is_empty = error.code == jsonrpc.METHOD_NOT_FOUND
        self._unanswered_notifications -= is_empty
        return is_empty

    def _end(self, error: BackendError) -> None:
        if not self._ended.done():
            self._ended.set_result(None)
        for pending in self._pending.values():
            pending.fail(error)

    async def _dispatch(self, message: Message, size: int) -> None:
        if "method" not in message:
            self._on_response(message)
            return
        method = jsonrpc.decode_str(message["method"])
        if method == PROGRESS and (token := progress_token(message)) is not None:
            pending = self._pending.get(new_request_id(token))
            if pending is not None and pending.token is not None:
                # The client's token may be far longer than the one that was received.
                size += len(pending.token)
                await self._enqueue(pending, replace_progress_token(message, pending.token), size)
        elif is_broadcast(message):
            if self._announced is not None:
                await self._announced(message)
        elif method == CANCELLED:
            await self._on_cancelled(message)
        elif method != ACKNOWLEDGED:
            await self._on_unrelated(message, method, size)

    def _on_response(self, message: Message) -> None:
        """Deliver a response. Duplicates and responses to abandoned requests are dropped."""
        request_id = new_request_id(message["id"])
        self._users.settle(request_id)
        pending = self._pending.get(request_id)
        if pending is not None:
            if int(request_id) > self._latest_before_notification:
                # Messages are read in order: the notifications were read without a response.
                self._unanswered_notifications = 0
            self._has_responded = True
            pending.finish(message)
        elif not (
            # The proxy never sent another kind of id: null, or "server-error" (Python SDK 1.x).
            request_id.isdigit()
            or request_id.startswith(LISTEN_ID)
            or self._may_answer_notification(message)
        ):
            self._end_unnamed(message)

    async def _on_unrelated(self, message: Message, method: str | None, size: int) -> None:
        """Deliver a message that names no request.

        It goes to the latest request of a client, if all requests belong to one client.
        """
        waiting = (p for p in reversed(self._pending.values()) if p.open and not p.is_own)
        last = next(waiting, None)
        asks, ping = "id" in message, method == "ping"
        if method == COMPLETED and (context := self._incoming.elicited_by(message)) is not None:
            last = next((p for p in self._pending.values() if p.caller is context), None)
        elif last is not None and not ping and not self._users.single:
            await (self._incoming.forward(message, NOBODY) if asks else NOBODY.notify(message))
            return
        if last is not None and not ping:
            await self._enqueue(last, message, size)
        elif asks:
            session_context = self._session_context or NullContext(
                ClientIdentity(self.server.revision)
            )
            await self._incoming.forward(message, session_context)
        elif self._session_context is not None:
            await self._session_context.notify(message)

    async def _on_cancelled(self, message: Message) -> None:
        """Cancel a server request, queued or forwarded. Ignored if it is complete."""
        named_id = jsonrpc.decode_object(message.get("params", jsonrpc.EMPTY)).get("requestId")
        if named_id is None:
            return
        key = jsonrpc.id_key(named_id)
        if not any(pending.discard_request(key) for pending in self._pending.values()):
            await self._incoming.cancel_from(message, None)

    async def _enqueue(self, pending: PendingRequest, message: Message, size: int) -> None:
        """Queue a message for its caller.

        If the queue is full and other requests run, the request ends with an error. Otherwise the
        proxy stops reading from the backend until there is room.
        """
        while pending.full and len(self._pending) == 1 and not pending.over:
            self._room_available.clear()
            await self._room_available.wait()
        if pending.over:
            return
        if pending.full:
            pending.overflow(
                SlowClient("the client reads too slowly, and other requests are waiting")
            )
            request_id = next(key for key, other in self._pending.items() if other is pending)
            self._background.spawn(self._cancel(cancelled_notification(request_id, None)))
            return
        pending.put(message, size)
        if len(pending) % YIELD_EVERY == 0 or size > LARGE:
            # Many messages can arrive at once, and the task that delivers them needs turns.
            await asyncio.sleep(0)


def _decode_object(body: bytes) -> Message:
    try:
        return jsonrpc.decode_object(body)
    except jsonrpc.RpcError:
        return {}
