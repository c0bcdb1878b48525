"""Whatever webhooks add and whatever a spec was before: passes end in the same state, and stay."""

import copy
from typing import Any

import pytest

from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.cluster.resources import DEPLOYMENT
from tests.reconcile.stage import Stage


def a_sidecar(live: Object) -> None:
    """Inject a container, a volume, an annotation and what the API server defaults."""
    if live["kind"] != DEPLOYMENT.name:
        return
    live["metadata"].setdefault("annotations", {})["injected"] = "yes"
    pod = live["spec"]["template"]["spec"]
    pod["restartPolicy"] = "Always"
    pod["dnsPolicy"] = "ClusterFirst"
    pod["containers"][0]["terminationMessagePath"] = "/dev/termination-log"
    if not any(container["name"] == "side" for container in pod["containers"]):
        pod["containers"].append({"name": "side", "image": "side:1"})
        pod["volumes"].append({"name": "side", "emptyDir": {}})


def a_mirror(live: Object) -> None:
    """Rewrite the very image that we set."""
    if live["kind"] == DEPLOYMENT.name:
        main = live["spec"]["template"]["spec"]["containers"][0]
        main["image"] = "mirror/" + main["image"].removeprefix("mirror/")


async def test_fields_added_by_a_webhook_are_left_unchanged(stage: Stage) -> None:
    stage.cluster.webhooks.append(a_sidecar)
    await stage.is_running()
    for _ in range(3):
        await stage.reconcile()
    assert stage.cluster.writes == []
    pod = stage.deployment()["spec"]["template"]["spec"]
    assert [container["name"] for container in pod["containers"]] == ["mcpproxy", "side"]


async def test_a_webhook_that_rewrites_our_own_field_does_not_make_a_loop(stage: Stage) -> None:
    stage.cluster.webhooks.append(a_mirror)
    await stage.is_running()
    for _ in range(3):
        await stage.reconcile()
    assert stage.cluster.writes == []


async def test_drift_is_still_seen_below_a_webhook_that_rewrites(stage: Stage) -> None:
    stage.cluster.webhooks.append(a_mirror)
    await stage.is_running()
    edited = stage.deployment()
    edited["spec"]["template"]["spec"]["containers"][0]["image"] = "evil:1"
    stage.cluster.put(edited)
    await stage.reconcile()
    main = stage.deployment()["spec"]["template"]["spec"]["containers"][0]
    assert main["image"].startswith("mirror/mcpproxy-runtime")


async def test_a_restart_below_a_webhook_that_rewrites_changes_no_object(stage: Stage) -> None:
    stage.cluster.webhooks.append(a_mirror)
    await stage.is_running()
    before = copy.deepcopy(stage.cluster.objects)
    restarted = Stage(stage)
    await restarted.reconcile()
    assert stage.cluster.objects == before
    await restarted.close()


@pytest.mark.parametrize("first", [{"cache": {"ttl": "1s"}}, {"image": "other:1"}])
async def test_the_children_do_not_depend_on_the_history_of_the_spec(
    stage: Stage, first: dict[str, Any]
) -> None:
    direct = Stage()
    direct.user_applies()
    await direct.reconcile()
    stage.user_applies(**first)
    await stage.reconcile()
    stage.user_applies()
    await stage.reconcile()
    assert stage.deployment()["spec"] == direct.deployment()["spec"]
    await direct.close()
