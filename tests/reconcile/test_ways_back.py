"""Ways back: earlier configurations stay at hand, and orphans are taken over."""

import copy

import pytest

from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.cluster.resources import ALWAYS, EVENT, MCP_PROXY, REPLICA_SET, SERVICE, ResourceKind
from mcpproxy.reconcile.plan import WAIT
from tests.reconcile.stage import KEY, Stage
from tests.reconcile.test_ownership import Change, lists_of
from tests.support.on_demand import ASKED

CHILDREN = {"Deployment", "Service", "ServiceAccount", "ConfigMap"}


def orphan(stage: Stage) -> None:
    """As `kubectl delete mcpproxy --cascade=orphan` does: the children have no owner."""
    parent = stage.child(MCP_PROXY.name)["metadata"]["uid"]
    for key, live in list(stage.cluster.objects.items()):
        owners = live["metadata"].get("ownerReferences") or []
        if any(owner["uid"] == parent for owner in owners):
            left: Object = copy.deepcopy(stage.cluster.objects[key])
            left["metadata"]["ownerReferences"] = []
            stage.cluster.put(left)
    stage.cluster.remove(MCP_PROXY, *KEY)


def events(stage: Stage, reason: str) -> list[Object]:
    """The Events of one reason."""
    results = [live for key, live in stage.cluster.objects.items() if key[0] == EVENT.name]
    return [live for live in results if live["reason"] == reason]


async def is_running_in_another_configuration(stage: Stage) -> str:
    """Roll a change out; the name of the ConfigMap of the configuration before it."""
    await stage.is_running()
    (old,) = stage.config_maps()
    stage.user_applies(cache={"ttl": "7s"})
    await stage.reconcile()
    stage.roll_out("tools-2")
    await stage.reconcile()
    return old


async def test_the_config_map_of_a_kept_replica_set_stays_for_a_rollout_undo(stage: Stage) -> None:
    old = await is_running_in_another_configuration(stage)
    template = stage.replica_sets()[0]["spec"]["template"]
    volumes = template["spec"]["volumes"]
    assert {"name": old} in [volume.get("configMap") for volume in volumes]
    assert old in stage.config_maps()
    stage.forget_history()
    stage.user_applies(cache={"ttl": "8s"})
    await stage.reconcile()
    stage.roll_out("tools-3")
    await stage.reconcile()
    assert old not in stage.config_maps()


async def test_a_replica_set_beyond_the_history_is_awaited_and_takes_its_config_map_along(
    stage: Stage,
) -> None:
    await stage.is_running()
    stage.user_applies(cache={"ttl": "7s"})
    await stage.reconcile()
    stage.roll_out("tools-2")
    for name in ("tools-0", "tools-00"):
        beyond = stage.replica_sets()[0]
        del beyond["metadata"]["uid"]
        beyond["metadata"]["name"] = name
        stage.cluster.put(beyond)
    assert await stage.reconcile() == WAIT
    assert len(stage.config_maps()) == 2
    stage.forget_history()
    await stage.reconcile()
    assert len(stage.config_maps()) == 1


async def test_replica_sets_are_not_listed_again_while_the_deployment_is_unchanged(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await is_running_in_another_configuration(stage)
    await stage.pod_says("tools-2", weather="Healthy")
    await stage.reconcile()
    made = lists_of(stage, monkeypatch, REPLICA_SET)
    for _ in range(3):
        await stage.reconcile()
    assert made == []
    assert len(stage.config_maps()) == 2


async def test_orphaned_children_are_adopted_with_an_event(
    stage: Stage,
) -> None:
    await stage.is_running()
    orphan(stage)
    stage.user_applies()
    await stage.reconcile()
    uid = stage.child(MCP_PROXY.name)["metadata"]["uid"]
    for kind in ALWAYS:
        for item in [live for key, live in stage.cluster.objects.items() if key[0] == kind.name]:
            (owner,) = item["metadata"]["ownerReferences"]
            assert (owner["uid"], owner["controller"]) == (uid, True)
    (event,) = events(stage, "Adopted")
    assert event["type"] == "Normal"
    assert all(kind in event["message"] for kind in CHILDREN)
    await stage.reconcile()
    assert len(events(stage, "Adopted")) == 1
    await stage.pod_says("tools-1", weather="Healthy")
    await stage.reconcile()
    assert stage.verdict("Available") == ("True", "RollingOut")
    assert "1 pod serves from the previous pod template" in stage.message("Available")


@pytest.mark.parametrize("kind", ASKED, ids=lambda kind: kind.name)
async def test_obsolete_children_are_deleted(stage: Stage, kind: ResourceKind) -> None:
    await stage.is_running(**ASKED[kind])
    orphan(stage)
    stage.user_applies()
    await stage.reconcile()
    assert (kind.name, *KEY) not in stage.cluster.objects


async def test_old_config_maps_that_were_left_are_pruned(stage: Stage) -> None:
    await is_running_in_another_configuration(stage)
    stage.forget_history()
    orphan(stage)
    stage.user_applies(cache={"ttl": "7s"})
    await stage.reconcile()
    stage.roll_out("tools-3")
    stage.forget_history()
    await stage.reconcile()
    assert len(stage.config_maps()) == 1


def without_labels(left: Object) -> None:
    left["metadata"]["labels"] = {}


def of_another_instance(left: Object) -> None:
    left["metadata"]["labels"]["app.kubernetes.io/instance"] = "another"


def with_another_controller(left: Object) -> None:
    owner = {"apiVersion": "v1", "kind": "Other", "name": "o", "uid": "o", "controller": True}
    left["metadata"]["ownerReferences"] = [owner]


@pytest.mark.parametrize(
    "change",
    [without_labels, of_another_instance, with_another_controller],
    ids=lambda change: change.__name__,
)
async def test_an_object_that_lacks_one_of_our_marks_is_never_adopted(
    stage: Stage, change: Change
) -> None:
    await stage.is_running()
    orphan(stage)
    foreign = stage.child("Service")
    change(foreign)
    stage.cluster.put(foreign)
    foreign = stage.child("Service")
    stage.user_applies()
    await stage.reconcile()
    assert stage.child("Service") == foreign
    assert stage.verdict("Ready") == ("False", "NotOwned")
    assert "Service tools already exists and is not controlled by this MCPProxy" in stage.message(
        "Ready"
    )
    assert events(stage, "Adopted") == []


async def test_an_object_that_our_field_manager_never_applied_is_never_adopted(
    stage: Stage,
) -> None:
    await stage.is_running()
    copied = stage.child("Service")
    orphan(stage)
    stage.cluster.remove(SERVICE, *KEY)
    del copied["metadata"]["uid"]
    copied["metadata"]["ownerReferences"] = []
    stage.cluster.put(copied)
    stage.user_applies()
    await stage.reconcile()
    assert stage.verdict("Ready") == ("False", "NotOwned")
