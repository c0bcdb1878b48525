"""Components that have refused an object, by name and with the remedy."""

import pytest

from mcpproxy.cluster.errors import Forbidden, Invalid
from mcpproxy.status.rejections import explain_rejection
from tests.reconcile.stage import Stage

# As API servers of version 1.35 have worded them.
TEXTS = {
    'services "tools" is forbidden: exceeded quota: small, requested: services=1, used: services=0,'
    " limited: services=0": ("ResourceQuota small of the namespace is exhausted; raise the quota"),
    'pods "tools-1" is forbidden: failed quota: compute: must specify limits.cpu for: mcpproxy': (
        "ResourceQuota compute admits only pods with limits.cpu; set spec.resources"
    ),
    'pods "tools-1" is forbidden: maximum memory usage per Container is 64Mi, but limit is 128Mi': (
        "a LimitRange of the namespace forbids the pods; correct spec.resources or the LimitRange"
    ),
    'pods "tools-1" is forbidden: violates PodSecurity "restricted:latest": privileged': (
        "Pod Security (restricted:latest) forbids the pods; correct the fields listed at the end"
        " of this message; kubectl get deployment -o yaml --show-managed-fields shows who set them"
    ),
    "deployments.apps \"tools\" is forbidden: ValidatingAdmissionPolicy 'team' with binding 'all'"
    " denied request: no label": (
        "ValidatingAdmissionPolicy team denied the request; meet its demands, or change the policy"
    ),
    'Internal error occurred: failed calling webhook "gone.example.com": failed to call webhook:'
    ' Post "https://gone.team.svc:443/?timeout=10s": service "gone" not found': (
        "the API server cannot call webhook gone.example.com; restore its service, or delete the"
        " ValidatingWebhookConfiguration or MutatingWebhookConfiguration that contains it"
    ),
    'admission webhook "no.example.com" denied the request: not today': (
        "webhook no.example.com denied the request; meet its demands, or contact its owner"
    ),
    'pods "tools-1" is forbidden: error looking up service account team/absent: serviceaccount'
    ' "absent" not found': (
        "ServiceAccount absent does not exist; create it or correct"
        " spec.podTemplate.serviceAccountName"
    ),
    'pods "tools-1" is forbidden: no PriorityClass with name high was found': (
        "PriorityClass high does not exist; create it or correct spec.podTemplate.priorityClassName"
    ),
    'Deployment.apps "tools" is invalid: spec.template.spec.containers[0].resources.requests:'
    ' Invalid value: "512Mi": must be less than or equal to memory limit of 128Mi': (
        "the request of memory exceeds the limit, which a LimitRange of the namespace may set; set"
        " both in spec.resources"
    ),
    'ConfigMap "tools-926772f403" is invalid: []: Too long: may not be more than 1048576 bytes': (
        "the configuration of the pods exceeds 1 MiB, the maximum of a ConfigMap; shorten"
        " spec.backends, such as the values of stdio.env, or divide the backends among several"
        " MCPProxies"
    ),
    "failed to create typed patch object (team/tools; gateway.networking.k8s.io/v1,"
    " Kind=HTTPRoute): .spec.rules[0].timeouts: field not declared in schema": (
        "the installed Gateway API has no .spec.rules[0].timeouts of HTTPRoutes; install version"
        " 1.2 or later of its standard channel"
    ),
    'Deployment.apps "tools" is invalid: spec.template.spec.containers[0].resources.requests[foo]:'
    ' Invalid value: "foo": must be a standard resource type or fully qualified': (
        "spec.template.spec.containers[0].resources.requests[foo] of the Deployment comes from"
        " spec.podTemplate, spec.resources or spec.backends; correct it there"
    ),
    'Service "tools" is invalid: spec.ports[0].nodePort: Invalid value: 1: not valid': (
        "spec.ports[0].nodePort of the Service comes from spec.service; correct it there"
    ),
}


@pytest.mark.parametrize(("text", "cause"), TEXTS.items())
def test_the_cause_and_the_remedy_precede_the_error_text(text: str, cause: str) -> None:
    assert explain_rejection(text) == f"{cause}: {text}"


@pytest.mark.parametrize("text", ["", "spec.ports[0].port: Invalid value", "exceeded quota: "])
def test_any_other_text_is_unchanged(text: str) -> None:
    assert explain_rejection(text) == text


QUOTA, RBAC = next(iter(TEXTS)), 'User "operator" cannot patch resource "services"'


async def test_an_exceeded_quota_is_distinguished_from_a_missing_permission(stage: Stage) -> None:
    stage.user_applies()
    for error, reason, words in (
        (
            Invalid(QUOTA),
            "RefusedByApiServer",
            "rejected a child: ResourceQuota small of the namespace is exhausted",
        ),
        (Forbidden(RBAC), "Forbidden", f"the operator lacks a permission: {RBAC}"),
    ):

        def refuse(request: str, error: Exception = error) -> None:
            if request == "apply Service":
                raise error

        stage.cluster.before_write = refuse
        with pytest.raises(type(error)):
            await stage.reconcile()
        assert stage.verdict("Ready") == ("False", reason)
        assert words in stage.message("Ready")
