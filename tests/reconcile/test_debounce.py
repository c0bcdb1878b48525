"""Short disagreements between pods are not reported, and lasting ones are, once."""

import asyncio

from mcpproxy.api.v1alpha1.status import ComponentCounts
from mcpproxy.reconcile.status_updates.debounce import PATIENCE, Debouncer
from tests.reconcile.clock import FakeClock
from tests.reconcile.stage import KEY, Stage

PODS = ("tools-1", "tools-2", "tools-3")


async def are_running(stage: Stage) -> None:
    """Bring `tools` to Ready with three pods that see the same."""
    stage.user_applies(replicas=3)
    await stage.reconcile()
    stage.roll_out(*PODS)
    await stage.reconcile()
    for pod in PODS:
        await stage.pod_says(pod, weather="Healthy")
    await stage.reconcile()
    assert stage.verdict("BackendsHealthy") == ("True", "AllHealthy")
    stage.cluster.writes.clear()


def counts(stage: Stage) -> ComponentCounts | None:
    """Return the counts of the one backend."""
    (backend,) = stage.status.backends or []
    return backend.components


async def test_a_list_that_reaches_pods_one_after_the_other_is_one_write(stage: Stage) -> None:
    await are_running(stage)
    for pod in PODS:
        assert counts(stage) == ComponentCounts(tools=2, prompts=1)
        await stage.pod_says(pod, tools=3, weather="Healthy")
        await stage.reconcile()
        stage.clock.advance(PATIENCE / 4)
    assert counts(stage) == ComponentCounts(tools=3, prompts=1)
    assert stage.cluster.writes == ["status MCPProxy"]


async def test_a_lasting_disagreement_of_pods_is_reported_once_with_numbers(stage: Stage) -> None:
    await are_running(stage)
    await stage.pod_says("tools-2", tools=3, weather="Healthy")
    assert await stage.reconcile() == PATIENCE
    assert stage.cluster.writes == []
    stage.clock.advance(PATIENCE)
    for _ in range(3):
        assert await stage.reconcile() is None
    assert len(stage.cluster.writes) == 1
    (backend,) = stage.status.backends or []
    assert (backend.state, backend.reason) == ("Healthy", "PodsDiffer")
    assert backend.message == "pods differ: tools 2 (2 of 3), 3 (1 of 3)"
    assert backend.components == ComponentCounts(prompts=1)
    assert stage.verdict("BackendsHealthy") == ("True", "PodsDiffer")
    await stage.pod_says("tools-2", weather="Healthy")
    await stage.reconcile()
    assert stage.verdict("BackendsHealthy") == ("True", "AllHealthy")


async def test_a_new_operator_keeps_the_reported_state(stage: Stage) -> None:
    await are_running(stage)
    await stage.pod_says("tools-2", tools=3, weather="Healthy")
    await stage.reconcile()
    stage.clock.advance(PATIENCE)
    await stage.reconcile()
    before = stage.status
    restarted = Stage(stage)
    await restarted.reconcile()
    for _ in PODS:
        await asyncio.wait_for(restarted.changes.get(), 5)
    stage.cluster.writes.clear()
    await restarted.reconcile()
    assert stage.status == before
    assert stage.cluster.writes == []
    await restarted.close()


async def test_a_new_operator_keeps_reported_disagreements_when_something_else_changed(
    stage: Stage,
) -> None:
    await are_running(stage)
    await stage.pod_says("tools-2", tools=3, weather="Healthy")
    await stage.reconcile()
    stage.clock.advance(PATIENCE)
    await stage.reconcile()
    before = stage.status
    stage.user_applies(replicas=3, suspend=True)
    restarted = Stage(stage)
    await restarted.reconcile()
    for _ in PODS:
        await asyncio.wait_for(restarted.changes.get(), 5)
    await restarted.reconcile()
    assert stage.verdict("Suspended") == ("True", "Suspended")
    assert stage.verdict("BackendsHealthy") == ("True", "PodsDiffer")
    assert stage.status.backends == before.backends
    await restarted.close()


async def test_a_new_operator_keeps_a_disagreement_that_a_worse_reason_hides(
    stage: Stage,
) -> None:
    await are_running(stage)
    await stage.pod_says("tools-2", tools=3, weather="Healthy")
    await stage.pod_says("tools-3", weather="Unhealthy")
    await stage.reconcile()
    stage.clock.advance(PATIENCE)
    await stage.reconcile()
    before = stage.status
    (backend,) = before.backends or []
    assert (backend.reason, backend.message) == (
        "PodsDisagree",
        "1 of 3 pods: Unhealthy; pods differ: tools 2 (1 of 2), 3 (1 of 2)",
    )
    restarted = Stage(stage)
    await restarted.reconcile()
    for _ in PODS:
        await asyncio.wait_for(restarted.changes.get(), 5)
    stage.cluster.writes.clear()
    await restarted.reconcile()
    assert stage.status == before
    assert stage.cluster.writes == []
    await restarted.close()


async def test_a_failure_is_reported_immediately_and_a_disagreement_is_debounced(
    stage: Stage,
) -> None:
    await are_running(stage)
    await stage.pod_says("tools-2", tools=3, weather="Healthy")
    await stage.pod_says("tools-3", weather="Unhealthy")
    await stage.reconcile()
    (backend,) = stage.status.backends or []
    assert (backend.state, backend.message) == ("Degraded", "1 of 3 pods: Unhealthy")
    assert backend.components == ComponentCounts(tools=2, prompts=1)


async def test_missing_reports_of_ready_pods_are_reported_after_a_while(stage: Stage) -> None:
    await are_running(stage)
    for pod in PODS[1:]:
        stage.pods.lost.add(stage.pod_uid(pod))
    restarted = Stage(stage)
    await restarted.reconcile()
    for _ in PODS:
        await asyncio.wait_for(restarted.changes.get(), 5)
    assert await restarted.reconcile() == PATIENCE
    assert stage.cluster.writes == []
    stage.clock.advance(PATIENCE)
    await restarted.reconcile()
    assert stage.verdict("BackendsHealthy") == ("Unknown", "PodsNotReporting")
    assert stage.message("BackendsHealthy") == (
        "1 of 1 healthy; reported by 1 of 3 pods; cannot read the report of pod tools-2:"
        " connection refused"
    )
    assert stage.verdict("Ready") == ("Unknown", "PodsNotReporting")
    assert "reported by 1 of 3 pods" in stage.message("Ready")
    assert stage.verdict("Available") == ("True", "PodsReady")
    await restarted.close()


def test_each_disagreement_has_its_own_period_which_begins_again_when_it_returns() -> None:
    clock = FakeClock()
    debouncer = Debouncer(clock.now)
    item, both = frozenset({"a"}), frozenset({"a", "b"})
    assert debouncer.debounce(KEY, item) == (item, PATIENCE)
    clock.advance(PATIENCE - 1)
    assert debouncer.debounce(KEY, both) == (both, 1)
    clock.advance(1)
    assert debouncer.debounce(KEY, both) == (frozenset({"b"}), PATIENCE - 1)
    assert debouncer.debounce(KEY, frozenset()) == (frozenset(), None)
    assert debouncer.debounce(KEY, item) == (item, PATIENCE)


def test_disagreements_that_were_reported_have_no_period_until_they_return() -> None:
    debouncer = Debouncer(FakeClock().now)
    item, both = frozenset({"a"}), frozenset({"a", "b"})
    assert not debouncer.is_tracking(KEY)
    debouncer.resume(KEY, item)
    assert debouncer.is_tracking(KEY)
    assert debouncer.debounce(KEY, both) == (frozenset({"b"}), PATIENCE)
    assert debouncer.debounce(KEY, frozenset()) == (frozenset(), None)
    assert debouncer.is_tracking(KEY)
    assert debouncer.debounce(KEY, item) == (item, PATIENCE)


def test_a_deleted_proxy_is_removed_from_the_debouncer() -> None:
    clock = FakeClock()
    debouncer = Debouncer(clock.now)
    disagreements = frozenset({"a"})
    debouncer.debounce(KEY, disagreements)
    clock.advance(PATIENCE)
    debouncer.forget(KEY)
    assert not debouncer.is_tracking(KEY)
    assert debouncer.debounce(KEY, disagreements) == (disagreements, PATIENCE)


async def test_a_pod_that_the_operator_cannot_read_is_named_with_the_error(stage: Stage) -> None:
    await stage.is_running(replicas=1)
    stage.pods.lost.add(stage.pod_uid("tools-1"))
    restarted = Stage(stage)
    await restarted.reconcile()
    await asyncio.wait_for(restarted.changes.get(), 5)
    stage.clock.advance(PATIENCE)
    await restarted.reconcile()
    for condition in ("Ready", "BackendsHealthy"):
        assert stage.verdict(condition) == ("Unknown", "BackendsUnknown")
        said = stage.message(condition)
        assert said.endswith("; cannot read the report of pod tools-1: connection refused")
