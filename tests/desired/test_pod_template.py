"""Where pods run: what the overlay changes, and what it can't."""

from typing import Any

from mcpproxy import desired
from mcpproxy.api import constants
from tests.support.builders import OPTIONS, OWNER, an_mcpproxy


def template(**overlay: Any) -> dict[str, Any]:
    """The pod template of a proxy with this overlay."""
    proxy = an_mcpproxy(podTemplate=overlay)
    children = {one["kind"]: one for one in desired.build(proxy, OPTIONS, OWNER)}
    found = children["Deployment"]["spec"]["template"]
    assert isinstance(found, dict)
    return found


def pod(**overlay: Any) -> dict[str, Any]:
    """The pod of a proxy with this overlay."""
    found = template(**overlay)["spec"]
    assert isinstance(found, dict)
    return found


def test_an_empty_overlay_is_ignored() -> None:
    (*_, plain) = desired.build(an_mcpproxy(), OPTIONS, OWNER)
    assert template() == plain["spec"]["template"]
    assert template(labels={}, tolerations=[], affinity={}) == template()
    assert template(affinity={"nodeAffinity": {}, "podAffinity": {}}) == template()


def test_labels_and_annotations_come_besides_our_own() -> None:
    found = template(labels={"team": "blue"}, annotations={"owner": "me"})["metadata"]
    assert found["labels"] == {**constants.child_labels("tools"), "team": "blue"}
    assert found["annotations"] == {"owner": "me"}


def test_the_spread_is_over_nodes_and_zones_unless_another_is_given() -> None:
    assert [one["topologyKey"] for one in pod()["topologySpreadConstraints"]] == [
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    ]
    given = {"maxSkew": 3, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}
    (found,) = pod(topologySpreadConstraints=[given])["topologySpreadConstraints"]
    assert given.items() <= found.items()
    assert found["labelSelector"]["matchLabels"] == constants.selector_labels("tools")
    assert pod(topologySpreadConstraints=[])["topologySpreadConstraints"] == []


def test_scheduling_fields_are_copied_unchanged() -> None:
    given = {
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "priorityClassName": "high",
        "runtimeClassName": "gvisor",
        "schedulerName": "mine",
        "serviceAccountName": "agents",
    }
    assert given.items() <= pod(**given).items()
    assert pod(**given)["automountServiceAccountToken"] is False


def test_no_overlay_makes_the_pods_less_safe() -> None:
    found = pod(securityContext={"runAsUser": 7})
    assert found["securityContext"] == {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
        "runAsUser": 7,
    }
    assert found["containers"] == pod()["containers"]


def test_calls_have_all_but_ten_seconds_of_the_time_that_a_pod_has_to_end() -> None:
    found = pod(terminationGracePeriodSeconds=300)
    assert found["terminationGracePeriodSeconds"] == 300
    assert found["containers"][0]["args"][-2:] == ["--drain", "290"]
    assert pod()["terminationGracePeriodSeconds"] == 60
    assert "--drain" not in pod()["containers"][0]["args"]
