"""Monitor of one backend: health, server description, lists and their changes.

It uses a session that calls never share.
"""

import asyncio
import logging
from dataclasses import replace
from typing import Final

from mcpproxy.api.defaults import BackendSettings
from mcpproxy.proxy.core.errors import (
    BackendError,
    ProtocolError,
    SessionNotFound,
    TimedOut,
    Unauthorized,
)
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.core.health import FOR_CALLERS, GUARDED, NOT_LISTED, BackendHealth, HealthState
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message, RpcError
from mcpproxy.proxy.protocol.kinds import BY_CHANGED, ComponentKind
from mcpproxy.proxy.protocol.revisions import LATEST_LEGACY, LATEST_MODERN
from mcpproxy.proxy.upstream.connect.negotiation import Connector
from mcpproxy.proxy.upstream.context import BackendContext
from mcpproxy.proxy.upstream.monitor.change_stream import ChangeStream, end
from mcpproxy.proxy.upstream.monitor.check_schedule import CheckSchedule
from mcpproxy.proxy.upstream.monitor.list_cache import ListCache
from mcpproxy.proxy.upstream.monitor.list_variants import VariantLists
from mcpproxy.proxy.upstream.monitor.list_waits import MIN_REFRESH_AGE
from mcpproxy.proxy.upstream.monitor.request_pace import RequestRate
from mcpproxy.proxy.upstream.monitor.requester import Requester, probe
from mcpproxy.proxy.upstream.monitor.shared.watch_share import WatchShare
from mcpproxy.proxy.upstream.monitor.subscriptions import UpstreamSubscriptions
from mcpproxy.proxy.upstream.sessions.client_sessions import ClientSessions
from mcpproxy.proxy.upstream.transports.session import ServerDescription, TaskSet, UpstreamSession

LISTS_TIME: Final = 10.0
"""Seconds that the lists of an open session have until the backend counts as settled."""

log = logging.getLogger("mcpproxy.backend")


class BackendMonitor:
    """Keeps the health and the lists of one backend up to date."""

    def __init__(
        self,
        name: str,
        settings: BackendSettings,
        context: BackendContext,
        connector: Connector,
        clients: ClientSessions,
        identity: ClientIdentity,
        rounds: CheckSchedule,
    ) -> None:
        """`identity` introduces the proxy in its own requests."""
        self.health = BackendHealth(context.policy)
        self.server: ServerDescription | None = None
        """The latest introduction of the backend; None while it is unknown."""
        self.stateful = False
        """True if the backend has kept a session."""
        self.guarded = False
        """True if the backend accepts only requests with credentials of clients."""
        self.settled = asyncio.Event()
        """Set once the first check is complete, whatever its result."""
        self._last_result: bool | None = None
        """Result of the last check; None before the first one."""
        self._peer_result: bool | None = None
        """Result of the last check of another process since this process checked."""
        self._name = name
        self._settings = settings
        self._policy = context.policy
        self._events = context.events
        self._connector = connector
        self._asker = asker = Requester(clients.context_of(identity))
        self._clients = clients
        self.lists, self.tailored = self._build_lists(context, asker)
        self.rounds = rounds
        self._change_stream = stream = self._build_change_stream(asker)
        publish = context.events.resource_update.publish
        self._subscriptions = UpstreamSubscriptions(name, asker, stream.renew, stream.open, publish)
        self.share = WatchShare(
            *(name, context.catalog, self.lists, self.tailored, stream),
            lambda: self.health.finding.state == "Healthy" and self.lists.complete,
            context.policy.interval,
        )
        self._link: UpstreamSession | None = None
        self._opening = asyncio.Lock()
        self._renewals = self._renewed = 0
        """Number of reconnects that were requested, and of those that are done."""
        self._background = TaskSet()

    def _build_lists(
        self, context: BackendContext, asker: Requester
    ) -> tuple[ListCache, VariantLists]:
        pace = RequestRate()
        of_backend = (self._name, self._settings, context.catalog)
        lists = ListCache(
            *(*of_backend, asker, context.events, self._reopen, self.recheck_now, pace),
            context.policy.unhealthy_after,
            lambda: self.share.slack,
        )
        tailored = VariantLists(
            *(*of_backend, self._clients, context.events, self.recheck_now, pace)
        )
        return lists, tailored

    def _build_change_stream(self, asker: Requester) -> ChangeStream:
        return ChangeStream(
            self._name,
            asker.caller,
            self.announced,
            lambda: self._subscriptions.uris,
            on_break=self.rounds.wake,
            on_due=self.rounds.wake_to_listen,
            on_resumed=self._catch_up,
        )

    def _catch_up(self) -> None:
        self.share.catch_up()
        self._subscriptions.catch_up()

    @property
    def known(self) -> bool:
        """True if all lists are known. A rate limit may precede the first lists."""
        return self.health.is_usable and (self.guarded or self.lists.complete)

    @property
    def finding(self) -> HealthState:
        """The backend state that the status reports."""
        state = self.health.finding
        return NOT_LISTED if state.state == "RateLimited" and not self.known else state

    async def run(self) -> None:
        """Run checks until the task is cancelled."""
        asking = True
        while True:
            self.rounds.begin(asking=asking)
            news, self._peer_result = self._peer_result, None
            if not asking and self._last_result is not None:
                self._last_result = await self._check(asking=False)
            elif news is None:
                self._last_result = await self._check()
                self._events.check.publish(self._name, self._last_result)
            elif news != self._last_result or self.health.needs_recheck:
                self._last_result = await self._check()
            elif news:
                self._last_result = await self._check(asking=False)
            self.settled.set()
            self.rounds.end(good=bool(self._last_result))
            asking = await self.rounds.pause(self.health.needs_recheck)

    def on_peer_probe(self, good: bool) -> None:
        """Take over the result of another process's check, unless it differs from the last one."""
        self._peer_result = good
        self.rounds.wake()

    def recheck_now(self) -> None:
        """Check soon, because a request failed."""
        if self.health.finding.state == "Healthy":
            # Results of other processes are older than this failure.
            self._last_result = self._peer_result = None
            self.rounds.wake()

    def renew(self) -> None:
        """Open a new session, because the current one uses outdated values."""
        self._renewals += 1
        self.rounds.wake()

    @property
    def _outdated(self) -> bool:
        return self._renewed != self._renewals

    async def _check(self, *, asking: bool = True) -> bool:
        """Check the backend; return True if it is well. Without `asking`, do only overdue work."""
        before = self.health.finding
        try:
            changed = await self._refresh_lists(await self._alive(asking))
        except (BackendError, RpcError, TimeoutError) as error:
            if not (self._settings.guarded and isinstance(error, Unauthorized)):
                self._record_failure(error)
                return False
            # The backend responds, and requires credentials that only clients have.
            changed = self._guard()
        except Exception:
            # No behavior of a backend may end its monitor.
            log.exception("backend %s: unexpected error during a health check", self._name)
            self._record_failure(ProtocolError("unexpected error; the proxy's log has details"))
            return False
        self.health.record_success(self._remark())
        if self.health.finding != before:
            log.info("backend %s is healthy", self._name)
        if changed or self.health.finding != before:
            self._events.list_change.publish(changed, "")
        return True

    def _remark(self) -> HealthState | None:
        """Return the remark on a healthy backend, or None."""
        if self.guarded:
            return FOR_CALLERS if self._settings.for_callers else GUARDED
        if failures := self.lists.failures.values():
            return HealthState.without_lists([str(failure.error) for failure in failures])
        return self._change_stream.remark()

    def _check_timeout(self) -> float:
        connected = self._link is not None or self.health.finding.state == "Healthy"
        if connected and not self._outdated:
            return self._policy.timeout
        deadlines = self._settings.deadlines
        return deadlines.connect + 2 * deadlines.initialize

    def _guard(self) -> set[ComponentKind]:
        """Withdraw all lists, which only clients may see; return the changed kinds."""
        self.guarded = True
        self._disconnect()
        self.server = None
        return self.lists.withdraw()

    async def _alive(self, asking: bool) -> tuple[UpstreamSession, bool]:
        """Verify that the backend responds; return the session and whether it is new."""
        async with asyncio.timeout(self._check_timeout()):
            link = self._link
            patient = not self.rounds.wanted
            resting = self._change_stream.resting and patient
            if link is None or self._outdated or not (link.alive or resting):
                async with self._opening:
                    return await self._connect(), True
            if asking and link.alive:
                try:
                    await probe(self._asker, link, self.lists.offers)
                except SessionNotFound:
                    # A new session shows whether requests are answered.
                    return await self._reopen(link), True
            self._change_stream.keep(link, patient=patient)
            return link, False

    async def _refresh_lists(self, session: tuple[UpstreamSession, bool]) -> set[ComponentKind]:
        """Fetch new or overdue lists, unless each caller has its own; return the changed kinds."""
        link, new = session
        if self._settings.for_callers:
            return self._guard()
        if new or self.lists.outdated:
            return await self.lists.fetch_all(link)
        if link.alive:
            await self.lists.fetch_expired(link, self._policy.timeout)
        self.tailored.retry_announced(asyncio.get_running_loop().time())
        return set()

    async def _reopen(self, lost: UpstreamSession) -> UpstreamSession:
        """Replace a session that is lost and continue with the lists. Raises BackendError."""
        async with self._opening:
            if self._link is not None and self._link is not lost:
                return self._link
            return await self._connect(goes_on=True)

    async def _connect(self, *, goes_on: bool = False) -> UpstreamSession:
        """Open a session. A usable previous one is closed once no message can be missed.

        `goes_on` means that running list fetches switch to it by themselves. Raises BackendError.
        """
        if not goes_on and (self._link is None or not self._link.alive):
            self._disconnect()
        loop = asyncio.get_running_loop()
        started, renewals = loop.time(), self._renewals
        link = await self._connector.open(self._asker.caller.client)
        self.tailored.record_opening(loop.time() - started)
        before, listener = self._link, self._change_stream.leave()
        self._link, self.server, self.guarded, self._renewed = link, link.server, False, renewals
        if not goes_on:
            self.lists.stop()
        self.lists.use(link)
        self.stateful = link.stateful and not link.server.modern
        loop.call_later(LISTS_TIME, self.settled.set)
        try:
            await self._change_stream.begin(link)
            await self._subscriptions.restore(link)
        finally:
            self._leave(before, listener)
        return link

    def _record_failure(self, error: Exception) -> None:
        if isinstance(error, TimeoutError):
            error = TimedOut(f"no response within {self._policy.timeout:g} s")
        elif isinstance(error, RpcError):
            error = ProtocolError(f"the backend responded with error {error.code}: {error.message}")
        assert isinstance(error, BackendError)
        before = self.health.finding
        changed = self.health.record_failure(error.state, error.reason, error.finding)
        if error.state != "RateLimited":
            self._disconnect()
            self._change_stream.start_over()
            self._connector.forget()
            self._clients.on_backend_failure()
        if changed:
            if before.state != (state := self.health.finding.state):
                log.warning("backend %s is %s: %s", self._name, state, error.finding)
            withdrawn = set() if self.health.is_usable else self._withdraw()
            self._events.list_change.publish(withdrawn, "")
        elif self.health.finding.state == "RateLimited" and self.lists.has_expired():
            self._disconnect()
            self._events.list_change.publish(self._withdraw(), "")

    def _withdraw(self) -> set[ComponentKind]:
        """Withdraw all lists of a failed backend; return the kinds that changed."""
        self.server = None
        return self.lists.withdraw() | self.tailored.withdraw()

    def _disconnect(self) -> None:
        link, self._link = self._link, None
        listener = self._change_stream.leave()
        self.lists.stop()
        self._leave(link, listener)

    def _leave(self, link: UpstreamSession | None, listener: "asyncio.Task[None] | None") -> None:
        end(listener)
        if link is not None:
            self._background.spawn(link.close())

    async def close(self) -> None:
        """Close the monitor's session."""
        self._disconnect()
        self.tailored.withdraw()
        await self._background.close(grace=6.0)

    async def announced(self, message: Message, client: ClientIdentity | None = None) -> None:
        """Handle a broadcast from the session of a client or from the monitor's session."""
        method = jsonrpc.decode_str(message.get("method")) or ""
        variant = None if client is None else self._clients.own_key(client)
        for kind in BY_CHANGED.get(method, ()):
            self.share.count_announcement(kind)
            if client is not None and variant is not None:
                self.tailored.announced_to(kind, client, variant)
            self.tailored.announced(kind)
            self.lists.announced(kind)
        self._subscriptions.announced(method, message)

    def wants_refresh(self, kind: ComponentKind, now: float, seen: bytes | None = None) -> bool:
        """True if a list request has to be fetched first; `seen` as in `Catalog.put`."""
        if self._down:
            limited = self.health.finding.state == "RateLimited"
            return not limited and now - self.rounds.began_at >= MIN_REFRESH_AGE
        is_own_variant = seen is not None and self.guarded
        if not self.health.is_usable or not (is_own_variant or self.lists.offers(kind)):
            return False
        if seen is None or self.tailored.in_backoff(kind, seen, now):
            return self.lists.is_stale(kind, now)
        return self.tailored.is_stale(kind, seen, now)

    @property
    def _down(self) -> bool:
        """True if no session is open for requests."""
        return not self.guarded and (self._link is None or not self._link.alive)

    def failure(self, kind: ComponentKind, seen: bytes | None = None) -> str | None:
        """Return why a list (`seen` as in `Catalog.put`) is missing; None if it isn't."""
        state = self.finding
        if self.guarded:
            why = None if seen is None else self.tailored.failure(kind, seen)
            return why if why is None or self.health.is_usable else state.message or state.state
        if self.lists.lacks(kind):
            return None
        if state.state == "Unknown":
            return "the backend has not responded yet"
        if not self.health.is_usable or state is NOT_LISTED:
            return state.message or state.state
        failure = self.lists.failures.get(kind)
        return None if failure is None else str(failure.error)

    async def refresh(
        self, kind: ComponentKind, client: ClientIdentity, seen: bytes | None
    ) -> None:
        """Fetch a list for this client, and wait briefly for it. Never raises.

        `seen` as in `Catalog.put`.
        """
        if self._down:
            self._last_result = self._peer_result = None
            await self.rounds.recover()
            return
        server, now = self.server, asyncio.get_running_loop().time()
        is_known = server is not None or self.guarded
        if seen is None or not is_known or self.tailored.in_backoff(kind, seen, now):
            await self.lists.refresh(kind)
            return
        if not client.modern and self._clients.own_key(client) is None:
            # The same era as the other lists, with its latest revision.
            modern = server is not None and server.modern
            revision = LATEST_MODERN if modern else LATEST_LEGACY
            client = replace(client, revision=revision, session="")
        await self.tailored.refresh(kind, client, seen)

    async def subscribe(self, uri: str) -> None:
        """Subscribe a client to a resource. Raises BackendError, RpcError."""
        await self._subscriptions.add(self._link, uri)

    async def unsubscribe(self, uri: str) -> None:
        """Unsubscribe a client from a resource. Never raises."""
        await self._subscriptions.remove(self._link, uri)
