"""The plan: what to apply, what to leave alone."""

from typing import Any

from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.reconcile.plan import WAIT, make_plan, prunable

OWNER = {"kind": "MCPProxy", "metadata": {"name": "tools", "uid": "u1"}}


def a_child(kind: str, name: str = "tools", owner: str | None = "u1", **fields: Any) -> Object:
    """A live child; `owner` is the uid of its controller."""
    metadata: Object = {"name": name, "uid": f"{kind}-{name}", **fields.pop("metadata", {})}
    if owner is not None:
        metadata["ownerReferences"] = [
            {"kind": "MCPProxy", "name": "tools", "uid": owner, "controller": True}
        ]
    return {"apiVersion": "x/v1", "kind": kind, "metadata": metadata, "spec": {}, **fields}


def wanted(kind: str, name: str = "tools", **fields: Any) -> Object:
    """A desired child."""
    return {"kind": kind, "metadata": {"name": name}, "spec": {}, **fields}


ALL = [wanted("Deployment"), wanted("Service"), wanted("ConfigMap", "tools-1")]


def never(manifest: Object, live: Object) -> bool:
    """Nothing is in sync."""
    return False


def always(manifest: Object, live: Object) -> bool:
    """Everything is in sync."""
    return True


def test_missing_children_are_created_with_the_deployment_last() -> None:
    plan = make_plan(ALL, [], OWNER, always)
    assert [(step.manifest["kind"], step.uid) for step in plan.apply] == [
        ("ConfigMap", None),
        ("Service", None),
        ("Deployment", None),
    ]


def test_children_in_sync_are_not_written() -> None:
    live = [a_child("Deployment"), a_child("Service"), a_child("ConfigMap", "tools-1")]
    assert make_plan(ALL, live, OWNER, always).apply == ()


def test_a_drifted_field_is_applied_to_the_observed_object() -> None:
    plan = make_plan([wanted("Service")], [a_child("Service")], OWNER, never)
    assert [step.uid for step in plan.apply] == ["Service-tools"]


def test_an_object_of_another_owner_blocks_everything_and_is_named() -> None:
    live = [a_child("Deployment", owner=None), a_child("Service")]
    plan = make_plan(ALL, live, OWNER, never)
    assert (plan.apply, plan.replace, plan.requeue_after) == ((), (), WAIT)
    assert plan.blocked is not None
    assert plan.blocked.reason == "NotOwned"
    assert "Deployment tools" in plan.blocked.message
    assert "Service" not in plan.blocked.message


def test_a_child_of_another_kind_of_owner_belongs_to_another_owner() -> None:
    live = a_child("Deployment")
    live["metadata"]["ownerReferences"][0] |= {"kind": "Other", "uid": "u9"}
    plan = make_plan(ALL, [live], OWNER, never)
    assert plan.blocked is not None
    assert plan.blocked.reason == "NotOwned"


def test_children_of_an_earlier_proxy_of_this_name_are_awaited() -> None:
    plan = make_plan(ALL, [a_child("Deployment", owner="u0")], OWNER, never)
    assert plan.apply == ()
    assert plan.blocked is not None
    assert plan.blocked.reason == "WaitingForDeletion"


def test_a_child_that_is_being_deleted_is_awaited() -> None:
    live = a_child("Deployment", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})
    plan = make_plan(ALL, [live], OWNER, never)
    assert plan.blocked is not None
    assert plan.blocked.reason == "WaitingForDeletion"


def test_an_immutable_child_with_other_content_is_replaced() -> None:
    live = a_child("ConfigMap", "tools-1", immutable=True, data={"a": "1"})
    plan = make_plan([wanted("ConfigMap", "tools-1", data={"a": "2"})], [live], OWNER, never)
    assert plan.replace == (live,)
    assert [step.uid for step in plan.apply] == [None]


def test_only_our_own_superseded_config_maps_are_prunable() -> None:
    live = [
        a_child("ConfigMap", "tools-1"),
        a_child("ConfigMap", "tools-0"),
        a_child("ConfigMap", "theirs", owner=None),
        a_child("ConfigMap", "going", metadata={"deletionTimestamp": "x"}),
        a_child("Service"),
    ]
    result = prunable(live, ["tools-1"], OWNER)
    assert [thing["metadata"]["name"] for thing in result] == ["tools-0"]
