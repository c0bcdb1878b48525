"""Contract of every Cluster, of the double in memory and of the real one."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest

from mcpproxy.api import constants
from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.cluster.client import HEAD_FIELDS
from mcpproxy.cluster.errors import Conflict, Invalid, NotFound
from mcpproxy.cluster.managed_fields import applied_fields, intended_fields, semantically_equal
from mcpproxy.cluster.resources import (
    CONFIG_MAP,
    DEPLOYMENT,
    MCP_PROXY,
    NETWORK_POLICY,
    SERVICE,
    ResourceKind,
)
from tests.cluster.contract_on_demand import (
    an_edit_of_a_kind_on_demand_shows_and_is_taken_back,
    every_kind_on_demand_is_owned_as_applied_and_deleted_by_uid,
)
from tests.cluster.sides import Side, a_config_map, a_deployment
from tests.support.builders import a_manifest


async def every_character_arrives_as_it_was_sent(side: Side) -> None:
    """Applied objects are read as YAML, which reads some characters of JSON otherwise."""
    text = "é\x7f\x80\x85\u2028\u2029\ufeff\ufffe\U0001f600 \\ud83d\\ude00"
    manifest = a_config_map(side, one=text)
    stored = await side.cluster.apply(manifest)
    assert stored["data"] == {"one": text}
    assert semantically_equal(
        intended_fields(manifest), applied_fields(stored, constants.FIELD_MANAGER)
    )


async def an_absent_object_is_none(side: Side) -> None:
    assert await side.cluster.get(CONFIG_MAP, side.namespace, "none") is None


async def what_is_applied_can_be_read_and_listed_by_labels(side: Side) -> None:
    await side.cluster.apply(a_config_map(side))
    result = await side.cluster.get(CONFIG_MAP, side.namespace, "one")
    assert result is not None
    assert result["data"] == {"key": "value"}
    listed = await side.cluster.list(CONFIG_MAP, side.namespace, {"a": "1", "b": "2"})
    assert [(thing["kind"], thing["metadata"]["name"]) for thing in listed] == [
        ("ConfigMap", "one")
    ]
    assert await side.cluster.list(CONFIG_MAP, side.namespace, {"a": "other"}) == []


async def applying_the_same_again_changes_nothing(side: Side) -> None:
    first = await side.cluster.apply(a_deployment(side))
    again = await side.cluster.apply(a_deployment(side), first["metadata"]["uid"])
    assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


async def what_was_applied_is_owned_and_defaults_are_not(side: Side) -> None:
    live = await side.cluster.apply(a_deployment(side))
    assert semantically_equal(
        intended_fields(a_deployment(side)), applied_fields(live, constants.FIELD_MANAGER)
    )


async def a_quantity_in_another_spelling_is_the_same(side: Side) -> None:
    manifest = a_deployment(side, resources={"requests": {"cpu": "0.5", "memory": "1024Mi"}})
    live = await side.cluster.apply(manifest)
    assert semantically_equal(
        intended_fields(manifest), applied_fields(live, constants.FIELD_MANAGER)
    )


async def a_default_beside_our_fields_is_no_drift(side: Side) -> None:
    probe = {"httpGet": {"path": "/", "port": 80}}
    manifest = a_deployment(side, livenessProbe=probe)
    live = await side.cluster.apply(manifest)
    assert semantically_equal(
        intended_fields(manifest), applied_fields(live, constants.FIELD_MANAGER)
    )


async def what_goes_inside_a_field_that_is_owned_whole_is_seen(side: Side) -> None:
    rule = {"to": [{"podSelector": {}}], "ports": [{"port": 1, "protocol": "TCP"}]}
    manifest = {
        "apiVersion": NETWORK_POLICY.api_version,
        "kind": NETWORK_POLICY.name,
        "metadata": {"name": "one", "namespace": side.namespace},
        "spec": {"podSelector": {}, "egress": [rule]},
    }
    live = await side.cluster.apply(manifest)
    assert semantically_equal(
        intended_fields(manifest), applied_fields(live, constants.FIELD_MANAGER)
    )
    del rule["ports"]
    assert not semantically_equal(
        intended_fields(manifest), applied_fields(live, constants.FIELD_MANAGER)
    )
    live = await side.cluster.apply(manifest, live["metadata"]["uid"])
    assert semantically_equal(
        intended_fields(manifest), applied_fields(live, constants.FIELD_MANAGER)
    )


async def a_field_that_is_no_longer_applied_goes(side: Side) -> None:
    first = await side.cluster.apply(a_deployment(side))
    without = a_deployment(side)
    del without["spec"]["template"]["spec"]["containers"][0]["env"]
    live = await side.cluster.apply(without, first["metadata"]["uid"])
    assert "env" not in live["spec"]["template"]["spec"]["containers"][0]
    assert semantically_equal(
        intended_fields(without), applied_fields(live, constants.FIELD_MANAGER)
    )


async def a_field_that_is_handed_over_keeps_its_value_and_is_no_longer_ours(side: Side) -> None:
    live = await side.cluster.apply(a_deployment(side))
    uid = live["metadata"]["uid"]
    metadata = {"name": "one", "namespace": side.namespace}
    replicas = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata}
    await side.cluster.hand_over({**replicas, "spec": {"replicas": 2}}, uid)
    without = a_deployment(side)
    del without["spec"]["replicas"]
    live = await side.cluster.apply(without, uid)
    assert live["spec"]["replicas"] == 2
    assert semantically_equal(
        intended_fields(without), applied_fields(live, constants.FIELD_MANAGER)
    )


async def an_edit_by_hand_shows_in_what_is_owned_and_is_taken_back(side: Side) -> None:
    live = await side.cluster.apply(a_deployment(side))

    def other_image(thing: Object) -> None:
        thing["spec"]["template"]["spec"]["containers"][0]["image"] = "evil:1"

    await side.hand.edit(live, other_image)
    edited = await side.cluster.get(DEPLOYMENT, side.namespace, "one")
    assert edited is not None
    assert not semantically_equal(
        intended_fields(a_deployment(side)), applied_fields(edited, constants.FIELD_MANAGER)
    )
    restored = await side.cluster.apply(a_deployment(side), live["metadata"]["uid"])
    assert restored["spec"]["template"]["spec"]["containers"][0]["image"] == "main:1"
    assert semantically_equal(
        intended_fields(a_deployment(side)), applied_fields(restored, constants.FIELD_MANAGER)
    )


async def a_label_taken_away_by_hand_shows_and_comes_back(side: Side) -> None:
    live = await side.cluster.apply(a_config_map(side))
    await side.hand.edit(live, lambda thing: thing["metadata"]["labels"].pop("a"))
    edited = await side.cluster.get(CONFIG_MAP, side.namespace, "one")
    assert edited is not None
    assert not semantically_equal(
        intended_fields(a_config_map(side)), applied_fields(edited, constants.FIELD_MANAGER)
    )
    restored = await side.cluster.apply(a_config_map(side), live["metadata"]["uid"])
    assert restored["metadata"]["labels"] == {"a": "1", "b": "2"}


async def what_others_add_is_kept_and_not_ours(side: Side) -> None:
    live = await side.cluster.apply(a_deployment(side))
    sidecar = a_deployment(side)
    del sidecar["spec"]["replicas"], sidecar["metadata"]["labels"]
    sidecar["spec"]["template"]["spec"] = {"containers": [{"name": "side", "image": "side:1"}]}
    await side.hand.apply(sidecar, "injector")
    seen = await side.cluster.get(DEPLOYMENT, side.namespace, "one")
    assert seen is not None
    assert semantically_equal(
        intended_fields(a_deployment(side)), applied_fields(seen, constants.FIELD_MANAGER)
    )
    again = await side.cluster.apply(a_deployment(side), live["metadata"]["uid"])
    containers = again["spec"]["template"]["spec"]["containers"]
    assert sorted(container["name"] for container in containers) == ["main", "side"]


async def without_a_uid_fields_of_others_are_not_taken(side: Side) -> None:
    await side.hand.apply(a_config_map(side, key="theirs"), "somebody")
    with pytest.raises(Conflict):
        await side.cluster.apply(a_config_map(side, key="ours"))
    seen = await side.cluster.get(CONFIG_MAP, side.namespace, "one")
    assert seen is not None
    assert seen["data"] == {"key": "theirs"}


async def what_is_applied_as_new_is_created_and_owned(side: Side) -> None:
    manifest = a_config_map(side)
    stored = await side.cluster.apply_new(manifest)
    assert await side.cluster.get(CONFIG_MAP, side.namespace, "one") == stored
    assert semantically_equal(
        intended_fields(manifest), applied_fields(stored, constants.FIELD_MANAGER)
    )


async def an_object_that_exists_is_not_changed_by_applying_it_as_new(side: Side) -> None:
    """Not even fields that nobody has set, which an apply without force would set."""
    await side.hand.apply({**a_config_map(side), **_unlabelled("one", side)}, "somebody")
    before = await side.cluster.get(CONFIG_MAP, side.namespace, "one")
    for manifest in (a_config_map(side), a_config_map(side, other="ours")):
        with pytest.raises(Conflict):
            await side.cluster.apply_new(manifest)
    assert await side.cluster.get(CONFIG_MAP, side.namespace, "one") == before


async def an_object_with_another_uid_is_neither_applied_to_nor_deleted(side: Side) -> None:
    await side.cluster.apply(a_config_map(side))
    other = "00000000-0000-0000-0000-000000000000"
    with pytest.raises(Conflict):
        await side.cluster.apply(a_config_map(side, key="new"), other)
    with pytest.raises(Conflict):
        await side.cluster.delete(CONFIG_MAP, side.namespace, "one", other)
    seen = await side.cluster.get(CONFIG_MAP, side.namespace, "one")
    assert seen is not None
    assert seen["data"] == {"key": "value"}


async def a_uid_of_an_object_that_is_gone_creates_nothing(side: Side) -> None:
    live = await side.cluster.apply(a_config_map(side))
    uid = live["metadata"]["uid"]
    await side.cluster.delete(CONFIG_MAP, side.namespace, "one", uid)
    with pytest.raises(Conflict):
        await side.cluster.apply(a_config_map(side), uid)
    assert await side.cluster.get(CONFIG_MAP, side.namespace, "one") is None


async def deleting_what_is_gone_is_fine(side: Side) -> None:
    await side.cluster.delete(CONFIG_MAP, side.namespace, "none", "some-uid")


async def an_immutable_config_map_can_not_be_changed(side: Side) -> None:
    live = await side.cluster.apply({**a_config_map(side), "immutable": True})
    changed = {**a_config_map(side, key="new"), "immutable": True}
    with pytest.raises(Invalid):
        await side.cluster.apply(changed, live["metadata"]["uid"])


async def what_is_created_is_never_changed(side: Side) -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "one", "namespace": side.namespace},
        "data": {"current": "eA=="},
    }
    assert await side.cluster.create(secret) is True
    assert await side.cluster.create({**secret, "data": {"current": "eQ=="}}) is False


async def a_status_is_applied_apart_from_the_spec(side: Side) -> None:
    await side.hand.apply(a_manifest(namespace=side.namespace), "user")
    parent = await side.cluster.get(MCP_PROXY, side.namespace, "tools")
    assert parent is not None
    status = _status(side, observedGeneration=1, backendsHealthy="1/1", components={"tools": 0})
    live = await side.cluster.apply_status(status, parent["metadata"]["uid"])
    assert live["spec"] == parent["spec"]
    assert live["metadata"]["generation"] == parent["metadata"]["generation"] == 1
    assert applied_fields(live, constants.FIELD_MANAGER, "status") == {"status": status["status"]}
    fewer = _status(side, observedGeneration=1, backendsHealthy="0/1")
    live = await side.cluster.apply_status(fewer, parent["metadata"]["uid"])
    assert live["status"] == {"observedGeneration": 1, "backendsHealthy": "0/1"}


async def the_status_of_nothing_is_not_found(side: Side) -> None:
    with pytest.raises((NotFound, Conflict)):
        await side.cluster.apply_status(_status(side, backendsHealthy="1/1"), "some-uid")


async def a_changed_spec_is_a_new_generation_and_a_label_is_not(side: Side) -> None:
    first = await side.cluster.apply(a_deployment(side))
    uid = first["metadata"]["uid"]
    labelled = a_deployment(side)
    labelled["metadata"]["labels"]["c"] = "3"
    live = await side.cluster.apply(labelled, uid)
    assert live["metadata"]["generation"] == 1
    labelled["spec"]["replicas"] = 3
    live = await side.cluster.apply(labelled, uid)
    assert live["metadata"]["generation"] == 2


async def ports_of_a_service_are_owned_by_number_and_protocol(side: Side) -> None:
    manifest = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "one", "namespace": side.namespace},
        "spec": {
            "type": "ClusterIP",
            "selector": {"a": "1"},
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http"}],
        },
    }
    live = await side.cluster.apply(manifest)
    assert semantically_equal(
        intended_fields(manifest), applied_fields(live, constants.FIELD_MANAGER)
    )
    assert await side.cluster.get(SERVICE, side.namespace, "one") is not None


async def a_kind_that_is_not_installed_has_no_objects_and_can_not_be_listed(side: Side) -> None:
    things = ResourceKind("nobody.example.com", "v1", "Thing", "things")
    assert await side.cluster.get(things, side.namespace, "one") is None
    with pytest.raises(NotFound):
        await side.cluster.list(things, side.namespace, {"a": "1"})


def _status(side: Side, **status: Any) -> Object:
    return {
        "apiVersion": constants.API_VERSION,
        "kind": constants.KIND,
        "metadata": {"name": "tools", "namespace": side.namespace},
        "status": status,
    }


async def heads_are_chosen_by_a_selector_and_know_their_version(side: Side) -> None:
    """Metadata alone, of objects that have the labels; of nothing, an empty list."""
    assert await side.cluster.heads(CONFIG_MAP, side.namespace, "a=1,b") == []
    stored = await side.cluster.apply(a_config_map(side))
    await side.cluster.apply({**a_config_map(side, "two"), **_unlabelled("two", side)})
    (head,) = await side.cluster.heads(CONFIG_MAP, side.namespace, "a=1,b")
    assert "data" not in head
    assert (head["kind"], head["metadata"]["name"]) == ("ConfigMap", "one")
    assert head["metadata"].keys() <= HEAD_FIELDS
    for field in ("uid", "resourceVersion"):
        assert head["metadata"][field] == stored["metadata"][field]
    assert head["metadata"]["labels"] == {}, "only the instance matters"
    every = await side.cluster.heads(CONFIG_MAP, side.namespace, "")
    assert {"one", "two"} <= {item["metadata"]["name"] for item in every}


async def pages_have_the_whole_objects_that_a_selector_chooses(side: Side) -> None:
    """The same objects as a list, a few at a time."""
    stored = await side.cluster.apply(a_config_map(side))
    await side.cluster.apply({**a_config_map(side, "two"), **_unlabelled("two", side)})
    pages = side.cluster.pages(CONFIG_MAP, side.namespace, "a=1,b")
    assert [live async for page in pages for live in page] == [stored]


def _unlabelled(name: str, side: Side) -> Object:
    return {"metadata": {"name": name, "namespace": side.namespace}}


CONTRACT: Final[tuple[Callable[[Side], Awaitable[None]], ...]] = (
    an_absent_object_is_none,
    heads_are_chosen_by_a_selector_and_know_their_version,
    pages_have_the_whole_objects_that_a_selector_chooses,
    what_is_applied_can_be_read_and_listed_by_labels,
    applying_the_same_again_changes_nothing,
    every_character_arrives_as_it_was_sent,
    what_was_applied_is_owned_and_defaults_are_not,
    a_quantity_in_another_spelling_is_the_same,
    a_default_beside_our_fields_is_no_drift,
    what_goes_inside_a_field_that_is_owned_whole_is_seen,
    a_field_that_is_no_longer_applied_goes,
    a_field_that_is_handed_over_keeps_its_value_and_is_no_longer_ours,
    an_edit_by_hand_shows_in_what_is_owned_and_is_taken_back,
    a_label_taken_away_by_hand_shows_and_comes_back,
    what_others_add_is_kept_and_not_ours,
    without_a_uid_fields_of_others_are_not_taken,
    what_is_applied_as_new_is_created_and_owned,
    an_object_that_exists_is_not_changed_by_applying_it_as_new,
    an_object_with_another_uid_is_neither_applied_to_nor_deleted,
    a_uid_of_an_object_that_is_gone_creates_nothing,
    deleting_what_is_gone_is_fine,
    an_immutable_config_map_can_not_be_changed,
    what_is_created_is_never_changed,
    a_status_is_applied_apart_from_the_spec,
    the_status_of_nothing_is_not_found,
    a_changed_spec_is_a_new_generation_and_a_label_is_not,
    ports_of_a_service_are_owned_by_number_and_protocol,
    a_kind_that_is_not_installed_has_no_objects_and_can_not_be_listed,
    every_kind_on_demand_is_owned_as_applied_and_deleted_by_uid,
    an_edit_of_a_kind_on_demand_shows_and_is_taken_back,
)
