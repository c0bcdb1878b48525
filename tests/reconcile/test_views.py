"""Values that are read from live objects."""

from typing import Any

import pytest

from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.reconcile.object_views import deployment_view, mounted_config_map, pod_address
from mcpproxy.status.pod_problems import is_ready


def a_pod(**status: Any) -> Object:
    """A running pod that is not ready."""
    return {
        "metadata": {"name": "tools-1", "namespace": "team", "uid": "p1"},
        "status": {"phase": "Running", "podIP": "10.0.0.1", **status},
    }


READY = {"type": "Ready", "status": "True"}


def test_a_deployment_with_an_outdated_observed_generation_is_not_settled() -> None:
    live: Object = {"metadata": {"generation": 2}, "spec": {"replicas": 1}}
    assert not deployment_view(live).settled
    live["status"] = {"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1}
    assert deployment_view(live).settled
    assert not deployment_view(live).complete
    live["status"]["availableReplicas"] = 1
    assert deployment_view(live).complete


def test_a_pod_of_the_old_revision_means_that_the_rollout_continues() -> None:
    done = {"observedGeneration": 1, "updatedReplicas": 1, "availableReplicas": 1}
    live = {
        "metadata": {"generation": 1},
        "spec": {"replicas": 1},
        "status": {**done, "replicas": 2},
    }
    assert not deployment_view(live).complete


def test_the_failure_of_a_deployment_is_taken_from_its_conditions() -> None:
    condition = {
        "type": "Progressing",
        "status": "False",
        "reason": "ProgressDeadlineExceeded",
        "message": "timed out",
    }
    live = {"metadata": {"generation": 1}, "spec": {}, "status": {"conditions": [condition]}}
    failure = deployment_view(live).failure
    assert failure is not None
    assert (failure.reason, failure.message) == ("ProgressDeadlineExceeded", "timed out")


def test_the_mounted_configuration_is_distinguished_from_other_config_maps() -> None:
    volumes = [
        {"name": "theirs", "configMap": {"name": "tools-settings"}},
        {"name": "config", "configMap": {"name": "tools-0123456789"}},
    ]
    assert mounted_config_map({"volumes": volumes}, "tools") == "tools-0123456789"
    assert mounted_config_map({"volumes": volumes[:1]}, "tools") is None
    assert mounted_config_map({}, "tools") is None


def test_a_terminating_pod_is_neither_ready_nor_read() -> None:
    pod = a_pod(conditions=[READY])
    assert is_ready(pod)
    assert pod_address(pod) is not None
    pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert not is_ready(pod)
    assert pod_address(pod) is None


@pytest.mark.parametrize("status", [{"podIP": ""}, {"phase": "Pending"}, {"phase": "Failed"}])
def test_a_pod_without_an_address_is_not_read(status: dict[str, str]) -> None:
    assert pod_address(a_pod(**status)) is None


def test_pods_that_start_or_fail_do_not_reopen_a_completed_rollout() -> None:
    condition = {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}
    counts = {"replicas": 3, "updatedReplicas": 3, "availableReplicas": 1}
    status = {"observedGeneration": 1, "conditions": [condition], **counts}
    live: Object = {"metadata": {"generation": 1}, "spec": {"replicas": 4}, "status": status}
    assert deployment_view(live).rolled_out
    status["updatedReplicas"] = 2
    assert not deployment_view(live).rolled_out
    status["updatedReplicas"], condition["reason"] = 3, "ReplicaSetUpdated"
    assert not deployment_view(live).rolled_out
    condition["reason"], live["metadata"]["generation"] = "NewReplicaSetAvailable", 2
    assert not deployment_view(live).rolled_out
