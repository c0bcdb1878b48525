"""Modern client, legacy backend: a question of the backend parks the exchange.

The client gets `input_required` and a sealed `requestState` that names the parked exchange; its
retry brings the answers and goes on where the exchange stopped. One that is never retried
expires, and its call is cancelled.
"""

import asyncio
import hashlib
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from mcpproxy.limits.clients import PARKED_CALLS, PARKED_FOR
from mcpproxy.proxy.core.catalog.digests import canonical_json
from mcpproxy.proxy.core.exchange import CallContext, ClientIdentity, Told, cancelled_request_id
from mcpproxy.proxy.core.tokens.sealed_tokens import InvalidToken, Sealer
from mcpproxy.proxy.fair_shares import FairShares
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import INVALID_PARAMS, Message, RpcError

PURPOSE: Final = "parked"
MORE_QUESTIONS: Final = 0.02
"""Seconds without another question after which those that are there go to the client."""
Notify = Callable[[Message], Awaitable[None]]
_RETRY: Final = ("inputResponses", "requestState", "_meta")


def expired_call_error() -> RpcError:
    """The one answer to every requestState that can't be used."""
    return RpcError(INVALID_PARAMS, "invalid or expired requestState")


@dataclass(slots=True)
class InputRequest:
    """What a backend asked, and who waits for the answer."""

    request: Message
    waiting: "asyncio.Future[Message]"


@dataclass(slots=True)
class SuspendedCall:
    """The caller of an exchange that may have to wait for its client to come back."""

    client: ClientIdentity
    log_level: str | None
    listener: Notify | None
    """The stream of the request that is there at the moment; None while there is none."""
    questions: dict[str, InputRequest] = field(default_factory=dict)
    task: "asyncio.Task[Message] | None" = None
    expiry: asyncio.TimerHandle | None = None
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    _keys: Any = field(default_factory=lambda: itertools.count(1))

    async def notify(self, message: Message) -> None:
        """While no request of the client is there, nobody could take it."""
        if self.listener is not None:
            await self.listener(message)

    async def ask(self, request: Message, told: Told | None = None) -> Message:
        """A question that is withdrawn before its client came back is gone."""
        key = self._key(request)
        question = InputRequest(request, asyncio.get_running_loop().create_future())
        self.questions[key] = question
        self.asked.set()
        try:
            return await question.waiting
        finally:
            self.questions.pop(key, None)

    def _key(self, request: Message) -> str:
        """Return the key of a question: that of a modern backend is its id here, see `inputs`."""
        own = jsonrpc.decode_str(request.get("id"))
        if own is not None and own not in self.questions:
            return own
        return f"{jsonrpc.decode_str(request['method'])}-{next(self._keys)}"

    async def streamed(self, retry: int | None) -> None:
        """Streams of this era are not resumed."""

    async def paused(self) -> None: ...

    async def progress(self) -> Message | None:
        """The response, or None when there are questions to answer first. Raises RpcError."""
        assert self.task is not None
        while not self.task.done():
            asked = asyncio.create_task(self.asked.wait())
            try:
                await asyncio.wait((self.task, asked), return_when=asyncio.FIRST_COMPLETED)
                there = await self._gathered(self.task)
            finally:
                asked.cancel()
                self.asked.clear()
            if there:
                return None
        return self.task.result()

    async def _gathered(self, task: "asyncio.Task[Message]") -> bool:
        """Whether there are questions, once no more come: servers ask several things at once."""
        known = -1
        while not task.done() and len(self.questions) != known:
            known = len(self.questions)
            await asyncio.wait((task,), timeout=MORE_QUESTIONS)
        return bool(self.questions) and not task.done()


class SuspendedCalls:
    """The exchanges of this process that may be, or are, parked."""

    def __init__(self, sealer: Sealer, owner: str, clock: Callable[[], float]) -> None:
        """`owner` is this process's address; `clock` gives seconds since the epoch."""
        self._sealer = sealer
        self._owner = owner
        self._clock = clock
        self._parked: dict[int, SuspendedCall] = {}
        self._shares: FairShares[int] = FairShares(PARKED_CALLS.value)
        """Whose they are."""
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
        """The response to a call, or the `input_required` that asks for what it needs.

        A parked call counts for the client of this network. When cancelled, so is the call.
        Raises RpcError.
        """
        state = jsonrpc.decode_str(params.get("requestState"))
        if state is not None:
            exchange = self._resumed(state, request, params, client)
            exchange.listener = notify
        else:
            exchange = SuspendedCall(client, log_level, notify)
            exchange.task = asyncio.ensure_future(start(exchange))
        try:
            answer = await exchange.progress()
        except asyncio.CancelledError as error:
            assert exchange.task is not None
            exchange.task.cancel(cancelled_request_id(error))
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
        exchange.listener = None
        self._parked[number] = exchange
        self._shares.add(number, (network, exchange.client.principal))
        loop = asyncio.get_running_loop()
        exchange.expiry = loop.call_later(PARKED_FOR.value, self._expire, number)
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
        exchange = self._taken(number)
        if exchange is not None and exchange.task is not None:
            exchange.task.cancel()

    def _taken(self, number: int) -> SuspendedCall | None:
        """Take an exchange that is parked, if it still is."""
        exchange = self._parked.pop(number, None)
        self._shares.discard(number)
        if exchange is not None and exchange.expiry is not None:
            exchange.expiry.cancel()
        return exchange

    def _resumed(
        self, state: str, request: Message, params: Message, client: ClientIdentity
    ) -> SuspendedCall:
        try:
            content = self._sealer.open(PURPOSE, state)
        except InvalidToken:
            raise expired_call_error() from None
        mine = content["p"] == client.principal and content["d"] == _digest(request, params)
        # A number of another process may be the number of another call here.
        mine = mine and content["o"] == self._owner
        exchange = self._taken(content["n"]) if mine else None
        if exchange is None:
            raise expired_call_error()
        answers = jsonrpc.decode_object(params.get("inputResponses", jsonrpc.EMPTY))
        for key, answer in answers.items():
            question = exchange.questions.get(key)
            if question is not None and not question.waiting.done():
                question.waiting.set_result({"result": answer})
        if any(not question.waiting.done() for question in exchange.questions.values()):
            exchange.asked.set()
        return exchange

    def owner(self, params: Message) -> str | None:
        """Who sealed the requestState; None for none, or a backend's own, which is passed on."""
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
        """How many exchanges are parked."""
        return len(self._parked)

    def close(self) -> None:
        """Cancel what is parked."""
        for number in list(self._parked):
            self._expire(number)


def _digest(request: Message, params: Message) -> str:
    """What a retry must have in common with its first request: the method and the params."""
    found = hashlib.sha256(bytes(request["method"]))
    for name in sorted(params):
        if name not in _RETRY:
            found.update(b"\0" + name.encode() + b"\0" + canonical_json(bytes(params[name])))
    return found.hexdigest()
