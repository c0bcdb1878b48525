"""Ways in which each request of the operator fails, made from its role.

One namespace stands for each operation, a verb on a kind. The operator reaches the API server over
a wire that refuses, delays or cuts the requests of one namespace.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

from mcpproxy.cluster.rbac import RULES
from mcpproxy.cluster.resources import (
    CONFIG_MAP,
    DEPLOYMENT,
    EVENT,
    HTTP_ROUTE,
    INGRESS,
    MCP_PROXY,
    POD,
    POD_MONITOR,
    REPLICA_SET,
    SECRET,
    ResourceKind,
    kind_of,
)
from tests.apiserver.wire import Request
from tests.support.on_demand import ASKED, ASKING

Way = int | str
CODES: Final[tuple[Way, ...]] = (403, 409, 410, 422, 429, 500, "hang", "cut")
"""Answers that the wire gives, or the lack of one."""
ADMISSION: Final = ("webhook", "policy", "quota")
"""Refusals by the API server itself."""

LISTED: Final = (CONFIG_MAP, HTTP_ROUTE, INGRESS, POD, POD_MONITOR, REPLICA_SET)
"""Kinds of which a pass lists objects; all others are listed beside their watches alone."""
_METHODS: Final = {"get": "GET", "list": "GET", "patch": "PATCH", "delete": "DELETE"}
_KINDS: Final[dict[str, ResourceKind]] = {
    kind.plural: kind
    for kind in (
        *(kind_of({"kind": name}) for name in ("Service", "ServiceAccount", "NetworkPolicy")),
        *(kind_of({"kind": name}) for name in ("HorizontalPodAutoscaler", "PodDisruptionBudget")),
        *(
            CONFIG_MAP,
            DEPLOYMENT,
            EVENT,
            HTTP_ROUTE,
            INGRESS,
            MCP_PROXY,
            POD,
            POD_MONITOR,
            REPLICA_SET,
            SECRET,
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Operation:
    """A verb on a kind, or on its status."""

    verb: str
    kind: ResourceKind
    of_status: bool = False

    @property
    def namespace(self) -> str:
        """The namespace in which this operation is to fail."""
        part = "-status" if self.of_status else ""
        return f"fault-{self.verb}-{self.kind.plural}{part}"

    @property
    def writes(self) -> bool:
        """True if the operation changes something."""
        return self.verb in ("create", "patch", "delete")

    def is_requested_by(self, request: Request) -> bool:
        """Return True for a request that is this operation."""
        path = re.fullmatch(
            rf".*/namespaces/{self.namespace}/{self.kind.plural}(/[^/]+)?(/status)?", request.path
        )
        if path is None or (path[2] is not None) != self.of_status or request.watches:
            return False
        method = _METHODS.get(self.verb, "POST")
        return request.method == method and (path[1] is None) == (self.verb in ("list", "create"))


def operations() -> list[Operation]:
    """Return all that the operator's role permits in a namespace, and that it requests."""
    result = []
    for rule in RULES:
        for resource in rule["resources"]:
            plural, _, subresource = resource.partition("/")
            if subresource not in ("", "status"):
                continue
            result += [
                Operation(verb, _KINDS[plural], bool(subresource))
                for verb in rule["verbs"]
                # Watches are no part of a pass. Apart from Secrets, objects are created by PATCH.
                if verb != "watch" and (verb != "create" or plural == SECRET.plural)
            ]
    return [item for item in result if item.verb != "list" or item.kind in LISTED]


def spec_of(operation: Operation, number: int, *, changed: bool) -> dict[str, Any]:
    """Return a spec, or the change of it that makes the operator request the operation."""
    asking = {**ASKING, **ASKED[INGRESS]} if operation.kind == INGRESS else ASKING
    spec: dict[str, Any] = {**asking, "cache": {"ttl": f"{2 * number + changed + 1}s"}}
    if changed and operation.verb == "delete" and operation.kind in ASKED:
        for field in ASKED[operation.kind]:
            del spec[field]
    if changed and operation.kind == EVENT:
        spec["suspend"] = True
    return spec


def webhook(operation: Operation) -> dict[str, Any]:
    """Return a webhook that can't be called, for the kind of an operation in its namespace."""
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": operation.namespace},
        "webhooks": [
            {
                "name": "fault.example.com",
                "clientConfig": {"url": "https://127.0.0.1:1/validate"},
                "rules": [_admission_rule(operation)],
                "namespaceSelector": _selector(operation),
                "failurePolicy": "Fail",
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
                "timeoutSeconds": 1,
            }
        ],
    }


def policy(operation: Operation) -> list[dict[str, Any]]:
    """Return a policy that refuses every change of a kind in the namespace of an operation."""
    typed = {"apiVersion": "admissionregistration.k8s.io/v1"}
    metadata = {"metadata": {"name": operation.namespace}}
    rules = {
        "resourceRules": [_admission_rule(operation)],
        "namespaceSelector": _selector(operation),
    }
    validations = [{"expression": "false", "message": "refused by the policy of a test"}]
    spec = {"matchConstraints": rules, "validations": validations, "failurePolicy": "Fail"}
    binding = {"policyName": operation.namespace, "validationActions": ["Deny"]}
    return [
        {**typed, "kind": "ValidatingAdmissionPolicy", **metadata, "spec": spec},
        {**typed, "kind": "ValidatingAdmissionPolicyBinding", **metadata, "spec": binding},
    ]


def quota(operation: Operation) -> dict[str, Any]:
    """Return a quota of no object of a kind in the namespace of an operation."""
    group = f".{operation.kind.group}" if operation.kind.group else ""
    count = f"count/{operation.kind.plural}{group}"
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none", "namespace": operation.namespace},
        "spec": {"hard": {count: "0"}},
        # As the controller of quotas would write it.
        "status": {"hard": {count: "0"}, "used": {count: "0"}},
    }


def _admission_rule(operation: Operation) -> dict[str, Any]:
    subresource = "/status" if operation.of_status else ""
    return {
        "apiGroups": [operation.kind.group],
        "apiVersions": [operation.kind.version],
        "operations": ["DELETE"] if operation.verb == "delete" else ["CREATE", "UPDATE"],
        "resources": [f"{operation.kind.plural}{subresource}"],
    }


def _selector(operation: Operation) -> dict[str, Any]:
    return {"matchLabels": {"kubernetes.io/metadata.name": operation.namespace}}


def lost_child(operation: Operation) -> ResourceKind | None:
    """Return the kind of the child that a test deletes to make the operator act."""
    if operation.kind == SECRET:
        return DEPLOYMENT
    if operation.verb == "delete" or operation.kind in (MCP_PROXY, EVENT, POD, REPLICA_SET):
        return None
    return operation.kind
