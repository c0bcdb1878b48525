"""Pool of upstream sessions that were opened before a request needs them.

Opening and closing a session takes several requests to the backend. While calls follow each other,
this work is delayed and done for several sessions together, so that most calls find an open session
and wait for nothing else.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from mcpproxy.limits.backends import CLIENT_KINDS, WARM_SESSIONS
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.upstream.sessions.lifecycle import SessionLifecycle
from mcpproxy.proxy.upstream.sessions.warm_set import (
    MAX_WARM,
    REFILL_DELAY,
    REFILL_SIZE,
    WarmSet,
)
from mcpproxy.proxy.upstream.transports.session import UpstreamSession

Key = tuple[str | bytes | None, ...]
WARM_FOR: Final = 60.0
"""Maximum seconds that a warm session waits for its first request."""
RECENT: Final = 8
"""Number of openings over which their time is averaged."""


class WarmPool:
    """The warm sessions of one backend."""

    def __init__(
        self,
        begin_open: Callable[[ClientIdentity, Callable[[UpstreamSession | None], None]], None],
        upstream: SessionLifecycle,
        each: int,
        *,
        refills: bool = True,
    ) -> None:
        """`begin_open` opens a session and passes it to a callback; None if it could not be opened.

        `each` sessions are kept for each concurrent request; 1 means that sessions are expensive.
        Without `refills`, the pool keeps only sessions that were opened for another purpose.
        """
        self._refills = refills
        self._begin_open = begin_open
        self._upstream = upstream
        self._each = each
        self._kinds: dict[Key, WarmSet] = {}
        self._used: list[UpstreamSession] = []
        self._to_refill: dict[Key, ClientIdentity] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._open_seconds = 0.0
        """Average time that opening a session takes; recent ones count more."""
        self._reaped_at: float | None = None

    def checkout_open(self, key: Key) -> tuple[WarmSet | None, UpstreamSession | None]:
        """Start a request as `checkout` does, but only if a session for its pool key is open."""
        warm = self._kinds.get(key)
        if warm is None or not warm.links:
            return None, None
        link: UpstreamSession | None = warm.links.pop()
        if link is not None and not link.alive:
            self._upstream.end(link)
            link = self._pop_alive(warm)
        warm.begin_use(asyncio.get_running_loop().time(), missed=link is None)
        if link is None:
            warm.end_use()
        return warm, link

    def return_unused(self, warm: WarmSet, link: UpstreamSession) -> None:
        """Return the session of a request that was not sent."""
        warm.links.append(link)
        warm.end_use()

    def checkout(self, key: Key) -> tuple[WarmSet, UpstreamSession | None]:
        """Start a request: return the set of its pool key, and an open session or None."""
        warm = self._warm_set(key)
        link = self._pop_alive(warm)
        warm.begin_use(asyncio.get_running_loop().time(), missed=link is None)
        return warm, link

    def checkin_used(
        self, key: Key, warm: WarmSet, client: ClientIdentity, link: UpstreamSession
    ) -> None:
        """Close the session of a request that is complete, and open others.

        Not earlier, because some servers support only one session at a time.
        """
        self._used.append(link)
        if self._refills:
            self._to_refill[key] = client
        if self._each == 1 or len(self._used) >= REFILL_SIZE or warm.needs_refill:
            self._flush()
        elif self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(REFILL_DELAY, self._flush)

    def _flush(self) -> None:
        """Close used sessions and open their replacements."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        spent, self._used = self._used, []
        for link in spent:
            self._upstream.end(link)
        due, self._to_refill = self._to_refill, {}
        for key, client in due.items():
            warm = self._kinds.get(key)
            if warm is not None:
                self._refill(key, warm, client)

    def take(self, key: Key) -> tuple[WarmSet | None, UpstreamSession | None]:
        """Return the set of a pool key, and an open session that is removed from it. Both may be
        None."""
        warm = self._kinds.get(key)
        return warm, None if warm is None else self._pop_alive(warm)

    def _pop_alive(self, warm: WarmSet) -> UpstreamSession | None:
        while warm.links:
            link = warm.links.pop()
            if link.alive:
                return link
            self._upstream.end(link)
        return None

    def add_unused(self, key: Key, link: UpstreamSession) -> None:
        """Add a session that no request has used."""
        if not self._each:
            self._upstream.end(link)
            return
        if sum(len(other.links) for other in self._kinds.values()) >= WARM_SESSIONS.value:
            self.make_room()
        warm = self._warm_set(key)
        warm.touch(asyncio.get_running_loop().time())
        self._store(key, warm, link)

    def _store(self, key: Key, warm: WarmSet, link: UpstreamSession) -> None:
        if self._kinds.get(key) is warm and len(warm.links) < MAX_WARM and link.stateful:
            warm.links.append(link)
        else:
            self._upstream.end(link)

    def _warm_set(self, key: Key) -> WarmSet:
        warm = self._kinds.get(key)
        if warm is None:
            if len(self._kinds) >= CLIENT_KINDS.value:
                self._evict_key()
            warm = self._kinds[key] = WarmSet(self._each, asyncio.get_running_loop().time())
        return warm

    def _evict_key(self) -> None:
        """Remove the oldest pool key without sessions and requests.

        The number of other keys is bounded by that of sessions and requests.
        """
        CLIENT_KINDS.record()
        for key, warm in self._kinds.items():
            if not (warm.links or warm.opening or warm.in_use):
                del self._kinds[key]
                return

    def make_room(self) -> bool:
        """Close a warm session of the least recently used key. Return False if there are none."""
        nonempty = [warm for warm in self._kinds.values() if warm.links]
        if not nonempty:
            return False
        self._upstream.end(min(nonempty, key=lambda warm: warm.used_at).links.pop(0))
        return True

    def _refill(self, key: Key, warm: WarmSet, client: ClientIdentity) -> None:
        now = asyncio.get_running_loop().time()
        missing = warm.begin_refill(now, self._open_seconds)
        if missing > 0:
            missing = min(missing, self._make_room_for(warm, missing))
        for _ in range(min(missing, self._upstream.shares.limit - self._upstream.count)):
            self._warm_up(key, warm, client, now)

    def _make_room_for(self, warm: WarmSet, missing: int) -> int:
        """Return the number of sessions, up to `missing`, that may be opened for a pool key.

        Below its share, a key gets the room of the key with the most sessions.
        """
        sets = self._kinds.values()
        room = WARM_SESSIONS.value - sum(len(other.links) + other.opening for other in sets)
        if room >= missing:
            return missing
        share = max(WARM_SESSIONS.value // sum(other.wanted > 0 for other in sets), 1)
        while room < missing and len(warm.links) + warm.opening + room < share:
            largest = max(sets, key=lambda other: len(other.links))
            if len(largest.links) <= share:
                break
            self._upstream.end(largest.links.pop(0))
            room += 1
        return room

    def _warm_up(self, key: Key, warm: WarmSet, client: ClientIdentity, began: float) -> None:
        def done(link: UpstreamSession | None) -> None:
            now = asyncio.get_running_loop().time()
            warm.end_opening(now, failed=link is None)
            if link is not None:
                self._open_seconds += (now - began - self._open_seconds) / RECENT
                self._store(key, warm, link)

        warm.begin_opening()
        self._begin_open(client, done)

    def reap(self, now: float, idle: float) -> None:
        """Close sessions that have been idle for too long, and those that exceed the demand.
        `idle` is in seconds."""
        seconds = 0.0 if self._reaped_at is None else now - self._reaped_at
        self._reaped_at = now
        for key, warm in list(self._kinds.items()):
            if now - warm.used_at > min(WARM_FOR, idle):
                self.drop(key, warm)
            elif self._refills:
                for link in warm.shrink(now, self._open_seconds, seconds):
                    self._upstream.end(link)

    def drop(self, key: Key, warm: WarmSet) -> None:
        """Close the warm sessions of one pool key."""
        if not warm.in_use and not warm.opening and self._kinds.get(key) is warm:
            del self._kinds[key]
        for link in warm.links:
            self._upstream.end(link)
        warm.empty()

    def clear(self) -> None:
        """Close all warm sessions."""
        for key, warm in list(self._kinds.items()):
            self.drop(key, warm)

    def renew(self) -> None:
        """Close all warm sessions, including those that are being opened."""
        self.clear()
        self._kinds.clear()

    def close(self) -> list[UpstreamSession]:
        """Empty the pool, and return the sessions to close."""
        if self._timer is not None:
            self._timer.cancel()
        links = [link for warm in self._kinds.values() for link in warm.links] + self._used
        self._kinds.clear()
        self._used, self._to_refill = [], {}
        return links
