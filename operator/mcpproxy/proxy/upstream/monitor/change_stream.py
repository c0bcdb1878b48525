"""The stream on which one backend announces changes: kept open, and begun again with pauses."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from mcpproxy.api.v1alpha1 import status
from mcpproxy.proxy.core.errors import BackendError
from mcpproxy.proxy.core.exchange import CallContext
from mcpproxy.proxy.core.health import HealthState
from mcpproxy.proxy.protocol.jsonrpc import RpcError
from mcpproxy.proxy.upstream import request_pace
from mcpproxy.proxy.upstream.transports.session import OnMessage, UpstreamSession

log = logging.getLogger("mcpproxy.backend")

STREAM_PAUSE: Final = 2.0
"""Seconds before a stream that failed at once is begun again."""
SESSION_PAUSE: Final = 10.0
"""Seconds before a session that ended at once, such as that of a program, is opened again."""
RENEWAL_RATE: Final = 1024 * 1024
"""Characters of URIs a second with which a stream is opened anew: each time, all are sent."""
LONGEST_RENEWAL: Final = 10.0
TOLD_AFTER: Final = 3
"""Failures in a row after which the state says so."""


class ChangeStream:
    """Listens to one link at a time."""

    def __init__(
        self,
        name: str,
        standing: CallContext,
        announced: OnMessage,
        uris: Callable[[], Sequence[str]],
    ) -> None:
        """`announced` gets what the backend announces; `uris` are the resources of interest."""
        self.on_doubt: Callable[[], None] = lambda: None
        """Called when a stream breaks that has worked: perhaps the backend has gone."""
        self.on_due: Callable[[], None] = lambda: None
        """Called when it is time to begin again."""
        self._name = name
        self._standing = standing
        self._announced = announced
        self._uris = uris
        self._link: UpstreamSession | None = None
        self._task: asyncio.Task[None] | None = None
        self._heard: asyncio.Task[None] | None = None
        """The one that misses nothing; another one than `_task` while that is not ready."""
        self._renewal: asyncio.TimerHandle | None = None
        self._began_at = 0.0
        self._backoff = request_pace.Backoff(STREAM_PAUSE)
        self._again: asyncio.TimerHandle | None = None
        """Begins again after a failure."""
        self._why = ""

    @property
    def resting(self) -> bool:
        """Whether it waits after a failure."""
        return self._again is not None

    @property
    def missing(self) -> bool:
        """Whether nobody listens."""
        return self._task is None or self._task.done()

    def begin(self, link: UpstreamSession) -> None:
        """Listen to a link, whatever became of the one before."""
        self._rest_no_more()
        self._link, self._heard = link, None
        self._start(link)

    def _start(self, link: UpstreamSession) -> None:
        def ready() -> None:
            if self._task is task and self._heard is not task:
                end(self._heard)
                self._heard = task

        task = self._task = asyncio.create_task(self._listen(link, ready))

    def renew(self) -> None:
        """Open the stream anew, soon: one request names all resources, however many are new.

        The stream before stays until nothing is missed.
        """
        if self._renewal is None and self._link is not None:
            loop = asyncio.get_running_loop()
            due = self._began_at + min(sum(map(len, self._uris())) / RENEWAL_RATE, LONGEST_RENEWAL)
            self._renewal = loop.call_later(max(due - loop.time(), 0.0), self._renew)

    def _renew(self) -> None:
        link, pending = self._link, self._task
        self._rest_no_more()
        if link is not None:
            if pending is not self._heard:
                # It was not ready yet: a backend that hangs must not get one more each time.
                end(pending)
            self._start(link)

    def leave(self) -> "asyncio.Task[None] | None":
        """Go on without a link; the task that listened to the last one, which is to be ended."""
        self._rest_no_more()
        pending, heard = self._task, self._heard
        self._task = self._heard = self._link = None
        if heard is not None and heard is not pending:
            end(pending)
        return heard or pending

    def start_over(self) -> None:
        """The backend itself has failed: what failed meanwhile says nothing of its stream."""
        self._backoff.works()

    def remark(self) -> HealthState | None:
        """What the state says where changes can't be noticed."""
        lived = asyncio.get_running_loop().time() - self._began_at
        if not self.missing and lived >= request_pace.STEADY:
            self._backoff.works()
        if self._backoff.failures < TOLD_AFTER:
            return None
        text = "its stream of changes can't be kept open, so changes are seen after cache.ttl"
        return HealthState("Healthy", status.CHANGES_UNHEARD, f"{text}: {self._why}")

    async def _listen(self, link: UpstreamSession, ready: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self._began_at = began_at = loop.time()
        try:
            await link.listen(self._standing, self._announced, ready, self._uris())
        except (BackendError, RpcError) as error:
            log.info("backend %s: its stream of changes broke: %s", self._name, error)
            if link is self._link:
                self._broke(link, error, loop.time() - began_at)

    def _broke(self, link: UpstreamSession, error: Exception, lived: float) -> None:
        self._why = str(error)
        pause = self._backoff.failed(lived, least=0.0 if link.alive else SESSION_PAUSE)
        if pause:
            self._again = asyncio.get_running_loop().call_later(pause, self._due)
        else:
            self.on_doubt()

    def _due(self) -> None:
        self._again = None
        self.on_due()

    def _rest_no_more(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self._renewal is not None:
            self._renewal.cancel()
            self._renewal = None


def end(task: "asyncio.Task[None] | None") -> None:
    """End what listens, if there is something."""
    if task is not None:
        task.cancel()
