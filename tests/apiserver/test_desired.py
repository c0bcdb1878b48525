"""The children at a real API server: each is valid, and applying it again changes nothing."""

import json
from dataclasses import replace
from typing import Any

import pytest

from mcpproxy import desired
from mcpproxy.api import constants, manifest
from mcpproxy.cluster.managed_fields import applied_fields, intended_fields, semantically_equal
from mcpproxy.desired import Manifest
from tests.apiserver.server import ApiServer
from tests.support.builders import OPTIONS, OWNER
from tests.support.good_manifests import GOOD

pytestmark = pytest.mark.apiserver

IN_CLUSTER = replace(OPTIONS, operator_namespace="mcpproxy-system")
APPLY = ("apply", "--server-side", "--validate=strict", "--field-manager=mcpproxy-operator")


def children(value: Manifest, namespace: str) -> list[Manifest]:
    """All children of a manifest, in another namespace, and the Secret."""
    metadata = {**value["metadata"], "namespace": namespace}
    proxy = manifest.parse({**value, "metadata": metadata})
    secret = desired.sealing_secret.build(proxy, OWNER, b"k" * 32)
    return [secret, *desired.build(proxy, IN_CLUSTER, OWNER)]


def applied(apiserver: ApiServer, value: list[Manifest], *args: str) -> list[dict[str, Any]]:
    """Return the objects as the API server stores them; it must accept all, without a warning."""
    everything = json.dumps({"apiVersion": "v1", "kind": "List", "items": value})
    answer = apiserver.kubectl(*APPLY, *args, "-o", "json", "-f", "-", input=everything)
    assert answer.returncode == 0, answer.stderr
    # A user's annotation may name an AppArmor profile in the way that Kubernetes 1.30 deprecated.
    assert [line for line in answer.stderr.splitlines() if "appArmorProfile" not in line] == []
    items = json.loads(answer.stdout)["items"]
    assert isinstance(items, list)
    return items


def versions(objects: list[dict[str, Any]]) -> dict[str, str]:
    """Resource versions by kind."""
    return {item["kind"]: item["metadata"]["resourceVersion"] for item in objects}


@pytest.mark.parametrize("name", GOOD)
def test_every_child_is_accepted_and_applying_it_again_changes_nothing(
    apiserver: ApiServer, namespace: str, name: str
) -> None:
    label = "pod-security.kubernetes.io/warn=restricted"
    assert apiserver.kubectl("label", "namespace", namespace, label).returncode == 0
    value = children(GOOD[name], namespace)
    first = applied(apiserver, value)
    second = applied(apiserver, value)
    assert len(first) == len(value) >= 5
    assert versions(second) == versions(first)


@pytest.mark.parametrize("name", GOOD)
def test_an_unchanged_child_is_not_written(apiserver: ApiServer, namespace: str, name: str) -> None:
    """Defaults of the API server are known as such where it does not tell whose a field is."""
    value = children(GOOD[name], namespace)
    stored = applied(apiserver, value, "--show-managed-fields")
    differ = [
        (intended_fields(manifest), applied_fields(live, constants.FIELD_MANAGER))
        for manifest, live in zip(value, stored, strict=True)
        if not semantically_equal(
            intended_fields(manifest), applied_fields(live, constants.FIELD_MANAGER)
        )
    ]
    assert differ == []


def test_replicas_that_others_set_are_left_alone(apiserver: ApiServer, namespace: str) -> None:
    value = children(GOOD["one backend"], namespace)
    applied(apiserver, value)
    scaled = apiserver.kubectl("scale", "deployment/tools", "-n", namespace, "--replicas=7")
    assert scaled.returncode == 0, scaled.stderr
    *_, deployment = applied(apiserver, value)
    assert deployment["spec"]["replicas"] == 7


def test_a_service_goes_back_from_load_balancer_to_cluster_ip(
    apiserver: ApiServer, namespace: str
) -> None:
    plain, open_ = GOOD["one backend"], GOOD["every field"]
    for value, expected in ((plain, "ClusterIP"), (open_, "LoadBalancer"), (plain, "ClusterIP")):
        result = applied(apiserver, children(value, namespace))
        # The other Service is headless, for the instances that count calls together.
        [service] = [
            item
            for item in result
            if item["kind"] == "Service" and item["spec"].get("clusterIP") != "None"
        ]
        assert service["spec"]["type"] == expected
        assert ("nodePort" in service["spec"]["ports"][0]) == (expected == "LoadBalancer")
    assert "annotations" not in service["metadata"]
