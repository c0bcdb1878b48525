"""Upstream sessions as requests hold them: shared by many requests, or serving one alone."""

import asyncio
from dataclasses import dataclass, field

from mcpproxy.proxy.back.link import Link
from mcpproxy.proxy.back.warm import Key, Warm
from mcpproxy.proxy.core.exchange import Client


@dataclass(slots=True)
class Held:
    """A session that many requests share."""

    key: Key
    opening: "asyncio.Task[Link]"
    link: Link = field(init=False)
    """See Hold. Once it `is_open`."""
    is_open: bool = False
    users: int = 0
    used_at: float = 0.0
    doubtful_at: float | None = None
    """When a client first gave up a request that the backend may still speak of."""

    def doubtful_for(self, now: float) -> float:
        """For how many seconds what it says of no request may be about one that was given up."""
        return 0.0 if self.doubtful_at is None else now - self.doubtful_at


@dataclass(frozen=True, slots=True)
class Alone:
    """A session that serves one request."""

    key: Key
    warm: Warm
    client: Client
    link: Link


def is_failed(held: Held) -> bool:
    """Whether its session could not be opened."""
    return held.opening.cancelled() or held.opening.exception() is not None


def is_useless(held: Held) -> bool:
    """Whether its session could not be opened, or has ended."""
    return held.opening.done() and (is_failed(held) or not held.opening.result().alive)
