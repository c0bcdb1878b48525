"""Server requests that wait for the client's response, until they are answered or cancelled."""

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

_DUPLICATE_ID: Final = RpcError(
    jsonrpc.INVALID_REQUEST, "this session already has a pending request with the same id"
)


_TOO_MANY: Final = RpcError(
    jsonrpc.UNAVAILABLE,
    f"this session already has {SERVER_REQUESTS.value} pending requests, which is the maximum",
)
_TOO_LARGE: Final = RpcError(
    jsonrpc.UNAVAILABLE,
    f"the pending requests of this session would have {SERVER_REQUEST_BYTES.value} bytes or more",
)


class ServerRequests:
    """The pending server requests of one upstream session."""

    def __init__(
        self, background: TaskSet, send: Callable[[bytes], Awaitable[None]], *, one_session: bool
    ) -> None:
        """`send` transmits responses. Without `one_session`, ids are unique per caller only."""
        self._background = background
        self._send = send
        self._one_session = one_session
        self._open: dict[tuple[int, bytes], asyncio.Task[None]] = {}
        self._size = 0
        """Bytes of the pending requests."""
        self._unsent: collections.deque[bytes] = collections.deque()
        """The proxy's own responses to the backend, sent one at a time."""
        self._sending = False
        self._elicited: dict[bytes, CallContext] = {}
        """elicitationId of a URL-mode elicitation → the context that it was sent to."""

    async def forward(self, request: Message, caller: CallContext) -> None:
        """Forward a server request to the client. Returns when it is on its way."""
        if jsonrpc.decode_str(request["method"]) == "ping":
            self._queue_response(jsonrpc.response(request["id"], b"{}"))
            return
        request_id = jsonrpc.id_key(request["id"])
        key = (id(caller), request_id)
        if key in self._open or (self._one_session and self._find_by_id(request_id) is not None):
            # The responses to two requests with one id could not be distinguished.
            self._queue_response(jsonrpc.error_response(request["id"], _DUPLICATE_ID))
            return
        if len(self._open) >= SERVER_REQUESTS.value:
            SERVER_REQUESTS.record()
            self._queue_response(jsonrpc.error_response(request["id"], _TOO_MANY))
            return
        size = sum(map(len, request.values()))
        if self._open and self._size + size > SERVER_REQUEST_BYTES.value:
            SERVER_REQUEST_BYTES.record()
            self._queue_response(jsonrpc.error_response(request["id"], _TOO_LARGE))
            return
        self._size += size
        task = self._open[key] = self._background.spawn(self._ask(request, caller))
        task.add_done_callback(lambda _: self._on_done(key, size))
        if jsonrpc.decode_str(request["method"]) == "elicitation/create":
            self._record_elicitation(request, caller)
        # Later messages of the backend must not overtake this request.
        await asyncio.sleep(0)

    def refuse(self, request_id: Raw, error: RpcError) -> None:
        """Send an error in response to a request that is not readable."""
        self._queue_response(jsonrpc.error_response(request_id, error))

    async def _ask(self, request: Message, caller: CallContext) -> None:
        try:
            await self._send(await answer_server_request(caller, request, self._notify_backend))
        except BackendError:
            # The call ends with the same error.
            return

    def _on_done(self, key: tuple[int, bytes], size: int) -> None:
        del self._open[key]
        self._size -= size

    def _record_elicitation(self, request: Message, caller: CallContext) -> None:
        elicitation_id = jsonrpc.decode_object(request.get("params", jsonrpc.EMPTY)).get(
            "elicitationId"
        )
        if elicitation_id is not None:
            self._elicited[jsonrpc.id_key(elicitation_id)] = caller
            if len(self._elicited) > ELICITATIONS.value:
                ELICITATIONS.record()
                del self._elicited[next(iter(self._elicited))]

    def elicited_by(self, message: Message) -> CallContext | None:
        """Return the context that a `notifications/elicitation/complete` belongs to, while its
        call runs."""
        elicitation_id = jsonrpc.decode_object(message.get("params", jsonrpc.EMPTY)).get(
            "elicitationId"
        )
        return (
            None if elicitation_id is None else self._elicited.get(jsonrpc.id_key(elicitation_id))
        )

    def _queue_response(self, body: bytes) -> None:
        """Queue a response of the proxy, because one connection carries all of them."""
        if len(self._unsent) >= UNSENT_ANSWERS.value:
            UNSENT_ANSWERS.record()
            return
        self._unsent.append(body)
        if not self._sending:
            self._sending = True
            self._background.spawn(self._send_queued())

    async def _send_queued(self) -> None:
        try:
            while self._unsent:
                await self._send_or_drop(self._unsent.popleft())
        finally:
            self._sending = False

    async def _notify_backend(self, message: Message) -> None:
        await self._send_or_drop(jsonrpc.encode(message))

    async def _send_or_drop(self, body: bytes) -> None:
        try:
            await self._send(body)
        except BackendError:
            return

    def _find_by_id(self, request_id: bytes) -> "asyncio.Task[None] | None":
        return next(
            (task for (_, pending_id), task in self._open.items() if pending_id == request_id), None
        )

    async def cancel_from(self, message: Message, caller: CallContext | None) -> bool:
        """Cancel the server request that a notification names. Return False if it names none."""
        if not self._open or jsonrpc.decode_str(message.get("method")) != CANCELLED:
            return False
        named_id = jsonrpc.decode_object(message.get("params", jsonrpc.EMPTY)).get("requestId")
        if named_id is None:
            return False
        request_id = jsonrpc.id_key(named_id)
        task = self._open.get((id(caller), request_id))
        if task is None and self._one_session:
            task = self._find_by_id(request_id)
        if task is None:
            return False
        task.cancel(message)
        # Later messages must not overtake the cancellation.
        await asyncio.sleep(0)
        return True

    @property
    def has_open(self) -> bool:
        """True if a server request waits for its response."""
        return bool(self._open)

    def close_for(self, caller: CallContext, *, answered: bool) -> None:
        """End the server requests of a call.

        If the call was `answered`, the backend may still wait for the responses, so they have a
        time limit instead.
        """
        if self._elicited:
            kept = {
                key: context for key, context in self._elicited.items() if context is not caller
            }
            self._elicited = kept
        if not self._open:
            return
        loop = asyncio.get_running_loop()
        for (owner, _), task in list(self._open.items()):
            if owner == id(caller):
                if answered:
                    timer = loop.call_later(SERVER_REQUEST_TIME.value, _time_out, task)
                    task.add_done_callback(lambda _, timer=timer: timer.cancel())  # type: ignore[misc]
                else:
                    task.cancel()


def _time_out(task: "asyncio.Task[None]") -> None:
    SERVER_REQUEST_TIME.record()
    task.cancel()
