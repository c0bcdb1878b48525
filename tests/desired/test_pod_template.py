"""Placement of pods: fields that the overlay changes, and fields that it cannot."""

from typing import Any

from mcpproxy import desired
from mcpproxy.api import constants
from tests.support.builders import OPTIONS, OWNER, an_mcpproxy


def template(**overlay: Any) -> dict[str, Any]:
    """The pod template of a proxy with this overlay."""
    proxy = an_mcpproxy(podTemplate=overlay)
    children = {item["kind"]: item for item in desired.build(proxy, OPTIONS, OWNER)}
    result = children["Deployment"]["spec"]["template"]
    assert isinstance(result, dict)
    return result


def pod(**overlay: Any) -> dict[str, Any]:
    """The pod of a proxy with this overlay."""
    spec = template(**overlay)["spec"]
    assert isinstance(spec, dict)
    return spec


def test_an_empty_overlay_is_ignored() -> None:
    (*_, plain) = desired.build(an_mcpproxy(), OPTIONS, OWNER)
    assert template() == plain["spec"]["template"]
    assert template(labels={}, tolerations=[], affinity={}) == template()
    assert template(affinity={"nodeAffinity": {}, "podAffinity": {}}) == template()


def test_labels_and_annotations_come_besides_our_own() -> None:
    metadata = template(labels={"team": "blue"}, annotations={"owner": "me"})["metadata"]
    assert metadata["labels"] == {**constants.child_labels("tools"), "team": "blue"}
    assert metadata["annotations"] == {"owner": "me"}


def test_the_spread_is_over_nodes_and_zones_unless_another_is_given() -> None:
    assert [item["topologyKey"] for item in pod()["topologySpreadConstraints"]] == [
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    ]
    value = {"maxSkew": 3, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}
    (result,) = pod(topologySpreadConstraints=[value])["topologySpreadConstraints"]
    assert value.items() <= result.items()
    assert result["labelSelector"]["matchLabels"] == constants.selector_labels("tools")
    assert pod(topologySpreadConstraints=[])["topologySpreadConstraints"] == []


def test_scheduling_fields_are_copied_unchanged() -> None:
    value = {
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "priorityClassName": "high",
        "runtimeClassName": "gvisor",
        "schedulerName": "mine",
        "serviceAccountName": "agents",
    }
    assert value.items() <= pod(**value).items()
    assert pod(**value)["automountServiceAccountToken"] is False


def test_no_overlay_makes_the_pods_less_safe() -> None:
    result = pod(securityContext={"runAsUser": 7})
    assert result["securityContext"] == {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
        "runAsUser": 7,
    }
    assert result["containers"] == pod()["containers"]


def test_calls_have_all_but_ten_seconds_of_the_time_that_a_pod_has_to_end() -> None:
    result = pod(terminationGracePeriodSeconds=300)
    assert result["terminationGracePeriodSeconds"] == 300
    assert result["containers"][0]["args"][-2:] == ["--drain", "290"]
    assert pod()["terminationGracePeriodSeconds"] == 60
    assert "--drain" not in pod()["containers"][0]["args"]
