"""The children of an MCPProxy: what is in them, and what changes them."""

import base64
import copy
import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpproxy import desired
from mcpproxy.api import constants, manifest
from mcpproxy.api.v1alpha1 import MCPProxy
from mcpproxy.cluster.resources import INGRESS, ResourceKind
from tests.support.bad_values import ref
from tests.support.builders import OPTIONS, OWNER, a_backend, an_mcpproxy, shuffled
from tests.support.every_field import AUTOSCALED, EVERY_FIELD
from tests.support.on_demand import ASKED, ASKING, PUBLIC

Child = dict[str, Any]


def built(proxy: MCPProxy) -> dict[str, Child]:
    """The children by kind."""
    return {child["kind"]: child for child in desired.build(proxy, OPTIONS, OWNER)}


def pod(proxy: MCPProxy) -> Child:
    spec = built(proxy)["Deployment"]["spec"]["template"]["spec"]
    assert isinstance(spec, dict)
    return spec


def container(proxy: MCPProxy) -> Child:
    (result,) = pod(proxy)["containers"]
    assert isinstance(result, dict)
    return result


def template(proxy: MCPProxy) -> str:
    """Return the pod template, whose changes cause a rollout."""
    return json.dumps(built(proxy)["Deployment"]["spec"]["template"], sort_keys=True)


def kinds_of(proxy: MCPProxy) -> list[tuple[str, str]]:
    """API version and kind of every child, in order."""
    children = desired.build(proxy, OPTIONS, OWNER)
    return [(child["apiVersion"], child["kind"]) for child in children]


def test_every_child_is_of_a_kind_that_is_known_and_there_is_one_of_each() -> None:
    known = [(item.api_version, item.kind) for item in desired.CHILD_KINDS]
    on_demand = [(kind.api_version, kind.name) for kind in ASKED]
    ingress = (INGRESS.api_version, INGRESS.name)
    assert kinds_of(an_mcpproxy(**ASKING)) == [entry for entry in known if entry != ingress]
    assert kinds_of(an_mcpproxy(**ASKED[INGRESS]))[-1] == known[-1] == ingress
    assert kinds_of(an_mcpproxy()) == [element for element in known if element not in on_demand]


@pytest.mark.parametrize("kind", ASKED, ids=lambda kind: kind.name)
def test_an_optional_child_exists_only_if_configured_and_has_the_name_of_the_proxy(
    kind: ResourceKind,
) -> None:
    proxy = an_mcpproxy(**ASKED[kind])
    assert set(kinds_of(proxy)) - set(kinds_of(an_mcpproxy())) == {(kind.api_version, kind.name)}
    assert built(proxy)[kind.name]["metadata"]["name"] == "tools"


def test_every_child_goes_with_its_owner_and_carries_the_labels() -> None:
    sealing = desired.sealing_secret.build(an_mcpproxy(), OWNER, b"k" * 32)
    for child in [*desired.build(an_mcpproxy(**ASKING), OPTIONS, OWNER), sealing]:
        metadata = child["metadata"]
        assert metadata["namespace"] == "team"
        assert constants.child_labels("tools").items() <= metadata["labels"].items()
        assert metadata["ownerReferences"] == [
            {
                "apiVersion": "mcpproxy.dev/v1alpha1",
                "kind": "MCPProxy",
                "name": OWNER.name,
                "uid": OWNER.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ]


def test_children_of_a_proxy_without_namespace_have_none() -> None:
    for child in desired.build(an_mcpproxy(namespace=None), OPTIONS, OWNER):
        assert "namespace" not in child["metadata"]


def test_the_config_map_holds_the_runtimes_manifest_and_the_pod_mounts_it() -> None:
    proxy = an_mcpproxy()
    config_map = built(proxy)["ConfigMap"]
    content = config_map["data"][constants.CONFIG_FILE]
    assert config_map["immutable"] is True
    assert manifest.load(content) == proxy
    assert config_map["metadata"]["name"] == f"tools-{manifest.config_hash(content)[:10]}"
    assert {"name": "config", "configMap": {"name": config_map["metadata"]["name"]}} in pod(proxy)[
        "volumes"
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"cache": {"ttl": "60s"}},
        {"backends": [a_backend(), a_backend("calendar")]},
        {"backends": [a_backend(headers=[{"name": "X", "value": "1"}])]},
        {"allowedHosts": ["tools.example.com"]},
        {"health": {"interval": "1s"}},
        {"image": "other:1"},
        {"resources": {"limits": {"cpu": "1"}}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_change_of_the_pod_configuration_causes_a_rollout(change: dict[str, Any]) -> None:
    assert template(an_mcpproxy(**change)) != template(an_mcpproxy())


@pytest.mark.parametrize(
    "change",
    [
        {"replicas": 5},
        {"service": {"type": "NodePort", "port": 8000}},
        {"service": {"annotations": {"example.com/a": "b"}}},
        {"suspend": True},
        *ASKED.values(),
    ],
    ids=str,
)
def test_a_change_invisible_to_pods_causes_no_rollout(change: dict[str, Any]) -> None:
    assert template(an_mcpproxy(**{**PUBLIC, **change})) == template(an_mcpproxy(**PUBLIC))


def test_labels_and_annotations_of_the_mcpproxy_change_no_child() -> None:
    plain = manifest.parse(EVERY_FIELD)
    labelled = copy.deepcopy(EVERY_FIELD)
    labelled["metadata"] |= {"labels": {"a": "b"}, "annotations": {"c": "d"}, "generation": 7}
    assert built(manifest.parse(labelled)) == built(plain)


def test_a_new_version_of_the_operator_with_the_same_image_rolls_nothing() -> None:
    newer = desired.BuildOptions(image=OPTIONS.image, version="2.0.0")
    *_, before = desired.build(an_mcpproxy(), OPTIONS, OWNER)
    *_, after = desired.build(an_mcpproxy(), newer, OWNER)
    assert before["spec"] == after["spec"]
    assert before["metadata"] != after["metadata"]


def test_replicas_are_left_to_others_unless_the_spec_has_them() -> None:
    assert "replicas" not in built(an_mcpproxy())["Deployment"]["spec"]
    assert built(an_mcpproxy(replicas=0))["Deployment"]["spec"]["replicas"] == 0


def test_the_image_is_the_installations_unless_the_spec_has_one() -> None:
    assert container(an_mcpproxy())["image"] == OPTIONS.image
    assert container(an_mcpproxy(image="mine:1"))["image"] == "mine:1"


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("mine:1", "IfNotPresent"),
        ("mine", "Always"),
        ("mine:latest", "Always"),
        ("registry.example.com:5000/mine", "Always"),
        ("registry.example.com:5000/mine:1", "IfNotPresent"),
        ("mine@sha256:0123", "IfNotPresent"),
        ("mine:latest@sha256:0123", "Always"),
    ],
)
def test_an_image_is_pulled_as_kubernetes_pulls_a_new_one(image: str, policy: str) -> None:
    """Spelled out, as the API server chooses only once: another image would keep the choice."""
    assert container(an_mcpproxy(image=image))["imagePullPolicy"] == policy
    mcpproxy = an_mcpproxy(image=image, imagePullPolicy="Never")
    assert container(mcpproxy)["imagePullPolicy"] == "Never"


def test_resources_are_the_specs_or_the_defaults_never_a_mix() -> None:
    assert container(an_mcpproxy())["resources"].keys() == {"requests"}
    small = an_mcpproxy(resources={"limits": {"memory": "64Mi", "cpu": 1}})
    assert container(small)["resources"] == {"limits": {"cpu": "1", "memory": "64Mi"}}


def test_referenced_values_are_projected_by_kind_name_and_key_and_may_be_missing() -> None:
    headers = [
        {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "b"}}},
        {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "a"}}},
        {"name": "C", "valueFrom": {"secretKeyRef": {"name": "s", "key": "a"}}},
    ]
    env = [{"name": "D", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}]
    proxy = an_mcpproxy(
        backends=[a_backend(headers=headers), a_backend("n", stdio={"command": "n", "env": env})]
    )
    (values,) = [
        volume["projected"] for volume in pod(proxy)["volumes"] if volume["name"] == "values"
    ]
    assert values["sources"] == [
        {
            "configMap": {
                "name": "c",
                "optional": True,
                "items": [{"key": "k", "path": "configmap/c/k"}],
            }
        },
        {
            "secret": {
                "name": "s",
                "optional": True,
                "items": [
                    {"key": "a", "path": "secret/s/a"},
                    {"key": "b", "path": "secret/s/b"},
                ],
            }
        },
    ]
    mount = {"name": "values", "mountPath": constants.VALUES_DIR, "readOnly": True}
    assert mount in container(proxy)["volumeMounts"]


def test_there_is_no_volume_for_values_when_nothing_is_referenced() -> None:
    assert "values" not in {volume["name"] for volume in pod(an_mcpproxy())["volumes"]}
    assert "values" not in {mount["name"] for mount in container(an_mcpproxy())["volumeMounts"]}


def test_every_mount_has_its_volume_and_the_other_way_round() -> None:
    proxy = an_mcpproxy(backends=[a_backend(headers=[{"name": "A", "valueFrom": ref(secret="s")}])])
    mounted = [mount["name"] for mount in container(proxy)["volumeMounts"]]
    assert sorted(mounted) == sorted(volume["name"] for volume in pod(proxy)["volumes"])


def test_no_child_contains_a_value_of_a_secret() -> None:
    """References alone: the operator never has the value."""
    proxy = an_mcpproxy(backends=[a_backend(headers=[{"name": "A", "valueFrom": ref(secret="s")}])])
    for child in desired.build(proxy, OPTIONS, OWNER):
        assert child["kind"] != "Secret"
    config = json.loads(built(proxy)["ConfigMap"]["data"][constants.CONFIG_FILE])
    assert config["spec"]["backends"][0]["headers"] == [
        {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "token"}}}
    ]


def test_pods_have_no_token_and_no_way_to_more_rights() -> None:
    proxy = an_mcpproxy()
    assert built(proxy)["ServiceAccount"]["automountServiceAccountToken"] is False
    assert pod(proxy)["automountServiceAccountToken"] is False
    assert pod(proxy)["securityContext"]["runAsNonRoot"] is True
    assert container(proxy)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }


def test_probes_use_the_admin_port_which_is_not_in_the_service() -> None:
    proxy = an_mcpproxy()
    result = container(proxy)
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert result[probe]["httpGet"]["port"] == "admin"
    (port,) = built(proxy)["Service"]["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (80, "http")
    assert {item["name"]: item["containerPort"] for item in result["ports"]} == {
        "http": constants.PORT_HTTP,
        "admin": constants.PORT_ADMIN,
    }


def test_a_terminating_pod_serves_until_it_gets_no_more_traffic() -> None:
    proxy = an_mcpproxy()
    pause = container(proxy)["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert 0 < pause < pod(proxy)["terminationGracePeriodSeconds"]


def test_the_service_follows_the_spec_and_selects_the_pods() -> None:
    value = {"type": "LoadBalancer", "port": 8000, "annotations": {"b": "2", "a": "1"}}
    children = built(an_mcpproxy(service=value))
    service = children["Service"]
    labels = children["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["type"] == "LoadBalancer"
    assert service["spec"]["ports"][0]["port"] == 8000
    assert service["metadata"]["annotations"] == {"a": "1", "b": "2"}
    assert service["spec"]["selector"].items() <= labels.items()
    assert children["Deployment"]["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_the_sealing_secret_holds_the_key_that_it_is_given() -> None:
    secret = desired.sealing_secret.build(an_mcpproxy(), OWNER, bytes(range(32)))
    name = f"tools-sealing-{OWNER.uid}"
    assert secret["metadata"]["name"] == name
    assert base64.b64decode(secret["data"]["current"]) == bytes(range(32))
    volumes = pod(an_mcpproxy())["volumes"]
    assert {"name": "sealing", "secret": {"secretName": name}} in volumes


def test_a_sealing_key_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="must have 32 bytes, this one has 31"):
        desired.sealing_secret.build(an_mcpproxy(), OWNER, b"k" * 31)


@pytest.mark.slow
@pytest.mark.parametrize("source", [EVERY_FIELD, AUTOSCALED], ids=["every field", "autoscaled"])
@settings(deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_the_source_changes_no_byte_of_any_child(
    source: dict[str, Any], by: random.Random
) -> None:
    expected = desired.build(manifest.parse(source), OPTIONS, OWNER)
    mixed = manifest.parse({**source, "spec": shuffled(source["spec"], by)})
    assert json.dumps(desired.build(mixed, OPTIONS, OWNER)) == json.dumps(expected)
