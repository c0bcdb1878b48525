"""No fault, and no correction of the clock, leaves a status or a child wrong for good."""

import asyncio
import dataclasses
import hashlib
from contextlib import suppress
from datetime import timedelta

import pytest

from mcpproxy.cluster.errors import ClusterError, Forbidden, Invalid, LimitExceeded, ObjectTooLarge
from mcpproxy.cluster.resources import CONFIG_MAP, MCP_PROXY, SERVICE
from mcpproxy.desired import network_policy
from mcpproxy.reconcile.children import UNUSED
from mcpproxy.reconcile.status_updates.undeclared_fields import TRY_AGAIN
from tests.reconcile.stage import KEY, Stage
from tests.support.builders import a_backend

REVISION = "deployment.kubernetes.io/revision"


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_deleted_child_is_created_at_once_although_the_clock_was_corrected(
    stage: Stage, hours: int
) -> None:
    await stage.is_running()
    stage.clock.correction = timedelta(hours=hours)
    stage.cluster.remove(SERVICE, *KEY)
    await stage.reconcile()
    assert ("Service", *KEY) in stage.cluster.objects


async def test_a_status_is_written_in_full_again_after_the_api_server_rejected_its_size(
    stage: Stage,
) -> None:
    stage.user_applies(backends=[a_backend("weather"), a_backend("news")])
    await stage.reconcile()
    stage.roll_out("tools-1")
    await stage.reconcile()
    await stage.pod_says("tools-1", weather="Healthy", news="Healthy")
    await stage.reconcile()
    rejected: list[str] = []

    def reject_once(request: str) -> None:
        if request == "status MCPProxy" and not rejected:
            rejected.append(request)
            raise ObjectTooLarge("etcdserver: request is too large")

    stage.cluster.before_write = reject_once
    await stage.pod_says("tools-1", weather="Healthy", news="Unhealthy")
    await stage.reconcile()
    assert rejected
    assert not stage.status.backends
    stage.clock.advance(TRY_AGAIN)
    await stage.reconcile()
    assert {backend.name for backend in stage.status.backends or []} == {"weather", "news"}


async def _another_pod_is_ready(stage: Stage) -> None:
    """Let the ReplicaSet have another ready pod, which never reports."""
    pod = stage.child("Pod", "tools-1")
    kept = {name: pod["metadata"][name] for name in ("namespace", "labels", "ownerReferences")}
    pod["metadata"] = {**kept, "name": "tools-2"}
    pod["status"]["podIP"] = "10.0.0.9"
    stage.cluster.put(pod)


async def test_the_status_says_that_deployments_cannot_be_read_although_a_pod_is_new(
    stage: Stage,
) -> None:
    await stage.is_running()
    stage.cluster.unreadable["Deployment"] = Forbidden("cannot get resource deployments")
    await _another_pod_is_ready(stage)
    with suppress(ClusterError):
        await stage.reconcile()
    assert stage.verdict("Ready") == ("Unknown", "Forbidden")


async def test_a_fault_while_the_state_is_read_is_in_the_status(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.is_running()

    def fail(proxy: object) -> frozenset[tuple[str, str]]:
        raise ValueError("port out of range")

    monkeypatch.setattr(network_policy, "referenced_services", fail)
    stage.user_applies(networkPolicy={})
    with pytest.raises(ClusterError, match="internal error of the operator"):
        await stage.reconcile()
    assert stage.verdict("Ready") == ("Unknown", "OperatorFailed")
    assert "(ValueError)" in stage.message("Ready")
    generation = stage.child(MCP_PROXY.name)["metadata"]["generation"]
    assert stage.status.observed_generation == generation


async def test_objects_that_are_too_large_together_are_not_the_fault_of_the_api_server(
    stage: Stage,
) -> None:
    await stage.is_running()
    stage.cluster.unreadable["ConfigMap"] = LimitExceeded("the configmaps have more than 8 bytes")
    with suppress(ClusterError):
        await stage.reconcile()
    assert stage.verdict("Stalled") == ("True", "ObjectsTooLarge")
    assert stage.message("Stalled").endswith("nothing: the configmaps have more than 8 bytes")
    assert "API server" not in stage.message("Ready")


def _configuration(number: int) -> dict[str, object]:
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    return {"image": "typo:1", "catalog": {"approved": {"tools": {"weather_now": digest}}}}


async def test_configurations_that_never_run_are_deleted_while_a_rollout_does_not_end(
    stage: Stage,
) -> None:
    await stage.is_running()
    (running,) = stage.config_maps()
    for number in range(20):
        stage.user_applies(**_configuration(number))
        stage.clock.advance(60)
        await stage.reconcile()
        deployment = stage.deployment()
        replica_set = stage._replica_set(f"tools-{number + 2}", deployment["spec"]["template"])
        replica_set["metadata"]["annotations"] = {REVISION: str(number + 2)}
        replica_set["spec"]["replicas"] = 1
        for earlier in stage.replica_sets()[1:]:
            stage.cluster.put({**earlier, "spec": {**earlier["spec"], "replicas": 0}})
        stage.cluster.put(replica_set)
        stage.cluster.put({**deployment, "status": {**deployment["status"], "replicas": 2}})
        await stage.reconcile()
        history = deployment["spec"]["revisionHistoryLimit"]
        assert len(stage.config_maps()) <= UNUSED + history + 2
        assert running in stage.config_maps(), "the ready pod mounts it"
    newest = [item["spec"]["template"]["spec"]["volumes"] for item in stage.replica_sets()]
    for volumes in newest[-history:]:
        (name,) = [item["configMap"]["name"] for item in volumes if item["name"] == "config"]
        assert (CONFIG_MAP.name, KEY.namespace, name) in stage.cluster.objects


async def test_manifests_of_earlier_configurations_are_not_kept_in_memory(stage: Stage) -> None:
    await stage.is_running()
    children = stage._reconciler._children._conflicts._children
    before = len(children[KEY])
    for number in range(10):
        stage.user_applies(**_configuration(number))
        await stage.reconcile()
        stage.roll_out("tools-1")
        await stage.reconcile()
    assert len(children[KEY]) == before


async def test_a_proxy_that_was_deleted_and_created_again_has_its_own_secret(
    stage: Stage,
) -> None:
    def refuse(request: str) -> None:
        if request == "apply Deployment":
            raise Invalid("exceeded quota")

    stage.user_applies()
    stage.cluster.before_write = refuse
    with pytest.raises(Invalid):
        await stage.reconcile()
    stage.cluster.before_write = lambda request: None
    # Both happens between two passes, and the garbage collector deletes the children.
    stage.cluster.objects.clear()
    stage.user_applies()
    await stage.reconcile()
    assert stage.sealing in stage.cluster.objects


async def test_a_ready_pod_that_never_reports_hides_no_invalid_spec(stage: Stage) -> None:
    await stage.is_running()
    await _another_pod_is_ready(stage)
    stage.fleet._limits = dataclasses.replace(stage.fleet._limits, first_line=0.01)
    await stage.reconcile()
    for _ in range(3):
        stage.pods.say(stage.pod_uid("tools-2"), None)
    await asyncio.wait_for(stage.changes.get(), 5)
    stage.user_applies(backends=[])
    await stage.reconcile()
    assert stage.verdict("Accepted") == ("False", "InvalidSpec")
