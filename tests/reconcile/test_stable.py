"""Whatever webhooks add and wherever a pass is cut off: it ends in the same state, and stays."""

import asyncio
import copy
from typing import Any

import pytest

from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.cluster.errors import ClusterError, Unavailable
from mcpproxy.cluster.resources import DEPLOYMENT
from tests.reconcile.stage import KEY, Stage


class Crash(BaseException):
    """The operator's process ends."""


def a_sidecar(live: Object) -> None:
    """Inject a container, a volume, an annotation and what the API server defaults."""
    if live["kind"] != DEPLOYMENT.name:
        return
    live["metadata"].setdefault("annotations", {})["injected"] = "yes"
    pod = live["spec"]["template"]["spec"]
    pod["restartPolicy"] = "Always"
    pod["dnsPolicy"] = "ClusterFirst"
    pod["containers"][0]["terminationMessagePath"] = "/dev/termination-log"
    if not any(container["name"] == "side" for container in pod["containers"]):
        pod["containers"].append({"name": "side", "image": "side:1"})
        pod["volumes"].append({"name": "side", "emptyDir": {}})


def a_mirror(live: Object) -> None:
    """Rewrite the very image that we set."""
    if live["kind"] == DEPLOYMENT.name:
        main = live["spec"]["template"]["spec"]["containers"][0]
        main["image"] = "mirror/" + main["image"].removeprefix("mirror/")


async def test_fields_added_by_a_webhook_are_left_unchanged(stage: Stage) -> None:
    stage.cluster.webhooks.append(a_sidecar)
    await stage.is_running()
    for _ in range(3):
        await stage.reconcile()
    assert stage.cluster.writes == []
    pod = stage.deployment()["spec"]["template"]["spec"]
    assert [container["name"] for container in pod["containers"]] == ["mcpproxy", "side"]


async def test_a_webhook_that_rewrites_our_own_field_does_not_make_a_loop(stage: Stage) -> None:
    stage.cluster.webhooks.append(a_mirror)
    await stage.is_running()
    for _ in range(3):
        await stage.reconcile()
    assert stage.cluster.writes == []


async def test_drift_is_still_seen_below_a_webhook_that_rewrites(stage: Stage) -> None:
    stage.cluster.webhooks.append(a_mirror)
    await stage.is_running()
    edited = stage.deployment()
    edited["spec"]["template"]["spec"]["containers"][0]["image"] = "evil:1"
    stage.cluster.put(edited)
    await stage.reconcile()
    main = stage.deployment()["spec"]["template"]["spec"]["containers"][0]
    assert main["image"].startswith("mirror/mcpproxy-runtime")


async def test_a_restart_below_a_webhook_that_rewrites_changes_no_object(stage: Stage) -> None:
    stage.cluster.webhooks.append(a_mirror)
    await stage.is_running()
    before = copy.deepcopy(stage.cluster.objects)
    restarted = Stage(stage)
    await restarted.reconcile()
    assert stage.cluster.objects == before
    await restarted.close()


class Life:
    """An MCPProxy from its creation to another spec; one of all writes goes wrong.

    After a `crash` a new operator takes over; otherwise the same one tries again.
    """

    def __init__(self, failing: int | None = None, how: str = "fail before") -> None:
        self.stage = Stage()
        self._left, self._how = failing, how
        if how.endswith("before"):
            self.stage.cluster.before_write = self._go_wrong
        else:
            self.stage.cluster.after_write = self._go_wrong

    def _go_wrong(self, _: str) -> None:
        if self._left is None:
            return
        self._left -= 1
        if self._left == 0:
            raise Crash if self._how.startswith("crash") else Unavailable("no")

    async def _persist(self) -> None:
        for _ in range(4):
            try:
                await self.stage.reconcile()
            except ClusterError:
                continue
            except Crash:
                await self.stage.close()
                self.stage = Stage(self.stage)
                continue
            return

    async def play(self) -> None:
        """Live it."""
        self.stage.user_applies()
        await self._persist()
        self.stage.roll_out("tools-1")
        await self._persist()
        self.stage.user_applies(cache={"ttl": "7s"}, service={"port": 8080})
        await self._persist()
        self.stage.roll_out("tools-2")
        await self._persist()
        await self.stage.pod_says("tools-2", weather="Healthy")
        await self._persist()
        if not self.stage.fleet.view(self.stage.pod_uid("tools-2")).settled:
            await asyncio.wait_for(self.stage.changes.get(), 5)
            await self._persist()
        await self.stage.close()


def end_state(stage: Stage) -> dict[Any, Any]:
    """All objects but for what differs from run to run."""
    result: dict[Any, Any] = {}
    for key, live in stage.cluster.objects.items():
        if key[0] == "Event":
            continue
        kept = copy.deepcopy(live)
        for field in ("uid", "resourceVersion", "generation", "ownerReferences"):
            kept["metadata"].pop(field, None)
        kept.pop("data", None)
        for condition in kept.get("status", {}).get("conditions", []):
            condition.pop("lastTransitionTime", None)
        result[key] = kept
    return result


async def test_a_pass_that_is_aborted_at_any_write_converges_to_the_same_state() -> None:
    whole = Life()
    await whole.play()
    expected, writes = end_state(whole.stage), len(whole.stage.cluster.writes)
    assert (DEPLOYMENT.name, *KEY) in expected
    assert writes >= 10
    for how in ("fail before", "fail after", "crash before", "crash after"):
        for failing in range(1, writes + 1):
            life = Life(failing, how)
            await life.play()
            assert end_state(life.stage) == expected, f"{how} write {failing}"


@pytest.mark.parametrize("first", [{"cache": {"ttl": "1s"}}, {"image": "other:1"}])
async def test_the_children_do_not_depend_on_the_history_of_the_spec(
    stage: Stage, first: dict[str, Any]
) -> None:
    direct = Stage()
    direct.user_applies()
    await direct.reconcile()
    stage.user_applies(**first)
    await stage.reconcile()
    stage.user_applies()
    await stage.reconcile()
    assert stage.deployment()["spec"] == direct.deployment()["spec"]
    await direct.close()
