"""Sessions with one backend from their opening to their end, whichever requests they serve."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from mcpproxy.proxy.back.link import Background, Link, OnMessage
from mcpproxy.proxy.core.errors import BackendError
from mcpproxy.proxy.core.exchange import Caller, Client
from mcpproxy.proxy.wire.jsonrpc import Message, RpcError

LAST_WORDS: Final = 0.2
STANDING_WAIT: Final = 2.0
"""Seconds that opening a session waits for its stream of unrelated messages."""


class Upstream:
    """Opens sessions, listens to them, ends them, and counts those that are open."""

    def __init__(self, opener: Callable[[Client], Awaitable[Link]], background: Background) -> None:
        self.count = 0
        """How many are open."""
        self.announced: OnMessage = _ignored
        """Gets what the backend tells all clients on one of these sessions."""
        self._open_link = opener
        self._background = background
        self._listening: dict[int, asyncio.Task[None]] = {}

    async def open(self, client: Client) -> Link:
        """A new session, or what stands for one where the backend keeps none.

        Raises BackendError.
        """
        self.count += 1
        try:
            link = await self._awaited(client)
        except BaseException:
            self.count -= 1
            raise
        if not link.stateful:
            self.count -= 1
        return link

    async def _awaited(self, client: Client) -> Link:
        """A new session. The backend has it even if nobody waits any more: then it is ended."""
        opening = asyncio.ensure_future(self._open_link(client))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            self._background.spawn(_end_unused(opening))
            raise

    async def stand(self, link: Link, standing: Caller) -> None:
        """Listen to what a session says outside of requests, before the first call is sent."""
        ready = self.listen(link, standing)
        try:
            async with asyncio.timeout(STANDING_WAIT):
                await ready.wait()
        except TimeoutError:
            # Requests work all the same.
            return
        except BaseException:
            self.end(link)
            raise

    def listen(self, link: Link, standing: Caller) -> asyncio.Event:
        """Begin to listen; the event is set once nothing is missed any more."""
        ready = asyncio.Event()
        self._listening[id(link)] = self._background.spawn(self._listen(link, standing, ready))
        return ready

    def listens(self, link: Link) -> bool:
        """Whether somebody listens to a session."""
        return id(link) in self._listening

    async def _listen(self, link: Link, standing: Caller, ready: asyncio.Event) -> None:
        try:
            await link.listen(standing, self.announced, ready.set)
        except (BackendError, RpcError):
            # The next request will tell whether the session is gone.
            return
        finally:
            ready.set()

    def end(self, link: Link) -> None:
        """End a session in the background."""
        self._background.spawn(self._end(link))

    async def _end(self, link: Link) -> None:
        if link.stateful:
            listening = self._listening.pop(id(link), None)
            await link.close()
            self.count -= 1
            if listening is not None:
                # What was said before the end may still be on its way.
                await asyncio.wait([listening], timeout=LAST_WORDS)
                listening.cancel()


async def _end_unused(opening: "asyncio.Future[Link]") -> None:
    try:
        link = await opening
    except BackendError:
        return
    if link.stateful:
        await link.close()


async def _ignored(message: Message) -> None:
    """Nobody is told."""
