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


def children(given: Manifest, namespace: str) -> list[Manifest]:
    """All children of a manifest, in another namespace, and the Secret."""
    metadata = {**given["metadata"], "namespace": namespace}
    proxy = manifest.parse({**given, "metadata": metadata})
    secret = desired.sealing_secret.build(proxy, OWNER, b"k" * 32)
    return [secret, *desired.build(proxy, IN_CLUSTER, OWNER)]


def applied(apiserver: ApiServer, given: list[Manifest], *args: str) -> list[dict[str, Any]]:
    """What the API server makes of them; it must take all, without a warning."""
    everything = json.dumps({"apiVersion": "v1", "kind": "List", "items": given})
    answer = apiserver.kubectl(*APPLY, *args, "-o", "json", "-f", "-", input=everything)
    assert answer.returncode == 0, answer.stderr
    # A user's annotation may name an AppArmor profile in the way that Kubernetes 1.30 deprecated.
    assert [line for line in answer.stderr.splitlines() if "appArmorProfile" not in line] == []
    items = json.loads(answer.stdout)["items"]
    assert isinstance(items, list)
    return items


def versions(objects: list[dict[str, Any]]) -> dict[str, str]:
    """Resource versions by kind."""
    return {one["kind"]: one["metadata"]["resourceVersion"] for one in objects}


@pytest.mark.parametrize("name", GOOD)
def test_every_child_is_accepted_and_applying_it_again_changes_nothing(
    apiserver: ApiServer, namespace: str, name: str
) -> None:
    label = "pod-security.kubernetes.io/warn=restricted"
    assert apiserver.kubectl("label", "namespace", namespace, label).returncode == 0
    given = children(GOOD[name], namespace)
    first = applied(apiserver, given)
    second = applied(apiserver, given)
    assert len(first) == len(given) >= 5
    assert versions(second) == versions(first)


@pytest.mark.parametrize("name", GOOD)
def test_an_unchanged_child_is_not_written(apiserver: ApiServer, namespace: str, name: str) -> None:
    """Defaults of the API server are known as such where it does not tell whose a field is."""
    given = children(GOOD[name], namespace)
    stored = applied(apiserver, given, "--show-managed-fields")
    differ = [
        (intended_fields(manifest), applied_fields(live, constants.FIELD_MANAGER))
        for manifest, live in zip(given, stored, strict=True)
        if not semantically_equal(
            intended_fields(manifest), applied_fields(live, constants.FIELD_MANAGER)
        )
    ]
    assert differ == []


def test_replicas_that_others_set_are_left_alone(apiserver: ApiServer, namespace: str) -> None:
    given = children(GOOD["one backend"], namespace)
    applied(apiserver, given)
    scaled = apiserver.kubectl("scale", "deployment/tools", "-n", namespace, "--replicas=7")
    assert scaled.returncode == 0, scaled.stderr
    *_, deployment = applied(apiserver, given)
    assert deployment["spec"]["replicas"] == 7


def test_a_service_goes_back_from_load_balancer_to_cluster_ip(
    apiserver: ApiServer, namespace: str
) -> None:
    plain, open_ = GOOD["one backend"], GOOD["every field"]
    for given, expected in ((plain, "ClusterIP"), (open_, "LoadBalancer"), (plain, "ClusterIP")):
        found = applied(apiserver, children(given, namespace))
        # The other Service is headless, for the instances that count calls together.
        [service] = [
            one
            for one in found
            if one["kind"] == "Service" and one["spec"].get("clusterIP") != "None"
        ]
        assert service["spec"]["type"] == expected
        assert ("nodePort" in service["spec"]["ports"][0]) == (expected == "LoadBalancer")
    assert "annotations" not in service["metadata"]
