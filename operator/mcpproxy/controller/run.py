"""Composition of the operator, from start to stop."""

import asyncio
import logging
import signal
import socket
import time
import uuid
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final

import kopf
from aiohttp import web

from mcpproxy.cluster.client import Cluster, KubeClient
from mcpproxy.cluster.errors import ClusterError
from mcpproxy.cluster.kubeconfig import ClusterConfig
from mcpproxy.cluster.pods.status_stream import HttpPodStatusReader, PodAccess
from mcpproxy.cluster.resources import MCP_PROXY
from mcpproxy.cluster.write_pace import ResponseTimes
from mcpproxy.controller.health_port.application import application
from mcpproxy.controller.health_port.connections import BoundedConnections
from mcpproxy.controller.kopf_session import register_login
from mcpproxy.controller.kopf_settings import STOP_SECONDS, NoMemo, kopf_settings
from mcpproxy.controller.kopf_watches import register_watches
from mcpproxy.controller.leader_election import LeaderElectionConfig, LeaderElector, LeaseRef
from mcpproxy.controller.manager import Manager, ResyncConfig
from mcpproxy.controller.metrics import OperatorMetrics
from mcpproxy.desired import BuildOptions

log = logging.getLogger(__name__)

CRD_RETRY: Final = 5.0
"""Seconds between two checks for the CRD while it is not installed."""
KOPF_RETRY: Final = 5.0
"""Seconds between an error that ended Kopf and its next start."""
WATCHER: Final = "watcher for "
"""Beginning of the names of Kopf's tasks that watch one kind."""


@dataclass(frozen=True, slots=True)
class OperatorConfig:
    """Configuration from the command line."""

    namespaces: tuple[str, ...]
    """Namespaces that are served; empty for all."""
    options: BuildOptions
    pod_access: PodAccess
    health_port: int
    lease: LeaseRef | None
    """Lease for the leader election of several replicas; None for a single one."""
    timing: LeaderElectionConfig = field(default_factory=LeaderElectionConfig)
    pace: ResyncConfig = field(default_factory=ResyncConfig)


class _Ending:
    """The end of a run, and its cause."""

    def __init__(self) -> None:
        self.flag = asyncio.Event()
        """Flag that stops Kopf."""
        self._signalled = self._again = False

    @property
    def restarts(self) -> bool:
        """True if the operator must run again."""
        return self._again and not self._signalled

    def signalled(self) -> None:
        """End because of a signal."""
        self._signalled = True
        self._stop()

    def kinds_changed(self) -> None:
        """End because a kind was installed or removed."""
        self._again = True
        self._stop()

    def kopf_failed(self) -> None:
        """End because Kopf has ended with an error."""
        self._again = True

    def _stop(self) -> None:
        if not self.flag.is_set():
            # Kopf does not limit its own stop if a flag is the cause.
            loop = asyncio.get_running_loop()
            loop.call_later(STOP_SECONDS, signal.raise_signal, signal.SIGKILL)
        self.flag.set()


async def run(access: ClusterConfig, configuration: OperatorConfig) -> bool:
    """Run until SIGTERM, SIGINT, an error of Kopf or a change of the kinds that the cluster has.

    Return True after an error or such a change, because the operator must then run again: Kopf
    decides at its start which kinds it watches.
    """
    ready, metrics, ending = asyncio.Event(), OperatorMetrics(), _Ending()
    async with AsyncExitStack() as stack:
        election = _election(access, configuration, metrics, stack)
        leads = election.leads if election else lambda: True
        times = ResponseTimes(time.monotonic)
        cluster = KubeClient(
            access.configuration,
            may_write=leads,
            wrote=metrics.wrote,
            read=metrics.read,
            took=times.record,
        )
        stack.push_async_callback(cluster.close)
        reader = HttpPodStatusReader(access.configuration, configuration.pod_access)
        stack.push_async_callback(reader.close)
        parts = (configuration.namespaces, configuration.options, metrics, election)
        callbacks = (ending.kinds_changed, times.is_busy)
        machine = Manager(cluster, reader, *parts, configuration.pace, *callbacks)
        stack.push_async_callback(machine.stop)

        def not_ready() -> str | None:
            return machine.not_ready() if ready.is_set() else "the operator is starting"

        store = machine.watches[MCP_PROXY].store
        checks = (machine.wrong, not_ready)
        app = application(metrics, *checks, store, configuration.namespaces)
        await _serve(app, configuration.health_port, stack)
        await _wait_for_crd(cluster, configuration.namespaces)
        await machine.note_kinds()
        machine.start()
        log.info("started, serving %s", ", ".join(configuration.namespaces) or "all namespaces")
        registry = _registry(access, machine, ending)
        await _watch(registry, configuration.namespaces, ready, ending)
        log.info("starting again" if ending.restarts else "stopped")
    return ending.restarts


async def _watch(
    registry: kopf.OperatorRegistry,
    namespaces: tuple[str, ...],
    ready: asyncio.Event,
    ending: _Ending,
) -> None:
    """Run Kopf until its end, which may be an error that another start does not meet again."""
    try:
        await kopf.operator(
            registry=registry,
            settings=kopf_settings(),
            memo=NoMemo(),
            standalone=True,
            namespaces=namespaces,
            clusterwide=not namespaces,
            ready_flag=ready,
            stop_flag=ending.flag,
        )
    except Exception:
        log.exception("Kopf ended with an error; starting again in %g s", KOPF_RETRY)
        await asyncio.sleep(KOPF_RETRY)
        ending.kopf_failed()


def _election(
    access: ClusterConfig,
    configuration: OperatorConfig,
    metrics: OperatorMetrics,
    stack: AsyncExitStack,
) -> LeaderElector | None:
    if configuration.lease is None:
        return None
    timing = configuration.timing
    leases = KubeClient(
        access.configuration, timeout=timing.renewal / 2, wrote=metrics.wrote, read=metrics.read
    )
    stack.push_async_callback(leases.close)
    identity = f"{socket.gethostname()}_{uuid.uuid4()}"
    election = LeaderElector(leases, configuration.lease, identity, time.monotonic, timing=timing)
    metrics.leadership(configuration.lease.name, election.leads)
    return election


def _registry(access: ClusterConfig, machine: Manager, ending: _Ending) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()
    register_login(registry, access)
    register_watches(registry, machine.watches, machine.enqueue)

    async def startup(**_: Any) -> None:
        # Kopf forgets a signal that it gets while it stops for another reason.
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, ending.signalled)

    async def cleanup(**_: Any) -> None:
        if not ending.flag.is_set():
            await _stop_watchers()
        # Kopf waits for every task that was started after it, also for its own that waits for the
        # flag, so the streams must end first.
        ending.flag.set()
        await machine.stop()

    kopf.on.startup(id="startup", registry=registry)(startup)
    kopf.on.cleanup(id="cleanup", registry=registry)(cleanup)
    return registry


async def _stop_watchers() -> None:
    """Stop the watchers that Kopf leaves behind when one of them fails.

    Kopf cancels them only after it has closed their connections, and together with the tasks that
    pause them. Each then takes its cancellation for a pause, and Kopf waits for it without end.
    """
    left = {task for task in asyncio.all_tasks() if task.get_name().startswith(WATCHER)}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=STOP_SECONDS / 2)


async def _serve(app: web.Application, port: int, stack: AsyncExitStack) -> None:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    connections = BoundedConnections(lambda: _protocol(runner))
    app.on_response_prepare.append(connections.on_response)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    server = await asyncio.get_running_loop().create_server(connections, None, port, backlog=128)
    stack.callback(server.close)


def _protocol(runner: web.AppRunner) -> asyncio.Protocol:
    assert runner.server is not None
    return runner.server()


async def _wait_for_crd(cluster: Cluster, namespaces: tuple[str, ...]) -> None:
    while True:
        try:
            await cluster.heads(MCP_PROXY, namespaces[0] if namespaces else None, "")
        except ClusterError as error:
            log.warning("cannot list MCPProxies; check that the CRD is installed: %s", error)
            await asyncio.sleep(CRD_RETRY)
        else:
            return
