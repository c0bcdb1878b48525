"""A session over one stream each way (stdio, HTTP+SSE): ids tell which message belongs where."""

import asyncio
import itertools
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import Raw

from mcpproxy.proxy.back.link import (
    ACKNOWLEDGED,
    Background,
    Greeting,
    OnMessage,
    Outgoing,
    answered,
    is_announcement,
    listen_request,
)
from mcpproxy.proxy.core.eras import meta
from mcpproxy.proxy.core.errors import BackendError, Unreachable
from mcpproxy.proxy.core.exchange import Caller, Client, Discarding
from mcpproxy.proxy.wire import jsonrpc
from mcpproxy.proxy.wire.jsonrpc import Message
from mcpproxy.proxy.wire.revisions import is_modern

log = logging.getLogger("mcpproxy.backend")


class Channel(Protocol):
    """Carries whole messages both ways."""

    async def send(self, body: bytes) -> None:
        """Send one message. Raises BackendError."""

    async def receive(self) -> bytes | None:
        """The next message; None at the end. Raises BackendError."""

    async def close(self) -> None:
        """End it; never raises."""


class Pending:
    """A request that waits for its response."""

    __slots__ = ("caller", "future", "token")

    def __init__(self, caller: Caller, token: Raw | None) -> None:
        self.caller = caller
        self.token = token
        self.future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()


class DuplexLink:
    """Many requests over one channel; ids and progress tokens on it are our own."""

    stateful = True

    def __init__(self, channel: Channel, background: Background) -> None:
        self.greeting = Greeting("", {})
        self._channel = channel
        self._background = background
        self._ids = itertools.count(1)
        self._pending: dict[bytes, Pending] = {}
        self._standing: Caller | None = None
        self._announced: OnMessage | None = None
        self._listening: Raw | None = None
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reader = background.spawn(self._read())

    @property
    def alive(self) -> bool:
        """See Link."""
        return not self._ended.done()

    async def request(self, outgoing: Outgoing, caller: Caller) -> Message:
        """See Link."""
        if self._ended.done():
            raise Unreachable("its stream has ended")
        own = str(next(self._ids)).encode()
        token = meta(outgoing.params or {}).get("progressToken")
        pending = self._pending[own] = Pending(caller, token)
        params = outgoing.params
        if token is not None and params is not None:
            changed = jsonrpc.with_member(params["_meta"], progressToken=Raw(own))
            params = {**params, "_meta": changed}
        relabelled = Outgoing(Raw(own), outgoing.method, params, outgoing.extra)
        try:
            await self._channel.send(relabelled.body())
            return {**await pending.future, "id": outgoing.id}
        except asyncio.CancelledError:
            self._background.spawn(self._cancel(own))
            raise
        finally:
            del self._pending[own]

    async def _cancel(self, own: bytes) -> None:
        try:
            await self.notify("notifications/cancelled", {"requestId": Raw(own)})
        except BackendError:
            return

    async def notify(self, method: str, params: Message | None) -> None:
        """See Link."""
        await self._channel.send(jsonrpc.notification(method, params))

    async def listen(
        self,
        standing: Caller,
        announced: OnMessage,
        ready: Callable[[], None],
        uris: Sequence[str] = (),
    ) -> None:
        """See Link: until the channel ends."""
        self._standing, self._announced = standing, announced
        if is_modern(self.greeting.revision):
            # Its changes come on the channel; the response comes only when it stops.
            await self._stop_listening()
            outgoing = listen_request(standing.client, self.greeting.revision, uris)
            await self._channel.send(outgoing.body())
            self._listening = outgoing.id
        ready()
        await asyncio.shield(self._ended)
        raise Unreachable("its stream has ended")

    async def _stop_listening(self) -> None:
        if self._listening is not None:
            await self.notify("notifications/cancelled", {"requestId": self._listening})
            self._listening = None

    async def close(self) -> None:
        """See Link."""
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
            await self._dispatch(jsonrpc.parse(body))
        except jsonrpc.RpcError as error:
            # Servers print all sorts of things; who waits for an answer has a deadline.
            log.info("a message that is not JSON-RPC was passed over: %s", error)

    def _end(self, error: BackendError) -> None:
        if not self._ended.done():
            self._ended.set_result(None)
        for pending in self._pending.values():
            if not pending.future.done():
                pending.future.set_exception(error)

    async def _dispatch(self, message: Message) -> None:
        if "method" not in message:
            pending = self._pending.get(bytes(message["id"]))
            if pending is not None and not pending.future.done():
                pending.future.set_result(message)
            return
        token = self._token(message)
        if token is not None:
            pending = self._pending.get(bytes(token))
            if pending is not None and pending.token is not None:
                changed = jsonrpc.with_member(message["params"], progressToken=pending.token)
                await pending.caller.notify({**message, "params": changed})
            return
        if is_announcement(message):
            if self._announced is not None:
                await self._announced(message)
            return
        if jsonrpc.string(message["method"]) == ACKNOWLEDGED:
            return
        caller = self._last_caller() or self._standing
        if "id" in message:
            answering = caller or Discarding(Client(self.greeting.revision))
            self._background.spawn(self._answer(message, answering))
        elif caller is not None:
            await caller.notify(message)

    @staticmethod
    def _token(message: Message) -> Raw | None:
        if jsonrpc.string(message["method"]) != "notifications/progress":
            return None
        return jsonrpc.members(message.get("params", jsonrpc.EMPTY)).get("progressToken")

    def _last_caller(self) -> Caller | None:
        """Whom a message without a token is for: the caller whose request came last."""
        return next(reversed(self._pending.values())).caller if self._pending else None

    async def _answer(self, request: Message, caller: Caller) -> None:
        try:
            await self._channel.send(await answered(caller, request))
        except BackendError:
            return
