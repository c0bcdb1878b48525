"""The backstop: lists MCPProxies from the API, and notices a watch that went silent."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from mcpproxy.cluster.client import Cluster
from mcpproxy.cluster.errors import ClusterError
from mcpproxy.cluster.kinds import MCP_PROXY, ProxyKey
from mcpproxy.reconcile.queue import WorkQueue

log = logging.getLogger(__name__)

LOOK: Final = 60.0
"""Seconds between two lists, on average."""
EVERYTHING: Final = 10
"""Each so many lists, every MCPProxy is reconciled."""
LAG: Final = 60.0
"""Seconds that the watch may be behind the list."""


class WatchGuard:
    """Compares what the watch knows with what the API lists."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._behind: dict[ProxyKey, tuple[int | None, float]] = {}

    def compare(self, listed: Mapping[ProxyKey, int], watched: Mapping[ProxyKey, int]) -> None:
        """Note what the watch does not know yet: generations by key, of list and of watch."""
        now = self._clock()
        behind: dict[ProxyKey, tuple[int | None, float]] = {}
        for key in listed.keys() | watched.keys():
            known, there = watched.get(key), listed.get(key)
            current = known == there if known is None or there is None else known >= there
            if not current:
                since = self._behind.get(key)
                behind[key] = since if since and since[0] == known else (known, now)
        self._behind = behind

    @property
    def lagging(self) -> bool:
        """Whether the watch has missed something for too long."""
        now = self._clock()
        return any(now - since >= LAG for _, since in self._behind.values())


class Resync:
    """Lists again and again."""

    def __init__(
        self,
        cluster: Cluster,
        namespaces: Sequence[str],
        queue: WorkQueue[ProxyKey],
        guard: WatchGuard,
        watched: Callable[[], Mapping[ProxyKey, int]],
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        jitter: Callable[[], float] = lambda: 1.0,
    ) -> None:
        """`namespaces` may be empty: all. `jitter` gives the factor of one pause."""
        self._cluster = cluster
        self._namespaces = namespaces
        self._queue = queue
        self._guard = guard
        self._watched = watched
        self._sleep = sleep
        self._jitter = jitter

    async def run(self) -> None:
        """Go on until cancelled."""
        count = 0
        while True:
            await self._sleep(LOOK * self._jitter())
            count += 1
            try:
                listed = await self._list()
            except ClusterError as error:
                log.warning("the list of MCPProxies failed: %s", error)
                continue
            self._guard.compare(listed, self._watched())
            if count % EVERYTHING == 0:
                for key in listed:
                    self._queue.add(key)

    async def _list(self) -> dict[ProxyKey, int]:
        found: dict[ProxyKey, int] = {}
        for namespace in self._namespaces or (None,):
            for proxy in await self._cluster.list(MCP_PROXY, namespace):
                metadata = proxy["metadata"]
                key = ProxyKey(metadata["namespace"], metadata["name"])
                found[key] = metadata["generation"]
        return found
