"""Other managers that keep changing what the operator applies are named and not raced."""

import copy
import logging
from collections.abc import Callable

import pytest

from mcpproxy.api import constants
from mcpproxy.cluster.resources import SERVICE
from mcpproxy.reconcile.field_conflicts import FIGHT, LAST_PAUSE
from mcpproxy.status import reasons
from tests.reconcile.stage import KEY, Stage

Change = Callable[[Stage], None]


def scale(stage: Stage) -> None:
    """Set another number of pods than the spec does."""
    live = stage.deployment()
    live["spec"]["replicas"] = 7
    stage.cluster.put(live)


def remove_labels(stage: Stage) -> None:
    """Remove fields without setting others."""
    live = stage.child(SERVICE.name)
    live["metadata"]["labels"].pop(constants.LABEL_MANAGED_BY, None)
    stage.cluster.put(live)


def apply_as_another_operator(stage: Stage) -> None:
    """Apply another image under the operator's own name."""
    live = stage.deployment()
    kept = {name: live["metadata"][name] for name in ("name", "namespace", "labels")}
    kept["ownerReferences"] = live["metadata"]["ownerReferences"]
    kept["annotations"] = live["metadata"].get("annotations", {})
    manifest = {**copy.deepcopy(live), "metadata": kept}
    manifest.pop("status", None)
    manifest["spec"]["template"]["spec"]["containers"][0]["image"] = "other:1"
    stage.cluster.apply_as(constants.FIELD_MANAGER, manifest, live["metadata"]["uid"], force=True)


def delete(stage: Stage) -> None:
    """Delete a child."""
    stage.cluster.remove(SERVICE, *KEY)


CHANGES: dict[Change, str] = {
    scale: "spec.replicas of Deployment tools: manager kubectl keeps changing it",
    remove_labels: "metadata.labels.app.kubernetes.io/managed-by of Service tools: another ",
    apply_as_another_operator: "spec.template.spec.containers[mcpproxy].image of Deployment tools"
    ": another operator (field manager mcpproxy-operator) keeps changing it",
    delete: "Service tools: another client keeps deleting it",
}


def reversals(stage: Stage) -> int:
    """The number of children applied so far."""
    return sum(
        write.startswith("apply ") and "Event" not in write for write in stage.cluster.writes
    )


async def fight(stage: Stage, change: Change, seconds: int, step: float = 1.0) -> None:
    """Undo each write of the operator within `step` seconds."""
    for _ in range(int(seconds / step)):
        change(stage)
        await stage.reconcile()
        stage.clock.advance(step)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
async def test_a_manager_that_undoes_every_write_is_named_and_reverted_less_and_less_often(
    stage: Stage, change: Change, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    await stage.is_running(replicas=1)
    await fight(stage, change, 1, 0.25)
    change(stage)
    await stage.reconcile()
    assert reversals(stage) <= 2
    await fight(stage, change, 60)
    assert FIGHT < reversals(stage) <= 8
    assert stage.verdict("Stalled") == ("True", reasons.CONTESTED)
    assert CHANGES[change] in stage.message("Stalled")
    assert CHANGES[change] in stage.message("Ready")
    assert sum("at longer and longer intervals" in line for line in caplog.messages) == 1
    # Beside what the fight itself changes, such as numbers of pods.
    assert stage.cluster.writes.count("status MCPProxy") <= 2 * reversals(stage)


async def test_a_change_of_the_spec_is_applied_at_once_amid_a_fight(stage: Stage) -> None:
    await stage.is_running(replicas=1)
    await fight(stage, scale, 20)
    stage.user_applies(replicas=3)
    await stage.reconcile()
    assert stage.deployment()["spec"]["replicas"] == 3


async def test_a_field_conflict_that_ended_is_forgotten(stage: Stage) -> None:
    await stage.is_running(replicas=1)
    await fight(stage, scale, 20)
    again = await stage.reconcile()
    while stage.verdict("Stalled") is not None:
        assert again is not None
        assert again <= 2 * LAST_PAUSE
        stage.clock.advance(again)
        again = await stage.reconcile()
    assert stage.deployment()["spec"]["replicas"] == 1
    assert stage.verdict("Ready") == ("True", "Serving")
    stage.cluster.writes.clear()
    scale(stage)
    await stage.reconcile()
    assert reversals(stage) == 1


async def test_a_child_that_is_edited_now_and_then_is_reverted_at_once(stage: Stage) -> None:
    await stage.is_running(replicas=1)
    for _ in range(10):
        scale(stage)
        await stage.reconcile()
        assert stage.deployment()["spec"]["replicas"] == 1
        stage.clock.advance(LAST_PAUSE)
    assert stage.verdict("Stalled") is None


async def test_a_paused_field_conflict_requeues_the_proxy(stage: Stage) -> None:
    await stage.is_running(replicas=1)
    scale(stage)
    await stage.reconcile()
    scale(stage)
    again = await stage.reconcile()
    assert stage.deployment()["spec"]["replicas"] == 7
    assert again is not None
    stage.clock.advance(again)
    await stage.reconcile()
    assert stage.deployment()["spec"]["replicas"] == 1
