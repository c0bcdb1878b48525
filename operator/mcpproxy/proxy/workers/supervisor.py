"""All workers together: the parent process, and what its admin port shows."""

import asyncio
import logging
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from mcpproxy.api.v1alpha1.status import BackendStatus, PodReport
from mcpproxy.proxy import sealing_keys
from mcpproxy.proxy.admin.app import AdminApp
from mcpproxy.proxy.config.targets import ProxyConfig
from mcpproxy.proxy.runtime import VERSION, RuntimeOptions, build_host_policy
from mcpproxy.proxy.sockets import AdminServer, bind, listen
from mcpproxy.proxy.telemetry.metrics import BackendGauges
from mcpproxy.proxy.workers.ipc import ProbeResult
from mcpproxy.proxy.workers.metrics_merge import MetricFamily, MetricTotals
from mcpproxy.proxy.workers.report_merge import merge_reports
from mcpproxy.proxy.workers.worker import WorkerConfig
from mcpproxy.proxy.workers.worker_process import SILENCE, WorkerProcess, WorkerTimeout

PATIENCE: Final = 4.0
"""Seconds that a worker has for an answer."""
SETTLE: Final = 0.25
"""Seconds in which all workers see what one of them has seen, before watchers are told."""
GRACE: Final = 10.0
"""Seconds after the time to drain when workers that still run are ended."""
_families: Final = msgspec.json.Decoder(list[MetricFamily])

log = logging.getLogger("mcpproxy.workers")


class Supervisor:
    """Starts workers and speaks for them; a source for the admin port."""

    def __init__(self, setups: list[WorkerConfig], *, silence: float = SILENCE) -> None:
        """Needs a running loop. `silence` as in Member."""
        self._stopping = asyncio.Event()
        self.members = [WorkerProcess(setup, self._stopping, silence=silence) for setup in setups]
        self._drain = setups[0].options.drain
        self._blank = _blank(setups[0].configuration)
        self._watchers: set[Callable[[], None]] = set()
        self._telling: asyncio.TimerHandle | None = None
        self._shown = BackendGauges()
        self._registry = CollectorRegistry()
        self._totals = MetricTotals()
        self._registry.register(self._totals)
        self._serving = Gauge(
            "mcpproxy_workers", "Worker processes that serve", registry=self._registry
        )
        self._ends = Counter(
            "mcpproxy_worker_ends",
            "Worker processes that have ended unasked",
            registry=self._registry,
        )
        for member in self.members:
            self._attend(member)

    def _attend(self, member: WorkerProcess) -> None:
        def ended() -> None:
            self._totals.retire(member.life)
            if not self._stopping.is_set():
                self._ends.inc()

        def checked(found: ProbeResult) -> None:
            for other in self.members:
                if other is not member:
                    other.tell(found)

        member.on_report, member.on_checked, member.on_end = self._changed, checked, ended

    async def run(self) -> None:
        """Keep all workers running until `stop`. Raises WorkerStartFailed."""
        keeping = [asyncio.create_task(member.keep()) for member in self.members]
        try:
            stopping = asyncio.create_task(self._stopping.wait())
            await asyncio.wait([stopping, *keeping], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.stop()
            _, late = await asyncio.wait(keeping, timeout=self._drain + GRACE)
            for member in self.members if late else ():
                member.kill()
        await asyncio.gather(*keeping)

    def stop(self) -> None:
        """What SIGTERM and SIGINT do: every worker drains, then `run` returns."""
        self._stopping.set()
        for member in self.members:
            member.stop()

    # What the admin port shows

    def report(self) -> PodReport:
        """What all workers report together; one that is just being started has no say."""
        found = [(member.report, member.settled) for member in self.members]
        settled = [report for report, known in found if report is not None and known]
        return merge_reports(self._blank, settled or [r for r, _ in found if r is not None])

    async def not_ready(self) -> str | None:
        """None when all workers are ready, or why one is not."""
        if self._stopping.is_set():
            return "shutting down"
        answers = await asyncio.gather(*(self._ready(member) for member in self.members))
        return next((why for why in answers if why is not None), None)

    async def _ready(self, member: WorkerProcess) -> str | None:
        if not member.serves:
            return f"worker {member.number} is being started"
        try:
            why = msgspec.json.decode(await member.ask("ready", PATIENCE), type=str | None)
        except WorkerTimeout as error:
            return str(error)
        return None if why is None else f"worker {member.number}: {why}"

    async def metrics(self) -> bytes:
        """All metrics: counters, histograms and gauges of the workers added up."""
        await asyncio.gather(*(self._counted(member) for member in self.members))
        self._serving.set(sum(member.serves for member in self.members))
        return generate_latest(self._registry) + self._shown.render(self.report().backends)

    async def _counted(self, member: WorkerProcess) -> None:
        life = member.life
        try:
            families = _families.decode(await member.ask("metrics", PATIENCE))
        except WorkerTimeout as error:
            # What it said the last time still counts.
            log.warning("metrics: %s", error)
            return
        if life == member.life and member.serves:
            self._totals.take(life, families)

    def watch(self, watcher: Callable[[], None]) -> Callable[[], None]:
        """Call `watcher` when the report may have changed; returns the end."""
        self._watchers.add(watcher)
        return lambda: self._watchers.discard(watcher)

    def _changed(self) -> None:
        if self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(SETTLE, self._tell)

    def _tell(self) -> None:
        self._telling = None
        for watcher in list(self._watchers):
            watcher()


def _blank(configuration: ProxyConfig) -> PodReport:
    names = sorted(backend.name for backend in configuration.proxy.spec.backends)
    why = "no worker has tried the backend yet"
    return PodReport(
        config_hash=configuration.hash,
        version=VERSION,
        backends=[
            BackendStatus(name=name, state="Unknown", reason="NotTried", message=why)
            for name in names
        ],
        clashes=[],
    )


def worker_configs(
    configuration: ProxyConfig, options: RuntimeOptions, ports: list[int], level: str
) -> list[WorkerConfig]:
    """What each worker is given: the same, but for the port of its own. Raises ValueError."""
    common = replace(options, admin_port=None)
    if options.sealing_keys is None:
        common = replace(common, keys=options.keys or (sealing_keys.new_key(),))
    else:
        sealing_keys.read_keys(options.sealing_keys)
    return [
        WorkerConfig(number, configuration, replace(common, own_port=port), level)
        for number, port in enumerate(ports)
    ]


async def serve(
    configuration: ProxyConfig, options: RuntimeOptions, ports: list[int], level: str
) -> None:
    """Serve with as many workers as ports until SIGTERM or SIGINT.

    Raises WorkerStartFailed, OSError, ValueError.
    """
    build_host_policy(configuration, options)
    # Workers share the port with whoever is of the same user: nobody may have it before.
    bind(options.host, options.port).close()
    with bind(options.host, options.port, shared=True):
        crew = Supervisor(worker_configs(configuration, options, ports, level))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, crew.stop)
        if options.admin_port is None:
            await crew.run()
            return
        admin = AdminServer(AdminApp(crew).app)
        listening = listen(options.admin_host, options.admin_port)
        serving = asyncio.create_task(admin.serve(sockets=[listening]))
        try:
            await crew.run()
        finally:
            admin.end()
            await asyncio.gather(serving, return_exceptions=True)
