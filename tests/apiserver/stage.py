"""One namespace of a real API server, in which a test plays user and controllers."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mcpproxy.api import constants
from mcpproxy.api.manifest import config_hash
from mcpproxy.api.v1alpha1.status import BackendStatus, ComponentCounts, PodReport
from tests.apiserver.operator_process import OperatorProcess, StatusServer
from tests.apiserver.server import ApiServer
from tests.reconcile.stage import controlled_by
from tests.support.builders import a_manifest

Object = dict[str, Any]

CHILDREN = "deployments,services,serviceaccounts,configmaps,pods"


class Stage:
    """A user's namespace."""

    def __init__(self, apiserver: ApiServer, namespace: str) -> None:
        self.apiserver = apiserver
        self.namespace = namespace

    def kubectl(self, *args: str, input: str | None = None) -> str:  # noqa: A002
        """Return the output of kubectl in this namespace; it must succeed."""
        answer = self.apiserver.kubectl("-n", self.namespace, *args, input=input)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    def get(self, what: str) -> Object:
        """One object."""
        document: Object = json.loads(self.kubectl("get", what, "-o", "json"))
        return document

    def find(self, what: str) -> Object | None:
        """One object, or None if there is none."""
        text = self.kubectl("get", what, "-o", "json", "--ignore-not-found")
        return json.loads(text) if text else None

    def list(self, what: str) -> list[Object]:
        """All objects of some kinds."""
        items: list[Object] = self.get(what)["items"]
        return items

    def wait(self, what: str, condition: str) -> None:
        """Wait for something to become so, 15 seconds at the most."""
        self.kubectl("wait", f"--for={condition}", what, "--timeout=15s")

    def apply(self, name: str = "tools", **spec: Any) -> None:
        """Create or change an MCPProxy as a user does."""
        manifest = a_manifest(name, self.namespace, **spec)
        self.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(manifest))

    def config_map(self) -> str:
        """Name of the ConfigMap that the Deployment mounts."""
        volumes = self.get("deployment/tools")["spec"]["template"]["spec"]["volumes"]
        return next(str(v["configMap"]["name"]) for v in volumes if v["name"] == "config")

    def wait_for_report(self, reason: str) -> None:
        """Wait until the Ready condition has this reason."""
        self.wait_for("Ready", reason)

    def wait_for(self, condition: str, reason: str) -> None:
        """Wait until a condition has this reason."""
        path = f"{{.status.conditions[?(@.type=='{condition}')].reason}}"
        self.wait("mcpproxy/tools", f"jsonpath={path}={reason}")

    def versions(self) -> dict[str, str]:
        """resourceVersion of every object, the MCPProxy included."""
        return {
            f"{result['kind']}/{result['metadata']['name']}": result["metadata"]["resourceVersion"]
            for result in self.list(f"{CHILDREN},mcpproxies,secrets,events")
        }

    def roll_out(self, pod: str, *addresses: str, history: bool = False) -> None:
        """Do what the controllers of Deployments and the kubelet do: a ready pod at each address.

        The first is called `pod`, the others have a number after that. ReplicaSets of earlier
        templates stay with `history` alone.
        """
        self.kubectl("delete", "pods", "--all", "--force", "--grace-period=0")
        deployment = self.get("deployment/tools")
        template = deployment["spec"]["template"]
        owner = self.replica_set(deployment)
        for earlier in self.list("replicasets"):
            if earlier["metadata"]["uid"] != owner["uid"] and not history:
                self.kubectl("delete", f"replicaset/{earlier['metadata']['name']}")
        for number, address in enumerate(addresses):
            name = f"{pod}-{number}" if number else pod
            labels = template["metadata"]["labels"]
            metadata = {"name": name, "labels": labels, "ownerReferences": [owner]}
            manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}
            text = json.dumps({**manifest, "spec": template["spec"]})
            self.kubectl("create", "-f", "-", input=text)
            self.patch_status(
                f"pod/{name}",
                phase="Running",
                podIP=address,
                podIPs=[{"ip": address}],
                conditions=[{"type": "Ready", "status": "True"}],
            )
        counts = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
        self.patch_status(
            "deployment/tools",
            observedGeneration=deployment["metadata"]["generation"],
            conditions=[
                {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}
            ],
            **dict.fromkeys(counts, len(addresses)),
        )

    def replica_set(self, deployment: Object) -> Object:
        """Create the ReplicaSet of a Deployment; the owner reference of its pods."""
        template = deployment["spec"]["template"]
        digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()
        name = f"{deployment['metadata']['name']}-{digest[:8]}"
        if self.find(f"replicaset/{name}") is None:
            manifest = {
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "metadata": {
                    "name": name,
                    "labels": template["metadata"]["labels"],
                    "ownerReferences": [controlled_by(deployment)],
                },
                "spec": {"selector": deployment["spec"]["selector"], "template": template},
            }
            self.kubectl("create", "-f", "-", input=json.dumps(manifest))
        return controlled_by(self.get(f"replicaset/{name}"))

    def passes_settle(self, operator: OperatorProcess) -> None:
        """Make the operator look at `tools` again, and wait until it has nothing left to do."""
        before = operator.passes
        self.kubectl("label", "mcpproxy/tools", f"n={before}", "--overwrite")
        operator.until(lambda: operator.passes > before, "another pass")
        count = -1.0
        while operator.passes != count:
            count = operator.passes
            operator.wait(0.3)

    def patch_status(self, what: str, **status: Any) -> None:
        """Change the status of an object, as its controller does."""
        patch = json.dumps({"status": status})
        self.kubectl("patch", what, "--subresource=status", "--type=merge", "-p", patch)

    def report(self, *, tools: int = 2, why: str | None = None, **states: Any) -> PodReport:
        """Return the report of a pod that runs the current configuration."""
        content = self.get(f"configmap/{self.config_map()}")["data"][constants.CONFIG_FILE]
        counts = ComponentCounts(tools=tools, prompts=0)
        return PodReport(
            config_hash=config_hash(content),
            version="1",
            clashes=[],
            backends=[
                BackendStatus(
                    name=name,
                    state=state,
                    reason=None if state == "Healthy" else state,
                    message=None if state == "Healthy" else why,
                    components=None if state in ("Unhealthy", "Unauthorized") else counts,
                )
                for name, state in states.items()
            ],
        )

    @contextmanager
    def pod(self) -> Iterator[StatusServer]:
        """The admin port of a pod at an address of its own on loopback."""
        server = StatusServer()
        try:
            yield server
        finally:
            server.stop()

    def become_ready(self, pod: StatusServer) -> None:
        """Bring `tools` to Ready with one pod."""
        self.apply()
        self.wait("deployment/tools", "create")
        pod.say(self.report(weather="Healthy"))
        self.roll_out("tools-1", pod.address)
        self.wait("mcpproxy/tools", "condition=Ready")
