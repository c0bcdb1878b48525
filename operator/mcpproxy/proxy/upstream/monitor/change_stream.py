"""Stream on which one backend announces changes: kept open, and reopened with backoff."""

import asyncio
import contextlib
import logging
from asyncio import FIRST_COMPLETED
from collections.abc import Callable, Sequence
from typing import Final

from mcpproxy.api import constants
from mcpproxy.proxy.core.errors import BackendError
from mcpproxy.proxy.core.exchange import CallContext
from mcpproxy.proxy.core.health import HealthState
from mcpproxy.proxy.protocol.jsonrpc import RpcError
from mcpproxy.proxy.upstream.monitor import request_pace
from mcpproxy.proxy.upstream.transports.http_modern import IMMEDIATE
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
OPENED_WITHIN: Final = 2.0
"""Seconds that a subscription waits for a stream that was left to another instance."""
BEGINS_WITHIN: Final = 0.25
"""Seconds that the first lists of a new session wait for the stream."""
BRIEFLY: Final = 5.0
"""Seconds for which other instances need not watch although the stream has failed."""
REPORT_AFTER: Final = 3
"""Consecutive failures after which the backend state mentions them."""
_NEVER_OPEN: Final = float("-inf")
"""Time of the failure in a new session, in which all lists are fetched anyway."""


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
        on_resumed: Callable[[], None] = lambda: None,
    ) -> None:
        """`announced` receives broadcasts; `uris` returns the subscribed resources.

        `on_break` is called when an established stream breaks, because the backend may have
        failed; `on_due`, when it is time to open or close the stream; `on_resumed`, once no
        announcement is missed after some may have been: the stream had broken, or another instance
        has watched.
        """
        self._on_resumed = on_resumed
        self.watches = True
        """True unless another instance watches the backend."""
        self._is_paused = False
        """True until the stream is open again, after it was left to another instance."""
        self._is_late = False
        """True if the lists of a new session were fetched before the stream was open."""
        self._opened = asyncio.Event()
        self._failed_at: float | None = _NEVER_OPEN
        """Time of the failure since which announcements are missed; None if none are missed."""
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

    @property
    def works(self) -> bool:
        """True if announcements arrive, or did so until a moment ago."""
        if self._link is None or self._is_paused:
            return False
        at = self._failed_at
        return at is None or asyncio.get_running_loop().time() - at < BRIEFLY

    def assign(self, *, watches: bool) -> None:
        """Keep the stream open from now on, or leave it to another instance."""
        if watches != self.watches:
            self.watches = watches
            self._on_due()

    def _is_needed(self, link: UpstreamSession) -> bool:
        # A stream that other messages need as well cannot be left to another instance.
        return self.watches or bool(self._uris()) or not isinstance(link, IMMEDIATE)

    async def begin(self, link: UpstreamSession) -> None:
        """Listen to a session, regardless of the previous one, and wait briefly for the stream.

        The lists that are fetched afterwards miss no change if it is open by then.
        """
        self._cancel_timers()
        self._link, self._established, self._failed_at = link, None, _NEVER_OPEN
        if not self._is_needed(link):
            self._pause()
            return
        self._opened.clear()
        self._start(link)
        opened = asyncio.create_task(self._opened.wait())
        try:
            pending = (opened, *((self._task,) if self._task else ()))
            await asyncio.wait(pending, timeout=BEGINS_WITHIN, return_when=FIRST_COMPLETED)
        finally:
            opened.cancel()
        self._is_late = self._link is link and not self._opened.is_set()

    def keep(self, link: UpstreamSession, *, patient: bool) -> None:
        """Reopen a missing stream, or close one that another instance has instead.

        `patient` means that the pause after a failure is kept.
        """
        if not self._is_needed(link):
            end(self.leave())
            self._link = link
            self._pause()
        elif self.missing and link.alive and not (patient and self.resting):
            self._cancel_timers()
            self._link, self._established = link, None
            self._start(link)

    def _pause(self) -> None:
        self._is_paused = True
        self._opened.clear()
        self._backoff.works()

    async def open(self) -> None:
        """Open the stream for subscribed resources if another instance watches; wait briefly."""
        link = self._link
        if link is None or not (self._is_paused and self._is_needed(link)):
            return
        if self.missing:
            self._start(link)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(OPENED_WITHIN):
                await self._opened.wait()

    def _start(self, link: UpstreamSession) -> None:
        def ready() -> None:
            if self._task is not task:
                return
            has_broken = self._failed_at not in (None, _NEVER_OPEN)
            self._failed_at = None
            if self._established is not task:
                end(self._established)
                self._established = task
            self._opened.set()
            if self._is_paused or self._is_late or has_broken:
                self._is_paused = self._is_late = False
                self._on_resumed()

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
        self._failed_at = self._failed_at or asyncio.get_running_loop().time()
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
