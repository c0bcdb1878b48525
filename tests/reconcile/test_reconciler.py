"""One pass brings the children about, and a pass with nothing to do writes nothing."""

import asyncio
import base64
from collections.abc import Callable

import pytest

from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.cluster.errors import Forbidden, Invalid, Unavailable
from mcpproxy.cluster.resources import (
    CONFIG_MAP,
    DEPLOYMENT,
    MCP_PROXY,
    POD,
    SERVICE,
    SERVICE_ACCOUNT,
    ResourceKind,
)
from tests.cluster.pods.pods import a_report
from tests.reconcile.stage import KEY, Stage
from tests.support.builders import a_backend

KINDS = [DEPLOYMENT, SERVICE, SERVICE_ACCOUNT, CONFIG_MAP]


def name_of(stage: Stage, kind: ResourceKind) -> str:
    """Name of the child of this kind."""
    return stage.config_maps()[0] if kind is CONFIG_MAP else KEY.name


async def test_an_mcpproxy_gets_its_children_and_each_is_owned_by_it(stage: Stage) -> None:
    stage.user_applies()
    await stage.reconcile()
    uid = stage.child(MCP_PROXY.name)["metadata"]["uid"]
    for kind in KINDS:
        (reference,) = stage.child(kind.name, name_of(stage, kind))["metadata"]["ownerReferences"]
        assert (reference["uid"], reference["controller"]) == (uid, True)
    secret = stage.cluster.objects[stage.sealing]
    assert len(base64.b64decode(secret["data"]["current"])) == 32
    assert secret["metadata"]["ownerReferences"][0]["uid"] == uid
    assert stage.verdict("Reconciling") is not None


async def test_a_second_pass_writes_nothing(stage: Stage) -> None:
    await stage.is_running()
    before = dict(stage.cluster.objects)
    stage.cluster.reads = 0
    assert await stage.reconcile() is None
    assert stage.cluster.writes == []
    assert stage.cluster.objects == before
    assert stage.cluster.reads == 12


async def test_a_restarted_operator_writes_nothing(stage: Stage) -> None:
    await stage.is_running()
    restarted = Stage(stage)
    await restarted.reconcile()
    assert stage.cluster.writes == []
    await asyncio.wait_for(restarted.changes.get(), 5)
    await restarted.reconcile()
    assert stage.cluster.writes == []
    await restarted.close()


async def test_a_restarted_operator_reports_unreachable_pods(stage: Stage) -> None:
    await stage.is_running()
    restarted = Stage(stage)
    restarted.pods.lost.add(stage.pod_uid("tools-1"))
    await restarted.reconcile()
    await restarted.changes.get()
    await restarted.reconcile()
    assert stage.verdict("Ready") == ("Unknown", "BackendsUnknown")
    assert stage.status.components is None
    await restarted.close()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_a_deleted_child_comes_back_the_same(stage: Stage, kind: ResourceKind) -> None:
    await stage.is_running()
    name = name_of(stage, kind)
    before = stage.child(kind.name, name)
    stage.cluster.remove(kind, KEY.namespace, name)
    await stage.reconcile()
    after = stage.child(kind.name, name)
    for part in ("spec", "data", "immutable"):
        assert after.get(part) == before.get(part)
    assert after["metadata"]["labels"] == before["metadata"]["labels"]


def other_image(live: Object) -> None:
    live["spec"]["template"]["spec"]["containers"][0]["image"] = "evil:1"


def other_port(live: Object) -> None:
    live["spec"]["ports"][0]["targetPort"] = 22


def token_mounted(live: Object) -> None:
    live["automountServiceAccountToken"] = True


def no_labels(live: Object) -> None:
    live["metadata"]["labels"] = {}


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (DEPLOYMENT, other_image),
        (DEPLOYMENT, no_labels),
        (SERVICE, other_port),
        (SERVICE_ACCOUNT, token_mounted),
        (CONFIG_MAP, no_labels),
    ],
    ids=lambda value: getattr(value, "name", getattr(value, "__name__", "")),
)
async def test_a_child_edited_by_hand_is_reverted(
    stage: Stage, kind: ResourceKind, change: Callable[[Object], None]
) -> None:
    await stage.is_running()
    name = name_of(stage, kind)
    before = stage.child(kind.name, name)
    edited = stage.child(kind.name, name)
    change(edited)
    stage.cluster.put(edited)
    await stage.reconcile()
    after = stage.child(kind.name, name)
    for thing in (before, after):
        del thing["metadata"]["resourceVersion"], thing["metadata"]["generation"]
    assert after == before
    stage.cluster.writes.clear()
    await stage.reconcile()
    assert "apply" not in " ".join(stage.cluster.writes)


async def test_replicas_that_the_spec_leaves_open_are_left_to_others(stage: Stage) -> None:
    await stage.is_running()
    scaled = stage.deployment()
    scaled["spec"]["replicas"] = 5
    stage.cluster.put(scaled)
    await stage.reconcile()
    assert stage.deployment()["spec"]["replicas"] == 5


async def test_replicas_that_the_spec_gives_no_longer_are_unchanged(stage: Stage) -> None:
    await stage.is_running(replicas=1)
    stage.user_applies(replicas=5)
    await stage.reconcile()
    stage.user_applies()
    await stage.reconcile()
    assert stage.deployment()["spec"]["replicas"] == 5
    stage.cluster.writes.clear()
    stage.user_applies(replicas=2)
    await stage.reconcile()
    assert stage.deployment()["spec"]["replicas"] == 2


async def test_a_change_of_a_label_alone_writes_nothing(stage: Stage) -> None:
    await stage.is_running()
    parent = stage.child(MCP_PROXY.name)
    parent["metadata"]["labels"] = {"team": "blue"}
    parent["metadata"]["annotations"] = {"argocd.argoproj.io/tracking-id": "x"}
    stage.cluster.put(parent)
    await stage.reconcile()
    assert stage.cluster.writes == []


async def test_another_ttl_rolls_once_and_the_old_config_map_goes_with_its_replica_set(
    stage: Stage,
) -> None:
    await stage.is_running()
    (old,) = stage.config_maps()
    stage.user_applies(cache={"ttl": "7s"})
    await stage.reconcile()
    assert stage.cluster.writes[:2] == ["apply ConfigMap", "apply Deployment"]
    (new,) = set(stage.config_maps()) - {old}
    assert stage.verdict("Ready") == ("True", "Serving")
    assert stage.verdict("Reconciling") == ("True", "RollingOut")
    await stage.reconcile()
    assert set(stage.config_maps()) == {old, new}
    stage.roll_out("tools-2")
    await stage.reconcile()
    assert set(stage.config_maps()) == {old, new}
    await stage.pod_says("tools-2", weather="Healthy")
    await stage.reconcile()
    assert stage.verdict("Ready") == ("True", "Serving")
    assert stage.status.observed_generation == 2
    for ttl in ("8s", "9s"):
        stage.user_applies(cache={"ttl": ttl})
        await stage.reconcile()
        stage.roll_out("tools-3")
        await stage.reconcile()
    assert old not in stage.config_maps()
    assert len(stage.config_maps()) == len(stage.replica_sets()) == 3


async def test_a_pod_that_still_mounts_the_old_config_map_keeps_it(stage: Stage) -> None:
    await stage.is_running()
    (old,) = stage.config_maps()
    leaving = stage.child("Pod", "tools-1")
    stage.user_applies(cache={"ttl": "7s"})
    await stage.reconcile()
    stage.roll_out("tools-2")
    leaving["metadata"] |= {"name": "tools-0", "deletionTimestamp": "2026-01-01T00:00:00Z"}
    stage.cluster.put(leaving)
    await stage.reconcile()
    assert old in stage.config_maps()


async def test_before_the_rollout_is_complete_no_config_map_goes_even_without_pods(
    stage: Stage,
) -> None:
    await stage.is_running()
    (old,) = stage.config_maps()
    stage.cluster.remove(POD, KEY.namespace, "tools-1")
    stage.user_applies(cache={"ttl": "7s"})
    for _ in range(2):
        await stage.reconcile()
    assert old in stage.config_maps()


async def test_a_report_on_another_configuration_is_ignored(stage: Stage) -> None:
    await stage.is_running()
    stage.pods.say(stage.pod_uid("tools-1"), a_report("another hash", weather="Healthy"))
    await asyncio.wait_for(stage.changes.get(), 5)
    await stage.reconcile()
    assert stage.verdict("Ready") == ("Unknown", "BackendsUnknown")
    assert stage.status.components is None


async def test_a_deletion_is_reported_and_the_children_are_not_changed(
    stage: Stage,
) -> None:
    await stage.is_running()
    parent = stage.child(MCP_PROXY.name)
    parent["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    stage.cluster.put(parent)
    stage.cluster.remove(SERVICE, *KEY)
    assert await stage.reconcile() is None
    assert stage.cluster.writes == ["status MCPProxy"]
    assert stage.verdict("Ready") == ("False", "Terminating")
    stage.cluster.writes.clear()
    assert await stage.reconcile() is None
    assert stage.cluster.writes == []


async def test_an_invalid_stored_spec_leaves_the_pods_unchanged(stage: Stage) -> None:
    await stage.is_running()
    before = stage.deployment()
    stage.user_applies(backends=[a_backend(url="http://user@host:99999/mcp"), {"name": "X"}])
    assert await stage.reconcile() is None
    assert stage.verdict("Accepted") == ("False", "InvalidSpec")
    assert "spec.backends[0]" in stage.message("Accepted")
    assert "spec.backends[1]" in stage.message("Accepted")
    assert stage.verdict("Available") == ("True", "PodsReady")
    assert stage.status.backends_healthy == "1/1"
    assert stage.deployment() == before
    assert stage.cluster.writes == ["status MCPProxy", "apply Event"]
    stage.user_applies()
    await stage.reconcile()
    assert stage.verdict("Ready") == ("True", "Serving")
    assert stage.deployment() == before


async def test_a_name_that_no_service_can_have_is_refused_with_the_remedy(stage: Stage) -> None:
    stage.cluster.put({**_parent(), "metadata": {"name": "a.b", "namespace": KEY.namespace}})
    await stage._reconciler.reconcile(KEY._replace(name="a.b"))
    live = stage.child(MCP_PROXY.name, "a.b")
    (accepted,) = [c for c in live["status"]["conditions"] if c["type"] == "Accepted"]
    assert accepted["message"].startswith("metadata.name: 'a.b'")


def _parent() -> Object:
    stage = Stage()
    stage.user_applies()
    parent = stage.child(MCP_PROXY.name)
    del parent["metadata"]["uid"]
    return parent


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_an_object_of_another_owner_stays_untouched_and_is_named(
    stage: Stage, kind: ResourceKind
) -> None:
    await stage.is_running()
    name = name_of(stage, kind)
    theirs = stage.child(kind.name, name)
    theirs["metadata"] |= {"ownerReferences": [], "labels": {}}
    stage.cluster.put(theirs)
    theirs = stage.child(kind.name, name)
    again = await stage.reconcile()
    assert again is not None
    assert stage.child(kind.name, name) == theirs
    assert stage.verdict("Accepted") == ("True", "Valid")
    assert stage.verdict("Ready") == ("False", "NotOwned")
    assert f"{kind.name} {name}" in stage.message("Stalled")


async def test_a_refusal_of_the_api_server_is_shown_and_tried_again(stage: Stage) -> None:
    stage.user_applies()

    def refuse(request: str) -> None:
        if request == "apply Service":
            raise Invalid("spec.ports[0].port: Invalid value")

    stage.cluster.before_write = refuse
    with pytest.raises(Invalid):
        await stage.reconcile()
    assert stage.verdict("Stalled") == ("True", "RefusedByApiServer")
    assert "spec.ports[0].port" in stage.message("Stalled")
    assert DEPLOYMENT.name not in {kind for kind, _, _ in stage.cluster.objects}
    stage.cluster.before_write = lambda request: None
    await stage.reconcile()
    assert stage.verdict("Stalled") is None


async def test_a_missing_permission_is_shown_and_tried_again(stage: Stage) -> None:
    stage.user_applies()

    def refuse(request: str) -> None:
        if request == "apply Deployment":
            raise Forbidden("cannot patch")

    stage.cluster.before_write = refuse
    with pytest.raises(Forbidden):
        await stage.reconcile()
    assert stage.verdict("Stalled") == ("True", "Forbidden")
    stage.cluster.before_write = lambda request: None
    await stage.reconcile()
    assert stage.verdict("Stalled") is None


async def test_the_state_of_a_deleted_proxy_is_removed(stage: Stage) -> None:
    await stage.is_running()
    assert len(stage.fleet) == 1
    stage.cluster.remove(MCP_PROXY, *KEY)
    assert await stage.reconcile() is None
    assert len(stage.fleet) == 0
    assert stage.cluster.writes == []


async def test_zero_replicas_are_shown_as_desired(stage: Stage) -> None:
    stage.user_applies(replicas=0)
    await stage.reconcile()
    assert stage.verdict("Ready") == ("True", "ScaledToZero")
    assert stage.verdict("Available") == ("False", "ScaledToZero")
    assert stage.status.summary == "Scaled to 0"


async def test_a_backend_that_fails_makes_one_event_and_loses_its_counts(stage: Stage) -> None:
    await stage.is_running()
    for _ in range(2):
        await stage.reconcile()
    await stage.pod_says("tools-1", weather="Unhealthy")
    for _ in range(2):
        await stage.reconcile()
    assert stage.status.backends_healthy == "0/1"
    assert stage.status.components is None
    assert stage.cluster.writes == ["status MCPProxy", "apply Event"]


async def test_an_event_that_is_lost_does_not_stop_the_pass(stage: Stage) -> None:
    def refuse(request: str) -> None:
        if request == "apply Event":
            raise Unavailable("no")

    stage.cluster.before_write = refuse
    stage.user_applies()
    await stage.reconcile()
    assert stage.verdict("Accepted") == ("True", "Valid")
