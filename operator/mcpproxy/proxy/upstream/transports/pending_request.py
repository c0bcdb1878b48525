"""A request over a channel that others share: what comes before its response waits here, in order.

Who made the request takes the messages out, so that a slow client holds up nobody but itself.
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
        "_response",
        "_size",
        "_waiting",
        "caller",
        "over",
        "token",
    )

    def __init__(self, caller: CallContext, token: Raw | None) -> None:
        """`token` is the client's progress token."""
        self.caller = caller
        self.token = token
        self.over = False
        """Whether nobody takes messages out any more."""
        self._waiting: deque[tuple[Message, int]] = deque()
        self._size = 0
        self._response: Message | None = None
        self._failure: BackendError | None = None
        self._changed: asyncio.Future[None] | None = None

    @property
    def open(self) -> bool:
        """Whether its response has not come, and somebody waits for it."""
        return self._response is None and self._failure is None and not self.over

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether no more may wait."""
        return len(self._waiting) >= MAX_MESSAGES or self._size >= MAX_BYTES

    def refuse(self) -> None:
        """Count that something came though it was full."""
        (UNREAD_BYTES if self._size >= MAX_BYTES else UNREAD_MESSAGES).record()

    def put(self, message: Message, size: int) -> None:
        """Add a message of so many bytes."""
        self._waiting.append((message, size))
        self._size += size
        self._wake()

    def finish(self, response: Message) -> None:
        """The response came."""
        if self._response is None:
            self._response = response
        self._wake()

    def fail(self, error: BackendError) -> None:
        """No response will come; what waits is still given out."""
        if self._response is None and self._failure is None:
            self._failure = error
        self._wake()

    def give_up(self, error: BackendError) -> None:
        """The caller is too slow: what waits is dropped."""
        self.refuse()
        self._response, self._failure, self.over = None, error, True
        self._waiting.clear()
        self._size = 0
        self._wake()

    def drop_question(self, request_id: bytes) -> bool:
        """Take out a server request that was not passed on yet; whether it was there."""
        for found in self._waiting:
            own = found[0].get("id")
            if own is not None and jsonrpc.id_key(own) == request_id:
                self._waiting.remove(found)
                self._size -= found[1]
                return True
        return False

    async def response(
        self, deliver: Callable[[Message], Awaitable[None]], moved: Callable[[], None]
    ) -> Message:
        """Give every message to `deliver` until the response is there.

        `moved` is called when there is room again. Raises BackendError.
        """
        while True:
            while self._waiting:
                message, size = self._waiting.popleft()
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
    """What comes for a request on the streams of others; its client holds none of these up."""

    def __init__(self, caller: CallContext, spawn: Callable[[Work], "asyncio.Task[None]"]) -> None:
        """`spawn` starts the task that passes messages on."""
        self._pending = PendingRequest(caller, None)
        self._task = spawn(self._passed_on(caller))

    async def _passed_on(self, caller: CallContext) -> None:
        await self._pending.response(caller.notify, lambda: None)

    def put(self, message: Message) -> None:
        """Add a message; dropped where too much waits."""
        if self._pending.full:
            self._pending.refuse()
        else:
            self._pending.put(message, sum(len(bytes(raw)) for raw in message.values()))

    async def drained(self) -> None:
        """Wait until the client has taken all; no more will come."""
        self._pending.finish({})
        await self._task

    def close(self) -> None:
        """Drop what waits."""
        self._task.cancel()
