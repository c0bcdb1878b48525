"""A new MCPProxy costs few reads, and takes no object of others."""

import pytest

from mcpproxy.api import constants
from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.cluster.errors import Conflict, Forbidden
from mcpproxy.cluster.resources import DEPLOYMENT, SERVICE, SERVICE_ACCOUNT, ResourceKind
from tests.reconcile.stage import KEY, Stage

UNREADABLE = {kind.name: Forbidden("no") for kind in (SERVICE, SERVICE_ACCOUNT)}


@pytest.fixture
def stage(stage: Stage) -> Stage:
    """A stage whose watches are complete, before there are children."""
    stage.childless = True
    return stage


def foreign(stage: Stage, kind: ResourceKind) -> Object:
    """Let a user have an object with the name of a child, which no watch delivers."""
    metadata = {"name": KEY.name, "namespace": KEY.namespace}
    typed = {"apiVersion": kind.api_version, "kind": kind.name}
    return stage.cluster.put({**typed, "metadata": metadata, "spec": {}})


async def test_only_the_deployment_of_a_new_mcpproxy_is_read(stage: Stage) -> None:
    stage.cluster.unreadable = dict(UNREADABLE)
    stage.user_applies()
    await stage.reconcile()
    assert stage.verdict("Accepted") == ("True", "Valid")
    assert stage.child(SERVICE.name)["metadata"]["labels"] == constants.child_labels(KEY.name)


async def test_all_children_of_an_mcpproxy_with_a_status_are_read(stage: Stage) -> None:
    stage.user_applies()
    await stage.reconcile()
    stage.cluster.unreadable = dict(UNREADABLE)
    with pytest.raises(Forbidden):
        await stage.reconcile()


@pytest.mark.parametrize("spec", [{"suspend": True}, {"backends": []}], ids=["suspended", "wrong"])
async def test_all_children_of_an_mcpproxy_that_changes_none_are_read(
    stage: Stage, spec: dict[str, object]
) -> None:
    stage.cluster.unreadable = dict(UNREADABLE)
    stage.user_applies(**spec)
    with pytest.raises(Forbidden):
        await stage.reconcile()


@pytest.mark.parametrize("kind", [SERVICE, SERVICE_ACCOUNT], ids=lambda kind: kind.name)
async def test_a_taken_name_is_found_when_the_child_is_created(
    stage: Stage, kind: ResourceKind
) -> None:
    theirs = foreign(stage, kind)
    stage.user_applies()
    with pytest.raises(Conflict):
        await stage.reconcile()
    await stage.reconcile()
    assert stage.verdict("Ready") == ("False", "NotOwned")
    assert stage.child(kind.name) == theirs
    assert (DEPLOYMENT.name, *KEY) not in stage.cluster.objects


async def test_nothing_is_created_beside_a_deployment_of_others(stage: Stage) -> None:
    foreign(stage, DEPLOYMENT)
    stage.user_applies()
    await stage.reconcile()
    assert stage.verdict("Ready") == ("False", "NotOwned")
    assert [line for line in stage.cluster.writes if not line.endswith(("MCPProxy", "Event"))] == []
