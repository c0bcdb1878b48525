"""Sessions with a backend that wait for requests, and the ends of those that have served one.

Opening and ending a session takes several requests to the backend. While calls come one after
the other this is put off and done for several sessions together, so that most calls find a session
and nothing else to wait for.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from mcpproxy.limits.backends import CLIENT_KINDS, WARM_SESSIONS
from mcpproxy.proxy.core.errors import BackendError
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.upstream.sessions.lifecycle import SessionLifecycle
from mcpproxy.proxy.upstream.transports.session import TaskSet, UpstreamSession

Key = tuple[str | bytes | None, ...]
MAX_WARM: Final = 24
WARM_FOR: Final = 60.0
"""Seconds that a warm session waits for its first request."""
PUT_OFF: Final = 0.02
"""Seconds that a used session may wait for its end, and its place for another one."""
BUSY: Final = 1.0
"""Where sessions that were to last are used up within so many seconds, more are kept."""


@dataclass(slots=True)
class WarmSet:
    """Initialised, never used sessions of one kind of client."""

    links: list[UpstreamSession] = field(default_factory=list)
    opening: int = 0
    in_use: int = 0
    wanted: int = 0
    used_at: float = 0.0
    filled_at: float = float("-inf")

    @property
    def low(self) -> bool:
        """Whether the next ones should be opened now."""
        return len(self.links) + self.opening <= self.wanted // 6


class WarmPool:
    """The warm sessions of one backend."""

    def __init__(
        self,
        opened: Callable[[ClientIdentity], Awaitable[UpstreamSession]],
        upstream: SessionLifecycle,
        background: TaskSet,
        each: int,
        *,
        refills: bool = True,
    ) -> None:
        """`each` sessions are kept for each request at a time; one: others cost too much.

        Unless it `refills`, only those wait that were opened for something else.
        """
        self._refills = refills
        self._opened = opened
        self._upstream = upstream
        self._background = background
        self._each = each
        self._kinds: dict[Key, WarmSet] = {}
        self._spent: list[UpstreamSession] = []
        self._due: dict[Key, ClientIdentity] = {}
        self._timer: asyncio.TimerHandle | None = None

    def has(self, key: Key) -> bool:
        """Whether a session waits for a kind of client."""
        warm = self._kinds.get(key)
        return warm is not None and bool(warm.links)

    def give_back(self, warm: WarmSet, link: UpstreamSession) -> None:
        """The request that began with this session was not sent."""
        warm.in_use -= 1
        warm.links.append(link)

    def begin(self, key: Key) -> tuple[WarmSet, UpstreamSession | None]:
        """A request begins: what waits for its kind of client, and a session if there is one."""
        warm = self._of(key)
        warm.used_at = asyncio.get_running_loop().time()
        warm.in_use += 1
        link = self._take(warm)
        # A request that finds none will wait for one to be opened: there are too few of them.
        missed = 1 if link is None and warm.wanted else 0
        warm.wanted = min(max(warm.wanted + missed, warm.in_use * self._each), MAX_WARM)
        return warm, link

    def done(self, key: Key, warm: WarmSet, client: ClientIdentity, link: UpstreamSession) -> None:
        """The request has ended, and the session is of no further use.

        Not before are others opened: some servers know but one session at a time.
        """
        self._spent.append(link)
        if self._refills:
            self._due[key] = client
        loop = asyncio.get_running_loop()
        if self._each == 1:
            self._tidy()
        elif warm.low:
            if loop.time() - warm.filled_at < BUSY:
                warm.wanted = min(2 * warm.wanted, MAX_WARM)
            self._tidy()
        elif self._timer is None:
            self._timer = loop.call_later(PUT_OFF, self._tidy)

    def _tidy(self) -> None:
        """What was put off."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        spent, self._spent = self._spent, []
        for link in spent:
            self._upstream.end(link)
        due, self._due = self._due, {}
        for key, client in due.items():
            warm = self._kinds.get(key)
            if warm is not None:
                self._refill(key, warm, client)

    def find(self, key: Key) -> tuple[WarmSet | None, UpstreamSession | None]:
        """What waits for a kind of client, and a session of it, which is taken."""
        warm = self._kinds.get(key)
        return warm, None if warm is None else self._take(warm)

    def _take(self, warm: WarmSet) -> UpstreamSession | None:
        while warm.links:
            link = warm.links.pop()
            if link.alive:
                return link
            self._upstream.end(link)
        return None

    def put(self, key: Key, link: UpstreamSession) -> None:
        """A session that no call has used waits here from now on."""
        if not self._each:
            self._upstream.end(link)
            return
        if sum(len(other.links) for other in self._kinds.values()) >= WARM_SESSIONS.value:
            self.make_room()
        warm = self._of(key)
        warm.used_at = asyncio.get_running_loop().time()
        self._shelve(key, warm, link)

    def _shelve(self, key: Key, warm: WarmSet, link: UpstreamSession) -> None:
        if self._kinds.get(key) is warm and len(warm.links) < MAX_WARM and link.stateful:
            warm.links.append(link)
        else:
            self._upstream.end(link)

    def _of(self, key: Key) -> WarmSet:
        warm = self._kinds.get(key)
        if warm is None:
            if len(self._kinds) >= CLIENT_KINDS.value:
                self._forget_a_kind()
            warm = self._kinds[key] = WarmSet()
        return warm

    def _forget_a_kind(self) -> None:
        """Forget the oldest kind of clients for which nothing waits or is in use.

        The others are as few as there are sessions and requests.
        """
        CLIENT_KINDS.record()
        for key, warm in self._kinds.items():
            if not (warm.links or warm.opening or warm.in_use):
                del self._kinds[key]
                return

    def make_room(self) -> bool:
        """Give up a warm session of whichever kind waits longest; whether there was one."""
        waiting = [warm for warm in self._kinds.values() if warm.links]
        if not waiting:
            return False
        self._upstream.end(min(waiting, key=lambda warm: warm.used_at).links.pop(0))
        return True

    def _refill(self, key: Key, warm: WarmSet, client: ClientIdentity) -> None:
        warm.filled_at = asyncio.get_running_loop().time()
        total = sum(len(other.links) + other.opening for other in self._kinds.values())
        missing = min(warm.wanted - len(warm.links) - warm.opening, WARM_SESSIONS.value - total)
        for _ in range(min(missing, self._upstream.shares.limit - self._upstream.count)):
            warm.opening += 1
            self._background.spawn(self._warm_up(key, warm, client))

    async def _warm_up(self, key: Key, warm: WarmSet, client: ClientIdentity) -> None:
        try:
            link = await self._opened(client)
        except BackendError:
            return
        finally:
            warm.opening -= 1
        self._shelve(key, warm, link)

    def reap(self, now: float, idle: float) -> None:
        """End what nobody has used for too long; in seconds."""
        for key, warm in list(self._kinds.items()):
            if now - warm.used_at > min(WARM_FOR, idle):
                self.drop(key, warm)

    def drop(self, key: Key, warm: WarmSet) -> None:
        """End what waits for one kind of client."""
        if not warm.in_use and not warm.opening and self._kinds.get(key) is warm:
            del self._kinds[key]
        for link in warm.links:
            self._upstream.end(link)
        warm.links, warm.wanted = [], 0

    def clear(self) -> None:
        """End what waits."""
        for key, warm in list(self._kinds.items()):
            self.drop(key, warm)

    def renew(self) -> None:
        """End what waits, and what is being opened in order to wait."""
        self.clear()
        self._kinds.clear()

    def close(self) -> list[UpstreamSession]:
        """Nothing waits here any more; what is left to be closed."""
        if self._timer is not None:
            self._timer.cancel()
        links = [link for warm in self._kinds.values() for link in warm.links] + self._spent
        self._kinds.clear()
        self._spent, self._due = [], {}
        return links
