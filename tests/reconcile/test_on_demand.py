"""Children that are only there while the spec asks for them."""

from typing import Any

import pytest

from mcpproxy.cluster.resources import (
    AUTOSCALER,
    DEPLOYMENT,
    INGRESS,
    MCP_PROXY,
    POD_MONITOR,
    ResourceKind,
)
from mcpproxy.reconcile.field_conflicts import FIRST_PAUSE
from mcpproxy.reconcile.requeue import POLL
from tests.reconcile.stage import KEY, Stage
from tests.support.on_demand import ASKED, ASKING, EDITS, PUBLIC

every_kind = pytest.mark.parametrize("kind", ASKED, ids=lambda kind: kind.name)


def is_there(stage: Stage, kind: ResourceKind) -> bool:
    """Return True if the child exists."""
    return (kind.name, *KEY) in stage.cluster.objects


def without_url(kind: ResourceKind) -> dict[str, Any]:
    """Fields that request a child, besides the public URL, which the pods read as well."""
    return {field: value for field, value in ASKED[kind].items() if field not in PUBLIC}


@every_kind
async def test_an_optional_child_is_created_on_request_and_deleted_when_no_longer_configured(
    stage: Stage, kind: ResourceKind
) -> None:
    await stage.is_running(**PUBLIC)
    assert not is_there(stage, kind)
    stage.user_applies(**PUBLIC, **without_url(kind))
    await stage.reconcile()
    (reference,) = stage.child(kind.name)["metadata"]["ownerReferences"]
    assert reference["uid"] == stage.child(MCP_PROXY.name)["metadata"]["uid"]
    stage.cluster.writes.clear()
    await stage.reconcile()
    assert stage.cluster.writes == []
    stage.user_applies(**PUBLIC)
    await stage.reconcile()
    assert not is_there(stage, kind)
    assert stage.cluster.writes.count(f"delete {kind.name}") == 1
    stage.cluster.writes.clear()
    await stage.reconcile()
    assert stage.cluster.writes == []


@every_kind
async def test_a_deleted_policy_is_created_again_and_an_edited_one_is_reverted(
    stage: Stage, kind: ResourceKind
) -> None:
    await stage.is_running(**ASKED[kind])
    before = stage.child(kind.name)
    stage.cluster.remove(kind, *KEY)
    await stage.reconcile()
    assert stage.child(kind.name)["spec"] == before["spec"]
    stage.clock.advance(FIRST_PAUSE)
    edited = stage.child(kind.name)
    EDITS[kind](edited)
    stage.cluster.put(edited)
    await stage.reconcile()
    assert stage.child(kind.name)["spec"] == before["spec"]


@every_kind
async def test_an_optional_child_of_another_owner_is_named_and_unchanged(
    stage: Stage, kind: ResourceKind
) -> None:
    await stage.is_running(**ASKED[kind])
    theirs = stage.child(kind.name)
    theirs["metadata"] |= {"ownerReferences": [], "labels": {}}
    stage.cluster.put(theirs)
    theirs = stage.child(kind.name)
    await stage.reconcile()
    assert stage.verdict("Ready") == ("False", "NotOwned")
    assert f"{kind.name} tools" in stage.message("Ready")
    stage.user_applies()
    await stage.reconcile()
    assert stage.verdict("Ready") == ("True", "Serving")
    assert stage.child(kind.name) == theirs


@every_kind
async def test_a_terminating_child_is_not_deleted_again(stage: Stage, kind: ResourceKind) -> None:
    await stage.is_running(**ASKED[kind])
    leaving = stage.child(kind.name)
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    stage.cluster.put(leaving)
    stage.user_applies()
    await stage.reconcile()
    assert f"delete {kind.name}" not in stage.cluster.writes


async def test_an_invalid_spec_deletes_nothing(stage: Stage) -> None:
    await stage.is_running(**ASKING)
    stage.user_applies(backends=[])
    await stage.reconcile()
    assert stage.verdict("Accepted") == ("False", "InvalidSpec")
    assert all(is_there(stage, kind) for kind in ASKED if kind != INGRESS)


async def test_replicas_belong_to_the_autoscaler_from_the_first_to_the_last(stage: Stage) -> None:
    await stage.is_running(replicas=1)
    stage.user_applies(replicas=4)
    await stage.reconcile()
    stage.user_applies(autoscaling={"maxReplicas": 9})
    await stage.reconcile()
    assert stage.deployment()["spec"]["replicas"] == 4
    scaled = stage.deployment()
    scaled["spec"]["replicas"] = 7
    stage.cluster.put(scaled, manager="kube-controller-manager")
    stage.cluster.writes.clear()
    await stage.reconcile()
    assert f"apply {DEPLOYMENT.name}" not in stage.cluster.writes
    assert stage.deployment()["spec"]["replicas"] == 7


async def test_an_autoscaler_takes_over_no_proxy_without_pods(stage: Stage) -> None:
    """The Deployment would never scale up from zero."""
    await stage.is_running(replicas=1)
    stage.user_applies(replicas=0)
    await stage.reconcile()
    stage.user_applies(autoscaling={"minReplicas": 2, "maxReplicas": 9})
    await stage.reconcile()
    assert stage.deployment()["spec"]["replicas"] == 2


async def test_the_autoscaler_goes_before_replicas_are_set_again(stage: Stage) -> None:
    await stage.is_running(autoscaling={"maxReplicas": 9})
    stage.user_applies(replicas=3)
    await stage.reconcile()
    writes = stage.cluster.writes
    assert writes.index("delete HorizontalPodAutoscaler") < writes.index("apply Deployment")
    assert stage.deployment()["spec"]["replicas"] == 3


async def test_the_cause_of_a_failing_autoscaler_is_reported(stage: Stage) -> None:
    await stage.is_running(autoscaling={"maxReplicas": 9})
    assert stage.verdict("Autoscaled") == ("Unknown", "ScalingUnknown")
    live = stage.child("HorizontalPodAutoscaler")
    conditions = [
        {"type": "AbleToScale", "status": "True", "reason": "SucceededGetScale"},
        {
            "type": "ScalingActive",
            "status": "False",
            "reason": "FailedGetContainerResourceMetric",
            "message": "no metrics returned",
        },
    ]
    stage.cluster.put({**live, "status": {"conditions": conditions}})
    await stage.reconcile()
    assert stage.verdict("Autoscaled") == ("False", "FailedGetContainerResourceMetric")
    assert stage.message("Autoscaled") == "no metrics returned"
    assert stage.verdict("Ready") == ("True", "Serving")
    conditions[1]["status"] = "True"
    stage.cluster.put({**live, "status": {"conditions": conditions}})
    await stage.reconcile()
    assert stage.verdict("Autoscaled") == ("True", "ScalingActive")
    stage.user_applies()
    await stage.reconcile()
    assert stage.verdict("Autoscaled") is None


async def test_a_kind_that_is_not_installed_is_reported_and_blocks_nothing(stage: Stage) -> None:
    stage.cluster.lacking.add(POD_MONITOR.name)
    await stage.is_running(**ASKING)
    assert stage.verdict("Monitored") == ("False", "KindNotInstalled")
    assert "PodMonitor" in stage.message("Monitored")
    assert is_there(stage, AUTOSCALER)
    assert await stage.reconcile() == POLL
    assert stage.cluster.writes == []
    stage.cluster.lacking.clear()
    assert await stage.reconcile() is None
    assert is_there(stage, POD_MONITOR)
    assert stage.verdict("Monitored") == ("True", "PodMonitorPresent")
    stage.user_applies()
    await stage.reconcile()
    assert stage.verdict("Monitored") is None
