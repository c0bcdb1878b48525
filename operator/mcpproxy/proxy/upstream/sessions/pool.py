"""Which upstream session serves which request: Isolated, PerClient or Reused.

With PerClient a client is a client session, the client of a pipe or, of clients that have neither,
a principal with what it says of itself; a request of a client without identity is served alone.

Credentials, capabilities and log levels of two principals never meet in one upstream session,
in any mode.
"""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable

from mcpproxy.api.v1alpha1 import SessionMode
from mcpproxy.limits.backends import ABANDONED_FOR, CLIENT_KINDS, UPSTREAM_SESSIONS
from mcpproxy.proxy.core.errors import (
    REUSE_REFUSED,
    ReuseNotAllowed,
    SessionNotFound,
    TooManySessions,
)
from mcpproxy.proxy.core.exchange import CallContext, ClientIdentity, NullContext
from mcpproxy.proxy.fair_shares import FairShares
from mcpproxy.proxy.upstream.sessions.leases import (
    ExclusiveSession,
    Serving,
    SharedSession,
    end_unused,
    is_dead,
    is_failed,
)
from mcpproxy.proxy.upstream.sessions.lifecycle import SessionLifecycle
from mcpproxy.proxy.upstream.sessions.warm_pool import Key, WarmPool
from mcpproxy.proxy.upstream.transports.session import SessionLease, TaskSet, UpstreamSession


class SessionPool:
    """The upstream sessions of one backend."""

    def __init__(
        self,
        opener: Callable[[ClientIdentity], Awaitable[UpstreamSession]],
        mode: SessionMode,
        declared_stateless: bool,
        idle: float,
        background: TaskSet,
        warm_each: int = 2,
        passed: frozenset[bytes] = frozenset(),
        *,
        refills: bool = True,
    ) -> None:
        """`idle` is in seconds. Each concurrent request keeps `warm_each` sessions warm; if
        `refills`, they are opened ahead. `passed` names the headers of clients to forward."""
        self.upstream = SessionLifecycle(opener, background)
        self._mode = mode
        self._declared_stateless = declared_stateless
        self._idle = idle
        self._passed = passed
        self._warm = WarmPool(self._open, self.upstream, background, warm_each, refills=refills)
        self._modern = False
        """Whether modern clients were seen to get sessions of their own era."""
        self._held: dict[Key, SharedSession] = {}
        self._retired: list[SharedSession] = []
        """What new requests do not get any more."""
        self._sessionless: dict[Key, UpstreamSession] = {}
        self._kinds: FairShares[Key] = FairShares(CLIENT_KINDS.value)
        """Whose the keys of `_sessionless` are."""
        self._serving = Serving()
        self.found = {"warm": 0, "cold": 0}
        """Requests with a session of their own: how many found one that was open."""
        self.standing: Callable[[ClientIdentity], CallContext] = NullContext
        """Who takes what the backend sends to a client outside of its requests."""

    def sessionless(self, client: ClientIdentity) -> UpstreamSession | None:
        """What serves all requests of this client where the backend keeps no session for it."""
        return self._sessionless.get(self._kind(client))

    def hold(self, client: ClientIdentity) -> SessionLease | None:
        """The session for one request of this client, if it is open; `release` must follow, or
        `give_back` where it is not sent."""
        key = self._kind(client)
        if not self.lasts(client):
            return self._hold_alone(key, client)
        held = self._held.get(self._shared_key(key, client))
        if held is None or not (held.is_open and held.link.alive):
            return None
        held.users += 1
        return held

    def _hold_alone(self, key: Key, client: ClientIdentity) -> SessionLease | None:
        if not self._warm.has(key):
            return None
        warm, link = self._warm.begin(key)
        if link is None:
            warm.in_use -= 1
            return None
        self.found["warm"] += 1
        self._serving.begin(client, link)
        return ExclusiveSession(key, warm, client, link)

    def release(self, held: SessionLease) -> None:
        """A request does not need its session any more."""
        if isinstance(held, SharedSession):
            held.users -= 1
            held.used_at = asyncio.get_running_loop().time()
        elif isinstance(held, ExclusiveSession):
            self._serving.end(held.client, held.link)
            self._warm.done(held.key, held.warm, held.client, held.link)
            held.warm.in_use -= 1

    def give_back(self, held: SessionLease) -> None:
        """The request was not sent."""
        if isinstance(held, ExclusiveSession):
            self._serving.end(held.client, held.link)
            self.found["warm"] -= 1
            self._warm.give_back(held.warm, held.link)
        else:
            self.release(held)

    @contextlib.asynccontextmanager
    async def use(
        self, client: ClientIdentity, held: SessionLease | None = None
    ) -> AsyncIterator[UpstreamSession]:
        """The session for one request of this client. Raises BackendError.

        `held` is the one that is held for it already.
        """
        if isinstance(held, SharedSession):
            async with self._using(held) as link:
                yield link
            return
        if held is not None:
            try:
                yield held.link
            finally:
                self.release(held)
            return
        key = self._kind(client)
        sessionless = self._sessionless.get(key)
        if sessionless is not None:
            yield sessionless
        elif not self.lasts(client):
            async with self._isolated(key, client) as link:
                yield link
        else:
            async with self._shared(self._shared_key(key, client), client) as link:
                yield link

    def _shared_key(self, kind: Key, client: ClientIdentity) -> Key:
        if self._mode != "PerClient":
            return kind
        # Not its kind: that depends on what is known of the backend, and a client keeps its own.
        return (client.session,) if client.session else (*client.kind, client.mark(self._passed))

    def _kind(self, client: ClientIdentity) -> Key:
        """What a session is opened with: clients that differ in it never share one.

        In the modern era every request says itself who asks, so only the principal counts.
        """
        if not self._passed:
            return client.person if client.modern and self._modern else client.kind
        own = client.mark(self._passed)
        if client.modern and self._modern:
            return (client.principal, client.revision, own)
        return (client.principal, client.revision, own, client.capabilities, client.info)

    @contextlib.asynccontextmanager
    async def look(self, client: ClientIdentity) -> AsyncIterator[UpstreamSession]:
        """A session for requests of our own, as this client would get it. Raises BackendError.

        No call has used it. It waits among the warm ones afterwards, where a call may have it.
        """
        key = self._kind(client)
        sessionless = self._sessionless.get(key)
        if sessionless is not None:
            yield sessionless
        elif self._mode == "Reused":
            async with self._shared(key, client) as link:
                yield link
        else:
            warm, waiting = self._warm.find(key)
            link = waiting or await self._opened(client)
            try:
                yield link
            except BaseException as error:
                self.upstream.end(link)
                if isinstance(error, SessionNotFound) and warm is not None:
                    # The others are as old.
                    self._warm.drop(key, warm)
                raise
            if link.stateful:
                if not self.upstream.listens(link):
                    # Only now: what it announces while it begins is in the lists already.
                    self.upstream.listen(link, NullContext(client))
                # Opening it may have told in what kinds of clients differ.
                self._warm.put(self._kind(client), link)

    async def _open(self, client: ClientIdentity) -> UpstreamSession:
        return await self._listened(client, await self._opened(client))

    async def _open_shared(self, client: ClientIdentity) -> UpstreamSession:
        """A session for many requests; a client's own may have waited for a client of its kind."""
        own = self._mode == "PerClient"
        waiting = self._warm.find(self._kind(client))[1] if own else None
        return await self._listened(client, waiting or await self._opened(client))

    async def _listened(self, client: ClientIdentity, link: UpstreamSession) -> UpstreamSession:
        if link.stateful:
            own = self._mode == "PerClient" and not client.modern
            standing = self.standing(client) if own else NullContext(client)
            await self.upstream.stand(link, standing)
        return link

    async def _opened(self, client: ClientIdentity) -> UpstreamSession:
        if not self._make_room(client):
            UPSTREAM_SESSIONS.record()
            raise TooManySessions(
                f"{len(self.upstream.shares)} sessions with it are in use already"
            )
        link = await self.upstream.open(client)
        self._modern = (client.modern and link.greeting.modern) or self._modern
        if not link.stateful:
            self._keeps_none(client, link)
        elif self._mode == "Reused" and not self._declared_stateless:
            self.upstream.end(link)
            raise ReuseNotAllowed(REUSE_REFUSED)
        return link

    def _make_room(self, client: ClientIdentity) -> bool:
        """End idle sessions until this client may have another one; whether that is so."""
        while not self.upstream.admits(client):
            if self.upstream.ends_many or not (self._warm.make_room() or self._end_idle()):
                return False
        return True

    def _end_idle(self) -> bool:
        """End the idlest session of whoever holds most; whether there was one."""
        idle = [
            held
            for held in self._held.values()
            if held.opening.done() and not (held.users or is_failed(held))
        ]
        keys: dict[int, Key] = {}
        for held in sorted(idle, key=lambda held: held.used_at):
            number = self.upstream.number_of(held.opening.result())
            if number is not None:
                keys[number] = held.key
                self.upstream.shares.touch(number)
        chosen = self.upstream.shares.choose(keys.__contains__)
        if chosen is None:
            return False
        UPSTREAM_SESSIONS.record()
        self._forget(keys[chosen], self._held[keys[chosen]])
        return True

    def _keeps_none(self, client: ClientIdentity, link: UpstreamSession) -> None:
        """The backend keeps no session for clients of this kind."""
        key = self._kind(client)
        if self._kinds.is_full and key not in self._kinds:
            CLIENT_KINDS.record()
            oldest = self._kinds.choose()
            if oldest is not None:
                self._kinds.discard(oldest)
                del self._sessionless[oldest]
        self._kinds.add(key, client.holder)
        self._sessionless[key] = link

    @contextlib.asynccontextmanager
    async def _isolated(self, key: Key, client: ClientIdentity) -> AsyncIterator[UpstreamSession]:
        warm, waiting = self._warm.begin(key)
        try:
            self.found["cold" if waiting is None else "warm"] += 1
            link = waiting or await self._open(client)
            if not link.stateful:
                yield link
                return
            self._serving.begin(client, link)
            try:
                yield link
            finally:
                self._serving.end(client, link)
                self._warm.done(key, warm, client, link)
        finally:
            warm.in_use -= 1

    @contextlib.asynccontextmanager
    async def _shared(self, key: Key, client: ClientIdentity) -> AsyncIterator[UpstreamSession]:
        held = self._held.get(key)
        if held is not None and is_dead(held):
            self._forget(key, held)
            held = None
        if held is None:
            held = self._held[key] = SharedSession(
                key, asyncio.create_task(self._open_shared(client))
            )
            held.opening.add_done_callback(functools.partial(self._opened_for, held))
        held.users += 1
        async with self._using(held) as link:
            yield link

    def _opened_for(self, held: SharedSession, opening: "asyncio.Task[UpstreamSession]") -> None:
        """Keep nothing of a session that could not be opened: clients can ask for many."""
        if not is_failed(held):
            held.link, held.is_open = opening.result(), True
        elif self._held.get(held.key) is held:
            del self._held[held.key]

    @contextlib.asynccontextmanager
    async def _using(self, held: SharedSession) -> AsyncIterator[UpstreamSession]:
        try:
            # Shielded: others wait for the same session.
            yield await asyncio.shield(held.opening)
        except SessionNotFound:
            if self._held.get(held.key) is held:
                self._forget(held.key, held)
            raise
        except asyncio.CancelledError:
            if held.doubtful_at is None:
                held.doubtful_at = asyncio.get_running_loop().time()
            raise
        finally:
            self.release(held)

    def _forget(self, key: Key, held: SharedSession) -> None:
        self._held.pop(key, None)
        if not is_failed(held):
            self.upstream.end(held.opening.result())

    def end_client(self, session: str) -> None:
        """The client ended its session: end the one with the backend, too."""
        held = self._held.get((session,))
        if held is not None and held.opening.done():
            self._forget((session,), held)

    def running(self, client: ClientIdentity) -> list[UpstreamSession]:
        """The sessions that serve one request each of this client's session."""
        return self._serving.of(client)

    def lasting(self, client: ClientIdentity) -> UpstreamSession | None:
        """Return the open session that outlives requests of this client, or None."""
        kind = self._kind(client)
        if kind in self._sessionless:
            return self._sessionless[kind]
        if self._mode == "Isolated":
            return None
        held = self._held.get(self._shared_key(kind, client))
        if held is None or not held.opening.done() or is_dead(held):
            return None
        return held.opening.result()

    def lasts(self, client: ClientIdentity) -> bool:
        """Whether what a client is told or tells between its requests has a session to be in."""
        if self._mode == "PerClient":
            # Of clients without sessions, those with credentials can be known again.
            return bool(client.session or client.principal)
        return self._mode == "Reused"

    def reap(self) -> None:
        """Close sessions that nobody has used for too long."""
        now = asyncio.get_running_loop().time()
        for key, held in list(self._held.items()):
            if not held.users and held.opening.done() and now - held.used_at > self._idle:
                self._forget(key, held)
            elif self._mode == "Reused" and held.doubtful_for(now) > ABANDONED_FOR.value:
                # What it says of no request reaches no client any more.
                ABANDONED_FOR.record()
                self._retired.append(self._held.pop(key))
        self._retired = end_unused(self._retired, self.upstream.end)
        self._warm.reap(now, self._idle)

    def renew(self) -> None:
        """Give new requests new sessions, as mounted values have changed.

        Running requests and PerClient sessions keep theirs, which may hold state."""
        self._warm.renew()
        if self._mode == "Reused":
            self._retired += self._held.values()
            self._held.clear()
            self._retired = end_unused(self._retired, self.upstream.end)

    def reset(self) -> None:
        """The backend failed: what is warm is of no use, and it may keep sessions from now on."""
        self._sessionless.clear()
        self._kinds = FairShares(CLIENT_KINDS.value)
        self._modern = False
        self._warm.clear()

    async def close(self) -> None:
        """End every session."""
        links = self._warm.close()
        for held in (*self._held.values(), *self._retired):
            if not held.opening.done():
                held.opening.cancel()
            elif not is_failed(held):
                links.append(held.opening.result())
        self._held.clear()
        self._retired.clear()
        await asyncio.gather(*(link.close() for link in links))
