"""Upstream sessions as requests hold them: shared by many requests, or serving one alone."""

import asyncio
from dataclasses import dataclass

from mcpproxy.proxy.back.link import Link
from mcpproxy.proxy.back.warm import Key, Warm
from mcpproxy.proxy.core.exchange import Client


@dataclass(slots=True)
class Held:
    """A session that many requests share."""

    key: Key
    opening: "asyncio.Task[Link]"
    users: int = 0
    used_at: float = 0.0

    @property
    def link(self) -> Link:
        """See Hold. Once it is open."""
        return self.opening.result()


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
