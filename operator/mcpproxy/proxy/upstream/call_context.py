"""Contexts of a call on its way to a backend: they map names, and keep the timeout."""

import asyncio
import math
from collections.abc import Awaitable
from typing import Any

from mcpproxy.proxy.core.exchange import CallContext, NotificationHandler
from mcpproxy.proxy.core.translation.namespacing import PrefixMapping
from mcpproxy.proxy.core.translation.result_names import (
    to_downstream_message,
    to_upstream_response,
)
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.upstream.transports.session import OnAnnounced, is_broadcast


class NameMappingContext:
    """Context of one backend's call: maps names, and routes broadcasts past the client."""

    __slots__ = ("_announced", "_caller", "_names", "client", "log_level", "muted", "resumption")

    def __init__(self, caller: CallContext, names: PrefixMapping, announced: OnAnnounced) -> None:
        self.client = caller.client
        self.log_level = caller.log_level
        self.muted = getattr(caller, "muted", False)
        self.resumption = caller.resumption
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


class TimeoutContext(NameMappingContext):
    """Context of a call with a timeout."""

    __slots__ = (
        "_before",
        "_is_complete",
        "_loop",
        "_missed",
        "_open_questions",
        "_seconds",
        "_task",
        "_timer",
        "ends_at",
    )

    def __init__(
        self,
        caller: CallContext,
        names: PrefixMapping,
        announced: OnAnnounced,
        seconds: float,
        waited: float = 0.0,
    ) -> None:
        """Limit the time of the current task, which is cancelled at the timeout.

        `seconds` are the timeout, of which the call has `waited` some already.
        """
        super().__init__(caller, names, announced)
        task = asyncio.current_task()
        assert task is not None
        self._task: asyncio.Task[Any] = task
        self._before = task.cancelling()
        self._open_questions = 0
        self._is_complete = self._missed = False
        self._seconds, self._loop = seconds, task.get_loop()
        self.ends_at = self._loop.time() + seconds - waited
        """Time of the loop at which the call times out; infinite while the timeout is paused."""
        self._timer: asyncio.TimerHandle | None = self._loop.call_at(self.ends_at, self._expire)
        """Timer that expires at `ends_at` or earlier, because a restart only notes the time; None
        if the timeout is paused."""

    def _expire(self) -> None:
        if self.ends_at <= self._loop.time():
            self._missed = True
            self._task.cancel()
        else:
            paused = self.ends_at == math.inf
            self._timer = None if paused else self._loop.call_at(self.ends_at, self._expire)

    def restart_timeout(self) -> None:
        """Restart the timeout, because the backend has sent something."""
        if self._open_questions or self._is_complete:
            return
        self.ends_at = self._loop.time() + self._seconds
        if self._timer is None:
            self._timer = self._loop.call_at(self.ends_at, self._expire)

    def pause_timeout(self) -> None:
        """Pause the timeout until the next restart, because the proxy waits for the client."""
        self.ends_at = math.inf

    def notify(self, message: Message) -> Awaitable[None]:
        self.restart_timeout()
        return super().notify(message)

    async def ask(
        self, request: Message, notify_backend: NotificationHandler | None = None
    ) -> Message:
        # The timeout is paused while the client waits for its user.
        self._open_questions += 1
        self.pause_timeout()
        try:
            return await super().ask(request, notify_backend)
        finally:
            self._open_questions -= 1
            self.restart_timeout()

    def is_timed_out(self) -> bool:
        """True if only the timeout cancelled the task. The cancellation is then undone."""
        return self._missed and self._task.uncancel() <= self._before

    def close(self) -> None:
        """Stop the timeout, because the call is complete."""
        self._is_complete = True
        self.pause_timeout()
        if self._timer is not None:
            self._timer.cancel()
