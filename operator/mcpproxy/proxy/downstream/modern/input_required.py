"""Server requests of legacy backends to modern clients, which suspend the call.

The client gets `input_required` and a sealed `requestState` that identifies the suspended call. Its
retry has the responses and resumes the call. A call without a retry expires and is cancelled.
"""

import asyncio
import hashlib
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec import Raw

from mcpproxy.limits.clients import PARKED_CALLS, PARKED_FOR
from mcpproxy.proxy.core.catalog.digests import canonical_json
from mcpproxy.proxy.core.exchange import (
    PROGRESS,
    CallContext,
    ClientIdentity,
    NotificationHandler,
    ResumableStream,
    cancel_notification_of,
)
from mcpproxy.proxy.core.tokens.sealed_tokens import InvalidToken, Sealer
from mcpproxy.proxy.core.translation.era_translation import parse_meta
from mcpproxy.proxy.fair_shares import FairShares
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import INVALID_PARAMS, UNAVAILABLE, Message, RpcError
from mcpproxy.proxy.upstream.attribution import replace_progress_token

PURPOSE: Final = "parked"
MORE_QUESTIONS: Final = 0.02
"""Seconds to wait for further server requests before all of them go to the client."""
Notify = Callable[[Message], Awaitable[None]]
CALL_LOST: Final = (
    "the instance in which this call waited for input has ended; the request may have run"
)
_RETRY: Final = ("inputResponses", "requestState", "_meta")


def expired_call_error() -> RpcError:
    """Return the error for every unusable requestState."""
    return RpcError(INVALID_PARAMS, "invalid or expired requestState")


@dataclass(slots=True)
class InputRequest:
    """Server request, and the future of its response."""

    request: Message
    waiting: "asyncio.Future[Message]"


@dataclass(slots=True)
class SuspendedCall:
    """Call context of a call that may have to wait for a retry of its client."""

    client: ClientIdentity
    log_level: str | None
    listener: Notify | None
    """Function that notifies the current request of the client; None without one."""
    questions: dict[str, InputRequest] = field(default_factory=dict)
    task: "asyncio.Task[Message] | None" = None
    expiry: asyncio.TimerHandle | None = None
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    resumption: ResumableStream | None = None
    _is_retried: bool = False
    _token: Raw | None = None
    """Progress token of the latest retry."""
    _keys: Any = field(default_factory=lambda: itertools.count(1))

    async def notify(self, message: Message) -> None:
        # Dropped while the client has no request.
        if self.listener is None:
            return
        if self._is_retried and jsonrpc.decode_str(message["method"]) == PROGRESS:
            # The token of an earlier request is no longer in use.
            if self._token is None:
                return
            message = replace_progress_token(message, self._token)
        await self.listener(message)

    async def ask(
        self, request: Message, on_notification: NotificationHandler | None = None
    ) -> Message:
        # A server request that is cancelled before the retry is not sent to the client.
        key = self._key(request)
        question = InputRequest(request, asyncio.get_running_loop().create_future())
        self.questions[key] = question
        self.asked.set()
        try:
            return await question.waiting
        finally:
            self.questions.pop(key, None)

    def _key(self, request: Message) -> str:
        """Return the key of a server request; for a modern backend, its id.

        See `collect_inputs`.
        """
        upstream_id = jsonrpc.decode_str(request.get("id"))
        if upstream_id is not None and upstream_id not in self.questions:
            return upstream_id
        return f"{jsonrpc.decode_str(request['method'])}-{next(self._keys)}"

    def begin(self, start: Callable[[CallContext], Awaitable[Message]]) -> None:
        """Start the call in a task."""
        self.task = asyncio.ensure_future(start(self))

    def attach(self, retry: Message, log_level: str | None, listener: Notify) -> None:
        """Send notifications to the client that waits again; `retry` are the params."""
        self.listener, self.log_level = listener, log_level
        self._is_retried, self._token = True, parse_meta(retry).get("progressToken")

    def suspend(self, expiry: asyncio.TimerHandle) -> None:
        """Wait for the client to return, until `expiry`."""
        self.listener, self.expiry = None, expiry

    async def progress(self) -> Message | None:
        """Return the response, or None if server requests need responses first. Raise RpcError."""
        assert self.task is not None
        while not self.task.done():
            input_requested = asyncio.create_task(self.asked.wait())
            try:
                await asyncio.wait(
                    (self.task, input_requested), return_when=asyncio.FIRST_COMPLETED
                )
                needs_input = await self._wait_for_more(self.task)
            finally:
                input_requested.cancel()
                self.asked.clear()
            if needs_input:
                return None
        return self.task.result()

    async def _wait_for_more(self, task: "asyncio.Task[Message]") -> bool:
        """Wait until no further server requests arrive; return True if there are any."""
        previous = -1
        while not task.done() and len(self.questions) != previous:
            previous = len(self.questions)
            await asyncio.wait((task,), timeout=MORE_QUESTIONS)
        return bool(self.questions) and not task.done()


class SuspendedCalls:
    """Calls of this process that are, or may become, suspended."""

    def __init__(self, sealer: Sealer, owner: str, clock: Callable[[], float]) -> None:
        """Create an empty set.

        `owner` is this process's address; `clock` returns seconds since the epoch.
        """
        self._sealer = sealer
        self._owner = owner
        self._clock = clock
        self._parked: dict[int, SuspendedCall] = {}
        self._shares: FairShares[int] = FairShares(PARKED_CALLS.value)
        """Holders of the suspended calls."""
        self._numbers = itertools.count(1)

    async def run(
        self,
        start: Callable[[CallContext], Awaitable[Message]],
        request: Message,
        params: Message,
        client: ClientIdentity,
        log_level: str | None,
        notify: Notify,
        network: str = "",
    ) -> Message:
        """Return the response to a call, or `input_required` with the requests of the backend.

        A suspended call counts for the client of this network. Cancellation cancels the call. Raise
        RpcError.
        """
        state = jsonrpc.decode_str(params.get("requestState"))
        if state is not None:
            exchange = self._resume(state, request, params, client)
            exchange.attach(params, log_level, notify)
        else:
            exchange = SuspendedCall(client, log_level, notify)
            exchange.begin(start)
        try:
            answer = await exchange.progress()
        except asyncio.CancelledError as error:
            assert exchange.task is not None
            exchange.task.cancel(cancel_notification_of(error))
            raise
        if answer is not None:
            return {**answer, "id": request["id"]}
        return self._park(exchange, request, params, network)

    def _park(
        self, exchange: SuspendedCall, request: Message, params: Message, network: str
    ) -> Message:
        if self._shares.is_full:
            PARKED_CALLS.record()
            oldest = self._shares.choose()
            if oldest is not None:
                self._expire(oldest)
        number = next(self._numbers)
        self._parked[number] = exchange
        self._shares.add(number, (network, exchange.client.user))
        loop = asyncio.get_running_loop()
        exchange.suspend(loop.call_later(PARKED_FOR.value, self._expire, number))
        state = {
            "n": number,
            "o": self._owner,
            "p": exchange.client.principal,
            "d": _digest(request, params),
            "t": int(self._clock()),
        }
        result = {
            "resultType": "input_required",
            "inputRequests": {
                key: {k: v for k, v in q.request.items() if k in ("method", "params")}
                for key, q in exchange.questions.items()
            },
            "requestState": self._sealer.seal(PURPOSE, state),
        }
        return {
            "jsonrpc": jsonrpc.VERSION,
            "id": request["id"],
            "result": jsonrpc.encode_raw(result),
        }

    def _expire(self, number: int) -> None:
        exchange = self._take(number)
        if exchange is not None and exchange.task is not None:
            exchange.task.cancel()

    def _take(self, number: int) -> SuspendedCall | None:
        """Remove a suspended call; return it, or None if it no longer exists."""
        exchange = self._parked.pop(number, None)
        self._shares.discard(number)
        if exchange is not None and exchange.expiry is not None:
            exchange.expiry.cancel()
        return exchange

    def _resume(
        self, state: str, request: Message, params: Message, client: ClientIdentity
    ) -> SuspendedCall:
        try:
            content = self._sealer.open(PURPOSE, state)
        except InvalidToken:
            raise expired_call_error() from None
        is_valid = content["p"] == client.principal and content["d"] == _digest(request, params)
        # The number is unique within one process only.
        is_valid = is_valid and content["o"] == self._owner
        # A retry that cannot be read leaves the call to the next one.
        answers = jsonrpc.decode_object(params.get("inputResponses", jsonrpc.EMPTY))
        exchange = self._take(content["n"]) if is_valid else None
        if exchange is None:
            raise expired_call_error()
        for key, answer in answers.items():
            question = exchange.questions.get(key)
            if question is not None and not question.waiting.done():
                question.waiting.set_result({"result": answer})
        if any(not question.waiting.done() for question in exchange.questions.values()):
            exchange.asked.set()
        return exchange

    def lost_call_error(
        self, request: Message, params: Message, client: ClientIdentity
    ) -> RpcError:
        """Return the error for a retry of a call whose process has ended.

        Only the client of the call learns more than of any other unusable requestState.
        """
        try:
            content = self._sealer.open(PURPOSE, jsonrpc.decode_str(params["requestState"]) or "")
        except InvalidToken:
            return expired_call_error()
        if content["p"] != client.principal or content["d"] != _digest(request, params):
            return expired_call_error()
        return RpcError(UNAVAILABLE, CALL_LOST, {"reason": "InstanceLost", "mayHaveRun": True})

    def owner(self, params: Message) -> str | None:
        """Return the owner in the requestState; None without one, or if it is the backend's."""
        state = jsonrpc.decode_str(params.get("requestState"))
        if state is None:
            return None
        try:
            owner: str = self._sealer.open(PURPOSE, state)["o"]
        except InvalidToken:
            return None
        return owner

    @property
    def count(self) -> int:
        """Number of suspended calls."""
        return len(self._parked)

    def close(self) -> None:
        """Cancel all suspended calls."""
        for number in list(self._parked):
            self._expire(number)


def _digest(request: Message, params: Message) -> str:
    """Return a digest of the method and params, which a retry must have in common with its call."""
    digest = hashlib.sha256(bytes(request["method"]))
    for name in sorted(params):
        if name not in _RETRY:
            digest.update(b"\0" + name.encode() + b"\0" + canonical_json(bytes(params[name])))
    return digest.hexdigest()
