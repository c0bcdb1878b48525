"""Upstream sessions as requests hold them: shared by many requests, or serving one alone."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.upstream.sessions.warm_pool import Key, WarmSet
from mcpproxy.proxy.upstream.transports.session import UpstreamSession


@dataclass(slots=True)
class SharedSession:
    """A session that many requests share."""

    key: Key
    opening: "asyncio.Task[UpstreamSession]"
    link: UpstreamSession = field(init=False)
    """Once it `is_open`."""
    is_open: bool = False
    users: int = 0
    used_at: float = 0.0
    doubtful_at: float | None = None
    """When a client first gave up a request that the backend may still speak of."""

    def doubtful_for(self, now: float) -> float:
        """For how many seconds what it says of no request may be about one that was given up."""
        return 0.0 if self.doubtful_at is None else now - self.doubtful_at


@dataclass(frozen=True, slots=True)
class ExclusiveSession:
    """A session that serves one request."""

    key: Key
    warm: WarmSet
    client: ClientIdentity
    link: UpstreamSession


class Serving:
    """Sessions that serve one request each, by the session of their client."""

    def __init__(self) -> None:
        self._links: dict[str, list[UpstreamSession]] = {}

    def begin(self, client: ClientIdentity, link: UpstreamSession) -> None:
        """A request of this client has a session."""
        if client.session:
            self._links.setdefault(client.session, []).append(link)

    def end(self, client: ClientIdentity, link: UpstreamSession) -> None:
        """The request has ended."""
        if client.session:
            links = self._links[client.session]
            links.remove(link)
            if not links:
                del self._links[client.session]

    def of(self, client: ClientIdentity) -> list[UpstreamSession]:
        """Those that serve requests of this client."""
        return list(self._links.get(client.session, ())) if client.session else []


def is_failed(held: SharedSession) -> bool:
    """Whether its session could not be opened."""
    return held.opening.cancelled() or held.opening.exception() is not None


def is_dead(held: SharedSession) -> bool:
    """Whether its session could not be opened, or has ended."""
    return held.opening.done() and (is_failed(held) or not held.opening.result().alive)


def end_unused(
    retired: Iterable[SharedSession], end: Callable[[UpstreamSession], None]
) -> list[SharedSession]:
    """End the sessions that no request uses, and return the others."""
    in_use = []
    for held in retired:
        if held.users or not held.opening.done():
            in_use.append(held)
        elif not is_failed(held):
            end(held.opening.result())
    return in_use
