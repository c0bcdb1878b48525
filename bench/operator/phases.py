"""The phases of a measurement: the script, new MCPProxies, rest, a lost backend, a restart."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp
import yaml

from bench.operator.api import HEADS, Api
from bench.operator.bare_cluster import Cluster, OperatorUnderTest, cpu_seconds, resident
from mcpproxy.api import constants
from mcpproxy.api.crd import definition
from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.api.manifest import parse
from mcpproxy.cluster.resources import ALWAYS, DEPLOYMENT, MCP_PROXY, POD
from mcpproxy.desired import BuildOptions, OwnerRef, build, sealing_secret
from scripts.machine import ROOT

Figures = dict[str, float]
NAMESPACE: Final = "default"
_CHILDREN: Final = f"{constants.LABEL_MANAGED_BY}={constants.FIELD_MANAGER}"
_WRITES: Final = "mcpproxy_operator_writes_total{"
_READS: Final = "mcpproxy_operator_reads_total{"
_PASSES: Final = 'controller_runtime_reconcile_time_seconds_count{controller="mcpproxy"}'
_QUIET: Final = 5.0
"""Seconds without a pass or a write after which the operator is at rest."""
_PATIENCE: Final = 1800.0
"""Seconds for which a phase may last at least; with many MCPProxies, a second for each."""
_PROGRESS: Final = 60.0
"""Seconds between two lines about the progress."""


def manifest(number: int) -> Object:
    """Return an MCPProxy as a user writes it."""
    return {
        "apiVersion": MCP_PROXY.api_version,
        "kind": MCP_PROXY.name,
        "metadata": {"name": f"proxy-{number:04}", "namespace": NAMESPACE},
        "spec": {"backends": [{"name": "weather", "url": "http://weather.example.com/mcp"}]},
    }


def children(number: int) -> list[Object]:
    """Return what the operator makes of an MCPProxy, without the reference to it."""
    proxy = parse(manifest(number))
    owner = OwnerRef(proxy.metadata.name, f"00000000-0000-0000-0000-{number:012}")
    options = BuildOptions(image="mcpproxy-runtime:1", version="1")
    made = [
        sealing_secret.build(proxy, owner, bytes(sealing_secret.KEY_BYTES)),
        *build(proxy, options, owner),
    ]
    for child in made:
        # Kubernetes deletes objects whose owner does not exist.
        del child["metadata"]["ownerReferences"]
    return made


class StatusWatch:
    """The newest status of each MCPProxy, and the times of what was seen first."""

    def __init__(self) -> None:
        self.versions: dict[str, str] = {}
        self.reported: dict[str, float] = {}
        """The time at which each MCPProxy had a status for the first time."""
        self.deployments: dict[str, float] = {}
        """The time at which each Deployment was made."""
        self.ready: set[str] = set()
        self._statuses: dict[str, Object] = {}

    def record(self, live: Object, deleted: bool) -> None:
        """Note a change of an MCPProxy."""
        name, status = live["metadata"]["name"], live.get("status") or {}
        self.versions[name] = live["metadata"]["resourceVersion"]
        self._statuses[name] = status
        if status.get("observedGeneration", -1) == live["metadata"]["generation"]:
            self.reported.setdefault(name, time.monotonic())
        if self.condition(name, "Ready") == "True":
            self.ready.add(name)
        else:
            self.ready.discard(name)

    def made(self, live: Object, deleted: bool) -> None:
        """Note a Deployment, which is applied after the other children."""
        self.deployments.setdefault(live["metadata"]["name"], time.monotonic())

    def condition(self, name: str, type_: str) -> str | None:
        """Return the status of a condition; None if there is none."""
        conditions = self._statuses.get(name, {}).get("conditions") or []
        return next((str(item["status"]) for item in conditions if item["type"] == type_), None)


@dataclass(slots=True)
class Usage:
    """Resources that the operator and the API server had used at one moment."""

    metrics: dict[str, float]
    cpu: float
    apiserver: float
    at: float

    @classmethod
    def now(cls, operator: OperatorUnderTest, cluster: Cluster) -> "Usage":
        """Read the figures now."""
        cpu = cpu_seconds(operator.process.pid)
        return cls(operator.metrics(), cpu, cpu_seconds(cluster.apiserver), time.monotonic())

    def since(self, before: "Usage") -> Figures:
        """Return the difference to an earlier moment."""
        return {
            "CPU s": self.cpu - before.cpu,
            "API server CPU s": self.apiserver - before.apiserver,
            "writes": self.total(_WRITES) - before.total(_WRITES),
            "reads": self.total(_READS) - before.total(_READS),
            "passes": self.metrics.get(_PASSES, 0) - before.metrics.get(_PASSES, 0),
        }

    def total(self, prefix: str) -> float:
        """Return the sum of a counter, without the requests for the Lease."""
        return sum(
            value
            for name, value in self.metrics.items()
            if name.startswith(prefix) and 'kind="Lease"' not in name
        )

    def requests(self, before: "Usage") -> dict[str, float]:
        """Return the numbers of requests by kind and verb."""
        return {
            name: value - before.metrics.get(name, 0)
            for name, value in self.metrics.items()
            if name.startswith((_WRITES, _READS)) and value > before.metrics.get(name, 0)
        }


@dataclass(slots=True)
class Phases:
    """One cluster in which phases follow each other."""

    api: Api
    cluster: Cluster
    count: int
    stub: asyncio.subprocess.Process
    log: Callable[[str], None]
    seen: StatusWatch = field(default_factory=StatusWatch)

    async def watch(self) -> None:
        """Follow the statuses of all MCPProxies until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.api.watch(MCP_PROXY, "", self.seen.record))
            tasks.create_task(self.api.watch(DEPLOYMENT, _CHILDREN, self.seen.made, HEADS))

    async def tell(self, operator: OperatorUnderTest) -> None:
        """Log the progress until cancelled: it is what is left of a measurement that fails."""
        began, process = time.monotonic(), operator.process.pid
        while True:
            await asyncio.sleep(_PROGRESS)
            self.log(
                f"  {time.monotonic() - began:.0f} s: {len(self.seen.reported)} with a status,"
                f" {len(self.seen.deployments)} deployed, {len(self.seen.ready)} Ready;"
                f" operator {resident(process):.0f} MiB, {cpu_seconds(process):.0f} s of CPU;"
                f" load average {os.getloadavg()[0]:.0f}"
            )

    async def plain(self) -> Figures:
        """Apply the children of all MCPProxies by a script, without an operator."""
        groups = [children(number) for number in range(self.count)]
        before, began = cpu_seconds(self.cluster.apiserver), time.monotonic()
        await self.api.apply_all(groups)
        applied = time.monotonic() - began
        await self._until(self._all_available, "all Deployments are available")
        return {
            "applied s": applied,
            "available s": time.monotonic() - began,
            "writes": float(sum(map(len, groups))),
            "API server CPU s": cpu_seconds(self.cluster.apiserver) - before,
        }

    async def create(self, operator: OperatorUnderTest) -> Figures:
        """Create all MCPProxies at once, until all are Ready and the operator rests."""
        empty, before = resident(operator.process.pid), Usage.now(operator, self.cluster)
        began = time.monotonic()
        await self.api.apply_all([manifest(number)] for number in range(self.count))
        posted = time.monotonic() - began
        seen = self.seen
        await self._until(lambda: len(seen.reported) == self.count, "all have a status")
        await self._until(lambda: len(seen.deployments) == self.count, "all are deployed")
        reported = max(*seen.reported.values(), *seen.deployments.values()) - began
        at_first = cpu_seconds(operator.process.pid) - before.cpu
        await self._until(lambda: len(self.seen.ready) == self.count, "all are Ready")
        ready = time.monotonic() - began
        after = await self.rest(operator)
        for name, number in sorted(after.requests(before).items()):
            self.log(f"  {number / self.count:7.2f} {name}")
        await self._verify(operator)
        used = after.since(before)
        return {
            "posted s": posted,
            "applied s": reported,
            "ready s": ready,
            "CPU s until applied": at_first,
            **used,
            **{f"{key} per proxy": used[key] / self.count for key in ("writes", "reads", "passes")},
            "empty MiB": empty,
            "MiB": resident(operator.process.pid),
            "peak MiB": resident(operator.process.pid, peak=True),
        }

    async def idle(self, operator: OperatorUnderTest, seconds: float) -> Figures:
        """Do nothing for a while."""
        before = Usage.now(operator, self.cluster)
        await asyncio.sleep(seconds)
        after = Usage.now(operator, self.cluster)
        used = after.since(before)
        return {**used, "cores": used["CPU s"] / (after.at - before.at)}

    async def lose_backend(self, operator: OperatorUnderTest) -> Figures:
        """Let the backend of one MCPProxy die, and recover."""
        name, versions = f"proxy-{self.count // 2:04}", dict(self.seen.versions)
        before, began = Usage.now(operator, self.cluster), time.monotonic()
        await self._say(name, "Unhealthy")
        await self._until(lambda: name not in self.seen.ready, "the status tells of the backend")
        lost = time.monotonic() - began
        await self._say(name, "Healthy")
        await self._until(lambda: name in self.seen.ready, "the status tells that it is back")
        after = await self.rest(operator)
        others = [item for item in versions if item != name]
        changed = [item for item in others if versions[item] != self.seen.versions[item]]
        return {"lost s": lost, **after.since(before), "others": float(len(changed))}

    async def restarted(self, operator: OperatorUnderTest, ready: float) -> Figures:
        """Wait until an operator that has just started rests."""
        at_first = cpu_seconds(operator.process.pid)
        series = 'mcpproxy_operator_pod_streams{state="reporting"}'
        await self._until(
            lambda: operator.metrics().get(series) == self.count, "every pod has reported", 0.5
        )
        usage = await self.rest(operator)
        return {
            "ready s": ready,
            "ready CPU s": at_first,
            **usage.since(Usage({}, 0, usage.apiserver, 0)),
            "MiB": resident(operator.process.pid),
            "peak MiB": resident(operator.process.pid, peak=True),
        }

    async def rest(self, operator: OperatorUnderTest) -> Usage:
        """Wait until the operator neither passes nor writes for a while."""
        last, quiet = Usage.now(operator, self.cluster), time.monotonic()
        while time.monotonic() - quiet < _QUIET:
            await asyncio.sleep(0.5)
            usage = Usage.now(operator, self.cluster)
            work = usage.since(last)
            if work["passes"] or work["writes"]:
                last, quiet = usage, time.monotonic()
        return last

    async def _say(self, proxy: str, state: str) -> None:
        assert self.stub.stdin is not None
        self.stub.stdin.write(f"{proxy} {state}\n".encode())
        await self.stub.stdin.drain()

    async def _all_available(self) -> bool:
        listed = await self.api.list(DEPLOYMENT, _CHILDREN)
        available = [item for item in listed if item.get("status", {}).get("availableReplicas")]
        return len(available) == self.count

    async def _verify(self, operator: OperatorUnderTest) -> None:
        """Raise ValueError unless every MCPProxy has one child of each kind and one pod, and the
        operator's watches miss nothing."""
        if not operator.is_ready():
            raise ValueError("the operator is not ready")
        for kind in (*ALWAYS, POD):
            listed = len(await self.api.list(kind, _CHILDREN if kind != POD else ""))
            if listed != self.count:
                raise ValueError(f"{listed} {kind.plural} exist, not {self.count}")

    async def _until(self, is_so: Callable[[], object], what: str, pause: float = 0.05) -> None:
        patience = max(_PATIENCE, self.count)
        end = time.monotonic() + patience
        while True:
            result = is_so()
            if asyncio.iscoroutine(result):
                result = await result
                pause = 1.0
            if result:
                return
            if time.monotonic() > end:
                raise TimeoutError(f"{what}: not within {patience:g} s")
            await asyncio.sleep(pause)


@asynccontextmanager
async def stub_of_pods(kubeconfig: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Answer for all pods until the block ends."""
    command = (sys.executable, "-m", "bench.operator.pods", str(kubeconfig))
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.kill()
        await process.wait()


async def install_crd(api: Api) -> None:
    """Install the kind MCPProxy, and wait until it can be listed."""
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    await api.send("POST", path, yaml.safe_load(definition.render()))
    for _ in range(200):
        try:
            await api.list(MCP_PROXY)
        except aiohttp.ClientResponseError:
            await asyncio.sleep(0.1)
        else:
            return
    raise TimeoutError("MCPProxies can't be listed although their kind is installed")
