"""A NetworkPolicy follows the Services behind backends."""

from typing import Any

import pytest

from mcpproxy.api import constants
from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.cluster.errors import Forbidden
from mcpproxy.cluster.resources import SERVICE, ResourceKind
from mcpproxy.desired import ServiceTarget
from mcpproxy.reconcile.object_views import service_target
from mcpproxy.reconcile.plan import WAIT
from mcpproxy.reconcile.requeue import POLL
from tests.reconcile.stage import Stage
from tests.support.builders import a_backend

CLOSED = {
    "networkPolicy": {},
    "backends": [
        a_backend("weather", service={"name": "calendar", "namespace": "office", "port": 80})
    ],
}


def a_service(**spec: Any) -> Object:
    """A Service of somebody else, in another namespace."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "calendar",
            "namespace": "office",
            "annotations": {constants.ANNOTATION_ALLOW_FROM: "others, team"},
        },
        "spec": {"clusterIP": "10.96.0.7", "selector": {"app": "calendar"}, **spec},
    }


def reached(stage: Stage) -> list[Object]:
    """Return the egress rules for the other namespace or for port 8080."""
    rules = stage.child("NetworkPolicy")["spec"]["egress"]
    return [rule for rule in rules if "office" in str(rule) or "calendar" in str(rule)]


OWN = {**CLOSED, "backends": [a_backend("weather", service={"name": "calendar", "port": 80})]}


async def test_the_policy_waits_for_a_service_of_the_same_namespace(stage: Stage) -> None:
    stage.user_applies(**OWN)
    assert await stage.reconcile() == WAIT
    assert reached(stage) == []


HIDDEN = [
    None,
    {},
    {constants.ANNOTATION_ALLOW_FROM: ""},
    {constants.ANNOTATION_ALLOW_FROM: "tea,teams,te*"},
]


@pytest.mark.parametrize("annotations", HIDDEN, ids=["no Service", "none", "empty", "others"])
async def test_a_service_of_another_namespace_is_not_shown_without_its_consent(
    stage: Stage, annotations: dict[str, str] | None
) -> None:
    if annotations is not None:
        service = a_service(ports=[{"port": 80, "targetPort": 6543}])
        service["metadata"]["annotations"] = annotations
        stage.cluster.put(service)
    stage.user_applies(**CLOSED)
    assert await stage.reconcile() == POLL
    office = {"matchLabels": {"kubernetes.io/metadata.name": "office"}}
    rule = {"to": [{"namespaceSelector": office, "podSelector": {}}]}
    assert reached(stage) == [rule]
    assert "6543" not in str(stage.child("NetworkPolicy"))
    assert stage.message("Accepted") == (
        "the spec is valid; networkPolicy: all pods in the namespaces of office/calendar are"
        " allowed; to allow only the pods of a Service, annotate it with mcpproxy.dev/allow-from:"
        " team"
    )


@pytest.mark.parametrize("allowed", ["team", "*", " office ,team"])
async def test_a_service_of_another_namespace_may_consent(stage: Stage, allowed: str) -> None:
    service = a_service(ports=[{"port": 80, "targetPort": 6543}])
    service["metadata"]["annotations"] = {constants.ANNOTATION_ALLOW_FROM: allowed}
    stage.cluster.put(service)
    stage.user_applies(**CLOSED)
    await stage.reconcile()
    (rule,) = reached(stage)
    assert rule["ports"] == [{"port": 6543, "protocol": "TCP"}]
    assert stage.message("Accepted") == "the spec is valid"


async def test_the_network_policy_follows_the_service_after_its_consent(stage: Stage) -> None:
    stage.user_applies(**CLOSED)
    await stage.reconcile()
    stage.cluster.put(a_service(ports=[{"port": 80, "targetPort": 8080}]))
    assert await stage.reconcile() == POLL
    (rule,) = reached(stage)
    assert rule["ports"] == [{"port": 8080, "protocol": "TCP"}]
    assert rule["to"][0]["podSelector"] == {"matchLabels": {"app": "calendar"}}
    stage.cluster.put(a_service(ports=[{"port": 80, "targetPort": 9090}]))
    await stage.reconcile()
    assert reached(stage)[0]["ports"] == [{"port": 9090, "protocol": "TCP"}]
    stage.cluster.writes.clear()
    await stage.reconcile()
    assert stage.cluster.writes == []


async def test_without_a_policy_no_service_is_read(stage: Stage) -> None:
    await stage.is_running()
    stage.user_applies(backends=CLOSED["backends"])
    await stage.reconcile()
    stage.cluster.reads = 0
    assert await stage.reconcile() is None
    without = stage.cluster.reads
    stage.user_applies(**CLOSED)
    await stage.reconcile()
    stage.cluster.reads = 0
    await stage.reconcile()
    assert stage.cluster.reads == without + 1


async def test_a_service_that_the_operator_may_not_read_opens_its_namespace(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    get = stage.cluster.get

    async def refuse(kind: ResourceKind, namespace: str, name: str) -> Object | None:
        if namespace == "office":
            raise Forbidden("no")
        return await get(kind, namespace, name)

    monkeypatch.setattr(stage.cluster, "get", refuse)
    stage.user_applies(**CLOSED)
    assert await stage.reconcile() == POLL
    (rule,) = reached(stage)
    assert "ports" not in rule


@pytest.mark.parametrize(
    ("service", "target"),
    [
        (None, ServiceTarget()),
        (
            a_service(ports=[{"port": 80}, {"port": 81, "targetPort": "admin"}]),
            ServiceTarget({"app": "calendar"}, {80: 80, 81: "admin"}),
        ),
        (
            a_service(clusterIP="None", ports=[{"port": 80, "targetPort": 8080}]),
            ServiceTarget({"app": "calendar"}, {80: 80}),
        ),
        (
            a_service(selector=None, ports=[{"port": 80, "targetPort": 8443}]),
            ServiceTarget(None, {80: 8443}, anywhere=True),
        ),
        (
            a_service(type="ExternalName", externalName="a.example.com"),
            ServiceTarget(anywhere=True),
        ),
    ],
    ids=["none", "ports", "headless", "no selector", "external name"],
)
def test_the_pods_behind_a_service_are_resolved(
    service: Object | None, target: ServiceTarget
) -> None:
    assert SERVICE.name == "Service"
    assert service_target(service) == target
