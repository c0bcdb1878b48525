"""Requests on a shared channel, with an ordered queue of the messages before each response.

The task that made the request takes the messages out, so a slow client delays only itself.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from msgspec import Raw

from mcpproxy.limits.backends import UNREAD_BYTES, UNREAD_MESSAGES
from mcpproxy.proxy.core.errors import BackendError
from mcpproxy.proxy.core.exchange import CallContext
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message

MAX_MESSAGES: Final = UNREAD_MESSAGES.value
MAX_BYTES: Final = UNREAD_BYTES.value
Work = Coroutine[Any, Any, None]


class PendingRequest:
    """A request that waits for its response."""

    __slots__ = (
        "_changed",
        "_failure",
        "_queue",
        "_response",
        "_size",
        "caller",
        "is_own",
        "over",
        "token",
    )

    def __init__(self, caller: CallContext, token: Raw | None, *, is_own: bool = False) -> None:
        """`token` is the client's progress token; `is_own` marks a request of the proxy."""
        self.caller = caller
        self.is_own = is_own
        self.token = token
        self.over = False
        """True if no task takes messages out any longer."""
        self._queue: deque[tuple[Message, int]] = deque()
        self._size = 0
        self._response: Message | None = None
        self._failure: BackendError | None = None
        self._changed: asyncio.Future[None] | None = None

    @property
    def open(self) -> bool:
        """True if the response has not arrived and a task waits for it."""
        return self._response is None and self._failure is None and not self.over

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def full(self) -> bool:
        """True if the queue accepts no more messages."""
        return len(self._queue) >= MAX_MESSAGES or self._size >= MAX_BYTES

    def refuse(self) -> None:
        """Record that a message arrived while the queue was full."""
        (UNREAD_BYTES if self._size >= MAX_BYTES else UNREAD_MESSAGES).record()

    def put(self, message: Message, size: int) -> None:
        """Queue a message of `size` bytes."""
        self._queue.append((message, size))
        self._size += size
        self._wake()

    def finish(self, response: Message) -> None:
        """Set the response."""
        if self._response is None:
            self._response = response
        self._wake()

    def fail(self, error: BackendError) -> None:
        """Set the error that replaces the response. Queued messages are still delivered."""
        if self._response is None and self._failure is None:
            self._failure = error
        self._wake()

    def overflow(self, error: BackendError) -> None:
        """End a request whose caller is too slow, and drop the queued messages."""
        self.refuse()
        self._response, self._failure, self.over = None, error, True
        self._queue.clear()
        self._size = 0
        self._wake()

    def discard_request(self, request_id: bytes) -> bool:
        """Remove a queued server request. Return False if the queue does not contain it."""
        for entry in self._queue:
            raw_id = entry[0].get("id")
            if raw_id is not None and jsonrpc.id_key(raw_id) == request_id:
                self._queue.remove(entry)
                self._size -= entry[1]
                return True
        return False

    async def response(
        self, deliver: Callable[[Message], Awaitable[None]], moved: Callable[[], None]
    ) -> Message:
        """Deliver every message, then return the response.

        `moved` is called when the queue has room again. Raises BackendError.
        """
        while True:
            while self._queue:
                message, size = self._queue.popleft()
                self._size -= size
                moved()
                await deliver(message)
            if self._failure is not None:
                raise self._failure
            if self._response is not None:
                return self._response
            self._changed = asyncio.get_running_loop().create_future()
            try:
                await self._changed
            finally:
                self._changed = None

    def _wake(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)


class MessageBuffer:
    """Queue of the messages for a request from other streams, so that its client delays no
    stream."""

    def __init__(self, caller: CallContext, spawn: Callable[[Work], "asyncio.Task[None]"]) -> None:
        """`spawn` starts the task that delivers messages."""
        self._pending = PendingRequest(caller, None)
        self._task = spawn(self._deliver(caller))

    async def _deliver(self, caller: CallContext) -> None:
        await self._pending.response(caller.notify, lambda: None)

    def put(self, message: Message) -> None:
        """Queue a message, or drop it if the queue is full."""
        if self._pending.full:
            self._pending.refuse()
        else:
            self._pending.put(message, sum(len(bytes(raw)) for raw in message.values()))

    async def drained(self) -> None:
        """Wait until the client has received all messages. No more may be added."""
        self._pending.finish({})
        await self._task

    def close(self) -> None:
        """Drop the queued messages."""
        self._task.cancel()
