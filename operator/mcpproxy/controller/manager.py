"""The tasks beside Kopf: leader election, the work of the leader, and the resync."""

import asyncio
import logging
import random
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from mcpproxy.cluster.cached_reads import CachingClient
from mcpproxy.cluster.client import Cluster, KubeClient
from mcpproxy.cluster.pods.reports import PodReportWatcher
from mcpproxy.cluster.pods.status_stream import PodStatusReader
from mcpproxy.cluster.resources import MCP_PROXY, POD, ProxyKey
from mcpproxy.controller.kopf_watches import CHILDREN, SELECTORS
from mcpproxy.controller.leader_election import LeaderElector
from mcpproxy.controller.metrics import OperatorMetrics
from mcpproxy.controller.resync import LOOK, Resync
from mcpproxy.controller.watch_cache import LAG, WatchCache, Watches
from mcpproxy.controller.work_queue import PassSpacing, WorkQueue
from mcpproxy.controller.worker import run_worker
from mcpproxy.desired import BuildOptions
from mcpproxy.reconcile.reconciler import Reconciler
from mcpproxy.reconcile.status_updates.status_write_health import StatusWriteHealth

SILENCE: Final = 60.0
"""Seconds without an event after which passes no longer wait for the initial lists."""
INITIAL_LISTS: Final = 300.0
"""Seconds for which passes wait at most until the watches have delivered what exists."""
READ_AHEAD: Final = 10.0
"""Seconds for which passes wait at most for the ReplicaSets of all MCPProxies."""
WORKERS: Final = 16
"""Number of passes at once, each of which waits for one request at a time."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ResyncConfig:
    """Interval of the comparison of watches with lists, and the permitted lag, in seconds."""

    look: float = LOOK
    lag: float = LAG


def steady_time() -> datetime:
    """Return a time that corrections of the clock do not change, for intervals only."""
    return datetime.fromtimestamp(time.monotonic(), UTC)


class LeaderTasks:
    """Work of one term as leader. The next term begins with empty queues and caches."""

    def __init__(
        self,
        cluster: Cluster,
        reader: PodStatusReader,
        options: BuildOptions,
        metrics: OperatorMetrics,
        watches: Watches,
        is_busy: Callable[[], bool],
    ) -> None:
        self.queue: WorkQueue[ProxyKey] = WorkQueue(asyncio.get_running_loop(), jitter, metrics)
        spacing = PassSpacing(time.monotonic, self.queue.add_after)
        self.fleet = PodReportWatcher(reader, spacing.changed, time.monotonic, jitter=jitter)
        self.statuses = StatusWriteHealth(steady_time)
        self._reconciler = Reconciler(
            CachingClient(cluster, {kind: watched.store for kind, watched in watches.items()}),
            self.fleet,
            options,
            steady=steady_time,
            instance=socket.gethostname(),
            known=lambda kind, key: watches[kind].knows(key),
            childless=lambda key: all(watches[kind].has_none(key) for kind in CHILDREN),
            reverted=metrics.reverted,
            writes=self.statuses,
        )
        self._metrics = metrics
        self._is_busy = is_busy

    async def read_ahead(
        self, namespaces: tuple[str, ...], selector: str, keys: set[ProxyKey]
    ) -> None:
        """Read what the first passes need; each pass reads what this could not."""
        with suppress(TimeoutError):
            async with asyncio.timeout(READ_AHEAD):
                await self._reconciler.ownership.read_ahead(namespaces, selector, keys)

    async def run(self) -> None:
        """Reconcile MCPProxies until cancelled."""
        logged: dict[ProxyKey, str] = {}
        parts = (self.queue, self._reconciler.reconcile, self._metrics, time.monotonic, logged)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(WORKERS):
                    group.create_task(run_worker(*parts, self._is_busy))
        finally:
            self.queue.close()
            await self.fleet.close()


class Manager:
    """The operator without Kopf."""

    def __init__(
        self,
        cluster: KubeClient,
        reader: PodStatusReader,
        namespaces: tuple[str, ...],
        options: BuildOptions,
        metrics: OperatorMetrics,
        election: LeaderElector | None,
        pace: ResyncConfig,
        kinds_changed: Callable[[], object] = lambda: None,
        is_busy: Callable[[], bool] = lambda: False,
    ) -> None:
        """Without an `election`, the operator leads from the start. `kinds_changed` is called when
        a watched kind was installed or removed. `is_busy` returns True while the API server is."""
        self._parts = (cluster, reader, options, metrics)
        self._namespaces = namespaces
        self._election = election
        self._is_busy = is_busy
        self._term: LeaderTasks | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.watches: Watches = {
            kind: WatchCache(time.monotonic, lag=pace.lag) for kind in SELECTORS
        }
        self._resync = Resync(
            cluster,
            namespaces,
            SELECTORS,
            self.watches,
            self.enqueue,
            pace.look,
            jitter=jitter,
            kinds_changed=kinds_changed,
        )
        for kind, watched in self.watches.items():
            metrics.watch(kind.plural, watched.age, watched.behind)
        metrics.work(self._waiting, self._followed, self._reporting)
        metrics.statuses(self._unwritten)

    async def note_kinds(self) -> None:
        """Note which kinds are installed. Call it before Kopf decides which ones it watches."""
        await self._resync.note_kinds()

    def start(self) -> None:
        """Begin to work, or to campaign for the Lease."""
        work = self._election.run(self._lead) if self._election else self._lead()
        parts = {"the leader's work": work, "the resync": self._resync.run()}
        self._tasks = [asyncio.create_task(part, name=name) for name, part in parts.items()]
        for task in self._tasks:
            task.add_done_callback(_tell)

    async def stop(self) -> None:
        """Stop all tasks and release the Lease."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def enqueue(self, key: ProxyKey, delay: float = 0.0) -> None:
        """Enqueue an MCPProxy, if this operator leads."""
        if self._term is None:
            return
        if delay:
            self._term.queue.add_after(key, delay)
        else:
            self._term.queue.add(key)

    def wrong(self) -> str | None:
        """Return the problem that only a restart solves; None if there is none."""
        if any(task.done() for task in self._tasks):
            return "a task of the operator ended; the operator's log has the error"
        for kind, watched in self.watches.items():
            if watched.lagging:
                return f"the watch of {kind.plural} is behind"
        return None

    def not_ready(self) -> str | None:
        """Return the reason for which this operator's view is incomplete or outdated; None if it is
        not."""
        if not self._resync.caught_up:
            return "the initial lists are incomplete"
        return self.wrong() or (self._term.statuses.problem() if self._term else None)

    async def _lead(self) -> None:
        term = self._term = LeaderTasks(*self._parts, self.watches, self._is_busy)
        try:
            for watched in self.watches.values():
                for key in watched.owners():
                    term.queue.add(key)
            # A pass that runs earlier asks the API server for what the watches are about to bring.
            await self._resync.wait_until_settled(SILENCE, INITIAL_LISTS)
            owners = self.watches[MCP_PROXY].owners()
            await term.read_ahead(self._namespaces, SELECTORS[POD], owners)
            await term.run()
        finally:
            self._term = None

    def _waiting(self) -> int:
        return len(self._term.queue) if self._term else 0

    def _followed(self) -> int:
        return len(self._term.fleet) if self._term else 0

    def _unwritten(self) -> int:
        return len(self._term.statuses) if self._term else 0

    def _reporting(self) -> int:
        return self._term.fleet.reporting if self._term else 0


def _tell(ended: asyncio.Task[None]) -> None:
    """Log the error of a task that ended, unless it was cancelled."""
    if not ended.cancelled():
        log.error("%s ended", ended.get_name(), exc_info=ended.exception())


def jitter() -> float:
    """Return the factor of one pause."""
    return random.uniform(0.8, 1.2)
