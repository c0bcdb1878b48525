"""Leases of upstream sessions: shared by many requests, exclusive to one, or without a session."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from mcpproxy.limits.backends import CLIENT_KINDS
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.fair_shares import FairShares
from mcpproxy.proxy.upstream.sessions.lifecycle import SessionLifecycle
from mcpproxy.proxy.upstream.sessions.warm_pool import Key
from mcpproxy.proxy.upstream.sessions.warm_set import WarmSet
from mcpproxy.proxy.upstream.transports.session import UpstreamSession


@dataclass(slots=True)
class SharedSession:
    """A session that many requests share."""

    key: Key
    opening: "asyncio.Task[UpstreamSession]"
    link: UpstreamSession = field(init=False)
    """Set once `is_open` is true."""
    is_open: bool = False
    users: int = 0
    used_at: float = 0.0
    doubtful_at: float | None = None
    """Time at which a client first abandoned a request that the backend may still send messages
    about."""

    def open_with(self, link: UpstreamSession) -> None:
        """Record that the session is open."""
        self.link, self.is_open = link, True

    def record_abandonment(self, now: float) -> None:
        """Record that a client has abandoned its request."""
        if self.doubtful_at is None:
            self.doubtful_at = now

    def doubtful_for(self, now: float) -> float:
        """Return the seconds for which messages without a request id may belong to an abandoned
        request."""
        return 0.0 if self.doubtful_at is None else now - self.doubtful_at


@dataclass(slots=True)
class ExclusiveSession:
    """A session that serves one request."""

    key: Key
    warm: WarmSet
    client: ClientIdentity
    link: UpstreamSession


@dataclass(frozen=True, slots=True)
class StatelessSession:
    """The equivalent of a session with a backend that keeps none; it needs no release."""

    link: UpstreamSession


class Serving:
    """Exclusive sessions in use, by the client session that they serve."""

    def __init__(self) -> None:
        self._links: dict[str, list[UpstreamSession]] = {}

    def begin(self, client: ClientIdentity, link: UpstreamSession) -> None:
        """Record that a request of this client has this session."""
        if client.session:
            self._links.setdefault(client.session, []).append(link)

    def end(self, client: ClientIdentity, link: UpstreamSession) -> None:
        """Record that the request is complete."""
        if client.session:
            links = self._links[client.session]
            links.remove(link)
            if not links:
                del self._links[client.session]

    def of(self, client: ClientIdentity) -> list[UpstreamSession]:
        """Return the sessions that serve requests of this client."""
        return list(self._links.get(client.session, ())) if client.session else []


class StatelessSessions:
    """Senders of requests of clients for which the backend keeps no session."""

    def __init__(self) -> None:
        self.by_key: dict[Key, StatelessSession] = {}
        """By pool key."""
        self._owners: FairShares[Key] = FairShares(CLIENT_KINDS.value)

    def add(self, key: Key, client: ClientIdentity, link: UpstreamSession) -> None:
        """Record that the backend keeps no sessions for clients with this key."""
        if self._owners.is_full and key not in self._owners:
            CLIENT_KINDS.record()
            oldest = self._owners.choose()
            if oldest is not None:
                self._owners.discard(oldest)
                del self.by_key[oldest]
        self._owners.add(key, client.holder)
        self.by_key[key] = StatelessSession(link)


def is_failed(lease: SharedSession) -> bool:
    """True if the session could not be opened."""
    return lease.opening.cancelled() or lease.opening.exception() is not None


def is_dead(lease: SharedSession) -> bool:
    """True if the session could not be opened or has ended."""
    return lease.opening.done() and (is_failed(lease) or not lease.opening.result().alive)


def choose_idle(
    leases: Iterable[SharedSession], upstream: SessionLifecycle
) -> SharedSession | None:
    """Return the idlest session of the client that holds most, or None if none is idle."""
    idle = [
        lease for lease in leases if lease.opening.done() and not (lease.users or is_failed(lease))
    ]
    numbered: dict[int, SharedSession] = {}
    for lease in sorted(idle, key=lambda lease: lease.used_at):
        number = upstream.number_of(lease.opening.result())
        if number is not None:
            numbered[number] = lease
            upstream.shares.touch(number)
    chosen = upstream.shares.choose(numbered.__contains__)
    return None if chosen is None else numbered[chosen]


def end_unused(
    retired: Iterable[SharedSession], end: Callable[[UpstreamSession], None]
) -> list[SharedSession]:
    """Close the sessions that no request uses, and return the others."""
    in_use = []
    for lease in retired:
        if lease.users or not lease.opening.done():
            in_use.append(lease)
        elif not is_failed(lease):
            end(lease.opening.result())
    return in_use
