"""The Secret with the sealing key is created and never read, so its name says whose it is."""

import pytest

from mcpproxy.api import constants
from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.cluster.errors import Unavailable
from mcpproxy.cluster.resources import DEPLOYMENT
from mcpproxy.reconcile.object_views import mounts_secret
from tests.reconcile.stage import KEY, Stage


async def test_no_secret_is_made_while_pods_are_added_but_for_one_that_waits_for_long(
    stage: Stage,
) -> None:
    await stage.is_running(autoscaling={"maxReplicas": 3})
    secret = stage.sealing
    del stage.cluster.objects[secret]
    stage.clock.advance(120)
    stage.adds_a_pod("tools-2")
    await stage.reconcile()
    assert secret not in stage.cluster.objects
    stage.clock.advance(120)
    await stage.reconcile()
    assert secret in stage.cluster.objects


async def test_an_earlier_or_foreign_sealing_secret_of_the_name_is_neither_used_nor_touched(
    stage: Stage,
) -> None:
    """The operator could not tell whose it is."""
    others = [f"{KEY.name}-sealing", constants.sealing_secret_name(KEY.name, "uid-of-another")]
    metadata = {"namespace": KEY.namespace}
    for name in others:
        stage.cluster.put(
            {"apiVersion": "v1", "kind": "Secret", "metadata": {**metadata, "name": name}}
        )
    before = [stage.child("Secret", name) for name in others]
    stage.user_applies()
    await stage.reconcile()
    assert [stage.child("Secret", name) for name in others] == before
    assert mounts_secret(stage.deployment()["spec"]["template"]["spec"], stage.sealing[2])
    assert stage.cluster.objects[stage.sealing]["data"]["current"]


async def test_pods_that_are_to_mount_another_sealing_secret_find_it(stage: Stage) -> None:
    await stage.is_running()
    live = stage.deployment()
    for volume in live["spec"]["template"]["spec"]["volumes"]:
        if volume["name"] == "sealing":
            volume["secret"]["secretName"] = "tools-sealing"
    stage.cluster.put(live)
    del stage.cluster.objects[stage.sealing]
    stage.clock.advance(120)
    await stage.reconcile()
    assert stage.sealing in stage.cluster.objects


async def test_a_sealing_secret_that_vanished_is_made_again_when_pods_cannot_start(
    stage: Stage,
) -> None:
    await stage.is_running()
    secret = stage.sealing
    del stage.cluster.objects[secret]
    await stage.reconcile()
    assert secret not in stage.cluster.objects
    failing = stage.deployment()
    failing["status"]["availableReplicas"] = 0
    stage.cluster.put(failing)
    stage.clock.advance(120)
    await stage.reconcile()
    assert secret in stage.cluster.objects


async def test_a_pass_that_failed_after_the_sealing_secret_does_not_create_it_again(
    stage: Stage,
) -> None:
    apply_new, created = stage.cluster.apply_new, []
    create = stage.cluster.create

    async def fail(manifest: Object) -> Object:
        raise Unavailable("no response")

    async def note(manifest: Object) -> bool:
        created.append(manifest["metadata"]["name"])
        return await create(manifest)

    stage.cluster.apply_new, stage.cluster.create = fail, note  # type: ignore[method-assign]
    stage.user_applies()
    for _ in range(3):
        with pytest.raises(Unavailable):
            await stage.reconcile()
    stage.cluster.apply_new = apply_new  # type: ignore[method-assign]
    await stage.reconcile()
    assert len(created) == 1
    assert stage.sealing in stage.cluster.objects


async def test_a_secret_that_vanishes_with_a_deployment_that_no_pass_has_seen_is_created_again(
    stage: Stage,
) -> None:
    stage.user_applies()
    await stage.reconcile()
    secret = stage.sealing
    del stage.cluster.objects[secret]
    stage.cluster.remove(DEPLOYMENT, *KEY)
    await stage.reconcile()
    assert secret in stage.cluster.objects
