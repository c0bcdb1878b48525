"""The watch of one backend: is it alive, what does it offer, and has that changed?

It uses a session of its own, which calls never share.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from mcpproxy.api.defaults import BackendSettings, HealthPolicy
from mcpproxy.api.v1alpha1 import status
from mcpproxy.proxy.core.catalog.catalog import Catalog
from mcpproxy.proxy.core.errors import (
    BackendError,
    ProtocolError,
    SessionNotFound,
    TimedOut,
    Unauthorized,
)
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.core.health import GUARDED, NOT_LISTED, BackendHealth, HealthState
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message, RpcError
from mcpproxy.proxy.protocol.kinds import BY_CHANGED, KINDS, ComponentKind
from mcpproxy.proxy.protocol.revisions import LATEST_LEGACY, LATEST_MODERN
from mcpproxy.proxy.upstream.connect.negotiation import Connector
from mcpproxy.proxy.upstream.monitor.change_stream import ChangeStream, end
from mcpproxy.proxy.upstream.monitor.check_schedule import CheckSchedule
from mcpproxy.proxy.upstream.monitor.list_cache import YOUNG, ListCache
from mcpproxy.proxy.upstream.monitor.list_variants import VariantLists
from mcpproxy.proxy.upstream.monitor.requester import Requester
from mcpproxy.proxy.upstream.monitor.subscriptions import UpstreamSubscriptions
from mcpproxy.proxy.upstream.request_pace import RequestRate
from mcpproxy.proxy.upstream.transports.session import ServerDescription, TaskSet, UpstreamSession

LISTS_TIME: Final = 10.0
"""Seconds that lists of a session which is open have, before others wait for it no more."""

log = logging.getLogger("mcpproxy.backend")


class BackendMonitor:
    """Keeps the health and the snapshots of one backend up to date."""

    def __init__(
        self,
        name: str,
        settings: BackendSettings,
        policy: HealthPolicy,
        opener: Connector,
        catalog: Catalog,
        asker: Requester,
        tailored: VariantLists,
        own_pace: RequestRate | None = None,
    ) -> None:
        """`own_pace` is that of requests which no client causes."""
        self.health = BackendHealth(policy)
        self.greeting: ServerDescription | None = None
        """How it introduced itself the last time; None while nothing is known of it."""
        self.stateful = False
        """Whether it was seen to keep sessions."""
        self.guarded = False
        """Whether it answers nobody but clients, with credentials that we don't have."""
        self.settled = asyncio.Event()
        """Set once the first try has ended, well or not."""
        self.on_change: Callable[[set[ComponentKind], str], None] = lambda kinds, session: None
        """Called when something visible changed, with the kinds whose lists did: for the client
        of a session, or with an empty session for any of them."""
        self.own: Callable[[ClientIdentity], bytes | None] = lambda client: None
        """What `seen` is of a client that has a session of its own."""
        self.on_failure: Callable[[], None] = lambda: None
        self.on_updated: Callable[[Message], None] = lambda message: None
        """Called with a notification that a resource changed, the backend's own URI in it."""
        self.on_checked: Callable[[bool], None] = lambda good: None
        """Called with whether a check went well, unless another process had asked for it."""
        self._good: bool | None = None
        """Whether the last check went well; None before the first."""
        self._news: bool | None = None
        """What the last check of another process has found, since our own."""
        self._name = name
        self._settings = settings
        self._policy = policy
        self._opener = opener
        self._asker = asker
        self.lists = ListCache(name, settings, catalog, asker, own_pace, policy.unhealthy_after)
        self.lists.on_change = lambda kind: self.on_change({kind}, "")
        self.lists.reopen = self._reopen
        self.tailored = tailored
        tailored.on_change = lambda kind, session: self.on_change({kind}, session)
        for lists in (self.lists, tailored):
            lists.on_failure = self.look_again
        self.rounds = CheckSchedule(policy)
        self._listening = ChangeStream(
            name, asker.caller, self.announced, lambda: self._subscriptions.uris
        )
        self._listening.on_doubt = self.rounds.wake
        self._listening.on_due = self.rounds.wake_to_listen
        self._subscriptions = UpstreamSubscriptions(self._asker, self._listening.renew)
        self._link: UpstreamSession | None = None
        self._opening = asyncio.Lock()
        self._renewals = self._renewed = 0
        """How often another link was wanted, and up to which time there is one."""
        self._background = TaskSet()

    @property
    def known(self) -> bool:
        """Whether all is known that it offers: a rate limit may come before the first lists."""
        return self.health.usable and (self.guarded or self.lists.complete)

    @property
    def finding(self) -> HealthState:
        """The state of the backend, as the status tells it."""
        found = self.health.finding
        return NOT_LISTED if found.state == "RateLimited" and not self.known else found

    async def run(self) -> None:
        """Check for as long as the proxy runs."""
        asking = True
        while True:
            self.rounds.begin(asking=asking)
            news, self._news = self._news, None
            if not asking and self._good is not None:
                self._good = await self._check(asking=False)
            elif news is None:
                self._good = await self._check()
                self.on_checked(self._good)
            elif news != self._good or self.health.suspected:
                self._good = await self._check()
            elif news:
                self._good = await self._check(asking=False)
            self.settled.set()
            self.rounds.end(good=bool(self._good))
            asking = await self.rounds.pause(self.health.suspected)

    def told(self, good: bool) -> None:
        """Another process has checked the backend: we need not, unless we found otherwise."""
        self._news = good
        self.rounds.wake()

    def look_again(self) -> None:
        """Something went wrong elsewhere: check now."""
        if self.health.finding.state == "Healthy":
            # Whatever another process found, it was before.
            self._good = self._news = None
            self.rounds.wake()

    def renew(self) -> None:
        """Go over to a new session: the one that there is has old values."""
        self._renewals += 1
        self.rounds.wake()

    @property
    def _outdated(self) -> bool:
        return self._renewed != self._renewals

    async def _check(self, *, asking: bool = True) -> bool:
        """Whether all is well. Without `asking` only what is due besides is done."""
        before = self.health.finding
        try:
            changed = await self._listed(await self._alive(asking))
        except (BackendError, RpcError, TimeoutError) as error:
            if not (self._settings.guarded and isinstance(error, Unauthorized)):
                self._failed(error)
                return False
            # It is there, and wants what only clients have.
            changed = self._refused()
        except Exception:
            # Whatever a backend does, it must not end its own watch.
            log.exception("backend %s: its check failed in a way that nobody foresaw", self._name)
            self._failed(ProtocolError("its answers could not be understood"))
            return False
        self.health.good(self._remark())
        if self.health.finding != before:
            log.info("backend %s is healthy", self._name)
        if changed or self.health.finding != before:
            self.on_change(changed, "")
        return True

    def _remark(self) -> HealthState | None:
        """What there is to say of a backend that is healthy."""
        if self.guarded:
            return GUARDED
        if self.lists.failures:
            failed = "; ".join(str(one.error) for one in self.lists.failures.values())
            return HealthState("Healthy", status.LIST_FAILED, f"{failed}; other lists are shown")
        return self._listening.remark()

    def _check_timeout(self) -> float:
        connected = self._link is not None or self.health.finding.state == "Healthy"
        if connected and not self._outdated:
            return self._policy.timeout
        deadlines = self._settings.deadlines
        return deadlines.connect + 2 * deadlines.initialize

    def _refused(self) -> set[ComponentKind]:
        """Nothing is listed to us; the kinds whose lists changed."""
        self.guarded = True
        self._disconnect()
        self.greeting = None
        return self.lists.withdraw()

    async def _alive(self, asking: bool) -> tuple[UpstreamSession, bool]:
        """Make sure that the backend answers; the link, and whether it is another one."""
        async with asyncio.timeout(self._check_timeout()):
            link = self._link
            resting = self._listening.resting and not self.rounds.wanted
            if link is None or self._outdated or not (link.alive or resting):
                async with self._opening:
                    return await self._connect(), True
            if asking and link.alive:
                try:
                    await self._ask(link)
                except SessionNotFound:
                    # Whether calls are answered shows in a new one.
                    return await self._reopen(link), True
            if self._listening.missing and link.alive and not resting:
                self._listening.begin(link)
            return link, False

    async def _listed(self, found: tuple[UpstreamSession, bool]) -> set[ComponentKind]:
        """Fetch the lists of a new link, or those that are due; the kinds that changed."""
        link, new = found
        if new:
            return await self.lists.fetch_all(link)
        if link.alive:
            await self.lists.fetch_old(link, self._policy.timeout)
        return set()

    async def _ask(self, link: UpstreamSession) -> None:
        if link.greeting.modern:
            await self._asker.ask(link, "server/discover")
        else:
            await self._ping(link)

    async def _ping(self, link: UpstreamSession) -> None:
        try:
            await self._asker.ask(link, "ping", optional=True)
        except RpcError:
            # It may know no ping, and say so in a way of its own; a list is as good.
            offered = next((kind for kind in KINDS if self.lists.offers(kind)), None)
            if offered is None:
                raise
            await self._asker.ask(link, offered.method)

    async def _reopen(self, lost: UpstreamSession) -> UpstreamSession:
        """The link that takes the place of one whose session is lost; lists go on over it.

        Raises BackendError.
        """
        async with self._opening:
            if self._link is not None and self._link is not lost:
                return self._link
            return await self._connect(goes_on=True)

    async def _connect(self, *, goes_on: bool = False) -> UpstreamSession:
        """A new link; one that can still be used is left once nothing is missed on this one.

        `goes_on`: the lists that are being fetched are told by themselves. Raises BackendError.
        """
        if not goes_on and (self._link is None or not self._link.alive):
            self._disconnect()
        loop = asyncio.get_running_loop()
        started, renewals = loop.time(), self._renewals
        link = await self._opener.open(self._asker.caller.client)
        self.tailored.opening = loop.time() - started
        before, listener = self._link, self._listening.leave()
        self._link, self.greeting, self.guarded = link, link.greeting, False
        self._renewed = renewals
        if not goes_on:
            self.lists.stop()
        self.lists.link = link
        self.stateful = link.stateful and not link.greeting.modern
        self._listening.begin(link)
        asyncio.get_running_loop().call_later(LISTS_TIME, self.settled.set)
        try:
            await self._subscriptions.restore(link)
        finally:
            self._leave(before, listener)
        return link

    def _failed(self, error: Exception) -> None:
        if isinstance(error, TimeoutError):
            error = TimedOut(f"no answer within {self._policy.timeout:g} s")
        elif isinstance(error, RpcError):
            error = ProtocolError(f"it answers with error {error.code}: {error.message}")
        assert isinstance(error, BackendError)
        before = self.health.finding
        changed = self.health.bad(error.state, error.reason, error.finding)
        if error.state != "RateLimited":
            self._disconnect()
            self._listening.start_over()
            self._opener.forget()
            self.on_failure()
        if changed:
            if before.state != self.health.finding.state:
                state = self.health.finding.state
                log.warning("backend %s is %s: %s", self._name, state, error.finding)
            self.on_change(set() if self.health.usable else self._withdraw(), "")
        elif self.health.finding.state == "RateLimited" and self.lists.outdated():
            self._disconnect()
            self.on_change(self._withdraw(), "")

    def _withdraw(self) -> set[ComponentKind]:
        """Nothing of a failed backend is shown; the kinds whose lists changed."""
        self.greeting = None
        return self.lists.withdraw() | self.tailored.withdraw()

    def _disconnect(self) -> None:
        link, self._link = self._link, None
        listener = self._listening.leave()
        self.lists.stop()
        self._leave(link, listener)

    def _leave(self, link: UpstreamSession | None, listener: "asyncio.Task[None] | None") -> None:
        end(listener)
        if link is not None:
            self._background.spawn(link.close())

    async def close(self) -> None:
        """End the watch session."""
        self._disconnect()
        self.tailored.withdraw()
        await self._background.close(grace=6.0)

    async def announced(self, message: Message, client: ClientIdentity | None = None) -> None:
        """The backend says, in the session of a client or in our own, that something changed."""
        method = jsonrpc.decode_str(message.get("method")) or ""
        own = None if client is None else self.own(client)
        for kind in BY_CHANGED.get(method, ()):
            if client is not None and own is not None:
                self.tailored.announced_to(kind, client, own)
            self.tailored.announced(kind)
            self.lists.announced(kind)
        if method == "notifications/resources/updated":
            self.on_updated(message)

    def wants_refresh(self, kind: ComponentKind, now: float, seen: bytes | None = None) -> bool:
        """Whether an explicit list has to ask the backend first; `seen` as in `Catalog.put`."""
        if self._down:
            limited = self.health.finding.state == "RateLimited"
            return not limited and now - self.rounds.began_at >= YOUNG
        unlike = seen is not None and self.guarded
        if not self.health.usable or not (unlike or self.lists.offers(kind)):
            return False
        if seen is None or self.tailored.silent(kind, seen, now):
            return self.lists.old(kind, now)
        return self.tailored.old(kind, seen, now)

    @property
    def _down(self) -> bool:
        """Whether there is no session in which it could be asked."""
        return not self.guarded and (self._link is None or not self._link.alive)

    def failure(self, kind: ComponentKind) -> str | None:
        """Why a list of the backend is missing; None where it has or knows none."""
        if self.guarded or self.lists.lacks(kind):
            return None
        found = self.finding
        if found.state == "Unknown":
            return "it has not answered yet"
        if not self.health.usable or found is NOT_LISTED:
            return found.message or found.state
        failure = self.lists.failures.get(kind)
        return None if failure is None else str(failure.error)

    async def refresh(
        self, kind: ComponentKind, client: ClientIdentity, seen: bytes | None
    ) -> None:
        """Ask the backend for a list of this client, and wait a little for it; never raises.

        `seen` as in `Catalog.put`.
        """
        if self._down:
            # Whatever another process found, it was before.
            self._good = self._news = None
            await self.rounds.recover()
            return
        greeting, now = self.greeting, asyncio.get_running_loop().time()
        known = greeting is not None or self.guarded
        if seen is None or not known or self.tailored.silent(kind, seen, now):
            await self.lists.refresh(kind)
            return
        if not client.modern and self.own(client) is None:
            # In the era and with the newest revision of the other lists.
            modern = greeting is not None and greeting.modern
            revision = LATEST_MODERN if modern else LATEST_LEGACY
            client = replace(client, revision=revision, session="")
        await self.tailored.refresh(kind, client, seen)

    async def subscribe(self, uri: str) -> None:
        """A client wants to hear of a resource. Raises BackendError, RpcError."""
        await self._subscriptions.add(self._link, uri)

    async def unsubscribe(self, uri: str) -> None:
        """A client no longer does."""
        await self._subscriptions.remove(self._link, uri)
