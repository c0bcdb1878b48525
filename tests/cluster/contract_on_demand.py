"""Contract of every Cluster, for the kinds of children that only some MCPProxies have."""

from mcpproxy.api import constants
from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.cluster.managed_fields import applied_fields, intended_fields, semantically_equal
from mcpproxy.cluster.resources import (
    INGRESS,
    ON_DEMAND,
    kind_of,
)
from mcpproxy.desired import OwnerRef, build
from tests.cluster.sides import Side
from tests.support.builders import OPTIONS, an_mcpproxy
from tests.support.on_demand import ASKED, ASKING, EDITS


def _on_demand(side: Side) -> list[Object]:
    """A child of each kind that is only there on demand, as it is really made."""
    owner = OwnerRef("tools", "00000000-0000-0000-0000-000000000001")
    made = [
        child
        for asking in (ASKING, ASKED[INGRESS])
        for child in build(an_mcpproxy(namespace=side.namespace, **asking), OPTIONS, owner)
    ]
    return [child for child in made if kind_of(child) in ON_DEMAND]


async def every_kind_on_demand_is_owned_as_applied_and_deleted_by_uid(side: Side) -> None:
    assert {kind_of(manifest) for manifest in _on_demand(side)} == set(ON_DEMAND)
    for manifest in _on_demand(side):
        kind = kind_of(manifest)
        live = await side.cluster.apply(manifest)
        assert semantically_equal(
            intended_fields(manifest), applied_fields(live, constants.FIELD_MANAGER)
        ), kind.name
        again = await side.cluster.apply(manifest, live["metadata"]["uid"])
        assert again["metadata"]["resourceVersion"] == live["metadata"]["resourceVersion"]
        await side.cluster.delete(kind, side.namespace, "tools", live["metadata"]["uid"])
        assert await side.cluster.get(kind, side.namespace, "tools") is None


async def an_edit_of_a_kind_on_demand_shows_and_is_taken_back(side: Side) -> None:
    for manifest in _on_demand(side):
        kind = kind_of(manifest)
        live = await side.cluster.apply(manifest)
        await side.hand.edit(live, EDITS[kind])
        edited = await side.cluster.get(kind, side.namespace, "tools")
        assert edited is not None
        assert not semantically_equal(
            intended_fields(manifest), applied_fields(edited, constants.FIELD_MANAGER)
        ), kind.name
        restored = await side.cluster.apply(manifest, live["metadata"]["uid"])
        assert semantically_equal(
            intended_fields(manifest), applied_fields(restored, constants.FIELD_MANAGER)
        ), kind.name
