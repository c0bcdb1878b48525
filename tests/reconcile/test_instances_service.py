"""The Service of instances that work together is a child like the others."""

from mcpproxy.api.constants import instances_service_name
from mcpproxy.cluster.resources import SERVICE
from tests.reconcile.stage import KEY, Stage

NAME = instances_service_name(KEY.name)


def _limits(calls: int) -> dict[str, object]:
    return {"rules": [{"name": "team", "calls": calls, "window": "60s"}]}


async def test_the_service_is_created_once_and_then_left_alone(stage: Stage) -> None:
    await stage.is_running(limits=_limits(10))
    assert await stage.cluster.get(SERVICE, KEY.namespace, NAME) is not None
    stage.cluster.writes.clear()
    await stage.reconcile()
    assert stage.cluster.writes == []


async def test_a_change_of_the_limits_is_applied_beside_the_service(stage: Stage) -> None:
    await stage.is_running(limits=_limits(10))
    for calls in (20, 30):
        stage.user_applies(limits=_limits(calls))
        await stage.reconcile()
        assert stage.verdict("Stalled") is None
        assert stage.verdict("Reconciling") == ("True", "RollingOut")


async def test_the_service_is_created_for_more_than_three_pods(stage: Stage) -> None:
    await stage.is_running(replicas=3)
    assert await stage.cluster.get(SERVICE, KEY.namespace, NAME) is None
    stage.user_applies(replicas=4)
    await stage.reconcile()
    assert await stage.cluster.get(SERVICE, KEY.namespace, NAME) is not None
    # The operator may not delete Services; the name of fewer pods does no harm.
    stage.user_applies(replicas=3)
    await stage.reconcile()
    stage.cluster.writes.clear()
    await stage.reconcile()
    assert stage.cluster.writes == []


async def test_a_service_of_somebody_else_is_not_touched(stage: Stage) -> None:
    foreign = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME, "namespace": KEY.namespace},
        "spec": {"selector": {"app": "other"}},
    }
    stage.cluster.put(foreign)
    before = await stage.cluster.get(SERVICE, KEY.namespace, NAME)
    stage.user_applies(limits=_limits(10))
    await stage.reconcile()
    assert f"Service {NAME} already exists" in stage.message("Ready")
    assert await stage.cluster.get(SERVICE, KEY.namespace, NAME) == before
