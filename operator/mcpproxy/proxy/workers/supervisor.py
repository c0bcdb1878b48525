"""Supervisor: the parent process of all workers, and the data of its admin port."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from mcpproxy.api.defaults import pods_count_together
from mcpproxy.api.v1alpha1.status import BackendStatus, PodReport
from mcpproxy.proxy import sealing_keys
from mcpproxy.proxy.admin.app import AdminApp
from mcpproxy.proxy.bootstrap import VERSION, build_host_policy
from mcpproxy.proxy.config.options import RuntimeOptions
from mcpproxy.proxy.config.proxy_config import ProxyConfig
from mcpproxy.proxy.process import INTERRUPTED
from mcpproxy.proxy.sockets import AdminServer, bind, listen
from mcpproxy.proxy.telemetry.metrics import BackendGauges
from mcpproxy.proxy.workers.ipc import ProbeResult
from mcpproxy.proxy.workers.metrics_merge import MetricFamily, MetricTotals
from mcpproxy.proxy.workers.report_merge import merge_reports
from mcpproxy.proxy.workers.worker import WorkerConfig
from mcpproxy.proxy.workers.worker_process import SILENCE, WorkerProcess, WorkerTimeout

PROBE_DELAY: Final = 0.2
"""Additional probe delay per worker number, as a fraction of the probe interval."""
PATIENCE: Final = 4.0
"""Seconds in which a worker must respond to a query."""
SETTLE: Final = 0.25
"""Seconds to wait for equal reports of other workers before watchers are notified."""
GRACE: Final = 10.0
"""Seconds after the drain time when workers that still run are killed."""
_families: Final = msgspec.json.Decoder(list[MetricFamily])

log = logging.getLogger("mcpproxy.workers")


class Supervisor:
    """Supervisor of all workers, and the data source of the admin port."""

    def __init__(self, configs: list[WorkerConfig], *, silence: float = SILENCE) -> None:
        """Create the workers. Requires a running loop. `silence` is as in `WorkerProcess`."""
        self._stopping = asyncio.Event()
        self.interrupted = False
        """True after SIGINT."""
        self.members = [
            WorkerProcess(
                config,
                self._stopping,
                on_report=self._changed,
                on_check=self._share_check,
                on_end=self._count_end,
                silence=silence,
            )
            for config in configs
        ]
        self._drain = configs[0].options.drain
        self._initial_report = _initial_report(configs[0].configuration)
        self._watchers: set[Callable[[], None]] = set()
        self._notification: asyncio.TimerHandle | None = None
        self._gauges = BackendGauges()
        self._registry = CollectorRegistry()
        self._totals = MetricTotals()
        self._registry.register(self._totals)
        self._serving_workers = Gauge(
            "mcpproxy_workers",
            "Number of worker processes that are serving",
            registry=self._registry,
        )
        self._ends = Counter(
            "mcpproxy_worker_ends",
            "Unexpected exits of worker processes",
            registry=self._registry,
        )

    def _count_end(self, member: WorkerProcess) -> None:
        self._totals.retire_worker(member.generation)
        if not self._stopping.is_set():
            self._ends.inc()

    def _share_check(self, member: WorkerProcess, result: ProbeResult) -> None:
        for other in self.members:
            if other is not member:
                other.send(result)

    async def run(self) -> None:
        """Keep all workers running until `stop`. Raise WorkerStartFailed."""
        supervision = [asyncio.create_task(member.supervise()) for member in self.members]
        try:
            stopping = asyncio.create_task(self._stopping.wait())
            await asyncio.wait([stopping, *supervision], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.stop()
            _, running = await asyncio.wait(supervision, timeout=self._drain + GRACE)
            for member in self.members if running else ():
                member.kill()
        await asyncio.gather(*supervision)

    def stop(self) -> None:
        """Drain every worker and let `run` return, as after SIGTERM or SIGINT."""
        self._stopping.set()
        for member in self.members:
            member.stop()

    def interrupt(self) -> None:
        """Drain every worker after SIGINT; end at once after the second, with all workers."""
        if self.interrupted:
            os._exit(INTERRUPTED)
        self.interrupted = True
        self.stop()

    def report(self) -> PodReport:
        """Return the merged report of all workers; a worker that is starting does not affect it."""
        reports = [(member.report, member.settled) for member in self.members]
        settled = [report for report, has_settled in reports if report is not None and has_settled]
        return merge_reports(
            self._initial_report, settled or [r for r, _ in reports if r is not None]
        )

    async def not_ready(self) -> str | None:
        """Return the reason for which a worker is not ready, or None."""
        if self._stopping.is_set():
            return "shutting down"
        answers = await asyncio.gather(*(self._ready(member) for member in self.members))
        return next((why for why in answers if why is not None), None)

    async def _ready(self, member: WorkerProcess) -> str | None:
        if not member.serves:
            return f"worker {member.number} is starting"
        try:
            why = msgspec.json.decode(await member.query("ready", PATIENCE), type=str | None)
        except WorkerTimeout as error:
            return str(error)
        return None if why is None else f"worker {member.number}: {why}"

    async def metrics(self) -> bytes:
        """Return all metrics; counters, histograms and gauges of the workers are added."""
        await asyncio.gather(*(self._query_metrics(member) for member in self.members))
        self._serving_workers.set(sum(member.serves for member in self.members))
        return generate_latest(self._registry) + self._gauges.render(self.report().backends)

    async def _query_metrics(self, member: WorkerProcess) -> None:
        generation = member.generation
        try:
            families = _families.decode(await member.query("metrics", PATIENCE))
        except WorkerTimeout as error:
            # Its last known metrics remain in the sum.
            log.warning("metrics: %s", error)
            return
        if generation == member.generation and member.serves:
            self._totals.update(generation, families)

    async def page_data(self, request: bytes) -> bytes:
        """Return the result of a `PageRequest`; both are JSON. Raise TimeoutError."""
        # Most processes are never visited by a browser.
        from mcpproxy.proxy.admin.page.worker_merge import merge_page_data

        return await merge_page_data(request, self._ask, self.report(), await self.not_ready())

    async def _ask(self, request: bytes) -> list[bytes]:
        """Return the results of all workers that respond in time."""
        results = await asyncio.gather(
            *(member.query("page", PATIENCE, request) for member in self.members),
            return_exceptions=True,
        )
        return [result for result in results if isinstance(result, bytes)]

    def watch(self, watcher: Callable[[], None]) -> Callable[[], None]:
        """Call `watcher` when the report may have changed; return the canceller."""
        self._watchers.add(watcher)
        return lambda: self._watchers.discard(watcher)

    def _changed(self) -> None:
        if self._notification is None:
            self._notification = asyncio.get_running_loop().call_later(SETTLE, self._notify)

    def _notify(self) -> None:
        self._notification = None
        for watcher in list(self._watchers):
            watcher()


def _initial_report(configuration: ProxyConfig) -> PodReport:
    names = sorted(backend.name for backend in configuration.proxy.spec.backends)
    why = "no worker has connected to the backend yet"
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
    configuration: ProxyConfig,
    options: RuntimeOptions,
    ports: list[int],
    level: str,
    log_format: str = "json",
) -> list[WorkerConfig]:
    """Return the configuration of each worker; they differ in port. Raise ValueError."""
    common = replace(options, admin_port=None, keeps_calls=options.admin_port is not None)
    if options.sealing_keys is None:
        common = replace(common, keys=options.keys or (sealing_keys.new_key(),))
    else:
        sealing_keys.read_keys(options.sealing_keys)
    if pods_count_together(configuration.proxy.spec):
        if not all(ports):
            raise ValueError(
                "spec.limits: workers count calls together only at known ports; set --worker-ports"
            )
        workers = tuple((options.reachable_host, port) for port in ports)
        common = replace(common, instances=(*common.instances, *workers))
    return [
        WorkerConfig(
            number,
            configuration,
            # Workers share probe results, so the first worker probes first and the others need not.
            replace(common, own_port=port, probe_delay_factor=1.0 + PROBE_DELAY * number),
            level,
            log_format,
        )
        for number, port in enumerate(ports)
    ]


async def serve(
    configuration: ProxyConfig,
    options: RuntimeOptions,
    ports: list[int],
    level: str,
    log_format: str = "json",
    serving: Callable[["Supervisor"], None] = lambda workers: None,
) -> bool:
    """Serve with one worker per port until SIGTERM or SIGINT; return True after SIGINT.

    `serving` is called when the workers are about to start. Raise WorkerStartFailed, OSError or
    ValueError.
    """
    build_host_policy(configuration, options)
    # SO_REUSEPORT would share the port with any process of the same user; fail if one has it.
    bind(options.host, options.port).close()
    with bind(options.host, options.port, shared=True):
        workers = Supervisor(worker_configs(configuration, options, ports, level, log_format))
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, workers.stop)
        loop.add_signal_handler(signal.SIGINT, workers.interrupt)
        serving(workers)
        if options.admin_port is None:
            await workers.run()
            return workers.interrupted
        application = AdminApp(workers, options.admin_page)
        admin = AdminServer(application.app)
        listening = listen(options.admin_host, options.admin_port, option="--admin-port")
        admin_task = asyncio.create_task(admin.serve(sockets=[listening]))
        try:
            await workers.run()
        finally:
            application.close()
            admin.end()
            await asyncio.gather(admin_task, return_exceptions=True)
        return workers.interrupted
