"""The parts of the operator put together, and its life from start to stop."""

import asyncio
import logging
import random
import socket
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

import kopf
from aiohttp import web

from mcpproxy.cluster.access import Access
from mcpproxy.cluster.client import Cluster, KubeCluster
from mcpproxy.cluster.errors import ClusterError
from mcpproxy.cluster.kinds import MCP_PROXY, ProxyKey
from mcpproxy.cluster.pods import PodAccess, PodReader, StreamingReader
from mcpproxy.desired import Options
from mcpproxy.fleet.fleet import Fleet
from mcpproxy.handlers.health import Metrics, application
from mcpproxy.handlers.resync import Resync, WatchGuard
from mcpproxy.handlers.settings import register_login, settings
from mcpproxy.handlers.watches import INDEX, register
from mcpproxy.reconcile.loop import Reconciler
from mcpproxy.reconcile.queue import WorkQueue
from mcpproxy.reconcile.worker import work

log = logging.getLogger(__name__)

WORKERS: Final = 8
CRD_RETRY: Final = 5.0
"""Seconds between two looks for the CRD while it is not installed."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """What the command line decides."""

    namespaces: tuple[str, ...]
    """Served namespaces; none named means all."""
    options: Options
    pod_access: PodAccess
    health_port: int


async def run(access: Access, configuration: Configuration) -> None:
    """Run until SIGTERM or SIGINT."""
    ready, index = asyncio.Event(), _Index()
    async with AsyncExitStack() as stack:
        cluster = KubeCluster(access.configuration)
        stack.push_async_callback(cluster.close)
        reader = StreamingReader(access.configuration, configuration.pod_access)
        stack.push_async_callback(reader.close)
        machine = _Machine(cluster, reader, configuration, index)
        app = application(machine.metrics, machine.is_alive, ready.is_set)
        await _serve(app, configuration.health_port, stack)
        await _wait_for_crd(cluster, configuration.namespaces)
        machine.start()
        log.info("started, serving %s", ", ".join(configuration.namespaces) or "all namespaces")
        await kopf.operator(
            registry=_registry(access, machine, index),
            settings=settings(),
            standalone=True,
            namespaces=configuration.namespaces,
            clusterwide=not configuration.namespaces,
            ready_flag=ready,
        )
        log.info("stopped")


class _Machine:
    """Everything that runs beside Kopf: workers, the fleet's streams, the resync."""

    def __init__(
        self,
        cluster: Cluster,
        reader: PodReader,
        configuration: Configuration,
        index: "_Index",
    ) -> None:
        self.queue: WorkQueue[ProxyKey] = WorkQueue(asyncio.get_running_loop(), _jitter)
        self._fleet = Fleet(reader, self.queue.add, time.monotonic)
        self.metrics = Metrics(self.queue.__len__, self._fleet.__len__)
        self._guard = WatchGuard(time.monotonic)
        self._reconciler = Reconciler(
            cluster, self._fleet, configuration.options, instance=socket.gethostname()
        )
        served = configuration.namespaces
        self._resync = Resync(
            cluster, served, self.queue, self._guard, index.generations, jitter=_jitter
        )
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to work."""
        arguments = (self.queue, self._reconciler.reconcile, self.metrics, time.monotonic)
        workers = [asyncio.create_task(work(*arguments)) for _ in range(WORKERS)]
        self._tasks = [*workers, asyncio.create_task(self._resync.run())]

    def is_alive(self) -> bool:
        """Whether everything works on and the watch keeps up."""
        return not self._guard.lagging and not any(task.done() for task in self._tasks)

    async def stop(self) -> None:
        """End all tasks."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._fleet.close()


def _jitter() -> float:
    return random.uniform(0.8, 1.2)


class _Index:
    """Kopf's index, which exists only once Kopf has started."""

    def __init__(self) -> None:
        self.found: kopf.Index[ProxyKey, int] | None = None

    def generations(self) -> Mapping[ProxyKey, int]:
        """Generation of each MCPProxy as the watch knows it."""
        return {key: max(values) for key, values in (self.found or {}).items()}


def _registry(access: Access, machine: _Machine, index: _Index) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()
    register_login(registry, access)
    register(registry, machine.queue)

    async def startup(**kwargs: Any) -> None:
        index.found = kwargs[INDEX]

    async def cleanup(**_: Any) -> None:
        # Kopf waits for every task that began after it did: the streams must end first.
        await machine.stop()

    kopf.on.startup(id="startup", registry=registry)(startup)
    kopf.on.cleanup(id="cleanup", registry=registry)(cleanup)
    return registry


async def _serve(app: web.Application, port: int, stack: AsyncExitStack) -> None:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, None, port).start()


async def _wait_for_crd(cluster: Cluster, namespaces: tuple[str, ...]) -> None:
    while True:
        try:
            await cluster.list(MCP_PROXY, namespaces[0] if namespaces else None)
        except ClusterError as error:
            log.warning("can't list MCPProxies yet, is the CRD installed? %s", error)
            await asyncio.sleep(CRD_RETRY)
        else:
            return
