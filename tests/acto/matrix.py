"""MCPProxies of which each one meets another fault, and the judgement on their statuses."""

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx2

from mcpproxy.api import constants
from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.cluster.resources import (
    ALWAYS,
    CONFIG_MAP,
    DEPLOYMENT,
    MCP_PROXY,
    ON_DEMAND,
    POD,
    ResourceKind,
)
from mcpproxy.reconcile.object_views import mounted_config_map
from mcpproxy.status import reasons
from tests.acto.faults import CODES, Operation, Way, lost_child, spec_of
from tests.apiserver.operator_process import OperatorProcess
from tests.apiserver.wire import Request, Wire
from tests.support.builders import a_manifest
from tests.support.on_demand import asks_for

log = logging.getLogger("matrix")
PROXY: Final = "tools"
PATIENCE: Final = 60
"""Looks, half a second apart, within which something has to be so."""
BURST: Final = 12
"""Writes that the start of a fault or its end may bring at once."""
FAULTS: Final = {
    reasons.API_SERVER_UNAVAILABLE,
    reasons.FORBIDDEN,
    reasons.OPERATOR_FAILED,
    reasons.REFUSED,
    reasons.TERMINATING,
}
UNWRITTEN: Final = "mcpproxy_operator_statuses_unwritten"


@dataclass(slots=True)
class Findings:
    """Faults that the status did not tell, that did not heal, or that made too many writes."""

    silent: list[str] = field(default_factory=list)
    not_healed: list[str] = field(default_factory=list)
    hot: list[str] = field(default_factory=list)
    met: set[str] = field(default_factory=set)
    """Namespaces of operations that were requested while they were to fail."""


class Matrix:
    """One MCPProxy for each operation, in its own namespace."""

    def __init__(
        self,
        client: httpx2.Client,
        wire: Wire,
        operator: OperatorProcess,
        operations: Iterable[Operation],
        number: int,
    ) -> None:
        """`operator` is one that has seen no round before; `number` is of this round alone."""
        self._client = client
        self._wire = wire
        self._operator = operator
        self._operations = list(operations)
        self._changed: set[Operation] = set()
        self._number = number
        self._live: dict[ResourceKind, dict[str, list[Object]]] = {}
        self.findings = Findings()

    def begin(self) -> None:
        """Bring every MCPProxy to where its fault can begin."""
        for operation in self._operations:
            metadata = {"name": operation.namespace}
            answer = self._client.post("/api/v1/namespaces", json={"metadata": metadata})
            assert answer.status_code in (201, 409), answer.text
            self._apply(operation)
        left = self._until(self._operations, self._is_healed)
        assert not left, [self._cell(item, {}) for item in left]

    def round(
        self,
        faults: Mapping[Operation, Way],
        admission: Callable[[Operation, bool], None] = lambda operation, begins: None,
    ) -> None:
        """Let each operation fail in one way, and judge the statuses during and after it.

        `admission` begins and ends the faults that the API server itself makes.
        """
        began, before = time.monotonic(), self._writes()

        def fault(request: Request) -> Way | None:
            for operation, way in faults.items():
                if operation.is_requested_by(request):
                    self.findings.met.add(operation.namespace)
                    return way if way in CODES else None
            return None

        self._wire.fault = fault
        for operation in faults:
            admission(operation, True)
        for operation in faults:
            self._trigger(operation)
        silent = self._until(faults, self._is_told, "told")
        self._wire.fault = lambda request: None
        for operation in faults:
            admission(operation, False)
        not_healed = self._until(faults, self._is_healed, "healed")
        allowed = time.monotonic() - began + BURST
        after = self._writes()
        self.findings.silent += [self._cell(item, faults) for item in silent]
        self.findings.not_healed += [self._cell(entry, faults) for entry in not_healed]
        self.findings.hot += [
            f"{self._cell(cell, faults)}: {after[cell.namespace] - before[cell.namespace]} writes"
            for cell in faults
            if after[cell.namespace] - before[cell.namespace] > allowed
        ]

    def _trigger(self, operation: Operation) -> None:
        """Make the operator request an operation."""
        self._changed.add(operation)
        kind = lost_child(operation)
        if kind is not None:
            for child in self._live[kind].get(operation.namespace, []):
                path = kind.path(operation.namespace, child["metadata"]["name"])
                self._client.delete(path)
        if operation.kind.name == "ReplicaSet":
            self._add_pod(operation.namespace)
        self._apply(operation)
        if operation.verb == "delete" and operation.kind == CONFIG_MAP:
            # Configurations of the past are deleted when the rollout is complete.
            self._until([operation], self._is_rolling_out)
            self._complete(operation)

    def _apply(self, operation: Operation) -> None:
        changed = operation in self._changed
        spec = spec_of(operation, self._number, changed=changed)
        path = MCP_PROXY.path(operation.namespace, PROXY)
        manifest = a_manifest(PROXY, operation.namespace, **spec)
        answer = self._client.patch(
            path,
            params={"fieldManager": "user", "force": "true"},
            headers={"Content-Type": "application/apply-patch+yaml"},
            content=json.dumps(manifest),
        )
        assert answer.is_success, answer.text

    def _add_pod(self, namespace: str) -> None:
        """Add a pod that claims a ReplicaSet, so that ReplicaSets are listed."""
        owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x", "controller": True}
        metadata = {
            "name": f"pod-{self._number}",
            "labels": constants.selector_labels(PROXY),
            "ownerReferences": [{**owner, "uid": f"uid-{self._number}"}],
        }
        spec = {"containers": [{"name": "a", "image": "a"}], "serviceAccountName": PROXY}
        body = {"metadata": metadata, "spec": {**spec, "automountServiceAccountToken": False}}
        answer = self._client.post(POD.path(namespace), json=body)
        assert answer.status_code == 201, answer.text

    def _complete(self, operation: Operation) -> None:
        deployment = self._one(DEPLOYMENT, operation)
        assert deployment is not None
        counts = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
        status = dict.fromkeys(counts, deployment["spec"]["replicas"])
        status["observedGeneration"] = deployment["metadata"]["generation"]
        answer = self._client.patch(
            DEPLOYMENT.path(operation.namespace, PROXY, "status"),
            headers={"Content-Type": "application/merge-patch+json"},
            content=json.dumps({"status": status}),
        )
        assert answer.is_success, answer.text

    def _until(
        self, operations: Iterable[Operation], is_so: Callable[[Operation], bool], what: str = ""
    ) -> list[Operation]:
        """Wait until something is so of all; return those of which it is not in the end.

        `what` names it where the seconds that the slowest took are to be logged.
        """
        began, left, slowest = time.monotonic(), list(operations), list[Operation]()
        for _ in range(PATIENCE):
            self._look()
            slowest, left = left, [operation for operation in left if not is_so(operation)]
            if not left:
                break
            self._operator.wait(0.5)
        if what:
            last = ", ".join(item.namespace for item in slowest)
            log.info("%s within %.1f s, last: %s", what, time.monotonic() - began, last)
        return left

    def _look(self) -> None:
        for kind in (MCP_PROXY, *ALWAYS, *ON_DEMAND):
            answer = self._client.get(kind.path(None))
            assert answer.status_code == 200, answer.text
            self._live[kind] = {}
            for item in answer.json()["items"]:
                self._live[kind].setdefault(item["metadata"]["namespace"], []).append(item)

    def _one(self, kind: ResourceKind, operation: Operation) -> Object | None:
        live = self._live[kind].get(operation.namespace, [])
        return next((item for item in live if item["metadata"]["name"] == PROXY), None)

    def _is_told(self, operation: Operation) -> bool:
        """Return True if the status is right, or names what fails."""
        if operation.of_status and self._operator.number(UNWRITTEN) > 0:
            return True
        prunes = operation.verb == "delete" and operation.kind == CONFIG_MAP
        told = bool(self._reasons(operation) & FAULTS)
        return self._is_seen(operation) and (told or prunes or self._is_healed(operation))

    def _is_healed(self, operation: Operation) -> bool:
        """Return True if children and status are what the spec asks for."""
        if not self._is_seen(operation) or self._reasons(operation) & FAULTS:
            return False
        spec = spec_of(operation, self._number, changed=operation in self._changed)
        for kind in (*ALWAYS, *ON_DEMAND):
            if kind == CONFIG_MAP or (spec.get("suspend") and kind != DEPLOYMENT):
                continue
            wanted = kind in ALWAYS or asks_for(spec, kind)
            if wanted != (self._one(kind, operation) is not None):
                return False
        if spec.get("suspend"):
            return True
        prunes = operation.verb == "delete" and operation.kind == CONFIG_MAP
        if prunes and operation in self._changed:
            return len(self._config_maps(operation)) == 1
        return self._is_rolling_out(operation)

    def _is_rolling_out(self, operation: Operation) -> bool:
        """Return True if the Deployment mounts a ConfigMap that has the newest spec."""
        deployment = self._one(DEPLOYMENT, operation)
        if deployment is None:
            return False
        name = mounted_config_map(deployment["spec"]["template"]["spec"], PROXY)
        content = self._config_maps(operation).get(name or "", "")
        return f"{2 * self._number + (operation in self._changed) + 1}s" in content

    def _config_maps(self, operation: Operation) -> dict[str, str]:
        live = self._live[CONFIG_MAP].get(operation.namespace, [])
        return {
            item["metadata"]["name"]: json.dumps(item["data"])
            for item in live
            if item["metadata"]["name"].startswith(f"{PROXY}-")
        }

    def _is_seen(self, operation: Operation) -> bool:
        live = self._one(MCP_PROXY, operation)
        assert live is not None
        seen = live.get("status", {}).get("observedGeneration", -1)
        return bool(seen == live["metadata"]["generation"])

    def _reasons(self, operation: Operation) -> set[str]:
        return {str(condition["reason"]) for condition in self._conditions(operation)}

    def _conditions(self, operation: Operation) -> list[dict[str, Any]]:
        live = self._one(MCP_PROXY, operation) or {}
        result: list[dict[str, Any]] = live.get("status", {}).get("conditions", [])
        return result

    def _writes(self) -> Counter[str]:
        """Return the numbers of writes so far by namespace."""
        paths = (
            request.path.split("/namespaces/") for request in self._wire.requests if request.writes
        )
        return Counter(parts[1].split("/")[0] for parts in paths if len(parts) > 1)

    def _cell(self, operation: Operation, faults: Mapping[Operation, Way]) -> str:
        said = [
            f"{condition['reason']}: {condition['message'][:90]}"
            for condition in self._conditions(operation)
        ]
        seen = self._is_seen(operation)
        return f"{operation.namespace} {faults.get(operation, '')}: seen {seen}, {said}"
