"""Stream on which one backend announces changes: kept open, and reopened with backoff."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from mcpproxy.api import constants
from mcpproxy.proxy.core.errors import BackendError
from mcpproxy.proxy.core.exchange import CallContext
from mcpproxy.proxy.core.health import HealthState
from mcpproxy.proxy.protocol.jsonrpc import RpcError
from mcpproxy.proxy.upstream.monitor import request_pace
from mcpproxy.proxy.upstream.transports.session import OnMessage, UpstreamSession

log = logging.getLogger("mcpproxy.backend")

STREAM_PAUSE: Final = 2.0
"""Seconds before a stream that failed immediately is reopened."""
SESSION_PAUSE: Final = 10.0
"""Seconds before a session that ended immediately, such as that of a program, is reopened."""
RENEWAL_RATE: Final = 1024 * 1024
"""Characters of URIs per second that may be sent by reopening the stream, as each request has
all of them."""
LONGEST_RENEWAL: Final = 10.0
REPORT_AFTER: Final = 3
"""Consecutive failures after which the backend state mentions them."""


class ChangeStream:
    """Listener on one session at a time."""

    def __init__(
        self,
        name: str,
        session_context: CallContext,
        announced: OnMessage,
        uris: Callable[[], Sequence[str]],
        on_break: Callable[[], None],
        on_due: Callable[[], None],
    ) -> None:
        """`announced` receives broadcasts; `uris` returns the subscribed resources.

        `on_break` is called when an established stream breaks, because the backend may have
        failed; `on_due`, when it is time to reopen the stream.
        """
        self._on_break = on_break
        self._on_due = on_due
        self._name = name
        self._session_context = session_context
        self._announced = announced
        self._uris = uris
        self._link: UpstreamSession | None = None
        self._task: asyncio.Task[None] | None = None
        self._established: asyncio.Task[None] | None = None
        """Task whose stream is established; differs from `_task` while that one is not."""
        self._renewal: asyncio.TimerHandle | None = None
        self._began_at = 0.0
        self._backoff = request_pace.StreamBackoff(STREAM_PAUSE)
        self._retry: asyncio.TimerHandle | None = None
        """Timer that reopens the stream after a failure."""
        self._error_text = ""

    @property
    def resting(self) -> bool:
        """True during the pause after a failure."""
        return self._retry is not None

    @property
    def missing(self) -> bool:
        """True if no task listens."""
        return self._task is None or self._task.done()

    def begin(self, link: UpstreamSession) -> None:
        """Listen to a session, regardless of the previous one."""
        self._cancel_timers()
        self._link, self._established = link, None
        self._start(link)

    def _start(self, link: UpstreamSession) -> None:
        def ready() -> None:
            if self._task is task and self._established is not task:
                end(self._established)
                self._established = task

        task = self._task = asyncio.create_task(self._listen(link, ready))

    def renew(self) -> None:
        """Reopen the stream soon. One request names all resources, however many were added.

        The current stream stays open until the new one is established.
        """
        if self._renewal is None and self._link is not None:
            loop = asyncio.get_running_loop()
            due = self._began_at + min(sum(map(len, self._uris())) / RENEWAL_RATE, LONGEST_RENEWAL)
            self._renewal = loop.call_later(max(due - loop.time(), 0.0), self._renew)

    def _renew(self) -> None:
        link, pending = self._link, self._task
        self._cancel_timers()
        if link is not None:
            if pending is not self._established:
                # Ends the pending stream, so that a backend that hangs does not collect them.
                end(pending)
            self._start(link)

    def leave(self) -> "asyncio.Task[None] | None":
        """Detach from the session, and return the task of its stream, which the caller must end."""
        self._cancel_timers()
        pending, established = self._task, self._established
        self._task = self._established = self._link = None
        if established is not None and established is not pending:
            end(pending)
        return established or pending

    def start_over(self) -> None:
        """Reset the backoff, because the backend itself has failed."""
        self._backoff.works()

    def remark(self) -> HealthState | None:
        """Return the state of a healthy backend whose changes cannot be received, otherwise
        None."""
        lived = asyncio.get_running_loop().time() - self._began_at
        if not self.missing and lived >= request_pace.STEADY:
            self._backoff.works()
        if self._backoff.failures < REPORT_AFTER:
            return None
        text = (
            "the change stream cannot be kept open, so the proxy detects changes only after"
            " cache.ttl"
        )
        return HealthState("Healthy", constants.CHANGE_STREAM_FAILED, f"{text}: {self._error_text}")

    async def _listen(self, link: UpstreamSession, ready: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self._began_at = began_at = loop.time()
        try:
            await link.listen(self._session_context, self._announced, ready, self._uris())
        except (BackendError, RpcError) as error:
            log.info("backend %s: the change stream ended: %s", self._name, error)
            if link is self._link:
                self._record_break(link, error, loop.time() - began_at)

    def _record_break(self, link: UpstreamSession, error: Exception, lived: float) -> None:
        self._error_text = str(error)
        pause = self._backoff.failed(lived, least=0.0 if link.alive else SESSION_PAUSE)
        if pause:
            self._retry = asyncio.get_running_loop().call_later(pause, self._end_pause)
        else:
            self._on_break()

    def _end_pause(self) -> None:
        self._retry = None
        self._on_due()

    def _cancel_timers(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._renewal is not None:
            self._renewal.cancel()
            self._renewal = None


def end(task: "asyncio.Task[None] | None") -> None:
    """Cancel a task, if present."""
    if task is not None:
        task.cancel()
