"""Sessions with one backend from their opening to their end, whichever requests they serve."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Final

from mcpproxy.limits.backends import UPSTREAM_SESSIONS
from mcpproxy.proxy.core.errors import BackendError
from mcpproxy.proxy.core.exchange import CallContext, ClientIdentity
from mcpproxy.proxy.fair_shares import FairShares
from mcpproxy.proxy.protocol.jsonrpc import Message, RpcError
from mcpproxy.proxy.upstream.time_limits import TimeLimit
from mcpproxy.proxy.upstream.transports.session import OnAnnounced, TaskSet, UpstreamSession

LAST_WORDS: Final = 0.2
STANDING_WAIT: Final = 2.0
"""Seconds that opening a session waits for its stream of unrelated messages."""
FIRST_WAIT: Final = 0.25
"""The same with a backend that has not answered with such a stream yet."""


class SessionLifecycle:
    """Opens sessions, listens to them, ends them, and counts those that are open."""

    def __init__(
        self, opener: Callable[[ClientIdentity], Awaitable[UpstreamSession]], background: TaskSet
    ) -> None:
        self.shares: FairShares[int] = FairShares(UPSTREAM_SESSIONS.value)
        """Whose the sessions are that are open or being opened, by number."""
        self._numbers = itertools.count(1)
        self._numbered: dict[int, int] = {}
        self._ending = 0
        self.announced: OnAnnounced = _ignored
        """Gets what the backend tells all clients on one of these sessions, and whose it is."""
        self._open_link = opener
        self._background = background
        self._listening: dict[int, asyncio.Task[None]] = {}
        self._last_words = TimeLimit(LAST_WORDS)
        self._wait_for_stream(FIRST_WAIT)

    @property
    def count(self) -> int:
        """Number of sessions that are open, being opened or about to end."""
        return len(self.shares) + self._ending

    def admits(self, client: ClientIdentity) -> bool:
        """Whether a session may be opened for a client without one to end before."""
        return self._ending < self.shares.limit and self.shares.admits(client.holder)

    @property
    def ends_many(self) -> bool:
        """Whether so many sessions are about to end that none may be opened in their place.

        A backend that never answers the end of a session must not make us hold more and more.
        """
        return self._ending >= self.shares.limit

    def number_of(self, link: UpstreamSession) -> int | None:
        """The number of an open session in `shares`."""
        return self._numbered.get(id(link))

    async def open(self, client: ClientIdentity) -> UpstreamSession:
        """A new session, or what stands for one where the backend keeps none.

        Raises BackendError.
        """
        number = next(self._numbers)
        self.shares.add(number, client.holder)
        try:
            link = await self._awaited(client)
        except BaseException:
            self.shares.discard(number)
            raise
        if link.stateful:
            self._numbered[id(link)] = number
        else:
            self.shares.discard(number)
        return link

    async def _awaited(self, client: ClientIdentity) -> UpstreamSession:
        """A new session. The backend has it even if nobody waits any more: then it is ended."""
        opening = asyncio.ensure_future(self._open_link(client))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            self._background.spawn(_end_unused(opening))
            raise

    def _wait_for_stream(self, seconds: float) -> None:
        self._standing_wait = seconds
        self._in_time = TimeLimit(seconds)

    async def stand(self, link: UpstreamSession, standing: CallContext) -> None:
        """Listen to what a session says outside of requests, before the first call is sent.

        A backend that gives that stream no head until it has something to say makes no other
        session wait for it.
        """
        ready = self.listen(link, standing)
        deadline = self._in_time.start(ready.set)
        try:
            await ready.wait()
        except BaseException:
            self.end(link)
            raise
        finally:
            deadline.cancel()
        if deadline.missed:
            # Requests work all the same.
            self._wait_for_stream(0.0)

    def listen(self, link: UpstreamSession, standing: CallContext) -> asyncio.Event:
        """Begin to listen; the event is set once nothing is missed any more."""
        ready = asyncio.Event()
        before = self._listening.get(id(link))
        if before is not None:
            # It waited until it was known whose it is.
            before.cancel()
        self._listening[id(link)] = self._background.spawn(self._listen(link, standing, ready))
        return ready

    def listens(self, link: UpstreamSession) -> bool:
        """Whether somebody listens to a session."""
        return id(link) in self._listening

    async def _listen(
        self, link: UpstreamSession, standing: CallContext, ready: asyncio.Event
    ) -> None:
        async def announced(message: Message) -> None:
            await self.announced(message, standing.client)

        def heard() -> None:
            if self._standing_wait != STANDING_WAIT:
                self._wait_for_stream(STANDING_WAIT)
            ready.set()

        try:
            await link.listen(standing, announced, heard)
        except (BackendError, RpcError):
            # The next request will tell whether the session is gone.
            return
        finally:
            ready.set()

    def end(self, link: UpstreamSession) -> None:
        """End a session in the background."""
        number = self._numbered.pop(id(link), None)
        if number is not None:
            self.shares.discard(number)
            self._ending += 1
            self._background.spawn(self._end(link))

    async def _end(self, link: UpstreamSession) -> None:
        try:
            listening = self._listening.pop(id(link), None)
            await link.close()
        finally:
            self._ending -= 1
        if listening is not None and not listening.done():
            # What was said before the end may still be on its way.
            deadline = self._last_words.start(listening.cancel)
            listening.add_done_callback(lambda _: deadline.cancel())


async def _end_unused(opening: "asyncio.Future[UpstreamSession]") -> None:
    try:
        link = await opening
    except BackendError:
        return
    if link.stateful:
        await link.close()


async def _ignored(message: Message, client: ClientIdentity | None) -> None:
    """Nobody is told."""
