"""Choice of the upstream session for a request: Isolated, PerClient or Reused.

With PerClient, a client is identified by its client session or its pipe; without either, by its
principal and what it declares about itself. A request without any identity gets an exclusive
session.

Credentials, capabilities and log levels of two principals never meet in one upstream session.
"""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

from mcpproxy.limits.backends import ABANDONED_FOR, UPSTREAM_SESSIONS
from mcpproxy.proxy.core.errors import (
    REUSE_REFUSED,
    ReuseNotAllowed,
    SessionNotFound,
    TooManySessions,
)
from mcpproxy.proxy.core.exchange import CallContext, ClientIdentity, NullContext
from mcpproxy.proxy.upstream.sessions.advance_openings import AdvanceOpenings, BeginOpen, Opening
from mcpproxy.proxy.upstream.sessions.leases import (
    ExclusiveSession,
    Serving,
    SharedSession,
    StatelessSessions,
    choose_idle,
    end_unused,
    is_dead,
    is_failed,
)
from mcpproxy.proxy.upstream.sessions.lifecycle import SessionLifecycle
from mcpproxy.proxy.upstream.sessions.warm_pool import Key, WarmPool
from mcpproxy.proxy.upstream.transports.session import (
    OnAnnounced,
    SessionLease,
    TaskSet,
    UpstreamSession,
)

if TYPE_CHECKING:
    from mcpproxy.api.v1alpha1 import SessionMode


class SessionPool:
    """The upstream sessions of one backend."""

    def __init__(
        self,
        open_session: Callable[[ClientIdentity], Awaitable[UpstreamSession]],
        mode: "SessionMode",
        declared_stateless: bool,
        idle: float,
        background: TaskSet,
        warm_each: int = 2,
        passed: frozenset[bytes] = frozenset(),
        *,
        on_broadcast: OnAnnounced,
        context_of: Callable[[ClientIdentity], CallContext],
        refills: bool = True,
        begin_open: BeginOpen | None = None,
    ) -> None:
        """`idle` is in seconds. Up to `warm_each` sessions are kept warm for each concurrent
        request; if `refills`, they are opened in advance, by `begin_open` without a task.
        `passed` names the client headers to forward. `context_of` returns the context that
        receives what the backend sends outside of requests; `on_broadcast` receives broadcasts."""
        self.upstream = SessionLifecycle(open_session, background, on_broadcast)
        self._context_of = context_of
        self._mode, self._declared_stateless = mode, declared_stateless
        self._idle, self._passed = idle, passed
        steps = begin_open, functools.partial(self._open, in_advance=True), self._prepare
        openings = AdvanceOpenings(self.upstream, background, *steps)
        self._warm = WarmPool(openings.begin, self.upstream, warm_each, refills=refills)
        self._modern = False
        """True if a modern client has received a session of the modern era."""
        self._held: dict[Key, SharedSession] = {}
        self._retired: list[SharedSession] = []
        """Sessions that serve no new requests."""
        self._stateless = StatelessSessions()
        self._serving = Serving()
        self.acquisitions = {"warm": 0, "cold": 0}
        """Number of requests with an exclusive session, by whether a warm session was available."""

    def try_acquire(
        self, client: ClientIdentity, *, stateless_only: bool = False
    ) -> SessionLease | None:
        """Lease an open session for one request, or return None; with `stateless_only`, none that
        the backend keeps. The caller must call `release`, or `return_unused` if nothing is sent."""
        # As `_pool_key`, but without a call in the usual case.
        key = client.person if client.modern and self._modern else client.kind
        if self._passed:
            key = self._pool_key(client)
        stateless = self._stateless.by_key.get(key)
        if stateless is not None or stateless_only:
            return stateless
        if self._mode != "Reused":
            if not self.is_persistent(client):
                warm, link = self._warm.checkout_open(key)
                if warm is None or link is None:
                    return None
                self.acquisitions["warm"] += 1
                self._serving.begin(client, link)
                return ExclusiveSession(key, warm, client, link)
            key = self._shared_key(key, client)
        lease = self._held.get(key)
        if lease is None or not (lease.is_open and lease.link.alive):
            return None
        lease.users += 1
        if self.upstream.without_listener:
            self.upstream.listen_again(lease.link)
        return lease

    def release(self, lease: SessionLease) -> None:
        """Return the lease of a request that is complete."""
        if isinstance(lease, SharedSession):
            lease.users -= 1
            lease.used_at = asyncio.get_running_loop().time()
        elif isinstance(lease, ExclusiveSession):
            self._serving.end(lease.client, lease.link)
            self._warm.checkin_used(lease.key, lease.warm, lease.client, lease.link)
            lease.warm.end_use()

    def return_unused(self, lease: SessionLease) -> None:
        """Return the lease of a request that was not sent."""
        if not isinstance(lease, ExclusiveSession):
            self.release(lease)
            return
        self._serving.end(lease.client, lease.link)
        self.acquisitions["warm"] -= 1
        self._warm.return_unused(lease.warm, lease.link)

    @contextlib.asynccontextmanager
    async def acquire(
        self, client: ClientIdentity, lease: SessionLease | None = None, *, progress: bool = False
    ) -> AsyncIterator[UpstreamSession]:
        """Provide the session for one request, or for the lease that it has; with `progress`, one
        on which notifications of progress arrive wherever the backend sends them. Raises
        BackendError."""
        if isinstance(lease, SharedSession):
            async with self._use_shared(lease) as link:
                yield link
            return
        if lease is not None:
            try:
                yield lease.link
            finally:
                self.release(lease)
            return
        key = self._pool_key(client)
        sessionless = self._stateless.by_key.get(key)
        if sessionless is not None:
            yield sessionless.link
        elif not self.is_persistent(client):
            async with self._exclusive(key, client, progress) as link:
                yield link
        else:
            async with self._shared(self._shared_key(key, client), client) as link:
                yield link

    def _shared_key(self, kind: Key, client: ClientIdentity) -> Key:
        if self._mode != "PerClient":
            return kind
        # The pool key depends on what is known of the backend, but a client keeps its session.
        return (client.session,) if client.session else (*client.kind, client.mark(self._passed))

    def _pool_key(self, client: ClientIdentity) -> Key:
        """Return the pool key. Clients with different keys never share a session. In the modern
        era every request identifies its client, so only the principal counts."""
        key = client.person if client.modern and self._modern else client.kind
        return (*key[:2], client.mark(self._passed), *key[3:]) if self._passed else key

    @contextlib.asynccontextmanager
    async def acquire_for_lists(self, client: ClientIdentity) -> AsyncIterator[UpstreamSession]:
        """Provide a session for the proxy's requests, as this client would get it. The session
        is unused and returns to the warm pool afterwards. Raises BackendError."""
        key = self._pool_key(client)
        sessionless = self._stateless.by_key.get(key)
        if sessionless is not None:
            yield sessionless.link
        elif self._mode == "Reused":
            async with self._shared(key, client) as link:
                yield link
        else:
            warm, warm_session = self._warm.take(key)
            link = warm_session or await self._open_session(client)
            try:
                yield link
            except BaseException as error:
                self.upstream.end(link)
                if isinstance(error, SessionNotFound) and warm is not None:
                    # The other warm sessions are as old.
                    self._warm.drop(key, warm)
                raise
            if link.stateful:
                if not self.upstream.has_listener(link):
                    # Not earlier: the lists include what the backend announced while it started.
                    self.upstream.listen(link, NullContext(client))
                # The handshake may have changed the pool key.
                self._warm.add_unused(self._pool_key(client), link)

    async def _open(self, client: ClientIdentity, *, in_advance: bool = False) -> UpstreamSession:
        link = await self._open_session(client, in_advance=in_advance)
        gets_stream = self.upstream.gets_stream(client, link)
        return await self._listen(client, link) if gets_stream else link

    def _prepare(self, client: ClientIdentity, link: UpstreamSession) -> Opening | None:
        """Record a session, and return the opening of its stream if it gets one."""
        self._record(client, link)
        return self._listen(client, link) if self.upstream.gets_stream(client, link) else None

    async def _open_shared(self, client: ClientIdentity) -> UpstreamSession:
        """Open a session for many requests, or take a warm one for a client's own session."""
        # A client with records continues its own session.
        per_client = self._mode == "PerClient" and not client.upstream
        warm_session = self._warm.take(self._pool_key(client))[1] if per_client else None
        return await self._listen(client, warm_session or await self._open_session(client))

    async def _listen(self, client: ClientIdentity, link: UpstreamSession) -> UpstreamSession:
        # The instance with the stream of the client listens to a session that it continues.
        if link.stateful and not (self._mode == "PerClient" and client.upstream):
            per_client = self._mode == "PerClient" and not client.modern
            context = self._context_of(client) if per_client else NullContext(client)
            await self.upstream.open_standalone_stream(link, context)
        return link

    async def _open_session(
        self, client: ClientIdentity, *, in_advance: bool = False
    ) -> UpstreamSession:
        if not self._make_room(client):
            UPSTREAM_SESSIONS.record()
            raise TooManySessions(f"{len(self.upstream.shares)} sessions are already in use")
        link = await self.upstream.open(client, in_advance=in_advance)
        self._record(client, link)
        if link.stateful and self._mode == "Reused" and not self._declared_stateless:
            self.upstream.end(link)
            raise ReuseNotAllowed(REUSE_REFUSED)
        return link

    def _record(self, client: ClientIdentity, link: UpstreamSession) -> None:
        """Record what a new session shows of the backend."""
        self._modern = (client.modern and link.server.modern) or self._modern
        if not link.stateful:
            self._stateless.add(self._pool_key(client), client, link)

    def _make_room(self, client: ClientIdentity) -> bool:
        """Close idle sessions until this client may open one; return False if none is left."""
        while not self.upstream.admits(client):
            closes_too_many = self.upstream.is_closing_too_many
            if closes_too_many or not (self._warm.make_room() or self._end_idle()):
                return False
        return True

    def _end_idle(self) -> bool:
        """Close the idlest session of the client that holds most. Return False if none is idle."""
        lease = choose_idle(self._held.values(), self.upstream)
        if lease is not None:
            UPSTREAM_SESSIONS.record()
            self._discard(lease.key, lease)
        return lease is not None

    @contextlib.asynccontextmanager
    async def _exclusive(
        self, key: Key, client: ClientIdentity, progress: bool
    ) -> AsyncIterator[UpstreamSession]:
        warm, warm_session = self._warm.checkout(key)
        try:
            self.acquisitions["cold" if warm_session is None else "warm"] += 1
            link = warm_session or await self._open(client)
            if not link.stateful:
                yield link
                return
            if progress and not self.upstream.has_listener(link):
                await self._listen(client, link)
            self._serving.begin(client, link)
            try:
                yield link
            finally:
                self._serving.end(client, link)
                self._warm.checkin_used(key, warm, client, link)
        finally:
            warm.end_use()

    @contextlib.asynccontextmanager
    async def _shared(self, key: Key, client: ClientIdentity) -> AsyncIterator[UpstreamSession]:
        lease = self._held.get(key)
        if lease is not None and is_dead(lease):
            self._discard(key, lease)
            lease = None
        if lease is None:
            opening = asyncio.create_task(self._open_shared(client))
            lease = self._held[key] = SharedSession(key, opening)
            opening.add_done_callback(functools.partial(self._on_opened, lease))
        lease.users += 1
        async with self._use_shared(lease) as link:
            self.upstream.listen_again(link)
            yield link

    def _on_opened(self, lease: SharedSession, opening: "asyncio.Task[UpstreamSession]") -> None:
        """Discard a session that could not be opened, because clients can request many."""
        if not is_failed(lease):
            lease.open_with(opening.result())
        elif self._held.get(lease.key) is lease:
            del self._held[lease.key]

    @contextlib.asynccontextmanager
    async def _use_shared(self, lease: SharedSession) -> AsyncIterator[UpstreamSession]:
        try:
            # Shielded, because other requests wait for the same session.
            yield await asyncio.shield(lease.opening)
        except SessionNotFound:
            if self._held.get(lease.key) is lease:
                self._discard(lease.key, lease)
            raise
        except asyncio.CancelledError:
            lease.record_abandonment(asyncio.get_running_loop().time())
            raise
        finally:
            self.release(lease)

    def _discard(self, key: Key, lease: SharedSession) -> None:
        self._held.pop(key, None)
        if not lease.opening.done():
            self._retired.append(lease)
        elif not is_failed(lease):
            self.upstream.end(lease.opening.result())

    def end_client(self, session: str) -> None:
        """Close the upstream session of a client session that has ended."""
        lease = self._held.get((session,))
        if lease is not None:
            self._discard((session,), lease)

    def running_sessions(self, client: ClientIdentity) -> list[UpstreamSession]:
        """Return the exclusive sessions that serve requests of this client session."""
        return self._serving.of(client)

    def persistent_session(self, client: ClientIdentity) -> UpstreamSession | None:
        """Return the open session that outlives requests of this client, or None."""
        key = self._pool_key(client)
        if key in self._stateless.by_key:
            return self._stateless.by_key[key].link
        if self._mode == "Isolated":
            return None
        lease = self._held.get(self._shared_key(key, client))
        if lease is None or not lease.opening.done() or is_dead(lease):
            return None
        return lease.opening.result()

    def is_persistent(self, client: ClientIdentity) -> bool:
        """True if this client's sessions outlive requests and can carry messages between them."""
        if self._mode == "PerClient":
            # Clients without sessions can be recognized by their credentials.
            return bool(client.session or client.principal)
        return self._mode == "Reused"

    def close_idle(self) -> None:
        """Close sessions that have been idle for too long."""
        now = asyncio.get_running_loop().time()
        for key, lease in list(self._held.items()):
            if not lease.users and lease.opening.done() and now - lease.used_at > self._idle:
                self._discard(key, lease)
            elif self._mode == "Reused" and lease.doubtful_for(now) > ABANDONED_FOR.value:
                # Its messages that name no request no longer reach any client.
                ABANDONED_FOR.record()
                self._retired.append(self._held.pop(key))
        self._retired = end_unused(self._retired, self.upstream.end)
        self._warm.reap(now, self._idle)

    def retire(self) -> None:
        """Give new requests new sessions, because mounted values have changed. Running requests and
        PerClient sessions keep their sessions, which may hold state."""
        self._warm.renew()
        if self._mode == "Reused":
            self._retired += self._held.values()
            self._held.clear()
            self._retired = end_unused(self._retired, self.upstream.end)

    def on_backend_failure(self) -> None:
        """Discard warm sessions after a failure. The backend may keep sessions from now on."""
        self._stateless = StatelessSessions()
        self._modern = False
        self._warm.clear()

    async def close(self, outlives: Callable[[UpstreamSession], bool] = lambda link: False) -> None:
        """Close every session, except those of clients that `outlives` names."""
        links = self._warm.close()
        for lease in (*self._held.values(), *self._retired):
            if not lease.opening.done():
                lease.opening.cancel()
            elif not is_failed(lease):
                link = lease.opening.result()
                (self.upstream.stop_listening if outlives(link) else links.append)(link)
        self._held.clear()
        self._retired.clear()
        await asyncio.gather(*(link.close() for link in links))
        self.upstream.finish()
