"""Twenty proxies at rest: nothing is written, whatever others have put into our objects."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from mcpproxy.api import constants
from mcpproxy.api.manifest import config_hash
from mcpproxy.api.v1alpha1.status import BackendStatus, ComponentCounts, PodReport
from mcpproxy.cluster.resources import (
    CONFIG_MAP,
    DEPLOYMENT,
    MCP_PROXY,
    NETWORK_POLICY,
    POD,
    REPLICA_SET,
    ResourceKind,
)
from mcpproxy.reconcile.object_views import mounted_config_map
from tests.apiserver.operator_process import OperatorProcess, StatusServer, operating
from tests.apiserver.server import ApiServer
from tests.apiserver.stage import Object
from tests.apiserver.wire import Wire, wired
from tests.reconcile.stage import controlled_by
from tests.stress.size import size
from tests.support.builders import a_manifest
from tests.support.on_demand import ASKING

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(300)]

PROXIES: Final = tuple(f"proxy-{number:02}" for number in range(20))
ROUNDS: Final = size(1, 6)
"""Number of reconciliations of every proxy while nothing happens."""
MERGE: Final = "application/merge-patch+json"
APPLY: Final = "application/apply-patch+yaml"


class Crowd:
    """A namespace with many proxies, and all that others do there."""

    def __init__(self, client: httpx2.Client, namespace: str, operator: OperatorProcess) -> None:
        self._client, self._namespace, self._operator = client, namespace, operator

    def create(self, name: str, number: int) -> None:
        """An MCPProxy; every other one asks for all that can be asked for."""
        spec = ASKING if number % 2 else {}
        manifest = a_manifest(name, self._namespace, **spec)
        answer = self._client.post(MCP_PROXY.path(self._namespace), json=manifest)
        assert answer.status_code == 201, answer.text

    def find(self, kind: ResourceKind, name: str) -> Object | None:
        """One object; None if there is none."""
        answer = self._client.get(kind.path(self._namespace, name))
        return None if answer.status_code == 404 else dict(answer.json())

    def version(self, kind: ResourceKind) -> int:
        """The newest resource version among all proxies' objects of a kind."""
        results = [self.find(kind, name) or {} for name in PROXIES]
        return max(int(item["metadata"]["resourceVersion"]) for item in results)

    def is_ready(self, name: str) -> bool:
        """Return True if the proxy is Ready."""
        result = self.find(MCP_PROXY, name) or {}
        conditions = result.get("status", {}).get("conditions", [])
        return {"Ready": "True"} in [
            {condition["type"]: condition["status"]} for condition in conditions
        ]

    def begin(self, name: str, pod: StatusServer) -> None:
        """One pod of the proxy runs and reports."""
        self._operator.until(lambda: self.find(DEPLOYMENT, name) is not None, f"{name} is made")
        template = (self.find(DEPLOYMENT, name) or {})["spec"]["template"]
        config = self.find(CONFIG_MAP, mounted_config_map(template["spec"], name) or "") or {}
        pod.say(
            PodReport(
                config_hash=config_hash(config["data"][constants.CONFIG_FILE]),
                version="1",
                clashes=[],
                backends=[
                    BackendStatus(
                        name="weather", state="Healthy", components=ComponentCounts(tools=2)
                    )
                ],
            )
        )
        labels = template["metadata"]["labels"]
        owner = self._replica_set(name)
        metadata = {"name": f"{name}-1", "labels": labels, "ownerReferences": [owner]}
        made = {"metadata": metadata, "spec": template["spec"]}
        answer = self._client.post(POD.path(self._namespace), json=made)
        assert answer.status_code == 201, answer.text
        status = {
            "phase": "Running",
            "podIP": pod.address,
            "podIPs": [{"ip": pod.address}],
            "conditions": [{"type": "Ready", "status": "True"}],
        }
        self.patch(POD, f"{name}-1", "status", {"status": status})
        self.roll_out(name)

    def _replica_set(self, name: str) -> Object:
        """Create the ReplicaSet of a Deployment; the owner reference of its pods."""
        deployment = self.find(DEPLOYMENT, name) or {}
        spec = {key: deployment["spec"][key] for key in ("selector", "template")}
        metadata = {
            "name": f"{name}-1",
            "labels": spec["template"]["metadata"]["labels"],
            "ownerReferences": [controlled_by({**deployment, "kind": DEPLOYMENT.name})],
        }
        path = REPLICA_SET.path(self._namespace)
        answer = self._client.post(path, json={"metadata": metadata, "spec": spec})
        assert answer.status_code == 201, answer.text
        return controlled_by(answer.json())

    def roll_out(self, name: str) -> None:
        """Let the Deployment say that all is as its spec asks for."""
        result = self.find(DEPLOYMENT, name) or {}
        counts = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
        status = dict.fromkeys(counts, result["spec"]["replicas"])
        status["observedGeneration"] = result["metadata"]["generation"]
        self.patch(DEPLOYMENT, name, "status", {"status": status})

    def inject(self, name: str) -> None:
        """Apply an annotation and a sidecar as an injecting webhook, by its own manager."""
        sidecar = {"name": "mesh", "image": "mesh:1"}
        template = {
            "metadata": {"annotations": {"mesh.example.com/injected": "true"}},
            "spec": {"containers": [sidecar]},
        }
        manifest = {
            "apiVersion": DEPLOYMENT.api_version,
            "kind": DEPLOYMENT.name,
            "metadata": {"name": name, "annotations": {"mesh.example.com/seen": "1"}},
            "spec": {"template": template},
        }
        self._send(DEPLOYMENT, name, "", manifest, APPLY, fieldManager="mesh")
        self.roll_out(name)

    def scale(self, name: str, replicas: int) -> None:
        """Scale as an autoscaler and the Deployment's controller do."""
        by_hpa = {"fieldManager": "kube-controller-manager"}
        self._send(DEPLOYMENT, name, "scale", {"spec": {"replicas": replicas}}, MERGE, **by_hpa)
        self.roll_out(name)

    def patch(self, kind: ResourceKind, name: str, subresource: str, patch: Any) -> None:
        """Merge a patch into an object or its subresource."""
        self._send(kind, name, subresource, patch, MERGE)

    def _send(
        self, kind: ResourceKind, name: str, subresource: str, patch: Any, form: str, **query: str
    ) -> None:
        answer = self._client.patch(
            kind.path(self._namespace, name, subresource),
            content=json.dumps(patch),
            params=query,
            headers={"Content-Type": form},
        )
        assert answer.is_success, answer.text


def let_pass(operator: OperatorProcess, rounds: int) -> None:
    """Wait until every proxy was looked at so often."""
    end = operator.passes + rounds * len(PROXIES)
    for _ in range(400):
        if operator.passes >= end:
            return
        operator.wait(0.3)
    raise AssertionError("the operator does not look again")


def at_rest(operator: OperatorProcess, wire: Wire) -> int:
    """Wait until a whole round brought no write any more; how many there were until then."""
    for _ in range(10):
        before = len(wire.writes())
        let_pass(operator, 1)
        if len(wire.writes()) == before:
            return before
    raise AssertionError(f"the operator never rests: {wire.writes()[-5:]}")


@contextmanager
def a_crowd(
    apiserver: ApiServer, namespace: str, directory: Path
) -> Iterator[tuple[Crowd, OperatorProcess, Wire]]:
    """All proxies Ready, and the way that the operator's requests take."""
    served = ("--namespace", namespace, "--resync-interval", "1s")
    with ExitStack() as stack:
        wire = stack.enter_context(wired(apiserver, directory))
        client = stack.enter_context(apiserver.client())
        operator = stack.enter_context(operating(wire.kubeconfig, *served, log=directory / "log"))
        crowd = Crowd(client, namespace, operator)
        for number, name in enumerate(PROXIES):
            crowd.create(name, number)
        for name in PROXIES:
            pod = StatusServer()
            stack.callback(pod.stop)
            crowd.begin(name, pod)
        for name in PROXIES:
            operator.until(partial(crowd.is_ready, name), f"{name} is Ready")
        yield crowd, operator, wire


def test_at_rest_nothing_is_written_beside_sidecars_and_an_autoscaler(
    apiserver: ApiServer, namespace: str, tmp_path: Path
) -> None:
    with a_crowd(apiserver, namespace, tmp_path) as (crowd, operator, wire):
        made = at_rest(operator, wire)
        assert made >= len(PROXIES) * 6
        for name in PROXIES:
            crowd.inject(name)
        for name in PROXIES[1::2]:
            crowd.scale(name, 3)
        newest, watched = crowd.version(DEPLOYMENT), DEPLOYMENT.path(namespace)
        operator.until(lambda: wire.told(watched) >= newest, "the operator is told of all that")
        at_rest(operator, wire)
        others = wire.writes()[made:]
        # That there are more pods is said, and nothing else is done about it.
        assert {other.rpartition("/")[2] for other in others} <= {"status", "events"}
        before = len(wire.writes())
        let_pass(operator, ROUNDS)
        assert wire.writes()[before:] == []
        for name in PROXIES:
            result = crowd.find(DEPLOYMENT, name) or {}
            containers = result["spec"]["template"]["spec"]["containers"]
            assert sorted(container["name"] for container in containers) == ["mcpproxy", "mesh"]
        assert (crowd.find(DEPLOYMENT, PROXIES[1]) or {})["spec"]["replicas"] == 3
        assert crowd.find(NETWORK_POLICY, PROXIES[1]) is not None
        assert operator.errors == 0
