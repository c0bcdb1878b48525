"""The parts of the operator put together, and its life from start to stop."""

import asyncio
import logging
import random
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

import kopf
from aiohttp import web

from mcpproxy.cluster.access import Access
from mcpproxy.cluster.client import Cluster, KubeCluster
from mcpproxy.cluster.errors import ClusterError
from mcpproxy.cluster.kinds import MCP_PROXY, ProxyKey
from mcpproxy.cluster.pods import PodAccess, StreamingReader
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
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    async with AsyncExitStack() as stack:
        cluster = KubeCluster(access.configuration)
        stack.push_async_callback(cluster.close)
        reader = StreamingReader(access.configuration, configuration.pod_access)
        stack.push_async_callback(reader.close)
        queue: WorkQueue[ProxyKey] = WorkQueue(loop, lambda: random.uniform(0.8, 1.2))
        fleet = Fleet(reader, queue.add, time.monotonic)
        stack.push_async_callback(fleet.close)
        guard, index = WatchGuard(time.monotonic), _Index()
        metrics = Metrics(queue.__len__, fleet.__len__)
        app = application(metrics, lambda: not guard.lagging, ready.is_set)
        await _serve(app, configuration.health_port, stack)
        await _wait_for_crd(cluster, configuration.namespaces)
        reconciler = Reconciler(
            cluster, fleet, configuration.options, instance=socket.gethostname()
        )
        resync = Resync(
            cluster,
            configuration.namespaces,
            queue,
            guard,
            index.generations,
            jitter=lambda: random.uniform(0.8, 1.2),
        )
        background = [
            asyncio.create_task(work(queue, reconciler.reconcile, metrics, time.monotonic))
            for _ in range(WORKERS)
        ]
        background.append(asyncio.create_task(resync.run()))

        async def shut_down() -> None:
            # Kopf waits for every task that began after it did: the streams must end first.
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            await fleet.close()
            log.info("stopped")

        registry = _registry(access, queue, index, shut_down)
        log.info("started, serving %s", ", ".join(configuration.namespaces) or "all namespaces")
        await kopf.operator(
            registry=registry,
            settings=settings(),
            standalone=True,
            namespaces=configuration.namespaces,
            clusterwide=not configuration.namespaces,
            ready_flag=ready,
        )


class _Index:
    """Kopf's index, which exists only once Kopf has started."""

    def __init__(self) -> None:
        self.found: kopf.Index[ProxyKey, int] | None = None

    def generations(self) -> Mapping[ProxyKey, int]:
        """Generation of each MCPProxy as the watch knows it."""
        return {key: max(values) for key, values in (self.found or {}).items()}


def _registry(
    access: Access,
    queue: WorkQueue[ProxyKey],
    index: _Index,
    shut_down: Callable[[], Awaitable[None]],
) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()
    register_login(registry, access)
    register(registry, queue)

    async def startup(**kwargs: Any) -> None:
        index.found = kwargs[INDEX]

    async def cleanup(**_: Any) -> None:
        await shut_down()

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
