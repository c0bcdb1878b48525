"""One call on its way to a backend: names inward, the right era, deadlines, names outward."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from mcpproxy.proxy.core.errors import SessionNotFound, TimedOut
from mcpproxy.proxy.core.exchange import CallContext, ClientIdentity, Told
from mcpproxy.proxy.core.translation.namespacing import PrefixMapping
from mcpproxy.proxy.core.translation.result_names import (
    may_name_component,
    to_downstream_error,
    to_downstream_message,
    to_downstream_result,
    to_upstream_response,
)
from mcpproxy.proxy.http1.client.client import asking
from mcpproxy.proxy.http1.client.response import ClientResponse
from mcpproxy.proxy.protocol import headers as h
from mcpproxy.proxy.protocol import jsonrpc, sse
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.timers import Timer, TimerQueue
from mcpproxy.proxy.upstream.era_bridge import (
    is_unfinished,
    send_request,
    to_legacy_response,
    to_modern_response,
    translate_request,
    translate_result_bytes,
)
from mcpproxy.proxy.upstream.large_results import ResultRelay
from mcpproxy.proxy.upstream.sessions.pool import SessionPool
from mcpproxy.proxy.upstream.transports.session import (
    OnAnnounced,
    TaskSet,
    UpstreamRequest,
    is_broadcast,
)


class NameMappingContext:
    """A caller of one backend: names are mapped, what concerns all clients goes its own way."""

    __slots__ = ("_announced", "_caller", "_names", "client", "log_level", "muted")

    def __init__(self, caller: CallContext, names: PrefixMapping, announced: OnAnnounced) -> None:
        self.client = caller.client
        self.log_level = caller.log_level
        self.muted = getattr(caller, "muted", False)
        self._caller = caller
        self._names = names
        self._announced = announced

    def notify(self, message: Message) -> Awaitable[None]:
        if is_broadcast(message):
            return self._announced(message, self.client)
        return self._caller.notify(
            to_downstream_message(message, self._names, self.client.principal)
        )

    async def ask(self, request: Message, told: Told | None = None) -> Message:
        shown = to_downstream_message(request, self._names, self.client.principal)
        return to_upstream_response(await self._caller.ask(shown, told), self._names)

    async def streamed(self, retry: int | None) -> None:
        await self._caller.streamed(retry)

    async def paused(self) -> None:
        await self._caller.paused()


class TimeoutContext(NameMappingContext):
    """The caller of a request that has to be answered in time."""

    __slots__ = ("_asking", "_before", "_deadline", "_over", "_task")

    def __init__(
        self,
        caller: CallContext,
        names: PrefixMapping,
        announced: OnAnnounced,
        deadlines: TimerQueue,
        task: "asyncio.Task[Any]",
        deadline: Timer | None,
    ) -> None:
        """`task` is cancelled when the time is over; then `late` tells so.

        `deadline` is given where its time runs already.
        """
        super().__init__(caller, names, announced)
        self._task = task
        self._before = task.cancelling()
        self._asking = 0
        self._over = False
        self._deadline = deadline or deadlines.start(task.cancel)
        if deadline is not None:
            deadline.hand_to(task.cancel)

    def heard(self) -> None:
        """Who says something is not late."""
        if not (self._asking or self._over):
            self._deadline.restart()

    def suspend(self) -> None:
        """It is somebody else who is waited for, until more is heard."""
        self._deadline.cancel()

    def notify(self, message: Message) -> Awaitable[None]:
        self.heard()
        return super().notify(message)

    async def ask(self, request: Message, told: Told | None = None) -> Message:
        """While a person thinks, the backend is not late."""
        self._asking += 1
        self._deadline.cancel()
        try:
            return await super().ask(request, told)
        finally:
            self._asking -= 1
            if not (self._asking or self._over):
                self._deadline.restart()

    def late(self) -> bool:
        """Whether it was the deadline alone that cancelled the task; then that is over."""
        return self._deadline.missed and self._task.uncancel() <= self._before

    def answered(self) -> None:
        """The request has ended."""
        self._over = True
        self._deadline.cancel()


class Dispatcher:
    """Sends requests of clients to one backend."""

    def __init__(
        self,
        names: PrefixMapping,
        sessions: SessionPool,
        timeout: float,
        announced: OnAnnounced,
        background: TaskSet,
        *,
        polls: bool = True,
    ) -> None:
        """`timeout` is in seconds, from the last sign of life to the answer.

        `announced` gets what a backend tells all clients on the stream of one call; `background`
        has the tasks that no call waits for. `polls` says that legacy clients wait for tasks.
        """
        self._polls = polls
        self._background = background
        self._announced = announced
        self._names = names
        self._sessions = sessions
        self._timeout = timeout
        self._deadlines: TimerQueue | None = None

    async def call(self, outgoing: UpstreamRequest, caller: CallContext) -> Message:
        """The response, as this client understands it; its id is the request's.

        Raises BackendError, TimedOut among it.
        """
        asking.set(caller.client.holder)
        deadlines = self._timing()
        task = asyncio.current_task(self._loop)
        assert task is not None
        outgoing.polls = self._polls
        timed = TimeoutContext(
            caller, self._names, self._announced, deadlines, task, outgoing.deadline
        )
        if outgoing.sink is not None:
            sink, method = outgoing.sink, outgoing.method
            principal = caller.client.principal
            outgoing.onward = ResultRelay(sink, method, self._names, timed, principal)
        link = self._sessions.sessionless(caller.client) if outgoing.sent is None else outgoing.link
        try:
            if link is None or outgoing.held is not None:
                answer = await self._sent(outgoing, timed)
            else:
                answer = await send_request(link, outgoing, timed)
        except asyncio.CancelledError:
            if timed.late():
                raise TimedOut(f"no answer within {self._timeout:g} s") from None
            raise
        finally:
            timed.answered()
            if outgoing.abandons is not None:
                self._background.spawn(outgoing.abandons())
        return self._outward(outgoing.method, answer, caller.client.principal)

    def begin(
        self,
        outgoing: UpstreamRequest,
        client: ClientIdentity,
        done: Callable[[], None],
        levelled: bool,
    ) -> bool:
        """Send a request at once, if that is possible; its answer is `outgoing.sent`.

        `done` is called when there is something to look at, see `Connection.begin`;
        `outgoing.leave` when its time is over, or something has to be told to who asks. Whatever
        then is not `complete` has to go to `call`. `levelled` says that the client has set a level
        for log messages.
        """
        link = self._sessions.sessionless(client)
        held = None
        if link is None:
            # Backends of the modern era keep no sessions.
            held = None if levelled or client.modern else self._sessions.hold(client)
            if held is None:
                return False
            link = held.link
        sent = outgoing
        if client.modern is not link.greeting.modern:
            if levelled:
                return False
            sent = outgoing.bridged = translate_request(outgoing, client, link.greeting)
        response = sent.sent = outgoing.sent = link.begin(sent, client, done)
        if response is None:
            if held is not None:
                self._sessions.give_back(held)
            return False
        outgoing.link, outgoing.principal = link, client.principal
        if held is not None:
            outgoing.held = held
        assert outgoing.leave is not None
        outgoing.deadline = self._timing().start(outgoing.leave)
        return True

    def whole(self, outgoing: UpstreamRequest) -> bytes | None:
        """The response, where `begin` brought a result that this client takes as it is; None
        where that takes a closer look, see `complete`."""
        response = outgoing.sent
        assert response is not None
        body = _message(response)
        if body is None:
            return None
        found, label = jsonrpc.parse_result_fast(body), outgoing.label
        if found is None or found.id != (outgoing.id if label is None else label):
            return None
        if outgoing.bridged is not None:
            result = translate_result_bytes(outgoing, bytes(found.result))
            if result is None:
                return None
            body = jsonrpc.response(found.id, result)
        elif label is not None:
            body = jsonrpc.response(outgoing.id, found.result)
        if self._names.change and may_name_component(body):
            return None
        return body if self._ends(outgoing, response) else None

    def complete(self, outgoing: UpstreamRequest) -> Message | None:
        """The response, where `begin` brought it as one JSON message, as this client understands
        it; None otherwise. Raises BackendError, RpcError."""
        response = outgoing.sent
        assert response is not None
        assert outgoing.link is not None
        body = _message(response)
        if not body:
            return None
        message = jsonrpc.bounded(body)
        if "method" in message:
            return None
        if not jsonrpc.answers(message, outgoing.known_as):
            return None
        if outgoing.held is not None and "error" in message:
            # It may be that the session does not exist any more.
            return None
        if outgoing.bridged is not None:
            if outgoing.link.greeting.modern:
                if is_unfinished(message):
                    return None
                message = to_legacy_response(outgoing, message)
            else:
                message = to_modern_response(outgoing, message)
        answer = self._outward(outgoing.method, message, outgoing.principal)
        return answer if self._ends(outgoing, response) else None

    def _ends(self, outgoing: UpstreamRequest, response: ClientResponse) -> bool:
        """End a request, if nothing came before its answer."""
        held = outgoing.held
        if held is not None:
            assert outgoing.link is not None
            if not outgoing.link.completes(outgoing):
                return False
            self._sessions.release(held)
        if not response.complete:
            response.leave()
        return True

    def _timing(self) -> TimerQueue:
        if self._deadlines is None:
            self._loop = asyncio.get_running_loop()
            self._deadlines = TimerQueue(self._loop, self._timeout)
        return self._deadlines

    async def _sent(self, outgoing: UpstreamRequest, caller: CallContext) -> Message:
        try:
            async with self._sessions.use(caller.client, outgoing.held) as link:
                return await send_request(link, outgoing, caller)
        except SessionNotFound:
            # The backend forgot the session and executed nothing: once more, with a new one.
            self._sessions.reset()
            outgoing.sent, outgoing.bridged, outgoing.number = None, None, 0
            async with self._sessions.use(caller.client) as link:
                return await send_request(link, outgoing, caller)

    def _outward(self, method: str, answer: Message, principal: str) -> Message:
        if not self._names.change:
            return answer
        if "result" in answer:
            result = to_downstream_result(method, answer["result"], self._names, principal)
            return answer if result is answer["result"] else {**answer, "result": result}
        return {**answer, "error": to_downstream_error(answer["error"], self._names)}


def _message(response: ClientResponse) -> bytes | None:
    """The one message that an answer is, or that a stream begins with; None where there is none."""
    if response.status != 200:
        return None
    kind = response.media_type
    if kind == h.JSON:
        return response.whole
    return sse.single_event_data(response.begun) if kind == h.EVENT_STREAM else None
