"""The life of one MCPProxy at a real API server, under an operator that may be killed at any time.

A test plays the user, the controllers of Kubernetes and the kubelet.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx2

from mcpproxy.api import constants
from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.api.manifest import config_hash
from mcpproxy.api.v1alpha1.status import BackendState, BackendStatus, ComponentCounts, PodReport
from mcpproxy.cluster.resources import (
    ALWAYS,
    CONFIG_MAP,
    DEPLOYMENT,
    INGRESS,
    MCP_PROXY,
    ON_DEMAND,
    POD,
    REPLICA_SET,
    SECRET,
    ResourceKind,
)
from mcpproxy.reconcile.object_views import mounted_config_map
from tests.apiserver.operator_process import OperatorProcess, StatusServer, starting
from tests.apiserver.wire import Wire
from tests.operator_faults.end_state import state_of
from tests.reconcile.stage import controlled_by
from tests.support.builders import a_manifest
from tests.support.on_demand import ASKED, ASKING

NAME: Final = "tools"
MERGE: Final = "application/merge-patch+json"
ASKED_FOR: Final[dict[str, Any]] = {
    **ASKING,
    "limits": {"rules": [{"name": "team", "calls": 10, "window": "60s"}]},
    "authentication": {"serviceAccounts": {"audience": "tools.mcpproxy.dev"}},
}
"""A spec that asks for every child that one MCPProxy may have."""
_REMOVED: Final = ("disruptionBudget", "autoscaling", "networkPolicy", "monitoring")
CHANGED: Final[dict[str, Any]] = {
    "cache": {"ttl": "7s"},
    "expose": {"parentRefs": None, **ASKED[INGRESS]["expose"]},
    **dict.fromkeys((*_REMOVED, "authentication")),
}
"""A change that makes another ConfigMap, and an Ingress in place of five optional children."""
_PATIENCE: Final = 8
"""Times 20 seconds for each step: an operator may start again in it."""


class Supervisor:
    """Keeps one operator running, as the kubelet does."""

    def __init__(self, start: Callable[[], Any]) -> None:
        self._start = start
        self._context = start()
        self.operator: OperatorProcess = self._context.__enter__()
        self.restarts = 0

    def until(self, is_so: Callable[[], bool], what: str) -> None:
        """Wait for something, across restarts of the operator."""
        for _ in range(400 * _PATIENCE):
            if is_so():
                return
            if self.operator.process.poll() is not None:
                self._restart()
            else:
                self.operator.wait_or_end()
        raise AssertionError(f"in vain: {what}")

    def kill(self) -> None:
        """Kill the operator without a warning."""
        self.operator.process.kill()

    def stop(self) -> None:
        """End the operator."""
        self._context.__exit__(None, None, None)

    def _restart(self) -> None:
        self.stop()
        self.restarts += 1
        self._context = self._start()
        self.operator = self._context.__enter__()


@contextmanager
def supervised(wire: Wire, namespace: str, log: Path, *more: str) -> Iterator[Supervisor]:
    """Run an operator for one namespace until the block ends, with `more` arguments."""
    args = ("--namespace", namespace, "--resync-interval", "1s", *more)
    supervisor = Supervisor(partial(starting, wire.kubeconfig, *args, log=log))
    try:
        supervisor.until(lambda: supervisor.operator.get("/readyz")[0] == 200, "it is ready")
        yield supervisor
    finally:
        supervisor.stop()


class Story:
    """Events in the life of one MCPProxy, and the state at the end of each chapter."""

    def __init__(
        self, client: httpx2.Client, namespace: str, supervisor: Supervisor, pod: StatusServer
    ) -> None:
        self._client, self._namespace = client, namespace
        self._supervisor, self._pod = supervisor, pod
        self._rollouts = 0
        self._uid = ""

    def create(self) -> None:
        """An MCPProxy that asks for every child comes about."""
        manifest = a_manifest(NAME, self._namespace, **ASKED_FOR)
        answer = self._client.post(MCP_PROXY.path(self._namespace), json=manifest)
        assert answer.status_code == 201, answer.text
        self._supervisor.until(lambda: self.find(DEPLOYMENT) is not None, "the Deployment exists")
        self._roll_out()

    def update(self) -> None:
        """The configuration changes, and asks for fewer children."""
        before = self._mounted()
        self._patch(MCP_PROXY, NAME, "", {"spec": CHANGED})
        self._supervisor.until(lambda: self._mounted() != before, "the Deployment changes")
        self._roll_out()

    def delete(self) -> None:
        """The MCPProxy is deleted; nobody collects the children here."""
        answer = self._client.delete(MCP_PROXY.path(self._namespace, NAME))
        assert answer.is_success, answer.text
        self._supervisor.until(lambda: self.find(MCP_PROXY) is None, "it is gone")

    def report(self, state: BackendState) -> None:
        """Let the pod report its only backend in a state."""
        config = self.find(CONFIG_MAP, self._mounted() or "") or {}
        self._pod.say(_report(config["data"][constants.CONFIG_FILE], state))

    def find(self, kind: ResourceKind, name: str = NAME) -> Object | None:
        """One object; None if there is none."""
        answer = self._client.get(kind.path(self._namespace, name))
        assert answer.status_code in (200, 404), answer.text
        return None if answer.status_code == 404 else dict(answer.json())

    def state(self) -> dict[str, Object]:
        """All objects of the MCPProxy and its status, without what differs between two runs."""
        objects: list[Object] = []
        kinds = (MCP_PROXY, *ALWAYS, *ON_DEMAND, SECRET)
        live = self.find(MCP_PROXY)
        for kind in kinds:
            answer = self._client.get(kind.path(self._namespace))
            if answer.status_code == 404 and kind in ASKED:
                continue
            assert answer.status_code == 200, answer.text
            typed = {"apiVersion": kind.api_version, "kind": kind.name}
            objects += [{**typed, **item} for item in answer.json()["items"]]
        # After the MCPProxy is gone, its children still have its uid.
        self._uid = live["metadata"]["uid"] if live else self._uid
        address, uid = self._pod.address, self._uid
        names = {uid: "UID", self._namespace: "NAMESPACE", address: "ADDRESS"}
        return state_of(objects, names)

    def _has_config(self) -> bool:
        return self.find(CONFIG_MAP, self._mounted() or "-") is not None

    def _mounted(self) -> str | None:
        deployment = self.find(DEPLOYMENT)
        template = deployment and deployment["spec"]["template"]["spec"]
        return mounted_config_map(template, NAME) if template else None

    def _roll_out(self) -> None:
        """Let the controllers and the kubelet replace the pod, which then reports."""
        self._rollouts += 1
        self._supervisor.until(self._has_config, "the ConfigMap exists")
        deployment = self.find(DEPLOYMENT) or {}
        template = deployment["spec"]["template"]
        self.report("Healthy")
        labels, name = template["metadata"]["labels"], f"{NAME}-{self._rollouts}"
        metadata = {"name": name, "labels": labels}
        owner = {"ownerReferences": [controlled_by({**deployment, "kind": DEPLOYMENT.name})]}
        spec = {key: deployment["spec"][key] for key in ("selector", "template")}
        made = self._create(REPLICA_SET, {"metadata": {**metadata, **owner}, "spec": spec})
        owner = {"ownerReferences": [controlled_by(made)]}
        self._create(POD, {"metadata": {**metadata, **owner}, "spec": template["spec"]})
        if self._rollouts > 1:
            before = f"{NAME}-{self._rollouts - 1}"
            path = POD.path(self._namespace, before)
            self._client.delete(path, params={"gracePeriodSeconds": "0"})
            self._client.delete(REPLICA_SET.path(self._namespace, before))
        address = self._pod.address
        ready = {"conditions": [{"type": "Ready", "status": "True"}]}
        status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], **ready}
        self._patch(POD, name, "status", {"status": status})
        self._report_rollout()

    def _report_rollout(self) -> None:
        deployment = self.find(DEPLOYMENT) or {}
        counts = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
        status: Object = dict.fromkeys(counts, 1)
        status["observedGeneration"] = deployment["metadata"]["generation"]
        self._patch(DEPLOYMENT, NAME, "status", {"status": status})

    def _create(self, kind: ResourceKind, manifest: Object) -> Object:
        answer = self._client.post(kind.path(self._namespace), json=manifest)
        assert answer.status_code == 201, answer.text
        made: Object = answer.json()
        return made

    def _patch(self, kind: ResourceKind, name: str, subresource: str, patch: Any) -> None:
        path = kind.path(self._namespace, name, subresource)
        headers = {"Content-Type": MERGE}
        answer = self._client.patch(path, content=json.dumps(patch), headers=headers)
        assert answer.is_success, answer.text


def _report(config: str, state: BackendState = "Healthy") -> PodReport:
    counts = ComponentCounts(tools=2, prompts=0) if state == "Healthy" else None
    backend = BackendStatus(name="weather", state=state, components=counts)
    return PodReport(config_hash=config_hash(config), version="1", clashes=[], backends=[backend])
