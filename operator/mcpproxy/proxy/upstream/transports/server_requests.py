"""Requests of a backend that wait for a client's answer, until they are answered or withdrawn."""

import asyncio
import collections
from collections.abc import Awaitable, Callable
from typing import Final

from msgspec import Raw

from mcpproxy.limits.backends import (
    ELICITATIONS,
    SERVER_REQUEST_BYTES,
    SERVER_REQUEST_TIME,
    SERVER_REQUESTS,
    UNSENT_ANSWERS,
)
from mcpproxy.proxy.core.errors import BackendError
from mcpproxy.proxy.core.exchange import CANCELLED, CallContext
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message, RpcError
from mcpproxy.proxy.upstream.transports.session import TaskSet, answer_server_request

_TAKEN: Final = RpcError(
    jsonrpc.INVALID_REQUEST, "a request of this id still waits for its response in this session"
)


_TOO_MANY: Final = RpcError(
    jsonrpc.UNAVAILABLE,
    f"{SERVER_REQUESTS.value} requests of this session wait for responses already",
)
_TOO_LARGE: Final = RpcError(
    jsonrpc.UNAVAILABLE,
    "requests of this session that wait for responses have"
    f" {SERVER_REQUEST_BYTES.value} bytes with this one",
)


class ServerRequests:
    """Those that came over one link."""

    def __init__(
        self, background: TaskSet, send: Callable[[bytes], Awaitable[None]], *, one_session: bool
    ) -> None:
        """`send` takes answers. Without `one_session` each caller's backend counts its own ids."""
        self._background = background
        self._send = send
        self._one_session = one_session
        self._open: dict[tuple[int, bytes], asyncio.Task[None]] = {}
        self._size = 0
        """Bytes of the requests that are open."""
        self._unsent: collections.deque[bytes] = collections.deque()
        """What the backend gets from us, one after the other."""
        self._sending = False
        self._elicited: dict[bytes, CallContext] = {}
        """The elicitationId of a question that leads to a URL → who was asked."""

    async def put(self, request: Message, caller: CallContext) -> None:
        """Begin to ask; returns when the question is on its way to the client."""
        if jsonrpc.decode_str(request["method"]) == "ping":
            self._say_in_turn(jsonrpc.response(request["id"], b"{}"))
            return
        own = jsonrpc.id_key(request["id"])
        key = (id(caller), own)
        if key in self._open or (self._one_session and self._find(own) is not None):
            # Nothing would tell its answer from the other one's.
            self._say_in_turn(jsonrpc.error_response(request["id"], _TAKEN))
            return
        if len(self._open) >= SERVER_REQUESTS.value:
            SERVER_REQUESTS.record()
            self._say_in_turn(jsonrpc.error_response(request["id"], _TOO_MANY))
            return
        size = sum(map(len, request.values()))
        if self._open and self._size + size > SERVER_REQUEST_BYTES.value:
            SERVER_REQUEST_BYTES.record()
            self._say_in_turn(jsonrpc.error_response(request["id"], _TOO_LARGE))
            return
        self._size += size
        asking = self._open[key] = self._background.spawn(self._ask(request, caller))
        asking.add_done_callback(lambda _: self._over(key, size))
        if jsonrpc.decode_str(request["method"]) == "elicitation/create":
            self._remember(request, caller)
        # What the backend says next must not overtake it.
        await asyncio.sleep(0)

    def refuse(self, request_id: Raw, error: RpcError) -> None:
        """Refuse a request that can't be read."""
        self._say_in_turn(jsonrpc.error_response(request_id, error))

    async def _ask(self, request: Message, caller: CallContext) -> None:
        try:
            await self._send(await answer_server_request(caller, request, self._told))
        except BackendError:
            # The call itself will end with the same error.
            return

    def _over(self, key: tuple[int, bytes], size: int) -> None:
        del self._open[key]
        self._size -= size

    def _remember(self, request: Message, caller: CallContext) -> None:
        given = jsonrpc.decode_object(request.get("params", jsonrpc.EMPTY)).get("elicitationId")
        if given is not None:
            self._elicited[jsonrpc.id_key(given)] = caller
            if len(self._elicited) > ELICITATIONS.value:
                ELICITATIONS.record()
                del self._elicited[next(iter(self._elicited))]

    def elicited(self, message: Message) -> CallContext | None:
        """Who was asked what a `notifications/elicitation/complete` is about, during the call."""
        given = jsonrpc.decode_object(message.get("params", jsonrpc.EMPTY)).get("elicitationId")
        return None if given is None else self._elicited.get(jsonrpc.id_key(given))

    def _say_in_turn(self, body: bytes) -> None:
        """Send a response of our own after those before it: one connection serves all of them."""
        if len(self._unsent) >= UNSENT_ANSWERS.value:
            UNSENT_ANSWERS.record()
            return
        self._unsent.append(body)
        if not self._sending:
            self._sending = True
            self._background.spawn(self._say_all())

    async def _say_all(self) -> None:
        try:
            while self._unsent:
                await self._say(self._unsent.popleft())
        finally:
            self._sending = False

    async def _told(self, message: Message) -> None:
        await self._say(jsonrpc.encode(message))

    async def _say(self, body: bytes) -> None:
        try:
            await self._send(body)
        except BackendError:
            return

    def _find(self, own: bytes) -> "asyncio.Task[None] | None":
        return next((task for (_, other), task in self._open.items() if other == own), None)

    async def withdrawn(self, message: Message, caller: CallContext | None) -> bool:
        """Whether a notification withdraws a question: it ends, and the client hears of it."""
        if not self._open or jsonrpc.decode_str(message.get("method")) != CANCELLED:
            return False
        given = jsonrpc.decode_object(message.get("params", jsonrpc.EMPTY)).get("requestId")
        if given is None:
            return False
        own = jsonrpc.id_key(given)
        found = self._open.get((id(caller), own))
        if found is None and self._one_session:
            found = self._find(own)
        if found is None:
            return False
        found.cancel(message)
        # As in `put`.
        await asyncio.sleep(0)
        return True

    @property
    def open(self) -> bool:
        """Whether a question waits for its answer."""
        return bool(self._open)

    def over(self, caller: CallContext, *, answered: bool) -> None:
        """The call during which they were asked is over; a backend may still wait for answers."""
        if self._elicited:
            kept = {key: asked for key, asked in self._elicited.items() if asked is not caller}
            self._elicited = kept
        if not self._open:
            return
        loop = asyncio.get_running_loop()
        for (owner, _), task in list(self._open.items()):
            if owner == id(caller):
                if answered:
                    timer = loop.call_later(SERVER_REQUEST_TIME.value, _end, task)
                    task.add_done_callback(lambda _, timer=timer: timer.cancel())  # type: ignore[misc]
                else:
                    task.cancel()


def _end(task: "asyncio.Task[None]") -> None:
    SERVER_REQUEST_TIME.record()
    task.cancel()
