"""The autoscaler and the budget for evictions."""

from typing import Any

from mcpproxy import desired
from mcpproxy.api import constants
from tests.support.builders import OPTIONS, OWNER, an_mcpproxy


def child(kind: str, **spec: Any) -> dict[str, Any]:
    """The spec of one child."""
    children = desired.build(an_mcpproxy(**spec), OPTIONS, OWNER)
    (result,) = [item["spec"] for item in children if item["kind"] == kind]
    assert isinstance(result, dict)
    return result


def targets(**autoscaling: Any) -> dict[str, int]:
    """Resource → percent of its request that the autoscaler aims at."""
    resources = {"requests": {"cpu": 1, "memory": "1Gi"}}
    value = {"maxReplicas": 3, **autoscaling}
    metrics = child("HorizontalPodAutoscaler", autoscaling=value, resources=resources)["metrics"]
    measured = [metric["containerResource"] for metric in metrics]
    assert {item["container"] for item in measured} == {constants.CONTAINER}
    return {entry["name"]: entry["target"]["averageUtilization"] for entry in measured}


def test_the_autoscaler_scales_the_deployment_whose_replicas_are_left_alone() -> None:
    result = child("HorizontalPodAutoscaler", autoscaling={"minReplicas": 2, "maxReplicas": 9})
    assert result["scaleTargetRef"] == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": "tools",
    }
    assert (result["minReplicas"], result["maxReplicas"]) == (2, 9)
    assert "replicas" not in child("Deployment", autoscaling={"maxReplicas": 9})


def test_an_autoscaler_without_targets_aims_at_80_percent_of_the_cpu() -> None:
    assert targets() == {"cpu": 80}
    result = child("HorizontalPodAutoscaler", autoscaling={"maxReplicas": 9})
    assert result["minReplicas"] == 1
    assert result["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 300


def test_the_autoscaler_aims_at_the_targets_that_are_given() -> None:
    cpu, memory = "targetCPUUtilizationPercentage", "targetMemoryUtilizationPercentage"
    assert targets(**{cpu: 50}) == {"cpu": 50}
    assert targets(**{memory: 90}) == {"memory": 90}
    assert targets(**{cpu: 50, memory: 90}) == {"cpu": 50, "memory": 90}


def test_pods_are_taken_away_after_the_given_time_in_whole_seconds() -> None:
    value = {"maxReplicas": 9, "scaleDownAfter": "1m500ms"}
    result = child("HorizontalPodAutoscaler", autoscaling=value)
    assert result["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 61


def test_the_budget_follows_the_spec_and_selects_the_pods() -> None:
    least = child("PodDisruptionBudget", disruptionBudget={"minAvailable": 2})
    most = child("PodDisruptionBudget", disruptionBudget={"maxUnavailable": "50%"})
    assert (least["minAvailable"], most["maxUnavailable"]) == (2, "50%")
    assert "maxUnavailable" not in least
    assert least["selector"]["matchLabels"] == constants.selector_labels("tools")


def test_a_pod_that_is_not_ready_does_not_block_the_drain_of_its_node() -> None:
    result = child("PodDisruptionBudget", disruptionBudget={"minAvailable": 1})
    assert result["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
