"""Pods that can't start, and the passes that find out though nothing changes."""

from mcpproxy.status.pod_problems import MOUNTS_WITHIN
from tests.reconcile.stage import Stage


def waits_for_volumes(stage: Stage, pod: str) -> None:
    """Let the kubelet say that a pod can't start its containers yet."""
    result = stage.child("Pod", pod)
    result["status"] = {
        "phase": "Pending",
        "conditions": [{"type": "PodReadyToStartContainers", "status": "False"}],
        "containerStatuses": [
            {"name": "mcpproxy", "state": {"waiting": {"reason": "ContainerCreating"}}}
        ],
    }
    stage.cluster.put(result)


async def test_a_missing_sealing_secret_is_named_after_a_minute_and_created_again(
    stage: Stage,
) -> None:
    await stage.is_running()
    del stage.cluster.objects[stage.sealing]
    stage.adds_a_pod("tools-2")
    waits_for_volumes(stage, "tools-2")
    assert await stage.reconcile() == MOUNTS_WITHIN
    assert "tools-sealing" not in stage.message("Available")
    stage.clock.advance(MOUNTS_WITHIN)
    await stage.reconcile()
    assert f"Secret {stage.sealing[2]}" in stage.message("Available")
    assert stage.sealing in stage.cluster.objects


async def test_a_suspended_proxy_names_the_missing_secret_and_makes_none(stage: Stage) -> None:
    await stage.is_running(suspend=False)
    del stage.cluster.objects[stage.sealing]
    stage.user_applies(suspend=True)
    stage.adds_a_pod("tools-2")
    waits_for_volumes(stage, "tools-2")
    stage.clock.advance(MOUNTS_WITHIN)
    await stage.reconcile()
    assert f"Secret {stage.sealing[2]}" in stage.message("Available")
    assert stage.sealing not in stage.cluster.objects
