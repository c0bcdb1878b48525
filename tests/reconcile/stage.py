"""A whole operator without a cluster: the loop, the fleet, pods and an API in memory."""

import asyncio
import copy
from datetime import datetime
from typing import Any

from mcpproxy.api import constants
from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.api.manifest import config_hash
from mcpproxy.api.v1alpha1.status import MCPProxyStatus
from mcpproxy.cluster.pods.reports import PodReportWatcher
from mcpproxy.cluster.resources import CONFIG_MAP, DEPLOYMENT, MCP_PROXY, POD, REPLICA_SET, ProxyKey
from mcpproxy.reconcile.reconciler import Reconciler
from mcpproxy.reconcile.status_updates.status_write_health import StatusWriteHealth
from mcpproxy.status.compute import find_condition
from mcpproxy.testing.fake_cluster import FakeCluster
from tests.cluster.pods.pods import FakePods, a_report
from tests.reconcile.clock import FakeClock
from tests.support.builders import OPTIONS, a_manifest

KEY = ProxyKey("team", "tools")


class Stage:
    """One MCPProxy `tools` and what happens to it."""

    def __init__(self, earlier: "Stage | None" = None) -> None:
        """With `earlier`, an operator that takes over where that one was."""
        self.cluster: FakeCluster = earlier.cluster if earlier else FakeCluster()
        self.clock: FakeClock = earlier.clock if earlier else FakeClock()
        self.pods: FakePods = earlier.pods if earlier else FakePods()
        self.changes: asyncio.Queue[ProxyKey] = asyncio.Queue()
        self.fleet = PodReportWatcher(self.pods, self.changes.put_nowait, self.clock.time, _forever)
        self.knows = True
        """True if the watches know children of every kind."""
        self.childless = False
        """True if the watches are complete and know no child."""
        self.statuses = StatusWriteHealth(self.clock.steady)
        self._reconciler = Reconciler(
            self.cluster,
            self.fleet,
            OPTIONS,
            now=self._now,
            steady=self.clock.steady,
            known=lambda kind, key: self.knows,
            childless=lambda key: self.childless,
            writes=self.statuses,
        )

    def _now(self) -> datetime:
        return self.clock.now()

    async def reconcile(self) -> float | None:
        """One pass."""
        return await self._reconciler.reconcile(KEY)

    async def read_ahead(self, *keys: ProxyKey) -> None:
        """Read the ReplicaSets before the first passes."""
        await self._reconciler.ownership.read_ahead((), constants.LABEL_INSTANCE, set(keys))

    def user_applies(self, **spec: Any) -> None:
        """Create the MCPProxy or change its spec; nothing validates it."""
        live = self.cluster.objects.get((MCP_PROXY.name, *KEY))
        manifest = a_manifest(**spec)
        if live is not None:
            manifest = {**copy.deepcopy(live), "spec": manifest["spec"]}
        self.cluster.put(manifest)

    def child(self, kind: str, name: str = "tools") -> Object:
        """A live child."""
        return copy.deepcopy(self.cluster.objects[(kind, KEY.namespace, name)])

    def config_maps(self) -> list[str]:
        """Names of all ConfigMaps."""
        return [name for kind, _, name in self.cluster.objects if kind == CONFIG_MAP.name]

    def roll_out(self, *pods: str) -> None:
        """Let the Deployment's controller bring up ready pods in place of all others."""
        for kind, namespace, name in list(self.cluster.objects):
            if kind == POD.name:
                self.cluster.remove(POD, namespace, name)
        deployment = self.child("Deployment")
        counts = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
        deployment["status"] = {
            "observedGeneration": deployment["metadata"]["generation"],
            **dict.fromkeys(counts, len(pods)),
        }
        self.cluster.put(deployment)
        self._rolls_over()
        for number, pod in enumerate(pods, 1):
            self.cluster.put(self._ready_pod(pod, f"10.0.0.{number}"))

    def replica_sets(self) -> list[Object]:
        """The ReplicaSets, the newest last."""
        results = [self.child(*key[::2]) for key in self.cluster.objects if key[0] == "ReplicaSet"]
        return sorted(results, key=lambda item: int(item["metadata"]["name"].rpartition("-")[2]))

    def forget_history(self) -> None:
        """Delete all ReplicaSets but the newest."""
        for old in self.replica_sets()[:-1]:
            self.cluster.remove(REPLICA_SET, KEY.namespace, old["metadata"]["name"])

    def _rolls_over(self) -> None:
        """As the Deployment's controller does: one ReplicaSet per template, two old ones kept."""
        template = self.deployment()["spec"]["template"]
        result = self.replica_sets()
        if result and result[-1]["spec"]["template"] == template:
            return
        number = int(result[-1]["metadata"]["name"].rpartition("-")[2]) + 1 if result else 1
        self.cluster.put(self._replica_set(f"tools-{number}", template))
        for old in result[: -self.deployment()["spec"]["revisionHistoryLimit"]]:
            self.cluster.remove(REPLICA_SET, KEY.namespace, old["metadata"]["name"])

    def _replica_set(self, name: str, template: Object) -> Object:
        return {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": name,
                "namespace": KEY.namespace,
                "labels": constants.child_labels(KEY.name),
                "ownerReferences": [controlled_by(self.deployment())],
            },
            "spec": {"template": template},
        }

    def _ready_pod(self, name: str, address: str) -> Object:
        metadata = {
            "name": name,
            "namespace": KEY.namespace,
            "labels": constants.child_labels(KEY.name),
            "ownerReferences": [controlled_by(self.replica_sets()[-1])],
        }
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "spec": self.child("Deployment")["spec"]["template"]["spec"],
            "status": {
                "phase": "Running",
                "podIP": address,
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }

    def adds_a_pod(self, pod: str) -> None:
        """Let the Deployment's controller create a pod beside the ready one; it does not start."""
        deployment = self.child("Deployment")
        deployment["status"] |= {"replicas": 2, "updatedReplicas": 2}
        self.cluster.put(deployment)
        result = self.child("Pod", "tools-1")
        result["metadata"] = {
            "name": pod,
            "namespace": KEY.namespace,
            "labels": result["metadata"]["labels"],
            "ownerReferences": result["metadata"]["ownerReferences"],
            "creationTimestamp": f"{self.clock.now():%Y-%m-%dT%H:%M:%SZ}",
        }
        result["status"] = {"phase": "Pending"}
        self.cluster.put(result)

    def pod_uid(self, pod: str) -> str:
        """The uid of a pod."""
        return str(self.child("Pod", pod)["metadata"]["uid"])

    async def pod_says(self, pod: str, *, tools: int = 2, **states: str) -> None:
        """Let a pod report states of backends, and the fleet hear it."""
        mounted = self.child("Deployment")["spec"]["template"]["spec"]["volumes"]
        name = next(result["configMap"]["name"] for result in mounted if result["name"] == "config")
        content = self.child("ConfigMap", name)["data"][constants.CONFIG_FILE]
        self.pods.say(self.pod_uid(pod), a_report(config_hash(content), tools=tools, **states))
        await asyncio.wait_for(self.changes.get(), 5)

    async def is_running(self, **spec: Any) -> None:
        """Bring `tools` to Ready with one pod."""
        self.user_applies(**spec)
        await self.reconcile()
        self.roll_out("tools-1")
        await self.reconcile()
        await self.pod_says("tools-1", weather="Healthy")
        await self.reconcile()
        assert self.verdict("Ready") == ("True", "Serving")
        self.cluster.writes.clear()

    @property
    def status(self) -> MCPProxyStatus:
        """The status as it is stored."""
        live = self.cluster.objects[(MCP_PROXY.name, *KEY)]
        return MCPProxyStatus.model_validate(live["status"])

    def verdict(self, type_: str) -> tuple[str, str] | None:
        """Status and reason of one condition; None when it is absent."""
        condition = find_condition(self.status, type_)
        return (condition.status, condition.reason) if condition else None

    def message(self, type_: str) -> str:
        """Message of one condition."""
        condition = find_condition(self.status, type_)
        assert condition is not None
        return condition.message

    @property
    def sealing(self) -> tuple[str, str, str]:
        """Kind, namespace and name of the Secret with the sealing key."""
        uid = self.child(MCP_PROXY.name)["metadata"]["uid"]
        return "Secret", KEY.namespace, constants.sealing_secret_name(KEY.name, uid)

    def deployment(self) -> Object:
        """The live Deployment."""
        return self.child(DEPLOYMENT.name)

    async def close(self) -> None:
        """End all streams."""
        await self.fleet.close()


def controlled_by(owner: Object) -> Object:
    """The owner reference of an object that `owner` is the controller of."""
    metadata = owner["metadata"]
    typed = {"apiVersion": owner["apiVersion"], "kind": owner["kind"]}
    return {**typed, "name": metadata["name"], "uid": metadata["uid"], "controller": True}


async def _forever(_: float) -> None:
    await asyncio.Event().wait()
