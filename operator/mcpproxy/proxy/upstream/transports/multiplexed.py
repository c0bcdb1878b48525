"""A session over one stream each way (stdio, HTTP+SSE): ids tell which message belongs where."""

import asyncio
import itertools
import logging
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from msgspec import Raw

from mcpproxy.proxy.core.errors import BackendError, ProtocolError, SlowClient, Unreachable
from mcpproxy.proxy.core.exchange import (
    CANCELLED,
    PROGRESS,
    CallContext,
    ClientIdentity,
    NullContext,
    cancelled_notification,
    cancelled_request_id,
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

BREATH: Final = 64
"""Messages for one caller after which it gets a turn to pass them on."""
NEVER_CANCELLED: Final = ("initialize", "server/discover")
"""Requests for which MCP forbids it."""
LARGE: Final = 64 * 1024
"""Bytes of one message after which it does, too."""
MOST_UNANSWERABLE: Final = 64
"""Notifications in a row to which a server may respond though it must not."""
NOTICED_WITHIN: Final = 2.0
"""Seconds in which a server responds to a notification that it does not know."""


class MessageChannel(Protocol):
    """Carries whole messages both ways."""

    answers_late: bool
    """Whether `send` may last until the message was dealt with."""

    async def send(self, body: bytes) -> None:
        """Send one message. Raises BackendError."""

    async def receive(self) -> bytes | None:
        """The next message; None at the end. Raises BackendError."""

    async def close(self) -> None:
        """End it; never raises."""


class MultiplexedSession:
    """Many requests over one channel; ids and progress tokens on it are our own."""

    stateful = True

    def __init__(self, channel: MessageChannel, background: TaskSet) -> None:
        self.greeting = ServerDescription("", {})
        self._channel = channel
        self._background = background
        self._ids = itertools.count(1)
        self._latest = 0
        """Number of the latest request."""
        self._unanswerable = self._before_notice = 0
        """Notifications that the server may not have read yet; the latest request before them."""
        self._noticed_at = 0.0
        self._has_responded = False
        self._loop = asyncio.get_running_loop()
        self._pending: dict[bytes, PendingRequest] = {}
        self._questions = ServerRequests(background, channel.send, one_session=True)
        self._users = SessionUsers(ordered=True)
        self._standing: CallContext | None = None
        self._announced: OnMessage | None = None
        self._listening: Raw | None = None
        self._moved = asyncio.Event()
        """Set when a slow caller may have room again, or is not alone any more."""
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._reader = background.spawn(self._read())

    @property
    def alive(self) -> bool:
        return not self._ended.done()

    async def request(self, outgoing: UpstreamRequest, caller: CallContext) -> Message:
        if self._ended.done():
            raise Unreachable("its stream has ended")
        self._latest = next(self._ids)
        own = b"%d" % self._latest
        outgoing.relabel(own)
        pending = self._pending[own] = PendingRequest(caller, outgoing.token)
        self._users.enter(own, caller.client)
        self._moved.set()
        answered = False
        try:
            await self._sent(outgoing.body(), pending)
            answer = await pending.response(
                lambda message: self._deliver(message, caller), self._moved.set
            )
            answered = True
            return {**answer, "id": outgoing.id}
        except asyncio.CancelledError as error:
            if outgoing.method not in NEVER_CANCELLED:
                self._background.spawn(
                    self._cancel(cancelled_notification(own, cancelled_request_id(error)))
                )
            raise
        finally:
            pending.over = True
            del self._pending[own]
            self._users.leave(own, answered=answered)
            self._moved.set()
            self._questions.over(caller, answered=answered)

    async def _sent(self, body: bytes, pending: PendingRequest) -> None:
        if not self._channel.answers_late:
            await self._channel.send(body)
            return

        async def send() -> None:
            try:
                await self._channel.send(body)
            except BackendError as error:
                pending.fail(error)

        self._background.spawn(send())

    async def _deliver(self, message: Message, caller: CallContext) -> None:
        """What belongs to a request, on its way to the client."""
        if "id" in message:
            await self._questions.put(message, caller)
        else:
            await caller.notify(message)

    async def _cancel(self, message: Message) -> None:
        try:
            await self.notify(message)
        except BackendError:
            return

    def begin(
        self, outgoing: UpstreamRequest, client: ClientIdentity, done: Callable[[], None]
    ) -> None:
        """A channel carries the messages of many."""

    def completes(self, outgoing: UpstreamRequest) -> bool:
        """Nothing is begun."""
        return False

    async def notify(self, message: Message, client: ClientIdentity | None = None) -> None:
        self._unanswerable = min(self._unanswerable + 1, MOST_UNANSWERABLE)
        self._before_notice, self._noticed_at = self._latest, self._loop.time()
        await self._channel.send(jsonrpc.encode(message))

    async def listen(
        self,
        standing: CallContext,
        announced: OnMessage,
        ready: Callable[[], None],
        uris: Sequence[str] = (),
    ) -> None:
        """See Link: until the channel ends."""
        self._standing, self._announced = standing, announced
        if self.greeting.modern:
            # Its changes come on the channel; the response comes only when it stops.
            await self._stop_listening()
            outgoing = build_listen_request(standing.client, self.greeting.revision, uris)
            await self._channel.send(outgoing.body())
            self._listening = outgoing.id
        ready()
        await asyncio.shield(self._ended)
        raise Unreachable("its stream has ended")

    async def _stop_listening(self) -> None:
        if self._listening is not None:
            await self.notify(cancelled_notification(self._listening, None))
            self._listening = None

    async def close(self) -> None:
        self._reader.cancel()
        self._end(Unreachable("its session was closed"))
        await self._channel.close()

    async def _read(self) -> None:
        error = Unreachable("its stream has ended")
        try:
            while (body := await self._channel.receive()) is not None:
                await self._received(body)
        except BackendError as found:
            error = Unreachable(str(found))
        self._end(error)

    async def _received(self, body: bytes) -> None:
        try:
            messages = batches.of_backend(body)
        except jsonrpc.RpcError as error:
            self._unread(body, error)
            return
        for message in messages:
            try:
                await self._dispatch(message, len(body) // len(messages))
            except jsonrpc.RpcError as error:
                log.info("a message was passed over: %s: %s", error, quote(body))

    def _unread(self, body: bytes, error: jsonrpc.RpcError) -> None:
        """Handle a message that can't be read: nobody is to wait for it until a deadline."""
        known = parse_fragment(body)
        log.info("a message could not be read: %s: %s", error, quote(body))
        if known.has_method:
            if known.id is not None:
                refusal = jsonrpc.RpcError(jsonrpc.PARSE_ERROR, str(error))
                self._questions.refuse(known.id, refusal)
            return
        why = ProtocolError(f"its response can't be read: {error}: {quote(body)}")
        pending = None if known.id is None else self._pending.get(new_request_id(known.id))
        if pending is not None:
            pending.fail(why)
        elif (
            known.is_response
            and known.id is None
            and not (
                error.code == jsonrpc.INVALID_REQUEST and self._is_of_notification(_members(body))
            )
        ):
            self._unnamed(why)

    def _unnamed(self, failure: BackendError | Message) -> None:
        """End the request that a response without a usable id is most likely meant for.

        A server that can't read a message says so at once: that was the latest one. One that has
        not responded to anything yet may still be starting: it reads the first one first.
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
            # The text may be about a request of another client.
            pending.fail(ProtocolError("it answers with an error that names no request"))

    def _is_of_notification(self, message: Message) -> bool:
        """Return whether a response may be one to a notification, which some servers respond to."""
        if not self._unanswerable or self._loop.time() - self._noticed_at > NOTICED_WITHIN:
            return False
        error = jsonrpc.error_of(message)
        if error is None:
            says_nothing = jsonrpc.decode(message.get("result")) in (None, {}, True, "")
        else:
            says_nothing = error.code == jsonrpc.METHOD_NOT_FOUND
        self._unanswerable -= says_nothing
        return says_nothing

    def _end(self, error: BackendError) -> None:
        if not self._ended.done():
            self._ended.set_result(None)
        for pending in self._pending.values():
            pending.fail(error)

    async def _dispatch(self, message: Message, size: int) -> None:
        if "method" not in message:
            self._answered(message)
            return
        method = jsonrpc.decode_str(message["method"])
        if method == PROGRESS and (token := progress_token(message)) is not None:
            pending = self._pending.get(new_request_id(token))
            if pending is not None and pending.token is not None:
                # The client's token may be far longer than ours, which came.
                size += len(pending.token)
                await self._put(pending, replace_progress_token(message, pending.token), size)
        elif is_broadcast(message):
            if self._announced is not None:
                await self._announced(message)
        elif method == CANCELLED:
            await self._withdrawn(message)
        elif method != ACKNOWLEDGED:
            await self._unrelated(message, method, size)

    def _answered(self, message: Message) -> None:
        """A response; a second one, or one to a request that was given up, reaches nobody."""
        own = new_request_id(message["id"])
        self._users.settle(own)
        pending = self._pending.get(own)
        if pending is not None:
            if int(own) > self._before_notice:
                # Messages are read in order: the notifications were read without complaint.
                self._unanswerable = 0
            self._has_responded = True
            pending.finish(message)
        elif not (
            # The server can't have another id from us: null, or "server-error" (Python SDK 1.x).
            own.isdigit() or own.startswith(LISTEN_ID) or self._is_of_notification(message)
        ):
            self._unnamed(message)

    async def _unrelated(self, message: Message, method: str | None, size: int) -> None:
        """What names no request is for the single client that has some, by way of the latest."""
        last = next((found for found in reversed(self._pending.values()) if found.open), None)
        asks, ping = "id" in message, method == "ping"
        if method == COMPLETED and (asked := self._questions.elicited(message)) is not None:
            last = next((p for p in self._pending.values() if p.caller is asked), None)
        elif last is not None and not ping and not self._users.single:
            await (self._questions.put(message, NOBODY) if asks else NOBODY.notify(message))
            return
        if last is not None and not ping:
            await self._put(last, message, size)
        elif asks:
            standing = self._standing or NullContext(ClientIdentity(self.greeting.revision))
            await self._questions.put(message, standing)
        elif self._standing is not None:
            await self._standing.notify(message)

    async def _withdrawn(self, message: Message) -> None:
        """The backend gives up a question; one that waits for no answer is over already."""
        own = jsonrpc.decode_object(message.get("params", jsonrpc.EMPTY)).get("requestId")
        if own is None:
            return
        key = jsonrpc.id_key(own)
        if not any(pending.drop_question(key) for pending in self._pending.values()):
            await self._questions.withdrawn(message, None)

    async def _put(self, pending: PendingRequest, message: Message, size: int) -> None:
        """Leave a message to its caller, who is held up alone where it is slow.

        Where it is the only one, the backend is held back instead. Else its request ends.
        """
        while pending.full and len(self._pending) == 1 and not pending.over:
            self._moved.clear()
            await self._moved.wait()
        if pending.over:
            return
        if pending.full:
            pending.give_up(SlowClient("its client reads too slowly, and others wait"))
            own = next(key for key, found in self._pending.items() if found is pending)
            self._background.spawn(self._cancel(cancelled_notification(own, None)))
            return
        pending.put(message, size)
        if len(pending) % BREATH == 0 or size > LARGE:
            # Much of it can be there at once: who takes it out needs a turn, too.
            await asyncio.sleep(0)


def _members(body: bytes) -> Message:
    try:
        return jsonrpc.decode_object(body)
    except jsonrpc.RpcError:
        return {}
