"""MCPProxies as today's operator leaves them: the test data of Argo CD's health check."""

from dataclasses import replace
from typing import Any

import yaml

from mcpproxy.api.v1alpha1.status import NOT_SEEN, BackendStatus, ComponentCounts
from mcpproxy.reconcile.snapshot import validate
from mcpproxy.status import reasons
from mcpproxy.status.inputs import ConditionReason, DeploymentView, StatusInput
from tests.status.views import a_deployment, a_pod, a_report, a_view, observed, status_of
from tests.support.builders import a_backend, a_manifest, an_mcpproxy

Object = dict[str, Any]

COUNTS = ComponentCounts(tools=2, prompts=0)
LOOP = ConditionReason(
    reasons.CRASH_LOOP, "container mcpproxy keeps crashing; run kubectl logs --previous -c mcpproxy"
)
GONE = {"reason": "Unreachable", "message": "connection refused"}
DENIED = {"reason": "Unauthorized", "message": "the backend responded with HTTP 401"}
LIMITED = {
    "reason": "RateLimited",
    "message": "HTTP 429: too many requests",
}


def _view(state: str = "Healthy", **fields: Any) -> BackendStatus:
    """Return a pod's report of a backend that has tools and prompts."""
    if state in ("Healthy", "RateLimited"):
        fields = {"components": COUNTS, "not_offered": ["resources", "resourceTemplates"], **fields}
    return a_view(state=state, **fields)


def _object(seen: StatusInput | None = None, generation: int | None = None, **spec: Any) -> Object:
    """Return the live object; without `seen`, as before the operator saw it."""
    parent = a_manifest(**spec)
    newest = generation or (seen.generation if seen else 1)
    parent["metadata"] |= {
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "generation": newest,
        "uid": "b2820e8a-a1b2-4541-96b3-0a8f060926da",
    }
    status = status_of(seen).to_manifest() if seen else {"observedGeneration": NOT_SEEN}
    return {**parent, "status": status}


def _pods(*views: BackendStatus, **fields: Any) -> StatusInput:
    """A ready pod for each view."""
    pods = [a_pod(f"tools-{number}", view) for number, view in enumerate(views, 1)]
    return observed(*pods, generation=1, **fields)


def _waiting(deployment: DeploymentView, **fields: Any) -> StatusInput:
    """One pod, which is not ready."""
    pod = a_pod("tools-1", ready=False, **fields)
    return observed(pod, generation=1, deployment=deployment)


def _after_a_rollout(**fields: Any) -> DeploymentView:
    return a_deployment(1, was_available=True, **fields)


def _replicas(count: int) -> Any:
    return an_mcpproxy(backends=[a_backend()], replicas=count).spec


def _rejected() -> Object:
    bad: Object = {"backends": [a_backend(url="http://weather.example.com:99999/mcp")]}
    _, why = validate(a_manifest(**bad))
    assert why is not None
    return _object(replace(_pods(_view()), rejected=why, generation=2), **bad)


def _not_reporting() -> StatusInput:
    return observed(a_pod("tools-1", _view()), a_pod("tools-2"), a_pod("tools-3"), generation=1)


def _catalogs_differ() -> StatusInput:
    reports = [a_report(_view(), catalog=catalog) for catalog in ("c1", "c2")]
    pods = [a_pod(f"tools-{number}", report=report) for number, report in enumerate(reports)]
    return observed(*pods, generation=1)


def objects() -> dict[str, Object]:
    """An object for each situation, by the name of its file."""
    limited = _view("RateLimited", **LIMITED)
    gone, denied = _view("Unhealthy", **GONE), _view("Unauthorized", **DENIED)
    none = a_deployment(1, replicas=0, updated=0, available=0, ready=0)
    lost = _after_a_rollout(available=0, ready=0)
    late = ConditionReason(
        reasons.DEADLINE_EXCEEDED, 'ReplicaSet "tools-1" has timed out progressing.'
    )
    zero = observed(generation=1, deployment=a_deployment(0), spec=_replicas(0))
    adding = replace(_pods(_view()), deployment=_scaling())
    return {
        "no_status": _object(),
        "older_generation": _object(_pods(_view()), generation=2, cache={"ttl": "60s"}),
        "progressing": _object(observed(generation=1, deployment=none)),
        "scaling": _object(replace(adding, spec=_replicas(2)), replicas=2),
        "adding_pods": _object(adding),
        "healthy": _object(_pods(_view())),
        "some_pods": _object(_pods(_view(), _view(), gone)),
        "rate_limited": _object(_pods(limited)),
        "catalogs_differ": _object(_catalogs_differ()),
        "not_reporting": _object(_not_reporting()),
        "scaled_to_zero": _object(zero, replicas=0),
        "degraded_backend": _object(_pods(gone)),
        "degraded_most_pods": _object(_pods(_view(), denied, denied)),
        "degraded_spec": _rejected(),
        "degraded_crashes": _object(_waiting(lost, problem=LOOP)),
        "degraded_rollout": _object(_waiting(replace(none, failure=late), problem=LOOP)),
        "suspended": _object(_pods(_view(), suspended=True), suspend=True),
    }


def _scaling() -> DeploymentView:
    """Two pods are wanted, one is there."""
    return DeploymentView(True, 2, 1, 1, 1, 1, was_available=True)


def rendered(result: Object) -> str:
    """The file's text."""
    return yaml.safe_dump(result, sort_keys=True, width=98)
