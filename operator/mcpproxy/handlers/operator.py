"""The parts of the operator put together, and its life from start to stop."""

import asyncio
import logging
import socket
import time
import uuid
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final

import kopf
from aiohttp import web

from mcpproxy.cluster.access import Access
from mcpproxy.cluster.client import Cluster, KubeCluster
from mcpproxy.cluster.election import Election, Place, Timing
from mcpproxy.cluster.errors import ClusterError
from mcpproxy.cluster.kinds import MCP_PROXY
from mcpproxy.cluster.pods import PodAccess, StreamingReader
from mcpproxy.desired import Options
from mcpproxy.handlers.health import application
from mcpproxy.handlers.machine import Machine, Pace
from mcpproxy.handlers.metrics import Metrics
from mcpproxy.handlers.settings import register_login, settings
from mcpproxy.handlers.watches import register

log = logging.getLogger(__name__)

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
    lease: Place | None
    """What the replicas of the operator elect their leader by; None for a single one."""
    timing: Timing = field(default_factory=Timing)
    pace: Pace = field(default_factory=Pace)


async def run(access: Access, configuration: Configuration) -> None:
    """Run until SIGTERM or SIGINT."""
    ready, metrics = asyncio.Event(), Metrics()
    async with AsyncExitStack() as stack:
        election = _election(access, configuration, metrics, stack)
        leads = election.leads if election else lambda: True
        cluster = KubeCluster(
            access.configuration, may_write=leads, wrote=metrics.wrote, read=metrics.read
        )
        stack.push_async_callback(cluster.close)
        reader = StreamingReader(access.configuration, configuration.pod_access)
        stack.push_async_callback(reader.close)
        parts = (configuration.namespaces, configuration.options, metrics, election)
        machine = Machine(cluster, reader, *parts, configuration.pace)
        stack.push_async_callback(machine.stop)

        def not_ready() -> str | None:
            return machine.not_ready() if ready.is_set() else "the operator is starting"

        app = application(metrics, machine.wrong, not_ready)
        await _serve(app, configuration.health_port, stack)
        await _wait_for_crd(cluster, configuration.namespaces)
        machine.start()
        log.info("started, serving %s", ", ".join(configuration.namespaces) or "all namespaces")
        await kopf.operator(
            registry=_registry(access, machine),
            settings=settings(),
            standalone=True,
            namespaces=configuration.namespaces,
            clusterwide=not configuration.namespaces,
            ready_flag=ready,
        )
        log.info("stopped")


def _election(
    access: Access, configuration: Configuration, metrics: Metrics, stack: AsyncExitStack
) -> Election | None:
    if configuration.lease is None:
        return None
    timing = configuration.timing
    leases = KubeCluster(
        access.configuration, timeout=timing.renewal / 2, wrote=metrics.wrote, read=metrics.read
    )
    stack.push_async_callback(leases.close)
    identity = f"{socket.gethostname()}_{uuid.uuid4()}"
    election = Election(leases, configuration.lease, identity, time.monotonic, timing=timing)
    metrics.leadership(configuration.lease.name, election.leads)
    return election


def _registry(access: Access, machine: Machine) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()
    register_login(registry, access)
    register(registry, machine.watches, machine.enqueue)

    async def cleanup(**_: Any) -> None:
        # Kopf waits for every task that began after it did: the streams must end first.
        await machine.stop()

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
            await cluster.heads(MCP_PROXY, namespaces[0] if namespaces else None, "")
        except ClusterError as error:
            log.warning("can't list MCPProxies yet, is the CRD installed? %s", error)
            await asyncio.sleep(CRD_RETRY)
        else:
            return
