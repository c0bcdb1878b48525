"""Dispatch of one call to its backend: upstream names, the right era, timeouts, downstream
names."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from mcpproxy.proxy.core.errors import SessionNotFound, TimedOut
from mcpproxy.proxy.core.exchange import CallContext, ClientIdentity, NotificationHandler
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
    """Context of one backend's call: maps names, and routes broadcasts past the client."""

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

    async def ask(
        self, request: Message, notify_backend: NotificationHandler | None = None
    ) -> Message:
        mapped = to_downstream_message(request, self._names, self.client.principal)
        return to_upstream_response(await self._caller.ask(mapped, notify_backend), self._names)

    async def streamed(self, retry: int | None) -> None:
        await self._caller.streamed(retry)

    async def paused(self) -> None:
        await self._caller.paused()


class TimeoutContext(NameMappingContext):
    """Context of a call with a timeout."""

    __slots__ = ("_before", "_deadline", "_is_complete", "_open_questions", "_task")

    def __init__(
        self,
        caller: CallContext,
        names: PrefixMapping,
        announced: OnAnnounced,
        deadlines: TimerQueue,
        task: "asyncio.Task[Any]",
        deadline: Timer | None,
    ) -> None:
        """`task` is cancelled at the timeout; `is_timed_out` then returns True.

        `deadline` is the call's timer, if it is running already.
        """
        super().__init__(caller, names, announced)
        self._task = task
        self._before = task.cancelling()
        self._open_questions = 0
        self._is_complete = False
        self._deadline = deadline or deadlines.start(task.cancel)
        if deadline is not None:
            deadline.hand_to(task.cancel)

    def restart_timeout(self) -> None:
        """Restart the timeout, because the backend has sent something."""
        if not (self._open_questions or self._is_complete):
            self._deadline.restart()

    def pause_timeout(self) -> None:
        """Pause the timeout until the next restart, because the proxy waits for the client."""
        self._deadline.cancel()

    def notify(self, message: Message) -> Awaitable[None]:
        self.restart_timeout()
        return super().notify(message)

    async def ask(
        self, request: Message, notify_backend: NotificationHandler | None = None
    ) -> Message:
        # The timeout is paused while the client waits for its user.
        self._open_questions += 1
        self._deadline.cancel()
        try:
            return await super().ask(request, notify_backend)
        finally:
            self._open_questions -= 1
            if not (self._open_questions or self._is_complete):
                self._deadline.restart()

    def is_timed_out(self) -> bool:
        """True if only the timeout cancelled the task. The cancellation is then undone."""
        return self._deadline.missed and self._task.uncancel() <= self._before

    def close(self) -> None:
        """Stop the timeout, because the call is complete."""
        self._is_complete = True
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
        """`timeout` is in seconds, from the backend's last message to its response.

        `announced` receives broadcasts that arrive during a call; `background` runs tasks that no
        call waits for. `polls` means that the proxy polls tasks for legacy clients.
        """
        self._polls = polls
        self._background = background
        self._announced = announced
        self._names = names
        self._sessions = sessions
        self._timeout = timeout
        self._deadlines: TimerQueue | None = None

    async def call(self, outgoing: UpstreamRequest, caller: CallContext) -> Message:
        """Send a request and return the response for this client, with the request's id.

        Raises BackendError, including TimedOut.
        """
        asking.set(caller.client.holder)
        deadlines = self._timers_of_loop()
        task = asyncio.current_task(self._loop)
        assert task is not None
        outgoing.polls = self._polls
        context = TimeoutContext(
            caller, self._names, self._announced, deadlines, task, outgoing.deadline
        )
        if outgoing.sink is not None:
            sink, method = outgoing.sink, outgoing.method
            principal = caller.client.principal
            outgoing.onward = ResultRelay(sink, method, self._names, context, principal)
        link = (
            self._sessions.stateless_session(caller.client)
            if outgoing.sent is None
            else outgoing.link
        )
        try:
            if link is None or outgoing.lease is not None:
                response = await self._send_in_session(outgoing, context)
            else:
                response = await send_request(link, outgoing, context)
        except asyncio.CancelledError:
            if context.is_timed_out():
                raise TimedOut(f"no response within {self._timeout:g} s") from None
            raise
        finally:
            context.close()
            if outgoing.cancel_task is not None:
                self._background.spawn(outgoing.cancel_task())
        return self._map_response(outgoing.method, response, caller.client.principal)

    def begin(
        self,
        outgoing: UpstreamRequest,
        client: ClientIdentity,
        done: Callable[[], None],
        has_log_level: bool,
    ) -> bool:
        """Send a request without a task, if possible; the response becomes `outgoing.sent`.

        `done` is called when the response is to be examined, as in `Connection.begin`.
        `outgoing.leave` is called at the timeout, or if the client has to receive a message first.
        If `complete` then returns None, the request continues with `call`. `has_log_level` means
        that the client has set a log level.
        """
        link = self._sessions.stateless_session(client)
        lease = None
        if link is None:
            # Modern backends keep no sessions.
            lease = None if has_log_level or client.modern else self._sessions.try_acquire(client)
            if lease is None:
                return False
            link = lease.link
        sent = outgoing
        if client.modern is not link.greeting.modern:
            if has_log_level:
                return False
            sent = outgoing.translated = translate_request(outgoing, client, link.greeting)
        response = sent.sent = outgoing.sent = link.begin(sent, client, done)
        if response is None:
            if lease is not None:
                self._sessions.return_unused(lease)
            return False
        outgoing.link, outgoing.principal = link, client.principal
        if lease is not None:
            outgoing.lease = lease
        assert outgoing.leave is not None
        outgoing.deadline = self._timers_of_loop().start(outgoing.leave)
        return True

    def whole(self, outgoing: UpstreamRequest) -> bytes | None:
        """Return the encoded response after `begin` if the client can receive it unchanged.

        Otherwise return None; `complete` then decodes the response.
        """
        response = outgoing.sent
        assert response is not None
        body = _single_message(response)
        if body is None:
            return None
        parsed, label = jsonrpc.parse_result_fast(body), outgoing.label
        if parsed is None or parsed.id != (outgoing.id if label is None else label):
            return None
        if outgoing.translated is not None:
            result = translate_result_bytes(outgoing, bytes(parsed.result))
            if result is None:
                return None
            body = jsonrpc.response(parsed.id, result)
        elif label is not None:
            body = jsonrpc.response(outgoing.id, parsed.result)
        if self._names.change and may_name_component(body):
            return None
        return body if self._finish(outgoing, response) else None

    def complete(self, outgoing: UpstreamRequest) -> Message | None:
        """Return the response after `begin` if it is one JSON message, translated for the client.

        Otherwise return None. Raises BackendError, RpcError.
        """
        response = outgoing.sent
        assert response is not None
        assert outgoing.link is not None
        body = _single_message(response)
        if not body:
            return None
        message = jsonrpc.parse_bounded(body)
        if "method" in message:
            return None
        if not jsonrpc.answers(message, outgoing.upstream_id):
            return None
        if outgoing.lease is not None and "error" in message:
            # The session may be lost, which `call` handles.
            return None
        if outgoing.translated is not None:
            if outgoing.link.greeting.modern:
                if is_unfinished(message):
                    return None
                message = to_legacy_response(outgoing, message)
            else:
                message = to_modern_response(outgoing, message)
        mapped = self._map_response(outgoing.method, message, outgoing.principal)
        return mapped if self._finish(outgoing, response) else None

    def _finish(self, outgoing: UpstreamRequest, response: ClientResponse) -> bool:
        """End a request, unless messages came before its response."""
        lease = outgoing.lease
        if lease is not None:
            assert outgoing.link is not None
            if not outgoing.link.try_complete(outgoing):
                return False
            self._sessions.release(lease)
        if not response.complete:
            response.leave()
        return True

    def _timers_of_loop(self) -> TimerQueue:
        if self._deadlines is None:
            self._loop = asyncio.get_running_loop()
            self._deadlines = TimerQueue(self._loop, self._timeout)
        return self._deadlines

    async def _send_in_session(self, outgoing: UpstreamRequest, caller: CallContext) -> Message:
        try:
            async with self._sessions.acquire(caller.client, outgoing.lease) as link:
                return await send_request(link, outgoing, caller)
        except SessionNotFound:
            # The backend has lost the session and executed nothing, so the request is sent again.
            self._sessions.on_backend_failure()
            outgoing.sent, outgoing.translated, outgoing.number = None, None, 0
            async with self._sessions.acquire(caller.client) as link:
                return await send_request(link, outgoing, caller)

    def _map_response(self, method: str, answer: Message, principal: str) -> Message:
        if not self._names.change:
            return answer
        if "result" in answer:
            result = to_downstream_result(method, answer["result"], self._names, principal)
            return answer if result is answer["result"] else {**answer, "result": result}
        return {**answer, "error": to_downstream_error(answer["error"], self._names)}


def _single_message(response: ClientResponse) -> bytes | None:
    """Return the only message in a response, or the first one in a stream; None if there is
    none."""
    if response.status != 200:
        return None
    kind = response.media_type
    if kind == h.JSON:
        return response.whole
    return sse.single_event_data(response.begun) if kind == h.EVENT_STREAM else None
