"""A suspended proxy is left as it is, and its status goes on telling the truth."""

import copy

import pytest

from mcpproxy.api import yaml_documents
from mcpproxy.api.constants import CONFIG_FILE
from mcpproxy.cluster.resources import HTTP_ROUTE, SERVICE
from tests.reconcile.stage import KEY, Stage
from tests.support.builders import a_backend
from tests.support.on_demand import ASKED, ASKING

TWO = [a_backend(), a_backend("calendar")]


def children(stage: Stage) -> dict[tuple[str, str, str], object]:
    """All objects but the MCPProxy and Events."""
    return {
        key: copy.deepcopy(live)
        for key, live in stage.cluster.objects.items()
        if key[0] not in ("MCPProxy", "Event")
    }


async def test_suspending_changes_nothing_but_the_status(stage: Stage) -> None:
    await stage.is_running()
    before = children(stage)
    stage.user_applies(suspend=True)
    await stage.reconcile()
    assert children(stage) == before
    assert stage.verdict("Suspended") == ("True", "Suspended")
    assert "no change is pending" in stage.message("Suspended")
    assert stage.verdict("Ready") == ("True", "Serving")
    assert stage.verdict("Reconciling") is None
    stage.cluster.writes.clear()
    await stage.reconcile()
    assert stage.cluster.writes == []


async def test_changes_wait_until_the_proxy_resumes_and_are_listed_in_the_status(
    stage: Stage,
) -> None:
    await stage.is_running()
    before = children(stage)
    stage.user_applies(suspend=True, backends=TWO, **ASKING)
    await stage.reconcile()
    assert children(stage) == before
    assert stage.verdict("Reconciling") == ("True", "Suspended")
    for child in ("ConfigMap tools-", "Deployment tools", "HorizontalPodAutoscaler tools"):
        assert child in stage.message("Suspended")
    assert stage.verdict("Ready") == ("True", "Serving")
    assert [backend.name for backend in stage.status.backends or []] == ["weather"]
    assert stage.status.observed_generation == 2
    stage.user_applies(backends=TWO, **ASKING)
    await stage.reconcile()
    assert stage.verdict("Suspended") is None
    assert stage.verdict("Reconciling") == ("True", "RollingOut")
    assert len(stage.config_maps()) == 2


async def test_a_deletion_during_a_pause_is_not_undone(stage: Stage) -> None:
    await stage.is_running(**ASKING)
    stage.cluster.remove(SERVICE, *KEY)
    before = children(stage)
    stage.user_applies(suspend=True, **ASKED[HTTP_ROUTE])
    await stage.reconcile()
    assert children(stage) == before
    assert "Service tools" in stage.message("Suspended")
    assert "PodDisruptionBudget tools" in stage.message("Suspended")


async def test_a_backend_that_fails_in_the_meantime_is_reported(stage: Stage) -> None:
    await stage.is_running()
    stage.user_applies(suspend=True, backends=TWO)
    await stage.reconcile()
    await stage.pod_says("tools-1", weather="Unhealthy")
    await stage.reconcile()
    assert stage.verdict("Ready") == ("False", "BackendsUnhealthy")
    assert stage.status.backends_healthy == "0/1"


async def test_a_proxy_that_is_created_suspended_gets_no_children(stage: Stage) -> None:
    stage.user_applies(suspend=True)
    await stage.reconcile()
    assert children(stage) == {}
    assert stage.verdict("Ready") == ("False", "Suspended")
    assert stage.verdict("Reconciling") == ("True", "Suspended")
    stage.user_applies(suspend=False)
    await stage.reconcile()
    assert stage.deployment()


async def test_an_old_config_map_stays_until_it_continues(stage: Stage) -> None:
    await stage.is_running()
    stage.user_applies(cache={"ttl": "7s"})
    await stage.reconcile()
    stage.roll_out("tools-2")
    stage.forget_history()
    stage.user_applies(suspend=True, cache={"ttl": "7s"})
    await stage.reconcile()
    assert len(stage.config_maps()) == 2
    stage.user_applies(cache={"ttl": "7s"})
    await stage.reconcile()
    assert len(stage.config_maps()) == 1


async def test_a_configuration_that_somebody_replaced_is_not_read_as_yaml(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """YAML of a megabyte would keep the operator busy for a minute, for all MCPProxies."""
    await stage.is_running()
    stage.user_applies(suspend=True, backends=TWO)
    (name,) = stage.config_maps()
    for text in ("[a, " * 1000, '{"spec": ' * 5000, '{"kind": "MCPProxy"}', "[]"):
        stage.cluster.objects["ConfigMap", KEY.namespace, name]["data"] = {CONFIG_FILE: text}
        monkeypatch.setattr(yaml_documents, "read_documents", None)
        await stage.reconcile()
        assert stage.verdict("Suspended") == ("True", "Suspended")
        assert stage.status.backends in (None, [])
