"""The watch of one backend: is it alive, what does it offer, and has that changed?

It uses a session of its own, which calls never share. Lists are fetched here, one flight at a
time for each kind; what the backend announces is fetched at once.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from msgspec import Raw

from mcpproxy.api.defaults import BackendSettings, HealthPolicy
from mcpproxy.proxy.back.link import Greeting, Link, Outgoing
from mcpproxy.proxy.back.opener import Opener
from mcpproxy.proxy.core.catalog import BY_CHANGED, KINDS, Catalog, Kind, listing
from mcpproxy.proxy.core.eras import stamped
from mcpproxy.proxy.core.errors import BackendError, NotMcp, TimedOut
from mcpproxy.proxy.core.exchange import Client, Discarding
from mcpproxy.proxy.core.health import Health
from mcpproxy.proxy.core.names import Names
from mcpproxy.proxy.wire import jsonrpc
from mcpproxy.proxy.wire.jsonrpc import Message, RpcError
from mcpproxy.proxy.wire.revisions import LATEST_LEGACY, is_modern

log = logging.getLogger("mcpproxy.backend")

MAX_PAGES: Final = 1000
YOUNG: Final = 1.0
"""Seconds that an explicit list is answered from the snapshot without asking the backend."""


class Watch:
    """Keeps the health and the snapshots of one backend up to date."""

    def __init__(
        self,
        name: str,
        settings: BackendSettings,
        policy: HealthPolicy,
        opener: Opener,
        catalog: Catalog,
        info: bytes,
    ) -> None:
        self.health = Health(policy)
        self.greeting: Greeting | None = None
        """How it introduced itself the last time; None while nothing is known of it."""
        self.stateful = False
        """Whether it was seen to keep sessions."""
        self.settled = asyncio.Event()
        """Set once the first try has ended, well or not."""
        self.on_change: Callable[[set[Kind]], None] = lambda kinds: None
        """Called when something visible changed, with the kinds whose lists clients see anew."""
        self.on_failure: Callable[[], None] = lambda: None
        self.on_resource_updated: Callable[[Message], None] = lambda message: None
        self._name = name
        self._names = Names(settings.prefix)
        self._settings = settings
        self._policy = policy
        self._opener = opener
        self._catalog = catalog
        self._caller = Discarding(Client(LATEST_LEGACY, info=info))
        self._link: Link | None = None
        self._listener: asyncio.Task[None] | None = None
        self._flights: dict[Kind, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._ids = 0

    # The loop

    async def run(self) -> None:
        """Check for as long as the proxy runs."""
        while True:
            await self._check()
            self.settled.set()
            # A doubt is settled sooner than the next round.
            pause = self._policy.interval / (4 if self.health.suspected else 1)
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                continue
            finally:
                self._wake.clear()

    def look_again(self) -> None:
        """Something went wrong elsewhere: check now."""
        if self.health.finding.state == "Healthy":
            self._wake.set()

    async def _check(self) -> None:
        before = self.health.finding
        try:
            async with asyncio.timeout(self._check_timeout()):
                changed = await self._alive()
            self.health.good()
            if changed or self.health.finding != before:
                log.info("backend %s is healthy", self._name)
                self.on_change(changed)
        except (BackendError, RpcError, TimeoutError) as error:
            await self._failed(error)

    def _check_timeout(self) -> float:
        if self._link is not None or self.health.finding.state == "Healthy":
            return self._policy.timeout
        deadlines = self._settings.deadlines
        return deadlines.connect + 2 * deadlines.initialize

    async def _alive(self) -> set[Kind]:
        """Make sure that the backend answers; the kinds whose lists changed."""
        link = self._link
        if link is None or not link.alive:
            link = await self._connect()
            return await self._fetch_all(link)
        if is_modern(link.greeting.revision):
            await self._ask(link, "server/discover")
        else:
            await self._ask(link, "ping", any_answer=True)
        if self._listener is None or self._listener.done():
            self._listen(link)
        return await self._fetch_all(link, only_old=True)

    async def _connect(self) -> Link:
        await self._disconnect()
        link = await self._opener.open(self._caller.client)
        self._link, self.greeting = link, link.greeting
        self.stateful = link.stateful and not is_modern(link.greeting.revision)
        self._listen(link)
        return link

    async def _failed(self, error: Exception) -> None:
        if isinstance(error, TimeoutError):
            error = TimedOut(f"no answer within {self._policy.timeout:g} s")
        elif isinstance(error, RpcError):
            error = NotMcp(f"it answers with error {error.code}")
        assert isinstance(error, BackendError)
        before = self.health.finding
        changed = self.health.bad(error.state, error.reason, str(error))
        if error.state != "RateLimited":
            await self._disconnect()
            self._opener.forget()
            self.on_failure()
        if changed:
            if before.state != self.health.finding.state:
                log.warning("backend %s is %s: %s", self._name, self.health.finding.state, error)
            self.on_change(self._withdraw() if not self.health.usable else set())

    def _withdraw(self) -> set[Kind]:
        """Nothing of a failed backend is shown; the kinds whose lists changed."""
        self.greeting = None
        return {kind for kind in KINDS if self._catalog.put(self._name, kind, None)}

    async def _disconnect(self) -> None:
        link, self._link = self._link, None
        for task in (self._listener, *self._flights.values()):
            if task is not None:
                task.cancel()
        self._listener = None
        self._flights.clear()
        if link is not None:
            await link.close()

    async def close(self) -> None:
        """End the watch session."""
        await self._disconnect()

    # What the backend announces

    def _listen(self, link: Link) -> None:
        self._listener = asyncio.create_task(self._listening(link))

    async def _listening(self, link: Link) -> None:
        try:
            await link.listen(self._caller, self.announced, lambda: None)
        except (BackendError, RpcError) as error:
            log.info("backend %s: its stream of changes broke: %s", self._name, error)
            self._wake.set()

    async def announced(self, message: Message) -> None:
        """The backend says, on whichever session, that something changed."""
        method = jsonrpc.string(message.get("method")) or ""
        if method == "notifications/resources/updated":
            self.on_resource_updated(message)
        for kind in BY_CHANGED.get(method, ()):
            flight = self._flights.pop(kind, None)
            if flight is not None:
                # What it fetches may be the state before the change.
                flight.cancel()
            self._flights[kind] = asyncio.create_task(self._fly(kind, announced=True))

    # Lists

    def offers(self, kind: Kind) -> bool:
        """Whether the backend has this kind of component at all."""
        return self._link is not None and kind.capability in self._link.greeting.capabilities

    def wants_refresh(self, kind: Kind, now: float) -> bool:
        """Whether an explicit list has to ask the backend: the snapshot is not young."""
        if not self.health.usable or not self.offers(kind):
            return False
        found = self._catalog.get(self._name, kind)
        return found is None or now - found.fetched_at >= YOUNG

    async def refresh(self, kind: Kind) -> None:
        """Fetch a list; never raises, the snapshot stays then."""
        await asyncio.wait([self._flight(kind)])

    def _flight(self, kind: Kind) -> asyncio.Task[None]:
        flight = self._flights.get(kind)
        if flight is None or flight.done():
            flight = self._flights[kind] = asyncio.create_task(self._fly(kind))
        return flight

    async def _fly(self, kind: Kind, *, announced: bool = False) -> None:
        link = self._link
        if link is None or not self.offers(kind):
            return
        try:
            async with asyncio.timeout(self._settings.deadlines.initialize):
                changed = await self._fetch(link, kind)
        except (BackendError, RpcError, TimeoutError) as error:
            log.info("backend %s: %s failed: %s", self._name, kind.method, error)
            self.look_again()
            return
        # What the backend announces is passed on even where we see no difference.
        if changed or announced:
            self.on_change({kind})

    async def _fetch_all(self, link: Link, *, only_old: bool = False) -> set[Kind]:
        now = asyncio.get_running_loop().time()
        changed = set()
        for kind in KINDS:
            if kind.capability not in link.greeting.capabilities:
                if self._catalog.put(self._name, kind, None):
                    changed.add(kind)
                continue
            found = self._catalog.get(self._name, kind)
            fresh = found is not None and now - found.fetched_at < self._settings.cache_ttl
            if only_old and fresh:
                continue
            if await self._fetch(link, kind):
                changed.add(kind)
        return changed

    async def _fetch(self, link: Link, kind: Kind) -> bool:
        """Fetch all pages of a list. Returns whether clients see a difference."""
        pages: list[Message] = []
        cursor: Raw | None = None
        seen: set[bytes] = set()
        while len(pages) < MAX_PAGES:
            params = {} if cursor is None else {"cursor": cursor}
            answer = await self._ask(link, kind.method, params, optional=True)
            if answer is None:
                return self._catalog.put(self._name, kind, None)
            pages.append(answer)
            cursor = answer.get("nextCursor")
            if cursor is None or cursor == jsonrpc.NULL or bytes(cursor) in seen:
                break
            seen.add(bytes(cursor))
        found = listing(kind, self._names, pages, asyncio.get_running_loop().time())
        return self._catalog.put(self._name, kind, found)

    async def _ask(
        self,
        link: Link,
        method: str,
        params: Message | None = None,
        *,
        any_answer: bool = False,
        optional: bool = False,
    ) -> Message | None:
        """The result of a request of our own.

        None for an error, where any answer will do; or where the method is not offered.
        Raises BackendError, RpcError.
        """
        self._ids += 1
        if is_modern(link.greeting.revision):
            params = stamped(params, self._caller.client, link.greeting.revision, None)
        outgoing = Outgoing(Raw(b'"mcpproxy-%d"' % self._ids), method, params)
        answer = await link.request(outgoing, self._caller)
        error = jsonrpc.error_of(answer)
        if error is None:
            return jsonrpc.members(answer["result"])
        if any_answer or (optional and error.code == jsonrpc.METHOD_NOT_FOUND):
            return None
        raise error
